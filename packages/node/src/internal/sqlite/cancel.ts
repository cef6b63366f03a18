/**
 * What people do to records: scheduled | ready ──► cancelled, and dead ──► ready.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { CancelOutcome, RedriveOutcome } from "@outlive/deferred/TaskQueue"
import { isStep, type Steps } from "./groupCommit.ts"
import { makeFindHeld } from "./held.ts"
import type { JoinRows } from "./joinRows.ts"
import type { Joins } from "./joins.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Turns } from "./turns.ts"
import type { Keys } from "./unique.ts"

export const makeCancel = (
  joins: Joins,
): ((ids: ReadonlyArray<TaskId>, reason: string, now: number) => Steps<ReadonlyArray<CancelOutcome>>) =>
  function* (ids, reason, now) {
    const outcomes: Array<CancelOutcome> = []
    for (const id of ids) {
      outcomes.push(joins.cancel(id, reason, now))
      if (joins.hasNews()) yield* joins.hear(now)
      if (isStep(outcomes.length)) yield
    }
    return outcomes
  }

export const makeRedrive = (
  db: DatabaseSync,
  {
    joinRows,
    keys,
    touched,
    turns,
  }: { readonly joinRows: JoinRows; readonly keys: Keys; readonly touched: Touched; readonly turns: Turns },
): ((ids: ReadonlyArray<TaskId>, now: number) => ReadonlyArray<RedriveOutcome>) => {
  const find = makeFindHeld(db)
  const redrive = db.prepare(
    `UPDATE outlive_records SET state = 0, eta = ?, attempt = 0, crashes = 0, first_attempt_at = NULL, started_at = NULL,
       worker = NULL, expires_at = NULL, cancel_requested = NULL, ended_at = NULL, prune_at = NULL, reason = NULL, result = NULL,
       progress = NULL, wanted_eta = NULL, follows = NULL WHERE seq = ?`,
  )
  // Its name is its own again, unless another record has it by now.
  const own = db.prepare(
    `INSERT INTO outlive_names (queue, name, id, until) VALUES (?, ?, ?, NULL)
     ON CONFLICT (queue, name) DO UPDATE SET id = excluded.id, until = NULL WHERE id = excluded.id OR until <= ?`,
  )
  return (ids, now) =>
    ids.map((id) => {
      const record = find(id)
      if (record === undefined) return "NotFound"
      if (record.state !== State.dead) return "NotDead"
      redrive.run(now, record.seq)
      if (record.name !== null) own.run(record.queue, record.name, id, now)
      if (record.unique_while !== null) keys.takeAgain(record.seq)
      if (record.key !== null) turns.waitAgain(record.seq, now)
      if (record.member_of !== null) joinRows.uncount(record.member_of)
      touched.waiting(record.queue)
      return "Redriven"
    })
}
