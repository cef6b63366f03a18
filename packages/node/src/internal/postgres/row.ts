/**
 * A record as a row, and back.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { ClaimedRecord } from "@outlive/deferred/TaskQueue"
import type { DeadReason, NewRecord, TaskRecord, TaskState } from "@outlive/deferred/TaskRecord"

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
] as const

/** Of the table that is called so in the statement. */
export const columns = (table: string): string => all.map(([name]) => `${table}.${name}`).join(", ")
export const columnNames: string = all.map(([name]) => name).join(", ")
export const columnTypes: string = all.map(([name, type]) => `${name} ${type}`).join(", ")

/** A row of `columns`, as an array: those are cheaper to make than objects of thirty keys. */
export type Row = ReadonlyArray<unknown>

const phases = [undefined, "running", "succeeded", "cancelled", "dead"] as const

const orUndefined = (value: unknown): unknown => (value === null ? undefined : value)

/** The same object for all records without headers, so frozen. */
const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

const common = (row: Row) => ({
  id: row[1] as TaskId,
  task: row[3] as string,
  version: row[4] as number,
  queue: row[2] as string,
  payload: row[28] as string,
  payloadRef: orUndefined(row[32]) as string | undefined,
  headers: row[27] === null ? noHeaders : (JSON.parse(row[27] as string) as Record<string, string>),
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
})

const stateOf = (row: Row, now: number): TaskState =>
  phases[row[6] as number] ?? ((row[8] as number) > now ? "scheduled" : "ready")

export const seqOf = (row: Row): bigint => row[0] as bigint

export const toRecord = (row: Row, now: number): TaskRecord => ({
  ...common(row),
  state: stateOf(row, now),
  firstAttemptAt: orUndefined(row[21]) as number | undefined,
  startedAt: orUndefined(row[20]) as number | undefined,
  worker: orUndefined(row[19]) as string | undefined,
  leaseUntil: orUndefined(row[18]) as number | undefined,
})

export const toClaimed = (row: Row): ClaimedRecord => ({
  ...common(row),
  state: "running",
  firstAttemptAt: row[21] as number,
  startedAt: row[20] as number,
  worker: row[19] as string,
  leaseUntil: row[18] as number,
  token: row[9] as number,
})

const { OID } = PgTypes

/** A parameter that is an array, or NULL when there is nothing but NULLs in it: most records leave most things out. */
export const list = (oid: number, values: ReadonlyArray<unknown>): PgTypes.Parameter => {
  const value = values.some((each) => each !== null) ? values : null
  return { [PgTypes.ParameterTypeId]: PgTypes.ParameterTypeId, oid, value }
}
export const uuids = (values: ReadonlyArray<string>): PgTypes.Parameter => list(OID.uuidArray, values)
export const texts = (values: ReadonlyArray<string | null>): PgTypes.Parameter => list(OID.textArray, values)
export const floats = (values: ReadonlyArray<number | null>): PgTypes.Parameter => list(OID.float8Array, values)
export const integers = (values: ReadonlyArray<number | null>): PgTypes.Parameter => list(OID.int4Array, values)

const headersOf = (record: NewRecord): string | null => {
  for (const _ in record.headers) return JSON.stringify(record.headers)
  return null
}

const phaseBits = { waiting: 1, running: 2, succeeded: 4, cancelled: 8, dead: 16 } as const

/** The states in which a record holds its key, a bit each. */
const whileOf = ({ unique }: NewRecord): number | null =>
  unique === undefined ? null : unique.while.reduce<number>((bits, phase) => bits | phaseBits[phase], phaseBits.waiting)

/** What `enqueue` writes of records, one list a column: names, types, and the values. */
export const newColumns = [
  ["id", "uuid", (records: ReadonlyArray<NewRecord>) => uuids(records.map(({ id }) => id))],
  ["queue", "text", (records) => texts(records.map(({ queue }) => queue))],
  ["task", "text", (records) => texts(records.map(({ task }) => task))],
  ["version", "double precision", (records) => floats(records.map(({ version }) => version))],
  ["target", "text", (records) => texts(records.map(({ target }) => target ?? null))],
  ["priority", "double precision", (records) => floats(records.map(({ priority }) => priority))],
  ["eta", "double precision", (records) => floats(records.map(({ eta }) => eta))],
  ["name", "text", (records) => texts(records.map(({ name }) => name ?? null))],
  [
    "on_duplicate",
    "text",
    (records) => texts(records.map((each) => (each.name === undefined ? null : each.onDuplicate))),
  ],
  ["tombstone", "double precision", (records) => floats(records.map(({ tombstone }) => tombstone))],
  ["unique_key", "text", (records) => texts(records.map(({ unique }) => unique?.key ?? null))],
  ["unique_while", "integer", (records) => integers(records.map(whileOf))],
  ["expires_at", "double precision", (records) => floats(records.map(({ expiresAt }) => expiresAt ?? null))],
  ["retry", "text", (records) => texts(records.map(({ retry }) => retry ?? null))],
  ["timeout", "double precision", (records) => floats(records.map(({ timeout }) => timeout ?? null))],
  ["lease", "double precision", (records) => floats(records.map(({ lease }) => lease ?? null))],
  ["max_crashes", "double precision", (records) => floats(records.map(({ maxCrashes }) => maxCrashes))],
  ["keep", "double precision", (records) => floats(records.map(({ keep }) => keep))],
  ["headers", "text", (records) => texts(records.map(headersOf))],
  ["payload", "text", (records) => texts(records.map(({ payload }) => payload))],
  ["payload_ref", "text", (records) => texts(records.map(({ payloadRef }) => payloadRef ?? null))],
] as const satisfies ReadonlyArray<
  readonly [name: string, type: string, of: (records: ReadonlyArray<NewRecord>) => PgTypes.Parameter]
>
