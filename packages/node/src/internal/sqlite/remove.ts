/**
 * What deletes records before their time: by id, or all that wait in a queue.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { RemoveOutcome } from "@outlive/deferred/TaskQueue"
import { isStep, type Steps } from "./groupCommit.ts"
import type { JoinRows } from "./joinRows.ts"
import type { Joins } from "./joins.ts"
import type { Attempted, Ledger } from "./ledger.ts"
import type { Line } from "./line.ts"
import { ofTurn, State } from "./schema.ts"
import type { Turns } from "./turns.ts"

/** What is read of a record before it goes. */
interface Going extends Attempted {
  readonly id: TaskId
  readonly queue: string
  readonly name: string | null
  readonly key: string | null
  readonly turn: number
  readonly member_of: TaskId | null
  readonly is_join: number | null
}

const going = "seq, id, token, state, queue, name, key, turn, member_of, is_join"

interface Parts {
  readonly joinRows: JoinRows
  readonly joins: Joins
  readonly ledger: Ledger
  readonly line: Line
  readonly turns: Turns
}

/** What goes before its end counts as cancelled for the record that waits for it. */
const reportGone = (joinRows: JoinRows, { member_of, state }: Going) => {
  if (member_of !== null && state === State.waiting) joinRows.report({ id: member_of, how: "cancelled" })
}

export const makeRemove = (
  db: DatabaseSync,
  { joinRows, joins, ledger, line, turns }: Parts,
): ((ids: ReadonlyArray<TaskId>, only: "dead" | undefined, now: number) => Steps<ReadonlyArray<RemoveOutcome>>) => {
  const removing = (which: string) =>
    db.prepare(`DELETE FROM outlive_records WHERE id = ? AND ${which} RETURNING ${going}`)
  const any = removing(`state <> ${State.running}`)
  const dead = removing(`state = ${State.dead}`)
  const exists = db.prepare("SELECT 1 FROM outlive_records WHERE id = ?")
  const free = db.prepare("DELETE FROM outlive_names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  const removeOne = (id: TaskId, only: "dead" | undefined): RemoveOutcome => {
    const row = (only === "dead" ? dead : any).get(id) as Going | undefined
    if (row === undefined) {
      if (exists.get(id) === undefined) return "NotFound"
      return only === "dead" ? "NotDead" : "Running"
    }
    ledger.forget(row)
    // The name of one that has ended stays taken until its tombstone is over.
    if (row.state === State.waiting && row.name !== null) free.run(row.queue, row.name, id)
    if (row.state === State.waiting && row.key !== null) {
      line.remove(row.turn, row.seq)
      turns.left(row.queue, row.key)
    }
    if (row.is_join !== null) joinRows.forget(id)
    reportGone(joinRows, row)
    return "Removed"
  }
  return function* (ids, only, now) {
    const outcomes: Array<RemoveOutcome> = []
    for (const id of ids) {
      outcomes.push(removeOne(id, only))
      if (joins.hasNews()) yield* joins.hear(now)
      if (isStep(outcomes.length)) yield
    }
    return outcomes
  }
}

/** Records that one step deletes. */
const stride = 50

export const makePurge = (
  db: DatabaseSync,
  { joinRows, joins, ledger, line, turns }: Parts,
): ((queue: string, now: number) => Steps<number>) => {
  const plain = db.prepare(
    `SELECT ${going} FROM outlive_records INDEXED BY outlive_waiting
     WHERE queue = ? AND state = 0 AND turn = 0 LIMIT ${stride}`,
  )
  const keyed = db.prepare(
    `SELECT ${going} FROM outlive_records INDEXED BY outlive_keyed WHERE ${ofTurn("?")} 0 LIMIT ${stride}`,
  )
  const free = db.prepare("DELETE FROM outlive_names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  const remove = db.prepare("DELETE FROM outlive_records WHERE seq = ?")
  const removeAll = function* (some: StatementSync, of: string | number, members: Array<Going>): Steps<number> {
    let count = 0
    while (true) {
      const records = some.all(of) as unknown as ReadonlyArray<Going>
      for (const record of records) {
        if (record.name !== null) free.run(record.queue, record.name, record.id)
        if (record.key !== null) line.remove(record.turn, record.seq)
        if (record.is_join !== null) joinRows.forget(record.id)
        if (record.member_of !== null) members.push(record)
        ledger.forget(record)
        remove.run(record.seq)
      }
      count += records.length
      if (records.length < stride) return count
      yield
    }
  }
  return function* (queue, now) {
    const members: Array<Going> = []
    let count = yield* removeAll(plain, queue, members)
    for (let turn = turns.anyUsed(queue); turn !== undefined; turn = turns.anyUsed(queue)) {
      count += yield* removeAll(keyed, turn, members)
      turns.emptied(turn)
      yield
    }
    // None of them is there any more when others hear of it, in the order of insertion.
    for (const member of members.sort((left, right) => left.seq - right.seq)) reportGone(joinRows, member)
    if (joins.hasNews()) yield* joins.hear(now)
    return count
  }
}
