/**
 * What people do to records: scheduled | ready ──► cancelled, and dead ──► ready.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { CancelOutcome, RedriveOutcome } from "@outlive/deferred/TaskQueue"
import type { Ending } from "./ending.ts"
import { makeFindHeld } from "./held.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Keys } from "./unique.ts"

export const makeCancel = (
  db: DatabaseSync,
  ending: Ending,
  touched: Touched,
): ((ids: ReadonlyArray<TaskId>, reason: string, now: number) => ReadonlyArray<CancelOutcome>) => {
  const find = makeFindHeld(db)
  const request = db.prepare("UPDATE outlive_records SET cancel_requested = ? WHERE seq = ?")
  return (ids, reason, now) =>
    ids.map((id) => {
      const record = find(id)
      if (record === undefined) return "NotFound"
      if (record.state > State.running) return "TooLate"
      request.run(reason, record.seq)
      if (record.state === State.running) {
        touched.cancel(id)
        return "Requested"
      }
      ending.cancel(record, now, undefined)
      return "Cancelled"
    })
}

export const makeRedrive = (
  db: DatabaseSync,
  keys: Keys,
  touched: Touched,
): ((ids: ReadonlyArray<TaskId>, now: number) => ReadonlyArray<RedriveOutcome>) => {
  const find = makeFindHeld(db)
  const redrive = db.prepare(
    `UPDATE outlive_records SET state = 0, eta = ?, attempt = 0, crashes = 0, first_attempt_at = NULL, started_at = NULL,
       worker = NULL, expires_at = NULL, cancel_requested = NULL, ended_at = NULL, prune_at = NULL, reason = NULL, result = NULL,
       progress = NULL WHERE seq = ?`,
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
      touched.waiting(record.queue)
      return "Redriven"
    })
}
