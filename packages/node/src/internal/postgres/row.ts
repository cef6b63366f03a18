/**
 * A record as a row, and back.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { ClaimedRecord } from "@outlive/deferred/TaskQueue"
import type { DeadReason, JoinTally, TaskRecord, TaskState } from "@outlive/deferred/TaskRecord"
import { tally } from "./joinTables.ts"

/** The columns of a whole record with their types, in the order in which `toRecord` reads them. */
const all = [
  ["seq", "bigint"],
  ["id", "uuid"],
  ["queue", "text"],
  ["task", "text"],
  ["version", "double precision"],
  ["target", "text"],
  ["state", "smallint"],
  ["priority", "double precision"],
  ["eta", "double precision"],
  ["token", "integer"],
  ["attempt", "integer"],
  ["crashes", "integer"],
  ["max_crashes", "double precision"],
  ["keep", "double precision"],
  ["enqueued_at", "double precision"],
  ["expires_at", "double precision"],
  ["lease", "double precision"],
  ["timeout", "double precision"],
  ["lease_until", "double precision"],
  ["worker", "text"],
  ["started_at", "double precision"],
  ["first_attempt_at", "double precision"],
  ["ended_at", "double precision"],
  ["reason", "text"],
  ["cancel_requested", "text"],
  ["name", "text"],
  ["retry", "text"],
  ["headers", "text"],
  ["payload", "text"],
  ["result", "text"],
  ["failure", "text"],
  ["unique_key", "text"],
  ["payload_ref", "text"],
  ["progress", "text"],
  ["key", "text"],
  ["member_of", "uuid"],
  ["joined", "integer[]"],
] as const

/** Of the table that is called so in the statement. */
export const columns = (table: string): string => all.map(([name]) => `${table}.${name}`).join(", ")
/** The same of a record that may be held back: how its members ended so far is written elsewhere. */
export const lookedAt = (schema: string, table: string): string =>
  all
    .map(([name]) =>
      name === "joined"
        ? `CASE WHEN ${table}.joined IS NOT NULL AND ${table}.wanted_eta IS NOT NULL
    THEN coalesce((SELECT ${tally("j")} FROM ${schema}.joins j WHERE j.id = ${table}.id), ${table}.joined) ELSE ${table}.joined END`
        : `${table}.${name}`,
    )
    .join(", ")
export const columnNames: string = all.map(([name]) => name).join(", ")
export const columnTypes: string = all.map(([name, type]) => `${name} ${type}`).join(", ")

/** What a claim gives of a record: what nearly all have in columns, the rest in one, which nearly all have not. */
const claimed = [
  ...(["id", "queue", "task", "version", "priority", "eta", "token", "attempt", "crashes", "max_crashes"] as const),
  ...(["keep", "enqueued_at", "first_attempt_at", "lease_until", "payload", "headers", "key"] as const),
]
const seldom = [
  ...["target", "expires_at", "lease", "timeout", "reason", "cancel_requested", "name", "retry", "result", "failure"],
  ...["unique_key", "payload_ref", "progress", "member_of", "joined"],
] as const

export const claimedNames: string = [...claimed, "rest"].join(", ")
export const claimedList = (table: string): string => [...claimed, "rest"].map((name) => `${table}.${name}`).join(", ")
const types: Readonly<Record<string, string>> = Object.fromEntries(all)
export const claimedTypes: string = [...claimed.map((name) => `${name} ${types[name]}`), "rest text"].join(", ")
/** Of the table that is called so in the statement. */
export const claimedColumns = (table: string): string => {
  const rest = seldom.map((name) => `${table}.${name}`).join(", ")
  return [
    ...claimed.map((name) => `${table}.${name}`),
    `CASE WHEN num_nonnulls(${rest}) > 0 THEN json_build_array(${rest})::text END AS rest`,
  ].join(", ")
}

/** A row of `columns`, as an array: those are cheaper to make than objects of thirty keys. */
export type Row = ReadonlyArray<unknown>

const phases = [undefined, "running", "succeeded", "cancelled", "dead"] as const

const orUndefined = (value: unknown): unknown => (value === null ? undefined : value)

/** The same object for all records without headers, so frozen. */
const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

const headersOf = (text: unknown): Readonly<Record<string, string>> =>
  text === null ? noHeaders : (JSON.parse(text as string) as Record<string, string>)

const onFailures = ["continue", "cancelSiblings", "cancel"] as const
const thens = ["run", "end"] as const

/** How the members of a record ended, as `joined` has it. */
const tallyOf = ([total, onFailure, afterwards, succeeded, cancelled, dead]: ReadonlyArray<number>): JoinTally => ({
  total: total!,
  onFailure: onFailures[onFailure!]!,
  afterwards: thens[afterwards!]!,
  succeeded: succeeded!,
  cancelled: cancelled!,
  dead: dead!,
})

