/**
 * A record in memory: mutable, and in exactly one heap by its state.
 */
import type { ClaimedRecord, Filter } from "../TaskQueue.ts"
import type { NewRecord, TaskRecord, TaskState } from "../TaskRecord.ts"

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

export interface MemoryRecord extends Mutable<Omit<TaskRecord, "state">>, Pick<NewRecord, "tombstone"> {
  /** `scheduled` and `ready` are both `waiting` here. */
  phase: "waiting" | "running" | "succeeded" | "cancelled" | "dead"
  /** The order of insertion. */
  readonly seq: number
  token: number
  /** Its place in the heap of its phase. */
  place: number
  /** Its place in the heap of expiry times. */
  expiryPlace: number
}

export const fromNew = (record: NewRecord, seq: number, now: number): MemoryRecord => ({
  id: record.id,
  task: record.task,
  version: record.version,
  queue: record.queue,
  payload: record.payload,
  headers: record.headers,
  priority: record.priority,
  eta: Math.max(now, record.eta),
  name: record.name,
  tombstone: record.tombstone,
  target: record.target,
  expiresAt: record.expiresAt,
  retry: record.retry,
  timeout: record.timeout,
  lease: record.lease,
  maxCrashes: record.maxCrashes,
  keep: record.keep,
  enqueuedAt: now,
  attempt: 0,
  crashes: 0,
  firstAttemptAt: undefined,
  startedAt: undefined,
  worker: undefined,
  leaseUntil: undefined,
  cancelRequested: undefined,
  endedAt: undefined,
  reason: undefined,
  result: undefined,
  failure: undefined,
  phase: "waiting",
  seq,
  token: 0,
  place: -1,
  expiryPlace: -1,
})

export const stateOf = (record: MemoryRecord, now: number): TaskState =>
  record.phase === "waiting" ? (record.eta > now ? "scheduled" : "ready") : record.phase

/**
 * What a reader gets: a copy, so that it does not change under its eyes. Written out, since a copy by rest and spread
 * costs several times as much, and this is made for every claim.
 */
const copy = (record: MemoryRecord, state: TaskState, token: number) => ({
  state,
  token,
  id: record.id,
  task: record.task,
  version: record.version,
  queue: record.queue,
  payload: record.payload,
  headers: record.headers,
  priority: record.priority,
  eta: record.eta,
  name: record.name,
  target: record.target,
  expiresAt: record.expiresAt,
  retry: record.retry,
  timeout: record.timeout,
  lease: record.lease,
  maxCrashes: record.maxCrashes,
  keep: record.keep,
  enqueuedAt: record.enqueuedAt,
  attempt: record.attempt,
  crashes: record.crashes,
  firstAttemptAt: record.firstAttemptAt,
  startedAt: record.startedAt,
  worker: record.worker,
  leaseUntil: record.leaseUntil,
  cancelRequested: record.cancelRequested,
  endedAt: record.endedAt,
  reason: record.reason,
  result: record.result,
  failure: record.failure,
})

export const view = (record: MemoryRecord, now: number): TaskRecord => copy(record, stateOf(record, now), record.token)

export const claimed = (record: MemoryRecord): ClaimedRecord => copy(record, "running", record.token) as ClaimedRecord

export const matches = (record: MemoryRecord, filter: Filter, now: number): boolean =>
  (filter.queue === undefined || record.queue === filter.queue) &&
  (filter.task === undefined || record.task === filter.task) &&
  (filter.state === undefined || stateOf(record, now) === filter.state) &&
  (filter.reason === undefined || record.reason === filter.reason) &&
  (filter.namePrefix === undefined || record.name?.startsWith(filter.namePrefix) === true)

/** Higher priority first, then eta, then insertion. */
export const claimsBefore = (left: MemoryRecord, right: MemoryRecord): boolean =>
  left.priority !== right.priority
    ? left.priority > right.priority
    : left.eta !== right.eta
      ? left.eta < right.eta
      : left.seq < right.seq
