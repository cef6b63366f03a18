/**
 * One key of a queue in memory: what its limits allow, and when.
 */
import type { KeyLimits } from "../KeyLimits.ts"
import * as TokenBucket from "../TokenBucket.ts"
import { Heap, nowhere } from "./heap.ts"
import { byPriority } from "./memoryLane.ts"
import type { KeyLane, Lane, MemoryKey, MemoryRecord } from "./memoryParts.ts"

export const makeKey = (name: string): MemoryKey => ({
  name,
  turn: Number.NEGATIVE_INFINITY,
  waiting: 0,
  running: 0,
  pausedUntil: Number.NEGATIVE_INFINITY,
  bucket: undefined,
  override: {},
  lanes: [],
  order: undefined,
  wakeAt: Number.NEGATIVE_INFINITY,
  place: nowhere,
  base: 0,
  started: 0,
  left: 0,
})

export const makeOrder = (): Heap<"orderPlace", MemoryRecord> =>
  new Heap("orderPlace", (left, right) => left.seq < right.seq)

export const strideOf = ({ override }: MemoryKey): number => 1 / (override.weight ?? 1)

/** Its tag in the claim that is being made, when as many have started. */
export const tagOf = (key: MemoryKey): number => key.base + key.started * strideOf(key)

/** At most so many may run at once. */
export const slotsOf = ({ override }: MemoryKey, limits: KeyLimits): number =>
  override.maxConcurrent ?? limits.maxConcurrent ?? Number.POSITIVE_INFINITY

export const rateOf = ({ override }: MemoryKey, limits: KeyLimits): TokenBucket.Rate | undefined => {
  const rate = override.rate ?? limits.rate
  return rate === undefined || rate === Number.POSITIVE_INFINITY
    ? undefined
    : { rate, burst: override.burst ?? limits.burst }
}

/** Whether one that ends lets another one start. */
export const isHeldByEnds = (key: MemoryKey, limits: KeyLimits): boolean =>
  limits.ordered || slotsOf(key, limits) !== Number.POSITIVE_INFINITY

export const bucketAt = ({ bucket }: MemoryKey, rate: TokenBucket.Rate, now: number): TokenBucket.TokenBucket =>
  bucket === undefined ? TokenBucket.full(rate, now) : TokenBucket.refill(bucket, rate, now)

/** How many of it its limits allow to start. */
export const allowance = (key: MemoryKey, limits: KeyLimits, now: number): number => {
  if (now < key.pausedUntil) return 0
  const free = slotsOf(key, limits) - key.running
  const slots = limits.ordered ? Math.min(free, 1 - key.running) : free
  const rate = rateOf(key, limits)
  if (rate === undefined) return Math.max(0, slots)
  if (rate.rate === 0) return 0
  return Math.max(0, Math.min(slots, TokenBucket.available(bucketAt(key, rate, now))))
}

/** When its limits allow something to start, by time alone; in the past: now. `undefined`: not before something ends. */
export const opensAt = (key: MemoryKey, limits: KeyLimits, now: number): number | undefined => {
  if (key.running >= slotsOf(key, limits) || (limits.ordered && key.running > 0)) return undefined
  const rate = rateOf(key, limits)
  if (rate === undefined) return key.pausedUntil
  const tokenAt = rate.rate === 0 ? undefined : TokenBucket.nextAt(bucketAt(key, rate, now), rate)
  return tokenAt === undefined ? undefined : Math.max(key.pausedUntil, tokenAt)
}

/** Whether more is known of it than its place. */
export const isKnown = ({ bucket, override, pausedUntil }: MemoryKey): boolean =>
  bucket !== undefined || pausedUntil !== Number.NEGATIVE_INFINITY || Object.keys(override).length > 0

/** Whether what is known of it means no more than if nothing was. */
export const isAsUnknown = (key: MemoryKey, limits: KeyLimits, now: number): boolean => {
  if (Object.keys(key.override).length > 0 || now < key.pausedUntil) return false
  const rate = rateOf(key, limits)
  return rate === undefined || bucketAt(key, rate, now).tokens >= rate.burst
}

/** What it has ready in a lane; made when there was nothing yet. */
export const laneOf = (key: MemoryKey, lane: Lane): KeyLane => {
  for (const each of key.lanes) if (each.lane === lane) return each
  const made = { key, lane, ready: new Heap<"place", MemoryRecord>("place", byPriority), duePlace: nowhere }
  key.lanes.push(made)
  return made
}
