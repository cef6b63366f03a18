/**
 * The waiting records of a turn. As in a lane, each priority is one sorted run of the index.
 */
import type { DatabaseSync } from "node:sqlite"
import { type Candidate, inOrder } from "./lanes.ts"
import { limitTo } from "./limitTo.ts"
import type { Line } from "./line.ts"
import { ofTurn } from "./schema.ts"

export interface Heads {
  /** The first of the ready records of these turns, at most `limit`. */
  readonly ready: (turns: ReadonlyArray<number>, now: number, limit: number) => ReadonlyArray<Candidate>
  /** The earliest eta of what waits in a turn. */
  readonly firstEta: (turn: number) => number | undefined
  /** Of all that waits of a key, what was inserted first. */
  readonly first: (queue: string, key: string, now: number) => First | undefined
  readonly running: (queue: string, key: string) => number
}

/** The only record that may start of a key whose records keep their order. */
export interface First extends Candidate {
  readonly turn: number
  readonly lane: number
  /** It is past its expiry, and nobody had time to bury it. */
  readonly isOver: boolean
}

interface FirstRow extends Candidate {
  readonly is_over: number
}

interface TurnRow {
  readonly turn: number
  readonly lane: number
}

export const makeHeads = (db: DatabaseSync, line: Line): Heads => {
  const where = `FROM outlive_records INDEXED BY outlive_keyed WHERE ${ofTurn("?")} 0`
  const nextRun = db.prepare(`SELECT priority ${where} AND priority < ? ORDER BY priority DESC LIMIT 1`)
  // What a claim had no time to bury must not be claimed either.
  const head = db.prepare(
    `SELECT seq, priority, eta ${where} AND priority = ? AND eta <= ?
       AND (expires_at IS NULL OR expires_at > ? OR first_attempt_at IS NOT NULL) ORDER BY eta, seq ${limitTo()}`,
  )
  const firstEta = db.prepare(`SELECT eta ${where} AND priority = ? ORDER BY eta LIMIT 1`)
  const turnsOf = db.prepare("SELECT turn, lane FROM outlive_turns WHERE queue = ? AND key = ?")
  const read = db.prepare(
    `SELECT seq, priority, eta, expires_at IS NOT NULL AND expires_at <= ? AND first_attempt_at IS NULL AS is_over
     FROM outlive_records WHERE seq = ?`,
  )
  const running = db.prepare(
    `SELECT count(*) AS running FROM outlive_turns CROSS JOIN outlive_records INDEXED BY outlive_keyed
       ON ${ofTurn("outlive_turns.turn")} 1
     WHERE outlive_turns.queue = ? AND outlive_turns.key = ?`,
  )

  const runs = function* (turn: number): Generator<number> {
    let below = Number.POSITIVE_INFINITY
    while (true) {
      const run = nextRun.get(turn, below) as { readonly priority: number } | undefined
      if (run === undefined) return
      yield run.priority
      below = run.priority
    }
  }

  return {
    ready: (turns, now, limit) => {
      const found = turns.map((turn) => {
        const ready: Array<Candidate> = []
        for (const priority of runs(turn)) {
          for (const row of head.all(turn, priority, now, now, limit - ready.length)) {
            ready.push(row as unknown as Candidate)
          }
          if (ready.length === limit) break
        }
        return ready
      })
      return found.length === 1 ? found[0]! : found.flat().sort(inOrder).slice(0, limit)
    },
    firstEta: (turn) => {
      let first: number | undefined
      for (const priority of runs(turn)) {
        const { eta } = firstEta.get(turn, priority) as { readonly eta: number }
        first = Math.min(first ?? Number.POSITIVE_INFINITY, eta)
      }
      return first
    },
    first: (queue, key, now) => {
      let first: (TurnRow & { readonly seq: number }) | undefined
      for (const row of turnsOf.all(queue, key) as unknown as ReadonlyArray<TurnRow>) {
        const seq = line.first(row.turn)
        if (seq !== undefined && (first === undefined || seq < first.seq)) first = { ...row, seq }
      }
      if (first === undefined) return undefined
      const { is_over, ...candidate } = read.get(now, first.seq) as unknown as FirstRow
      return { ...candidate, turn: first.turn, lane: first.lane, isOver: is_over === 1 }
    },
    running: (queue, key) => (running.get(queue, key) as { readonly running: number }).running,
  }
}