const common = (row: Row) => ({
  id: row[1] as TaskId,
  task: row[3] as string,
  version: row[4] as number,
  queue: row[2] as string,
  payload: row[28] as string,
  payloadRef: orUndefined(row[32]) as string | undefined,
  headers: headersOf(row[27]),
  priority: row[7] as number,
  eta: row[8] as number,
  name: orUndefined(row[25]) as string | undefined,
  uniqueKey: orUndefined(row[31]) as string | undefined,
  target: orUndefined(row[5]) as string | undefined,
  expiresAt: orUndefined(row[15]) as number | undefined,
  retry: orUndefined(row[26]) as string | undefined,
  timeout: orUndefined(row[17]) as number | undefined,
  lease: orUndefined(row[16]) as number | undefined,
  maxCrashes: row[12] as number,
  keep: row[13] as number,
  enqueuedAt: row[14] as number,
  attempt: row[10] as number,
  crashes: row[11] as number,
  cancelRequested: orUndefined(row[24]) as string | undefined,
  endedAt: orUndefined(row[22]) as number | undefined,
  reason: orUndefined(row[23]) as DeadReason | undefined,
  result: orUndefined(row[29]) as string | undefined,
  failure: orUndefined(row[30]) as string | undefined,
  progress: orUndefined(row[33]) as string | undefined,
  key: orUndefined(row[34]) as string | undefined,
  memberOf: orUndefined(row[35]) as TaskId | undefined,
  join: row[36] === null ? undefined : tallyOf(row[36] as ReadonlyArray<number>),
})

const stateOf = (row: Row, now: number): TaskState =>
  phases[row[6] as number] ?? ((row[8] as number) > now ? "scheduled" : "ready")

export const idOf = (row: Row): TaskId => row[1] as TaskId
export const seqOf = (row: Row): bigint => row[0] as bigint

export const toRecord = (row: Row, now: number): TaskRecord => ({
  ...common(row),
  state: stateOf(row, now),
  firstAttemptAt: orUndefined(row[21]) as number | undefined,
  startedAt: orUndefined(row[20]) as number | undefined,
  worker: orUndefined(row[19]) as string | undefined,
  leaseUntil: orUndefined(row[18]) as number | undefined,
})

/** What was claimed by that worker at that time. */
export const toClaimed = (row: Row, worker: string, now: number): ClaimedRecord => {
  const rest: Row = row[17] === null ? [] : (JSON.parse(row[17] as string) as Row)
  const [target, expiresAt, lease, timeout, reason, cancelRequested, name, retry, result, failure] = rest
  const [uniqueKey, payloadRef, progress, memberOf, joined] = rest.slice(10)
  return {
    id: row[0] as TaskId,
    task: row[2] as string,
    version: row[3] as number,
    queue: row[1] as string,
    payload: row[14] as string,
    payloadRef: orUndefined(payloadRef) as string | undefined,
    headers: headersOf(row[15]),
    priority: row[4] as number,
    eta: row[5] as number,
    name: orUndefined(name) as string | undefined,
    uniqueKey: orUndefined(uniqueKey) as string | undefined,
    target: orUndefined(target) as string | undefined,
    expiresAt: numberIn(expiresAt),
    retry: orUndefined(retry) as string | undefined,
    timeout: numberIn(timeout),
    lease: numberIn(lease),
    maxCrashes: row[9] as number,
    keep: row[10] as number,
    enqueuedAt: row[11] as number,
    attempt: row[7] as number,
    crashes: row[8] as number,
    cancelRequested: orUndefined(cancelRequested) as string | undefined,
    endedAt: undefined,
    reason: orUndefined(reason) as DeadReason | undefined,
    result: orUndefined(result) as string | undefined,
    failure: orUndefined(failure) as string | undefined,
    progress: orUndefined(progress) as string | undefined,
    key: orUndefined(row[16]) as string | undefined,
    memberOf: orUndefined(memberOf) as TaskId | undefined,
    join: joined === undefined || joined === null ? undefined : tallyOf(joined as ReadonlyArray<number>),
    state: "running",
    firstAttemptAt: row[12] as number,
    startedAt: now,
    worker,
    leaseUntil: row[13] as number,
    token: row[6] as number,
  }
}

/** A number as JSON has it; infinite ones are text there. */
const numberIn = (value: unknown): number | undefined =>
  value === undefined || value === null ? undefined : Number(value)

const { OID } = PgTypes

/** A parameter that is an array, or NULL when there is nothing but NULLs in it: most records leave most things out. */
export const list = (oid: number, values: ReadonlyArray<unknown>): PgTypes.Parameter => {
  const value = values.some((each) => each !== null) ? values : null
  return { [PgTypes.ParameterTypeId]: PgTypes.ParameterTypeId, oid, value }
}
export const uuids = (values: ReadonlyArray<string | null>): PgTypes.Parameter => list(OID.uuidArray, values)
export const texts = (values: ReadonlyArray<string | null>): PgTypes.Parameter => list(OID.textArray, values)
export const floats = (values: ReadonlyArray<number | null>): PgTypes.Parameter => list(OID.float8Array, values)
export const integers = (values: ReadonlyArray<number | null>): PgTypes.Parameter => list(OID.int4Array, values)
