/**
 * Records in memory: from what was enqueued, and to what a reader gets.
 */
import type { ClaimedRecord } from "../TaskQueue.ts"
import {
  type Attempt,
  type JoinTally,
  ledgerLength,
  type NewRecord,
  type TaskRecord,
  type TaskState,
} from "../TaskRecord.ts"
import { nowhere } from "./heap.ts"
import type { MemoryRecord, Mutable } from "./memoryParts.ts"

export const fromNew = (record: NewRecord, seq: number, now: number): MemoryRecord => ({
  id: record.id,
  task: record.task,
  version: record.version,
  queue: record.queue,
  payload: record.payload,
  payloadRef: record.payloadRef,
  headers: record.headers,
  priority: record.priority,
  eta: Math.max(now, record.eta),
  name: record.name,
  tombstone: record.tombstone,
  unique: record.unique,
  key: record.key,
  memberOf: record.memberOf,
  join: record.join === undefined ? undefined : { ...record.join, succeeded: 0, cancelled: 0, dead: 0 },
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
  progress: undefined,
  phase: "waiting",
  seq,
  token: 0,
  holdsKey: false,
  ofKey: undefined,
  wanted: undefined,
  follows: undefined,
  follower: undefined,
  attempts: undefined,
  place: nowhere,
  expiryPlace: nowhere,
  orderPlace: nowhere,
})

export const stateOf = (record: MemoryRecord, now: number): TaskState =>
  record.phase === "waiting" ? (record.eta > now ? "scheduled" : "ready") : record.phase

/** Held back for its members. */
export const isHeldJoin = (record: MemoryRecord): record is MemoryRecord & { readonly join: Mutable<JoinTally> } =>
  record.phase === "waiting" && record.wanted !== undefined && record.join !== undefined

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
  payloadRef: record.payloadRef,
  headers: record.headers,
  priority: record.priority,
  eta: record.eta,
  name: record.name,
  uniqueKey: record.unique?.key,
  key: record.key,
  memberOf: record.memberOf,
  join: record.join === undefined ? undefined : { ...record.join },
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
  progress: record.progress,
})

export const view = (record: MemoryRecord, now: number): TaskRecord => copy(record, stateOf(record, now), record.token)

export const claimed = (record: MemoryRecord): ClaimedRecord => copy(record, "running", record.token) as ClaimedRecord

/** Writes the end of the record's attempt into its ledger; its worker and start are still those of the attempt. */
export const endAttempt = (
  record: MemoryRecord,
  outcome: Attempt["outcome"],
  failure: string | undefined,
  now: number,
) => {
  const ended = attemptOf(record, outcome, failure, now)
  if (record.attempts === undefined) record.attempts = [ended]
  else record.attempts.push(ended)
  if (record.attempts.length >= 2 * ledgerLength) record.attempts.splice(0, ledgerLength)
}

export const ledgerOf = (record: MemoryRecord): ReadonlyArray<Attempt> => {
  const attempts = record.attempts ?? []
  // What waited for others may succeed with them, without an attempt of its own.
  if (record.phase !== "succeeded" || record.startedAt === undefined) return [...attempts]
  return [...attempts, attemptOf(record, "Succeed", undefined, record.endedAt!)]
}

const attemptOf = (
  record: MemoryRecord,
  outcome: Attempt["outcome"],
  failure: string | undefined,
  endedAt: number,
): Attempt => ({
  attempt: record.attempt,
  worker: record.worker!,
  startedAt: record.startedAt!,
  endedAt,
  outcome,
  failure,
})
