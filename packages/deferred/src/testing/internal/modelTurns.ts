/**
 * Turns and limits by key in the model: which records of a queue a claim starts, and in which order.
 */
import type { KeyLimits, KeyOverride } from "../../KeyLimits.ts"
import type { QueueLimits } from "../../QueueLimits.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import * as TokenBucket from "../../TokenBucket.ts"
import {
  isRunning,
  isWaiting,
  type KeyState,
  keyOf,
  limitsOf,
  type Model,
  type ModelRecord,
  putKey,
  putTurns,
  rateOf,
  type Said,
  type Turns,
  turnsOf,
} from "./modelState.ts"

/** A record that may start, with its place in the virtual time. */
interface Tagged {
  readonly record: ModelRecord
  readonly tag: number
  readonly key: string
  readonly turn: number
}

const isPaused = ({ pausedUntil }: { readonly pausedUntil: number | undefined }, now: number) =>
  pausedUntil !== undefined && now < pausedUntil

const finite = (limit: number | undefined) => (limit === Number.POSITIVE_INFINITY ? undefined : limit)

/** What holds for one key. Records without a key have no limits of their own. */
export const keyLimitsOf = (byKey: KeyLimits, key: string, override: KeyOverride) => ({
  maxConcurrent: key === "" ? undefined : finite(override.maxConcurrent ?? byKey.maxConcurrent),
  rate: rateOf({
    rate: key === "" ? undefined : finite(override.rate ?? byKey.rate),
    burst: override.burst ?? byKey.burst,
  }),
  stride: 1 / (override.weight ?? 1),
  isOrdered: key !== "" && byKey.ordered,
})

/** A bucket of which nothing is known is full. */
export const keyBucketOf = ({ bucket }: KeyState, rate: TokenBucket.Rate, now: number) =>
  TokenBucket.refill(bucket ?? TokenBucket.full(rate, now), rate, now)

const tokensOf = (bucket: TokenBucket.TokenBucket | undefined, rate: TokenBucket.Rate | undefined) =>
  bucket === undefined || rate === undefined
    ? Number.POSITIVE_INFINITY
    : rate.rate === 0
      ? 0
      : TokenBucket.available(bucket)

/** Higher priority first, then eta, or by ageing; then insertion (the sort is stable). */
const inOrder =
  (ageing: QueueLimits["ageing"]) =>
  (left: ModelRecord, right: ModelRecord): number =>
    ageing === undefined
      ? right.priority - left.priority || left.eta - right.eta
      : left.eta - left.priority * ageing - (right.eta - right.priority * ageing)

const baseOf = (turns: Turns, key: string) => Math.max(keyOf(turns, key).place ?? turns.time, turns.time)

/** Starts what the parameters allow of one queue. */
export const start = (
  model: Model,
  params: TaskQueue.ClaimParams,
  { limit, name }: TaskQueue.ClaimParams["queues"][number],
): Said<ReadonlyArray<ModelRecord>> => {
  const { now } = params
  const limits = limitsOf(model, name)
  const turns = turnsOf(model, name)
  const ofQueue = model.records.filter(({ queue }) => queue === name)
  const rate = rateOf(limits)
  const bucket = rate === undefined ? limits.bucket : TokenBucket.refill(limits.bucket, rate, now)
  const free = (limits.maxConcurrent ?? Number.POSITIVE_INFINITY) - ofQueue.filter(isRunning).length
  const allowed = limits.paused || isPaused(turns, now) ? 0 : Math.max(0, Math.min(limit, free, tokensOf(bucket, rate)))

  const mayStart = (record: ModelRecord) =>
    isWaiting(record) &&
    record.eta <= now &&
    params.tasks.some((task) => task.name === record.task && task.maxVersion >= record.version) &&
    (record.target === undefined || params.targets.includes(record.target))

  const keys = [...new Set(ofQueue.map(({ key }) => key ?? ""))]
  const tagged = keys.flatMap((key): ReadonlyArray<Tagged> => {
    const ofKey = ofQueue.filter((record) => (record.key ?? "") === key)
    const state = keyOf(turns, key)
    const own = keyLimitsOf(limits.byKey, key, state.override)
    const running = ofKey.filter(isRunning).length
    const slots = (own.maxConcurrent ?? Number.POSITIVE_INFINITY) - running
    const tokens = tokensOf(own.rate && keyBucketOf(state, own.rate, now), own.rate)
    const head = running > 0 ? [] : ofKey.filter(isWaiting).slice(0, 1)
    const line = own.isOrdered
      ? head.filter(mayStart)
      : ofKey.filter(mayStart).sort(inOrder(key === "" ? limits.ageing : undefined))
    const count = isPaused(state, now) ? 0 : Math.max(0, Math.min(allowed, slots, tokens))
    const base = baseOf(turns, key)
    return line.slice(0, count).map((record, turn) => ({ record, tag: base + turn * own.stride, key, turn }))
  })
  const chosen = tagged
    .sort((left, right) => left.tag - right.tag || compareKeys(left.key, right.key) || left.turn - right.turn)
    .slice(0, allowed)
  if (chosen.length === 0) return [model, []]

  const spent = rate === undefined ? limits.bucket : TokenBucket.take(bucket, chosen.length)
  const withLimits = { ...model, limits: { ...model.limits, [name]: { ...limits, bucket: spent } } }
  return [
    turns.isKeyed ? putTurns(withLimits, name, moved(turns, chosen, limits.byKey, now)) : withLimits,
    chosen.map(({ record }) => record),
  ]
}

