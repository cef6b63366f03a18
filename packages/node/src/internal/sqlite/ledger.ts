/**
 * The attempts of a record that ended. A success is told by the record itself and costs no row of its own; every other
 * end has one, by the token of its lease.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import { type Attempt, ledgerLength } from "@outlive/deferred/TaskRecord"
import { State } from "./schema.ts"

/** How an attempt ended, if not by success. */
export interface EndedAttempt {
  readonly token: number
  readonly outcome: Exclude<Attempt["outcome"], "Succeed">
  readonly failure: string | undefined
}

/** What tells whether a record can have rows here. */
export interface Attempted {
  readonly seq: number
  readonly token: number
  readonly state: number
}

export interface Ledger {
  /** Writes the end of the attempt that a record is in: to be called before the record changes. */
  readonly note: (seq: number, attempt: EndedAttempt, now: number) => void
  /** The record goes, or starts anew: its attempts go. */
  readonly forget: (record: Attempted) => void
}

export const makeLedger = (db: DatabaseSync): Ledger => {
  const note = db.prepare(
    `INSERT INTO outlive_attempts (seq, token, attempt, worker, started_at, ended_at, outcome, failure)
     SELECT seq, token, attempt, worker, started_at, ?, ?, ? FROM outlive_records WHERE seq = ?`,
  )
  const shorten = db.prepare("DELETE FROM outlive_attempts WHERE seq = ? AND token <= ?")
  const clear = db.prepare("DELETE FROM outlive_attempts WHERE seq = ?")
  return {
    note: (seq, { failure, outcome, token }, now) => {
      note.run(now, outcome, failure ?? null, seq)
      // Every lease has the token after that of the one before.
      if (token > ledgerLength) shorten.run(seq, token - ledgerLength)
    },
    forget: ({ seq, state, token }) => {
      // The first lease has no row while it is held, nor when it succeeded.
      const isFirst = token === 1 && (state === State.running || state === State.succeeded)
      if (token > 0 && !isFirst) clear.run(seq)
    },
  }
}

interface Owner {
  readonly seq: number
  readonly state: number
  readonly attempt: number
  readonly worker: string | null
  readonly started_at: number | null
  readonly ended_at: number | null
}

interface AttemptRow {
  readonly attempt: number
  readonly worker: string
  readonly started_at: number
  readonly ended_at: number
  readonly outcome: Attempt["outcome"]
  readonly failure: string | null
}

const toAttempt = (row: AttemptRow): Attempt => ({
  attempt: row.attempt,
  worker: row.worker,
  startedAt: row.started_at,
  endedAt: row.ended_at,
  outcome: row.outcome,
  failure: row.failure ?? undefined,
})

/** The attempt that a record tells by itself. Version 1 of the file did not keep the worker of one. */
const success = ({ attempt, ended_at, started_at, state, worker }: Owner): ReadonlyArray<Attempt> =>
  state === State.succeeded && worker !== null
    ? [{ attempt, worker, startedAt: started_at!, endedAt: ended_at!, outcome: "Succeed", failure: undefined }]
    : []

export const makeReadLedger = (
  db: DatabaseSync,
): ((ids: ReadonlyArray<TaskId>) => ReadonlyArray<ReadonlyArray<Attempt>>) => {
  const find = db.prepare("SELECT seq, state, attempt, worker, started_at, ended_at FROM outlive_records WHERE id = ?")
  const newest = db.prepare(
    `SELECT attempt, worker, started_at, ended_at, outcome, failure FROM outlive_attempts
     WHERE seq = ? ORDER BY token DESC LIMIT ${ledgerLength}`,
  )
  return (ids) =>
    ids.map((id) => {
      const owner = find.get(id) as unknown as Owner | undefined
      if (owner === undefined) return []
      const rows = newest.all(owner.seq) as unknown as ReadonlyArray<AttemptRow>
      return [...rows.map(toAttempt).reverse(), ...success(owner)].slice(-ledgerLength)
    })
}
