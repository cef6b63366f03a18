/**
 * The order in which records of a turn were inserted, where their key keeps to it: those that wait, by seq. A record that
 * waits no longer, or in another turn, may be left here until it would be the first.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Steps } from "./groupCommit.ts"
import { State } from "./schema.ts"

export interface Line {
  readonly add: (turn: number, seq: number) => void
  readonly remove: (turn: number, seq: number) => void
  /** The first that waits. */
  readonly first: (turn: number) => number | undefined
  /** All that waits of a queue gets into line. */
  readonly addAll: (queue: string) => Steps<void>
  /** The turn is deleted. */
  readonly forget: (turn: number) => void
}

/** Records that one step looks at, of all that there are. */
const stride = 1000

interface FirstRow {
  readonly seq: number
  readonly state: number | null
  readonly turn: number | null
}

export const makeLine = (db: DatabaseSync): Line => {
  const add = db.prepare("INSERT OR IGNORE INTO outlive_line (turn, seq) VALUES (?, ?)")
  const remove = db.prepare("DELETE FROM outlive_line WHERE turn = ? AND seq = ?")
  const first = db.prepare(
    `SELECT outlive_line.seq, state, outlive_records.turn
     FROM outlive_line LEFT JOIN outlive_records ON outlive_records.seq = outlive_line.seq
     WHERE outlive_line.turn = ? ORDER BY outlive_line.seq LIMIT 1`,
  )
  const lastSeq = db.prepare("SELECT max(seq) AS seq FROM outlive_records")
  const addSome = db.prepare(
    `INSERT OR IGNORE INTO outlive_line (turn, seq) SELECT turn, seq FROM outlive_records
     WHERE seq > ? AND seq <= ? AND state = 0 AND queue = ? AND turn > 0`,
  )
  const forget = db.prepare("DELETE FROM outlive_line WHERE turn = ?")
  return {
    add: (turn, seq) => {
      add.run(turn, seq)
    },
    remove: (turn, seq) => {
      remove.run(turn, seq)
    },
    first: (turn) => {
      while (true) {
        const row = first.get(turn) as unknown as FirstRow | undefined
        if (row === undefined || (row.state === State.waiting && row.turn === turn)) return row?.seq
        remove.run(turn, row.seq)
      }
    },
    addAll: function* (queue) {
      const last = (lastSeq.get() as { readonly seq: number | null }).seq ?? 0
      for (let seq = 0; seq < last; seq += stride) {
        addSome.run(seq, seq + stride, queue)
        yield
      }
    },
    forget: (turn) => {
      forget.run(turn)
    },
  }
}
