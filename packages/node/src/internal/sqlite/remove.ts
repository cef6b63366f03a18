/**
 * What deletes records: by id, a queue's waiting ones, and those whose time is over.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { RemoveOutcome } from "@outlive/deferred/TaskQueue"
import type { Steps } from "./groupCommit.ts"
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

/** Records that one step deletes. */
const stride = 50

export const makePurge = (db: DatabaseSync): ((queue: string) => Steps<number>) => {
  const some = db.prepare(`SELECT seq, id, name FROM records WHERE queue = ? AND state = 0 LIMIT ${stride}`)
  const free = db.prepare("DELETE FROM names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  const remove = db.prepare("DELETE FROM records WHERE seq = ?")
  return function* (queue) {
    let count = 0
    while (true) {
      const records = some.all(queue) as unknown as ReadonlyArray<{
        readonly seq: number
        readonly id: TaskId
        readonly name: string | null
      }>
      for (const { id, name, seq } of records) {
        if (name !== null) free.run(queue, name, id)
        remove.run(seq)
      }
      count += records.length
      if (records.length < stride) return count
      yield
    }
  }
}

export const makePrune = (db: DatabaseSync): ((now: number, deadBefore: number, limit: number) => Steps<number>) => {
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
  const workers = db.prepare(
    "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE until <= ? ORDER BY until LIMIT ?)",
  )
  const some = function* (statement: StatementSync, before: number, limit: number): Steps<number> {
    let count = 0
    while (count < limit) {
      const most = Math.min(stride, limit - count)
      const deleted = Number(statement.run(before, most).changes)
      count += deleted
      if (deleted < most) break
      yield
    }
    return count
  }
  return function* (now, deadBefore, limit) {
    yield* some(names, now, limit)
    yield* some(workers, now, limit)
    return (yield* some(kept, now, limit)) + (yield* some(dead, deadBefore, limit))
  }
}
