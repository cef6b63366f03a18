/**
 * A new record as what `enqueue` is given.
 */
import type * as PgTypes from "@effect/sql-pg/PgTypes"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { followable, OnFailure, Then } from "./joinTables.ts"
import { floats, integers, texts, uuids } from "./row.ts"

const headersOf = (record: NewRecord): string | null => {
  for (const _ in record.headers) return JSON.stringify(record.headers)
  return null
}

const phaseBits = { waiting: 1, running: 2, succeeded: 4, cancelled: 8, dead: 16 } as const

/** The states in which a record holds its key, a bit each, and whether something may take its place. */
const whileOf = ({ unique }: NewRecord): number | null =>
  unique === undefined
    ? null
    : unique.while.reduce<number>(
        (bits, phase) => bits | phaseBits[phase],
        phaseBits.waiting | (unique.latest === undefined ? 0 : followable),
      )

type Column = readonly [name: string, type: string, of: (records: ReadonlyArray<NewRecord>) => PgTypes.Parameter]

/** Most records have nothing that the columns called rare are for: where none has, nobody looks, here and in the database. */
export const isRare = ({ join, key, memberOf, unique }: NewRecord): boolean =>
  key !== undefined || memberOf !== undefined || join !== undefined || unique?.latest !== undefined
export const rareNames: ReadonlySet<string> = new Set([
  ...[
    "key",
    "member_of",
    "due_by",
    "spacing",
    "expects",
    "join_total",
    "join_on_failure",
    "join_then",
    "join_depth",
    "call",
  ],
])

/** What is written of records as it was given, one list a column: names, types, and the values. */
const content = [
  ["queue", "text", (records: ReadonlyArray<NewRecord>) => texts(records.map(({ queue }) => queue))],
  ["task", "text", (records) => texts(records.map(({ task }) => task))],
  ["version", "double precision", (records) => floats(records.map(({ version }) => version))],
  ["target", "text", (records) => texts(records.map(({ target }) => target ?? null))],
  ["priority", "double precision", (records) => floats(records.map(({ priority }) => priority))],
  ["name", "text", (records) => texts(records.map(({ name }) => name ?? null))],
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
  ["key", "text", (records) => texts(records.map(({ key }) => key ?? null))],
  ["member_of", "uuid", (records) => uuids(records.map(({ memberOf }) => memberOf ?? null))],
  ["due_by", "double precision", (records) => floats(records.map(({ unique }) => unique?.latest?.dueBy ?? null))],
] as const satisfies ReadonlyArray<Column>

export const contentNames: ReadonlyArray<string> = content.map(([name]) => name)

/** All that `enqueue` is given of records. */
export const newColumns = [
  ["id", "uuid", (records: ReadonlyArray<NewRecord>) => uuids(records.map(({ id }) => id))],
  ["eta", "double precision", (records) => floats(records.map(({ eta }) => eta))],
  [
    "on_duplicate",
    "text",
    (records) => texts(records.map((each) => (each.name === undefined ? null : each.onDuplicate))),
  ],
  ["spacing", "double precision", (records) => floats(records.map(({ unique }) => unique?.latest?.spacing ?? null))],
  ["expects", "text", (records) => texts(records.map(({ unique }) => unique?.latest?.expects ?? null))],
  ["join_total", "integer", (records) => integers(records.map(({ join }) => join?.total ?? null))],
  [
    "join_on_failure",
    "integer",
    (records) => integers(records.map(({ join }) => (join === undefined ? null : OnFailure[join.onFailure]))),
  ],
  [
    "join_then",
    "integer",
    (records) => integers(records.map(({ join }) => (join === undefined ? null : Then[join.afterwards]))),
  ],
  ...content,
] as const satisfies ReadonlyArray<Column>
