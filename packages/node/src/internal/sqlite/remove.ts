/**
 * What deletes records: by id, a queue's waiting ones, and those whose time is over.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { RemoveOutcome } from "@outlive/deferred/TaskQueue"
import type { Steps } from "./groupCommit.ts"
import type { Attempted, Ledger } from "./ledger.ts"
import { State } from "./schema.ts"

/** What is read of a record before it goes. */
interface Going extends Attempted {
  readonly id: TaskId
  readonly queue: string
  readonly name: string | null
}

export const makeRemove = (
  db: DatabaseSync,
  ledger: Ledger,
): ((ids: ReadonlyArray<TaskId>, only: "dead" | undefined) => ReadonlyArray<RemoveOutcome>) => {
  const removing = (which: string) =>
    db.prepare(`DELETE FROM outlive_records WHERE id = ? AND ${which} RETURNING seq, id, token, state, queue, name`)
  const any = removing(`state <> ${State.running}`)
  const dead = removing(`state = ${State.dead}`)
  const exists = db.prepare("SELECT 1 FROM outlive_records WHERE id = ?")
  const free = db.prepare("DELETE FROM outlive_names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  return (ids, only) => {
    const remove = only === "dead" ? dead : any
    const refused = only === "dead" ? "NotDead" : "Running"
    return ids.map((id) => {
      const row = remove.get(id) as Going | undefined
      if (row === undefined) return exists.get(id) === undefined ? "NotFound" : refused
      ledger.forget(row)
      // The name of one that has ended stays taken until its tombstone is over.
      if (row.state === State.waiting && row.name !== null) free.run(row.queue, row.name, id)
      return "Removed"
    })
  }
}

/** Records that one step deletes. */
const stride = 50

export const makePurge = (db: DatabaseSync, ledger: Ledger): ((queue: string) => Steps<number>) => {
  const some = db.prepare(
    `SELECT seq, id, token, state, queue, name FROM outlive_records WHERE queue = ? AND state = 0 LIMIT ${stride}`,
  )
  const free = db.prepare("DELETE FROM outlive_names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  const remove = db.prepare("DELETE FROM outlive_records WHERE seq = ?")
  return function* (queue) {
    let count = 0
    while (true) {
      const records = some.all(queue) as unknown as ReadonlyArray<Going>
      for (const record of records) {
        if (record.name !== null) free.run(queue, record.name, record.id)
        ledger.forget(record)
        remove.run(record.seq)
      }
      count += records.length
      if (records.length < stride) return count
      yield
    }
  }
}

export const makePrune = (
  db: DatabaseSync,
  ledger: Ledger,
): ((now: number, deadBefore: number, limit: number) => Steps<number>) => {
  const due = (condition: string) =>
    db.prepare(`SELECT seq, token, state FROM outlive_records WHERE ${condition} ORDER BY prune_at LIMIT ?`)
  const succeeded = due("state = 2 AND prune_at <= ?")
  const cancelled = due("state = 3 AND prune_at <= ?")
  const dead = due("state = 4 AND prune_at < ?")
  const remove = db.prepare("DELETE FROM outlive_records WHERE seq = ?")
  const names = db.prepare(
    `DELETE FROM outlive_names WHERE (queue, name) IN
       (SELECT queue, name FROM outlive_names WHERE until <= ? ORDER BY until LIMIT ?)`,
  )
  const workers = db.prepare(
    "DELETE FROM outlive_workers WHERE id IN (SELECT id FROM outlive_workers WHERE until <= ? ORDER BY until LIMIT ?)",
  )
  /** `some` deletes at most as many as it is told and says how many there were. */
  const inStrides = function* (limit: number, some: (most: number) => number): Steps<number> {
    let count = 0
    while (count < limit) {
      const most = Math.min(stride, limit - count)
      const deleted = some(most)
      count += deleted
      if (deleted < most) break
      yield
    }
    return count
  }
  const records = (due: StatementSync, before: number) => (most: number) => {
    const records = due.all(before, most) as unknown as ReadonlyArray<Attempted>
    for (const record of records) {
      ledger.forget(record)
      remove.run(record.seq)
    }
    return records.length
  }
  const others = (statement: StatementSync, before: number) => (most: number) =>
    Number(statement.run(before, most).changes)

  return function* (now, deadBefore, limit) {
    yield* inStrides(limit, others(names, now))
    yield* inStrides(limit, others(workers, now))
    let kept = yield* inStrides(limit, records(succeeded, now))
    kept += yield* inStrides(limit - kept, records(cancelled, now))
    return kept + (yield* inStrides(limit, records(dead, deadBefore)))
  }
}
