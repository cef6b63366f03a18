/**
 * A record as a row, and back.
 */
import type { SQLInputValue, SQLOutputValue } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { ClaimedRecord, ClaimParams } from "@outlive/deferred/TaskQueue"
import type { DeadReason, JoinTally, NewRecord, TaskRecord, TaskState } from "@outlive/deferred/TaskRecord"
import { maskOf } from "./unique.ts"

/** The columns of a whole record, in the order in which `toRecord` reads them. */
export const columns = `id, queue, task, version, target, state, priority, eta, token, attempt, crashes, max_crashes, keep,
  enqueued_at, expires_at, lease, timeout, lease_until, worker, started_at, first_attempt_at, ended_at, reason,
  cancel_requested, name, retry, headers, payload, result, failure, unique_key,
  payload_ref, progress, key, member_of, is_join`

/** What a record that waits for others, or did, has heard of them. */
export type Tallies = (id: TaskId) => JoinTally | undefined

/** A row of `columns`, from a statement that returns arrays: those are cheaper to make than objects of so many keys. */
export type Row = ReadonlyArray<SQLOutputValue>

/** What a statement that returns arrays gives; the types of node:sqlite know only its objects. */
export const asRow = (row: unknown): Row | undefined => row as Row | undefined
export const asRows = (rows: unknown): ReadonlyArray<Row> => rows as ReadonlyArray<Row>

const phases = [undefined, "running", "succeeded", "cancelled", "dead"] as const

export const stateOf = (state: number, eta: number, now: number): TaskState =>
  phases[state] ?? (eta > now ? "scheduled" : "ready")

const orUndefined = (value: SQLOutputValue | undefined): unknown => (value === null ? undefined : value)

/** The same object for all records without headers, so frozen. */
const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

/** Written out: a copy by spread costs several times as much, and this is made for every claim. */
const read = (row: Row, state: TaskState, tallies: Tallies) => ({
  state,
  token: row[8] as number,
  id: row[0] as TaskId,
  task: row[2] as string,
  version: row[3] as number,
  queue: row[1] as string,
  payload: row[27] as string,
  payloadRef: orUndefined(row[31]) as string | undefined,
  headers: row[26] === null ? noHeaders : (JSON.parse(row[26] as string) as Record<string, string>),
  priority: row[6] as number,
  eta: row[7] as number,
  name: orUndefined(row[24]) as string | undefined,
  uniqueKey: orUndefined(row[30]) as string | undefined,
  key: orUndefined(row[33]) as string | undefined,
  memberOf: orUndefined(row[34]) as TaskId | undefined,
  join: row[35] === null ? undefined : tallies(row[0] as TaskId),
  target: orUndefined(row[4]) as string | undefined,
  expiresAt: orUndefined(row[14]) as number | undefined,
  retry: orUndefined(row[25]) as string | undefined,
  timeout: orUndefined(row[16]) as number | undefined,
  lease: orUndefined(row[15]) as number | undefined,
  maxCrashes: row[11] as number,
  keep: row[12] as number,
  enqueuedAt: row[13] as number,
  attempt: row[9] as number,
  crashes: row[10] as number,
  firstAttemptAt: orUndefined(row[20]) as number | undefined,
  startedAt: orUndefined(row[19]) as number | undefined,
  worker: orUndefined(row[18]) as string | undefined,
  leaseUntil: orUndefined(row[17]) as number | undefined,
  cancelRequested: orUndefined(row[23]) as string | undefined,
  endedAt: orUndefined(row[21]) as number | undefined,
  reason: orUndefined(row[22]) as DeadReason | undefined,
  result: orUndefined(row[28]) as string | undefined,
  failure: orUndefined(row[29]) as string | undefined,
  progress: orUndefined(row[32]) as string | undefined,
})

export const toRecord = (row: Row, now: number, tallies: Tallies): TaskRecord =>
  read(row, stateOf(row[5] as number, row[7] as number, now), tallies)

export const toClaimed = (row: Row, tallies: Tallies): ClaimedRecord => read(row, "running", tallies) as ClaimedRecord

/** What most records have nothing of: each value that is read costs, also one that is not there. */
const rare = (
  first: string,
): string => `coalesce(${first}, target, expires_at, lease, timeout, cancel_requested, name, retry, headers,
  unique_key, payload_ref, member_of, is_join)`

/**
 * What a claim reads of the first records of a lane on its way along the index: of those that were never started and have
 * nothing rare about them all that it does not know from the lane, of others that they are not of those.
 */
export const freshColumns = `seq, eta, CASE WHEN token = 0 AND ${rare("failure")} IS NULL THEN id END, max_crashes, keep, enqueued_at,
  payload`

/** What the records of a lane with one priority have in common. */
export interface Run {
  readonly task: string
  readonly version: number
  readonly priority: number
}

export const seqOfFresh = (row: Row): number => row[0] as number
export const etaOfFresh = (row: Row): number => row[1] as number

/** The claim of a row of `freshColumns`; `undefined`: the record is not of those. */
export const toFreshClaim = (
  row: Row,
  { priority, task, version }: Run,
  { lease, now, queue, worker }: { readonly queue: string } & Pick<ClaimParams, "lease" | "now" | "worker">,
): ClaimedRecord | undefined =>
  row[2] === null
    ? undefined
    : plainClaim(
        [row[2]!, task, version, priority, row[1]!, 1, 1, 0, row[3]!, row[4]!, row[5]!, now, now + lease, row[6]!],
        { key: undefined, now, queue, worker },
      )

/**
 * The columns of a record just claimed that every one has, in the order in which `toPlainClaim` reads them, and whether it
 * has any other.
 */
