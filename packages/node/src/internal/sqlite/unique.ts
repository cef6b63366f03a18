/**
 * Unique keys: at most one record of a task holds one, by the unique index over those that do. Whoever writes has the
 * lock of the file, so that this is true over all processes.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { UniqueWhile } from "@outlive/deferred/TaskRecord"
import { State } from "./schema.ts"

/** The bit 1 << state for each; `waiting` is always among them. */
export const maskOf = (states: ReadonlyArray<UniqueWhile>): number =>
  states.reduce((mask, state) => mask | (1 << State[state]), 1 << State.waiting)

export interface Keys {
  /** The record of the task that holds the key. */
  readonly holder: (task: string, key: string) => TaskId | undefined
  /** A record with a key is in another state now: if the key is not for that, it has given it up for good. */
  readonly moved: (seq: number) => void
  /** A record with a key waits again as if it were new: it takes the key if it is free, and goes on without it if not. */
  readonly takeAgain: (seq: number) => void
}

export const makeKeys = (db: DatabaseSync): Keys => {
  const holder = db.prepare("SELECT id FROM outlive_records WHERE task = ? AND unique_key = ? AND holds_key = 1")
  const move = db.prepare(
    "UPDATE outlive_records SET holds_key = NULL WHERE seq = ? AND holds_key = 1 AND (unique_while >> state) & 1 = 0",
  )
  const takeAgain = db.prepare("UPDATE OR IGNORE outlive_records SET holds_key = 1 WHERE seq = ?")
  return {
    holder: (task, key) => (holder.get(task, key) as { readonly id: TaskId } | undefined)?.id,
    moved: (seq) => {
      move.run(seq)
    },
    takeAgain: (seq) => {
      takeAgain.run(seq)
    },
  }
}
