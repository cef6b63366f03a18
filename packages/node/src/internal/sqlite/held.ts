/**
 * What has to be known of a record to move it on, as a row: arrays are cheaper to make than objects, and one is made for
 * every settlement.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import { asRow, type Row } from "./row.ts"

export interface Held {
  readonly seq: number
  readonly id: TaskId
  readonly queue: string
  readonly name: string | null
  readonly keep: number
  readonly tombstone: number
  readonly attempt: number
  readonly cancel_requested: string | null
  readonly failure: string | null
  /** `null`: it has no unique key. */
  readonly unique_while: number | null
  readonly token: number
  readonly state: number
  readonly key: string | null
  readonly member_of: TaskId | null
  /** 0: it has no key. */
  readonly turn: number
  /** 1: others report to it, or did. */
  readonly is_join: number | null
}

const columns = [
  "seq",
  "id",
  "queue",
  "name",
  "keep",
  "tombstone",
  "attempt",
  "cancel_requested",
  "failure",
  "unique_while",
  "token",
  "state",
  "key",
  "turn",
  "member_of",
  "is_join",
]

/** What `toHeld` reads, first in the row. */
export const heldColumns = columns.map((column) => `outlive_records.${column}`).join(", ")
/** Where in the row other columns begin. */
export const heldLength = columns.length

export const toHeld = (row: Row): Held => ({
  seq: row[0] as number,
  id: row[1] as TaskId,
  queue: row[2] as string,
  name: row[3] as string | null,
  keep: row[4] as number,
  tombstone: row[5] as number,
  attempt: row[6] as number,
  cancel_requested: row[7] as string | null,
  failure: row[8] as string | null,
  unique_while: row[9] as number | null,
  token: row[10] as number,
  state: row[11] as number,
  key: row[12] as string | null,
  turn: row[13] as number,
  member_of: row[14] as TaskId | null,
  is_join: row[15] as number | null,
})

/** Finds a record by its id. */
export const makeFindHeld = (db: DatabaseSync): ((id: TaskId) => Held | undefined) => {
  const find = db.prepare(`SELECT ${heldColumns} FROM outlive_records WHERE id = ?`)
  find.setReturnArrays(true)
  return (id) => {
    const row = asRow(find.get(id))
    return row === undefined ? undefined : toHeld(row)
  }
}
