/**
 * The two ways out of `running`, shared by settlements, cancellations and lost leases: a record waits again, or it ends.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { DeadReason } from "@outlive/deferred/TaskRecord"
import type { Limits } from "./limits.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"

/** What has to be known of a record to move it on. */
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
}

export const heldColumns = "seq, id, queue, name, keep, tombstone, attempt, cancel_requested, failure"

export interface Ending {
  readonly succeed: (record: Held, result: string | undefined, now: number) => void
  readonly cancel: (record: Held, now: number) => void
  readonly bury: (
    record: Held,
    how: { readonly reason: DeadReason; readonly result?: string | undefined; readonly failure: string | null },
    now: number,
  ) => void
  /** Back to waiting, or cancelled when somebody asked for that. */
  readonly waitAgain: (
    record: Held,
    how: { readonly eta: number; readonly attempt: number; readonly failure: string | null },
    now: number,
  ) => void
  /** A record left `running`: in a queue with slots, one came free. */
  readonly letGo: (record: Held) => void
}

export const makeEnding = (db: DatabaseSync, limits: Limits, touched: Touched): Ending => {
  const finish = db.prepare(
    `UPDATE records SET state = ?, attempt = ?, ended_at = ?, prune_at = ?, reason = ?, result = ?, failure = ?, worker = NULL,
       lease_until = NULL WHERE seq = ?`,
  )
  const forget = db.prepare("DELETE FROM records WHERE seq = ?")
  const entomb = db.prepare("UPDATE names SET until = ? WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")
  const wait = db.prepare(
    `UPDATE records SET state = 0, eta = ?, attempt = ?, failure = ?, worker = NULL,
       lease_until = NULL WHERE seq = ?`,
  )

  const end = (
    record: Held,
    state: number,
    how: {
      readonly attempt?: number
      readonly reason?: DeadReason
      readonly result?: string | undefined
      readonly failure: string | null
    },
    now: number,
  ) => {
    const keep = state === State.dead ? Number.POSITIVE_INFINITY : record.keep
    if (keep === 0) forget.run(record.seq)
    else {
      const pruneAt = Number.isFinite(keep) ? now + keep : null
      finish.run(
        state,
        how.attempt ?? record.attempt,
        now,
        pruneAt,
        how.reason ?? null,
        how.result ?? null,
        how.failure,
        record.seq,
      )
    }
    if (record.name !== null) entomb.run(now + record.tombstone, record.queue, record.name, record.id)
    touched.end(record.id)
  }

  const ending: Ending = {
    succeed: (record, result, now) => end(record, State.succeeded, { result, failure: record.failure }, now),
    cancel: (record, now) => end(record, State.cancelled, { failure: record.failure }, now),
    bury: (record, how, now) => end(record, State.dead, how, now),
    waitAgain: (record, { attempt, eta, failure }, now) => {
      if (record.cancel_requested !== null) return end(record, State.cancelled, { attempt, failure }, now)
      wait.run(Math.max(now, eta), attempt, failure, record.seq)
      touched.waiting(record.queue)
    },
    letGo: (record) => {
      if (limits.hasSlots(record.queue)) touched.waiting(record.queue)
    },
  }
  return ending
}