const compareKeys = (left: string, right: string) => (left < right ? -1 : left > right ? 1 : 0)

/** The turns after these have started. */
const moved = (turns: Turns, chosen: ReadonlyArray<Tagged>, byKey: KeyLimits, now: number): Turns => {
  const keys = [...new Set(chosen.map(({ key }) => key))]
  const placed = keys.reduce((after, key) => {
    const count = chosen.filter((each) => each.key === key).length
    const state = keyOf(turns, key)
    const { rate, stride } = keyLimitsOf(byKey, key, state.override)
    const bucket = rate === undefined ? state.bucket : TokenBucket.take(keyBucketOf(state, rate, now), count)
    return putKey(after, key, { ...state, bucket, place: baseOf(turns, key) + count * stride })
  }, turns)
  return { ...placed, time: Math.max(turns.time, ...chosen.map(({ tag }) => tag)) }
}

export const configureKey = (model: Model, queue: string, key: string, override: KeyOverride): Said<void> => {
  const turns = turnsOf(model, queue)
  return [putTurns(model, queue, putKey(turns, key, { ...keyOf(turns, key), override })), undefined]
}

export const pauseUntil = (model: Model, queue: string, key: string | undefined, until: number): Said<void> => {
  const turns = turnsOf(model, queue)
  const paused =
    key === undefined
      ? { ...turns, pausedUntil: until }
      : putKey(turns, key, { ...keyOf(turns, key), pausedUntil: until })
  return [putTurns(model, queue, paused), undefined]
}

/** As a snooze does it: never shorter than it was. */
export const pauseLonger = (model: Model, queue: string, key: string | undefined, until: number): Model => {
  const turns = turnsOf(model, queue)
  const { pausedUntil } = key === undefined ? turns : keyOf(turns, key)
  return pauseUntil(model, queue, key, Math.max(pausedUntil ?? Number.NEGATIVE_INFINITY, until))[0]
}

/** Forgets keys of which nothing is left that a newcomer would not have as well. */
export const forgetKeys = (model: Model, now: number): Model =>
  Object.keys(model.turns).reduce((model, queue) => {
    const turns = turnsOf(model, queue)
    const { byKey } = limitsOf(model, queue)
    const keys = Object.entries(turns.keys).filter(([key, state]) => {
      const { rate } = keyLimitsOf(byKey, key, state.override)
      const isFull = rate === undefined || keyBucketOf(state, rate, now).tokens >= rate.burst
      const waits = model.records.some((record) => record.queue === queue && record.key === key && isWaiting(record))
      const isBehind = (state.place ?? turns.time) <= turns.time
      return Object.keys(state.override).length > 0 || isPaused(state, now) || waits || !isBehind || !isFull
    })
    return putTurns(model, queue, { ...turns, keys: Object.fromEntries(keys) })
  }, model)
