/**
 * What deletes records: by id, a queue's waiting ones, and those whose time is over.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { RemoveOutcome } from "@outlive/deferred/TaskQueue"
import { State } from "./schema.ts"

export const makeRemove = (db: DatabaseSync): ((ids: ReadonlyArray<TaskId>) => ReadonlyArray<RemoveOutcome>) => {
  const remove = db.prepare("DELETE FROM records WHERE id = ? AND state <> 1 RETURNING state, queue, name")
  const exists = db.prepare("SELECT 1 FROM records WHERE id = ?")
  const free = db.prepare("DELETE FROM names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  return (ids) =>
    ids.map((id) => {
      const row = remove.get(id) as
        | { readonly state: number; readonly queue: string; readonly name: string | null }
        | undefined
      if (row === undefined) return exists.get(id) === undefined ? "NotFound" : "Running"
      // The name of one that has ended stays taken until its tombstone is over.
      if (row.state === State.waiting && row.name !== null) free.run(row.queue, row.name, id)
      return "Removed"
    })
}

export const makePurge = (db: DatabaseSync): ((queue: string) => number) => {
  const free = db.prepare(
    `DELETE FROM names WHERE queue = ? AND until IS NULL
       AND EXISTS (SELECT 1 FROM records WHERE records.id = names.id AND records.state = 0)`,
  )
  const remove = db.prepare("DELETE FROM records WHERE queue = ? AND state = 0")
  return (queue) => {
    free.run(queue)
    return Number(remove.run(queue).changes)
  }
}

export const makePrune = (db: DatabaseSync): ((now: number, deadBefore: number, limit: number) => number) => {
  const kept = db.prepare(
    "DELETE FROM records WHERE seq IN (SELECT seq FROM records WHERE prune_at <= ? ORDER BY prune_at LIMIT ?)",
  )
  const dead = db.prepare(
    `DELETE FROM records
     WHERE seq IN (SELECT seq FROM records WHERE state = 4 AND ended_at < ? ORDER BY ended_at LIMIT ?)`,
  )
  const names = db.prepare(
    `DELETE FROM names WHERE (queue, name) IN
       (SELECT queue, name FROM names WHERE until <= ? ORDER BY until LIMIT ?)`,
  )
  return (now, deadBefore, limit) => {
    names.run(now, limit)
    return Number(kept.run(now, limit).changes) + Number(dead.run(deadBefore, limit).changes)
  }
}
