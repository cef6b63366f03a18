/**
 * The two ways out of `running`, shared by settlements, cancellations and lost leases: a record waits again, or it ends.
 */
import type { DatabaseSync } from "node:sqlite"
import type { DeadReason } from "@outlive/deferred/TaskRecord"
import type { Held } from "./held.ts"
import type { End, JoinRows } from "./joinRows.ts"
import type { EndedAttempt, Ledger } from "./ledger.ts"
import type { Limits } from "./limits.ts"
import type { Line } from "./line.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Turns } from "./turns.ts"
import type { Keys } from "./unique.ts"

/** Each is told of the attempt that ended with it, if there was one: a success is told by the record. */
export interface Ending {
  readonly succeed: (record: Held, result: string | undefined, now: number) => void
  readonly cancel: (record: Held, now: number, attempt: EndedAttempt | undefined) => void
  readonly bury: (
    record: Held,
    how: { readonly reason: DeadReason; readonly result?: string | undefined; readonly failure: string | null },
    now: number,
    attempt: EndedAttempt | undefined,
  ) => void
  /** Back to waiting; or cancelled, when somebody asked for that or the next one waits already: `false`. */
  readonly waitAgain: (
    record: Held,
    how: { readonly eta: number; readonly attempt: number; readonly failure: string | null },
    now: number,
    attempt: EndedAttempt,
  ) => boolean
  /** A record left `running`: in a queue with slots, one came free. */
  readonly letGo: (record: Held) => void
}

export const makeEnding = (
  db: DatabaseSync,
  {
    joinRows,
    keys,
    ledger,
    limits,
    line,
    touched,
    turns,
  }: {
    readonly joinRows: JoinRows
    readonly keys: Keys
    readonly ledger: Ledger
    readonly limits: Limits
    readonly line: Line
    readonly touched: Touched
    readonly turns: Turns
  },
): Ending => {
  const finish = db.prepare(
    `UPDATE outlive_records SET state = ?, attempt = ?, ended_at = ?, prune_at = ?, reason = ?, result = ?, failure = ?,
       lease_until = NULL, room = NULL WHERE seq = ?`,
  )
  const forget = db.prepare("DELETE FROM outlive_records WHERE seq = ?")
  const entomb = db.prepare(
    "UPDATE outlive_names SET until = ? WHERE queue = ? AND name = ? AND id = ? AND until IS NULL",
  )
  const wait = db.prepare(
    "UPDATE outlive_records SET state = 0, eta = ?, attempt = ?, failure = ?, lease_until = NULL WHERE seq = ?",
  )

  const supersede = db.prepare("UPDATE outlive_records SET cancel_requested = 'superseded' WHERE seq = ?")

  const end = (
    record: Held,
    as: End,
    how: {
      readonly attempt?: number
      readonly reason?: DeadReason
      readonly result?: string | undefined
      readonly failure: string | null
    },
    now: number,
    attempt?: EndedAttempt,
  ) => {
    const state = State[as]
    const keep = state === State.dead ? Number.POSITIVE_INFINITY : record.keep
    if (keep === 0) {
      ledger.forget(record)
      forget.run(record.seq)
    } else {
      if (attempt !== undefined) ledger.note(record.seq, attempt, now)
      // Dead letters stay until somebody asks for those that ended before a time.
      const pruneAt = state === State.dead ? now : Number.isFinite(keep) ? now + keep : null
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
      if (record.unique_while !== null) keys.moved(record.seq)
    }
    if (record.name !== null) entomb.run(now + record.tombstone, record.queue, record.name, record.id)
    touched.end(record.id)
    if (record.unique_while !== null) keys.release(record.seq, now)
    if (record.key !== null) {
      if (record.state === State.waiting) line.remove(record.turn, record.seq)
      turns.left(record.queue, record.key)
    }
    if (record.is_join !== null) {
      if (keep === 0) joinRows.forget(record.id)
      else joinRows.letGo(record.id)
    }
    if (record.member_of !== null) joinRows.report({ id: record.member_of, how: as })
  }

  const ending: Ending = {
    succeed: (record, result, now) => end(record, "succeeded", { result, failure: record.failure }, now),
    cancel: (record, now, attempt) => end(record, "cancelled", { failure: record.failure }, now, attempt),
    bury: (record, how, now, attempt) => end(record, "dead", how, now, attempt),
    waitAgain: (record, { attempt, eta, failure }, now, ended) => {
      const isSuperseded =
        record.cancel_requested === null && record.unique_while !== null && keys.isFollowed(record.seq)
      if (isSuperseded) supersede.run(record.seq)
      if (isSuperseded || record.cancel_requested !== null) {
        end(record, "cancelled", { attempt, failure }, now, ended)
        return false
      }
      ledger.note(record.seq, ended, now)
      wait.run(Math.max(now, eta), attempt, failure, record.seq)
      if (record.unique_while !== null) keys.moved(record.seq)
      if (record.key !== null) turns.waitAgain(record.seq, now)
      touched.waiting(record.queue)
      return true
    },
    letGo: (record) => {
      if (limits.hasSlots(record.queue)) touched.waiting(record.queue)
    },
  }
  return ending
}
