/**
 * Writing a record: as a new row, or into the place of one that waits.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import type { JoinRows } from "./joinRows.ts"
import type { Attempted, Ledger } from "./ledger.ts"
import type { Limits } from "./limits.ts"
import type { Line } from "./line.ts"
import { insertion, isPlain, keyedColumns, newColumns, newValues, rareColumns, rareValues } from "./row.ts"
import type { Touched } from "./touched.ts"
import type { Turn, Turns } from "./turns.ts"
import type { Keys } from "./unique.ts"

/** A record that is there, as far as another one may take its place. */
export interface Taken extends Attempted {
  readonly id: TaskId
  readonly queue: string
  readonly key: string | null
  readonly name: string | null
}

/** When a record is due, and what it waits for besides. */
export interface How {
  readonly eta: number
  /** The seq of the record for whose end it is held back. */
  readonly follows?: number | undefined
  readonly dueBy?: number | undefined
}

export interface Placing {
  /** `false`: the id is taken, or the unique key. */
  readonly insert: (record: NewRecord, how: How, now: number) => boolean
  readonly replace: (place: Taken, record: NewRecord, how: How, now: number) => void
}

export const isOfJoin = ({ join, memberOf }: NewRecord): boolean => join !== undefined || memberOf !== undefined

export const makePlacing = (
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
): Placing => {
  const inserting = (columns: ReadonlyArray<string>) => db.prepare(`${insertion(columns)} ON CONFLICT DO NOTHING`)
  const insertKeyed = inserting([...newColumns, ...keyedColumns])
  const insertWhole = inserting([...newColumns, ...rareColumns])
  // The id stays, and the token, which only ever rises; the place in the order of insertion too.
  const replace = db.prepare(
    `UPDATE outlive_records SET ${[...newColumns, ...rareColumns].map((column) => `${column} = ?`).join(", ")}, attempt = 0,
       crashes = 0, first_attempt_at = NULL, started_at = NULL, worker = NULL, failure = NULL, progress = NULL
     WHERE seq = ?`,
  )
  const own = db.prepare("INSERT OR REPLACE INTO outlive_names (queue, name, id, until) VALUES (?, ?, ?, NULL)")
  const disown = db.prepare("DELETE FROM outlive_names WHERE queue = ? AND name = ? AND id = ? AND until IS NULL")

  /** The values of a record that is more than plain, and its eta. */
  const wholeOf = (record: NewRecord, { dueBy, eta, follows }: How, turn: Turn | undefined, now: number) => {
    const isHeld = follows !== undefined || record.join !== undefined
    return [
      ...newValues(record, isHeld ? Number.POSITIVE_INFINITY : eta, now),
      ...rareValues(record, {
        wantedEta: isHeld ? eta : null,
        follows: follows ?? null,
        dueBy: dueBy ?? null,
        turn: turn?.turn ?? 0,
      }),
    ]
  }
  const turnOf = ({ join, key, queue, target, task, version }: NewRecord, { eta, follows }: How, now: number) => {
    if (key === undefined) return undefined
    const isHeld = follows !== undefined || join !== undefined
    return turns.wait({ queue, key, task, target, version }, isHeld ? Number.POSITIVE_INFINITY : eta, now)
  }

  return {
    insert: (record, how, now) => {
      const turn = turnOf(record, how, now)
      if (turn === undefined || !isPlain(record)) {
        const { changes, lastInsertRowid } = insertWhole.run(record.id, ...wholeOf(record, how, turn, now))
        if (changes === 0) return false
        if (turn?.inOrder === true) line.add(turn.turn, Number(lastInsertRowid))
        if (how.follows !== undefined) keys.follow(how.follows, Number(lastInsertRowid))
        if (record.name !== undefined) own.run(record.queue, record.name, record.id)
        if (record.join !== undefined) joinRows.add(record.id, record.join)
      } else {
        const values = newValues(record, how.eta, now)
        const { changes, lastInsertRowid } = insertKeyed.run(record.id, ...values, record.key!, turn.turn)
        if (changes === 0) return false
        if (turn.inOrder) line.add(turn.turn, Number(lastInsertRowid))
      }
      if (turn?.isFirst === true) limits.keyed(record.queue)
      touched.waiting(record.queue)
      return true
    },
    replace: (place, record, how, now) => {
      replace.run(...wholeOf(record, how, undefined, now), place.seq)
      ledger.forget(place)
      if (place.name !== (record.name ?? null) || place.queue !== record.queue) {
        if (place.name !== null) disown.run(place.queue, place.name, place.id)
        if (record.name !== undefined) own.run(record.queue, record.name, place.id)
      }
      if (place.key !== null) turns.left(place.queue, place.key)
      if (record.key !== undefined) {
        limits.keyed(record.queue)
        turns.waitAgain(place.seq, now)
      }
      touched.waiting(record.queue)
    },
  }
}
