/**
 * What a queue in memory consists of: records, the lanes in which they wait, and their keys. All of it is mutable.
 */
import type { KeyOverride } from "../KeyLimits.ts"
import type { Attempt, JoinTally, NewRecord, TaskRecord } from "../TaskRecord.ts"
import type { TokenBucket } from "../TokenBucket.ts"
import type { Heap } from "./heap.ts"

export type Mutable<A> = { -readonly [K in keyof A]: A[K] }

/** A record, in exactly one heap by its state. */
export interface MemoryRecord
  extends Mutable<Omit<TaskRecord, "state" | "uniqueKey" | "join">>,
    Mutable<Pick<NewRecord, "tombstone" | "unique">> {
  readonly join: Mutable<JoinTally> | undefined
  /** `scheduled` and `ready` are both `waiting` here. */
  phase: "waiting" | "running" | "succeeded" | "cancelled" | "dead"
  /** The order of insertion. */
  readonly seq: number
  token: number
  holdsKey: boolean
  /** What its queue knows of its key, while it waits or runs. */
  ofKey: MemoryKey | undefined
  /** The eta that it will have, while it is held back. */
  wanted: number | undefined
  /** The running record for whose end it is held back, to take over its unique key. */
  follows: MemoryRecord | undefined
  /** What is held back for its own end. */
  follower: MemoryRecord | undefined
  /** Attempts that ended otherwise than by success, which is told by the record itself. */
  attempts: Array<Attempt> | undefined
  /** Its place in the heap of its phase. */
  place: number
  /** Its place in the heap of expiry times. */
  expiryPlace: number
  /** Its place in the order of its key, where that is kept. */
  orderPlace: number
}

/** The waiting records of a queue that the same workers may claim: those of one task and version, with one target. */
export interface Lane {
  readonly task: string
  readonly version: number
  readonly target: string | undefined
  /** What is not due yet, by eta, with a key or without. */
  readonly scheduled: Heap<"place", MemoryRecord>
  /** What is due and has no key, in the order of claims. */
  readonly ready: Heap<"place", MemoryRecord>
  /** Keys that may start something here and whose place is before the virtual time, by name. */
  readonly present: Heap<"duePlace", KeyLane>
  /** Keys that may start something here and whose place is that time or after it, by place and name. */
  readonly ahead: Heap<"duePlace", KeyLane>
}

/** What a key has ready in a lane. */
export interface KeyLane {
  readonly key: MemoryKey
  readonly lane: Lane
  readonly ready: Heap<"place", MemoryRecord>
  /** Its place in the lane's heap of keys that may start something. */
  duePlace: number
}

/** What a queue knows of a key. */
export interface MemoryKey {
  readonly name: string
  /** Where it stands in the virtual time. */
  turn: number
  /** How many wait, those included that are held back, and how many run. */
  waiting: number
  running: number
  /** Nothing starts before then. */
  pausedUntil: number
  /** `undefined`: full. */
  bucket: TokenBucket | undefined
  override: KeyOverride
  lanes: Array<KeyLane>
  /** All that wait, by insertion, where they run one after the other. */
  order: Heap<"orderPlace", MemoryRecord> | undefined
  /** When it may start something again, while it is among those that wait for a time. */
  wakeAt: number
  /** Its place among those that wait for a time, that take turns in a claim, or that have nothing to do: one at a time. */
  place: number
  /** In the claim that is being made: its first tag, how many started, how many may. */
  base: number
  started: number
  left: number
}
