/**
 * What the model knows: records, names, limits, turns, as immutable data.
 */
import type { KeyOverride } from "../../KeyLimits.ts"
import { type QueueLimits, unlimited } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import type { Attempt, NewRecord, TaskRecord, Unique } from "../../TaskRecord.ts"
import type * as TokenBucket from "../../TokenBucket.ts"

/** `ready` stands for both faces of a waiting record; `token` counts the claims. */
export interface ModelRecord extends TaskRecord {
  readonly token: number
  readonly tombstone: number
  readonly unique: Unique | undefined
  readonly holdsKey: boolean
  readonly attempts: ReadonlyArray<Attempt>
  /** The eta it will have, while it is held back. */
  readonly wanted: number | undefined
  /** For whose end it is held back, as what takes over its unique key. */
  readonly follows: TaskId | undefined
}

/** Who has a name, and until when it stays taken once that record has ended. */
interface Name {
  readonly queue: string
  readonly name: string
  readonly owner: TaskId
  readonly until: number | undefined
}

interface Limits extends QueueLimits {
  readonly bucket: TokenBucket.TokenBucket
}

/** What is known of a key in a queue. */
export interface KeyState {
  readonly place: number | undefined
  readonly bucket: TokenBucket.TokenBucket | undefined
  readonly pausedUntil: number | undefined
  readonly override: KeyOverride
}

export interface Turns {
  /** Whether it ever had a record with a key. */
  readonly isKeyed: boolean
  readonly time: number
  readonly pausedUntil: number | undefined
  readonly keys: Readonly<Record<string, KeyState>>
}

/** From when on a record of this task and key may come, which spaces them. */
interface Spacing {
  readonly task: string
  readonly key: string
  readonly until: number
}

export interface Model {
  /** In the order of insertion. */
  readonly records: ReadonlyArray<ModelRecord>
  readonly names: ReadonlyArray<Name>
  readonly limits: Readonly<Record<string, Limits>>
  readonly turns: Readonly<Record<string, Turns>>
  readonly spacings: ReadonlyArray<Spacing>
}

/** What the model is after a call, and what the call says. */
export type Said<A> = readonly [model: Model, answer: A]

export const empty: Model = { records: [], names: [], limits: {}, turns: {}, spacings: [] }

/** A batch is its items, one after the other. */
export const each = <Item, A>(
  model: Model,
  items: ReadonlyArray<Item>,
  one: (model: Model, item: Item) => Said<A>,
): Said<ReadonlyArray<A>> => {
  let after = model
  const answers = items.map((item) => {
    const [next, answer] = one(after, item)
    after = next
    return answer
  })
  return [after, answers]
}

export const isWaiting = (record: ModelRecord) => record.state === "ready"
export const isRunning = (record: ModelRecord) => record.state === "running"
export const hasEnded = (record: ModelRecord) => record.endedAt !== undefined
/** Held back for its members. */
export const isHeldJoin = (record: ModelRecord) => isWaiting(record) && record.wanted !== undefined && !!record.join
export const isOfJoin = ({ join, memberOf }: Pick<NewRecord, "join" | "memberOf">) =>
  join !== undefined || memberOf !== undefined

export const find = (model: Model, id: TaskId | undefined) => model.records.find((record) => record.id === id)
export const put = (model: Model, changed: ModelRecord): Model => ({
  ...model,
  records: model.records.map((record) => (record.id === changed.id ? holding(changed) : record)),
})
export const drop = (model: Model, id: TaskId): Model => ({
  ...model,
  records: model.records.filter((record) => record.id !== id),
})

/** Once it was in a state that its key is not for, a record has given it up. */
const holding = (record: ModelRecord): ModelRecord => {
  const phase = record.state === "ready" || record.state === "scheduled" ? "waiting" : record.state
  return { ...record, holdsKey: record.holdsKey && record.unique?.while.includes(phase) === true }
}
export const holderOf = (model: Model, { task, unique }: Pick<NewRecord, "task" | "unique">) =>
  model.records.find((other) => other.holdsKey && other.task === task && other.unique?.key === unique?.key)
export const followerOf = (model: Model, id: TaskId) =>
  model.records.find((record) => isWaiting(record) && record.follows === id)

type Named = Pick<NewRecord, "queue" | "name">
export const isNameOf = (record: Named) => (name: Name) => name.queue === record.queue && name.name === record.name
export const isTakenAt = (now: number) => (name: Name) => name.until === undefined || name.until > now
export const nameOf = (model: Model, record: Named, now: number) =>
  model.names.filter(isTakenAt(now)).find(isNameOf(record))
export const own = (model: Model, record: ModelRecord): Model => {
  if (record.name === undefined) return model
  const others = model.names.filter((name) => !isNameOf(record)(name))
  return {
    ...model,
    names: [...others, { queue: record.queue, name: record.name, owner: record.id, until: undefined }],
  }
}
/** The name of one that had not ended is free at once. */
export const disown = (model: Model, record: ModelRecord): Model => {
  const isFreed = (name: Name) => !hasEnded(record) && name.owner === record.id && isNameOf(record)(name)
  return { ...model, names: model.names.filter((name) => !isFreed(name)) }
}

/** A record as it is when it was enqueued, not held back by anything. */
export const fresh = ({ onDuplicate: _, ...content }: NewRecord, now: number): ModelRecord => ({
  name: undefined,
  target: undefined,
  expiresAt: undefined,
  retry: undefined,
  timeout: undefined,
  lease: undefined,
  unique: undefined,
  payloadRef: undefined,
  key: undefined,
  memberOf: undefined,
  ...content,
  join: content.join && { ...content.join, succeeded: 0, cancelled: 0, dead: 0 },
  uniqueKey: content.unique?.key,
  holdsKey: content.unique !== undefined,
  wanted: undefined,
  follows: undefined,
  attempts: [],
  progress: undefined,
  state: "ready",
  eta: Math.max(now, content.eta),
  enqueuedAt: now,
  attempt: 0,
  crashes: 0,
  token: 0,
  firstAttemptAt: undefined,
  startedAt: undefined,
  worker: undefined,
  leaseUntil: undefined,
  cancelRequested: undefined,
  endedAt: undefined,
  reason: undefined,
  result: undefined,
  failure: undefined,
})

export const limitsOf = (model: Model, queue: string): Limits =>
  model.limits[queue] ?? { ...unlimited, bucket: { tokens: 0, at: 0 } }
export const rateOf = ({ burst, rate }: Pick<QueueLimits, "rate" | "burst">) =>
  rate === undefined ? undefined : { rate, burst }

const noTurns: Turns = { isKeyed: false, time: 0, pausedUntil: undefined, keys: {} }
export const turnsOf = (model: Model, queue: string): Turns => model.turns[queue] ?? noTurns
export const putTurns = (model: Model, queue: string, turns: Turns): Model => ({
  ...model,
  turns: { ...model.turns, [queue]: turns },
})

const nothingKnown: KeyState = { place: undefined, bucket: undefined, pausedUntil: undefined, override: {} }
export const keyOf = (turns: Turns, key: string): KeyState => turns.keys[key] ?? nothingKnown
export const putKey = (turns: Turns, key: string, state: KeyState): Turns => ({
  ...turns,
  keys: { ...turns.keys, [key]: state },
})