export const claimColumns = `id, task, version, priority, eta, token, attempt, crashes, max_crashes, keep, enqueued_at,
  first_attempt_at, lease_until, payload, ${rare("failure, progress")} IS NULL, seq`

export const seqOfClaim = (row: Row): number => row[15] as number

/** The claimed record of a row of `claimColumns`, after which there may be its key; `undefined` when it has more than those. */
export const toPlainClaim = (row: Row, queue: string, worker: string, now: number): ClaimedRecord | undefined =>
  row[14] === 0 ? undefined : plainClaim(row, { key: (row[16] ?? undefined) as string | undefined, now, queue, worker })

const plainClaim = (
  row: Row,
  of: { readonly key: string | undefined; readonly now: number; readonly queue: string; readonly worker: string },
): ClaimedRecord => ({
  state: "running",
  token: row[5] as number,
  id: row[0] as TaskId,
  task: row[1] as string,
  version: row[2] as number,
  queue: of.queue,
  payload: row[13] as string,
  payloadRef: undefined,
  headers: noHeaders,
  priority: row[3] as number,
  eta: row[4] as number,
  name: undefined,
  uniqueKey: undefined,
  key: of.key,
  memberOf: undefined,
  join: undefined,
  target: undefined,
  expiresAt: undefined,
  retry: undefined,
  timeout: undefined,
  lease: undefined,
  maxCrashes: row[8] as number,
  keep: row[9] as number,
  enqueuedAt: row[10] as number,
  attempt: row[6] as number,
  crashes: row[7] as number,
  firstAttemptAt: row[11] as number,
  startedAt: of.now,
  worker: of.worker,
  leaseUntil: row[12] as number,
  cancelRequested: undefined,
  endedAt: undefined,
  reason: undefined,
  result: undefined,
  failure: undefined,
  progress: undefined,
})

/** What `enqueue` writes of every record, in the order of `newValues`; the rest starts empty. */
export const newColumns = [
  "queue",
  "task",
  "version",
  "priority",
  "eta",
  "max_crashes",
  "keep",
  "tombstone",
  "enqueued_at",
  "payload",
] as const

export const newValues = (record: NewRecord, eta: number, now: number): Array<SQLInputValue> =>
  addNewValues([], record, eta, now)

/** The same, after other values: arrays that are joined cost more than one that grows. */
export const addNewValues = (values: Array<SQLInputValue>, record: NewRecord, eta: number, now: number) => {
  values.push(
    record.queue,
    record.task,
    record.version,
    record.priority,
    eta,
    record.maxCrashes,
    record.keep,
    record.tombstone,
    now,
    record.payload,
  )
  return values
}

/**
 * Room in a row for what it gains: SQLite packs the rows of a page, and one that grows makes it share its rows out to others.
 * So many bytes give way when the record is started, and what is left of them when it has ended.
 */
const room = (bytes: number): string => `'${" ".repeat(bytes)}'`
export const startedRoom = room(12)

/** A statement that writes new rows: the id, and these columns. */
export const insertion = (columns: ReadonlyArray<string>, rows = 1): string => {
  const row = `(?, 0, 0, 0, 0, ${room(48)}${", ?".repeat(columns.length)})`
  return `INSERT INTO outlive_records (id, state, token, attempt, crashes, room, ${columns.join(", ")})
    VALUES ${Array.from({ length: rows }, () => row).join(", ")}`
}

/** What a record has besides its content, by what else there is. */
export interface Standing {
  /** `null`: it is not held back. */
  readonly wantedEta: number | null
  /** The seq of the record for whose end it waits, to take its place. */
  readonly follows: number | null
  readonly dueBy: number | null
  /** 0: it has no key. */
  readonly turn: number
}

/** What it writes besides that of records that have any of it, in the order of `rareValues`. */
export const rareColumns = [
  "target",
  "expires_at",
  "lease",
  "timeout",
  "name",
  "retry",
  "headers",
  "payload_ref",
  "unique_key",
  "unique_while",
  "holds_key",
  "key",
  "turn",
  "member_of",
  "is_join",
  "follows",
  "wanted_eta",
  "due_by",
] as const

export const rareValues = (record: NewRecord, standing: Standing): Array<SQLInputValue> => [
  record.target ?? null,
  record.expiresAt ?? null,
  record.lease ?? null,
  record.timeout ?? null,
  record.name ?? null,
  record.retry ?? null,
  hasHeaders(record) ? JSON.stringify(record.headers) : null,
  record.payloadRef ?? null,
  record.unique?.key ?? null,
  record.unique === undefined ? null : maskOf(record.unique.while),
  // It waits, and its key is always for that.
  record.unique === undefined || standing.follows !== null ? null : 1,
  record.key ?? null,
  standing.turn,
  record.memberOf ?? null,
  record.join === undefined ? null : 1,
  standing.follows,
  standing.wantedEta,
  standing.dueBy,
]

/** What it writes of records that have a key and nothing rare, after `newColumns`. */
export const keyedColumns = ["key", "turn"] as const

/** Whether a record has none of what is rare but a key. Each value that is bound costs, also one that is not there. */
export const isPlain = (record: NewRecord): boolean =>
  record.target === undefined &&
  record.expiresAt === undefined &&
  record.lease === undefined &&
  record.timeout === undefined &&
  record.name === undefined &&
  record.retry === undefined &&
  record.payloadRef === undefined &&
  record.unique === undefined &&
  record.memberOf === undefined &&
  record.join === undefined &&
  !hasHeaders(record)

const hasHeaders = (record: NewRecord): boolean => {
  for (const _ in record.headers) return true
  return false
}
