/**
 * The turns that are due in some lanes, in the order in which their keys come: those whose place is past are all alike and
 * come by key, the others by place and then by key. Read as far as they are asked for.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { Steps } from "./groupCommit.ts"
import { limitTo } from "./limitTo.ts"
import { asRows, type Row } from "./row.ts"
import { ofTurn, TurnState } from "./schema.ts"
import type { Lane } from "./turns.ts"

/** A turn with the record that is first in it, by priority; whether that is ready, its eta alone decides here. */
export interface DueTurn {
  readonly turn: number
  /** `undefined`: nothing waits. */
  readonly seq: number | undefined
  readonly isReady: boolean
}

/** A key with its turns that are due. */
export interface DueKey {
  readonly key: string
  readonly place: number
  /** Whether something is known of it besides its place. */
  readonly isKnown: boolean
  readonly turns: ReadonlyArray<DueTurn>
}

export interface DueTurns {
  /** The keys of these lanes with what is due of them, one after the other. */
  readonly keys: (options: {
    readonly queue: string
    readonly lanes: ReadonlyArray<Lane>
    /** The virtual time. */
    readonly time: number
    readonly now: number
    /** Whether it is asked what is known of keys. */
    readonly isAnyKnown: boolean
    /** About so many are wanted. */
    readonly wanted: number
  }) => Steps<() => DueKey | undefined>
}

/** Places in the past that are read side by side. If there are more in a lane, they are made one first. */
const mostPlaces = 8
/** Turns that one step changes. */
const stride = 50
/** Turns that are read at once at the most: those that are not needed in the end cost as much as the others. */
const page = 16

/** Turns of one lane in their order, page by page. */
interface Run {
  readonly lane: number
  readonly statement: StatementSync
  rows: ReadonlyArray<Row>
  index: number
  /** Where the page before ended. */
  place: number
  key: string | Uint8Array
  isOver: boolean
}

export const makeDueTurns = (db: DatabaseSync): DueTurns => {
  const nextPlace = db.prepare(
    `SELECT place FROM outlive_turns INDEXED BY outlive_turn_order
     WHERE lane = ? AND state = ${TurnState.due} AND place > ? ORDER BY place LIMIT 1`,
  )
  const gather = db.prepare(
    `UPDATE outlive_turns SET place = 0 WHERE turn IN (SELECT turn FROM outlive_turns INDEXED BY outlive_turn_order
       WHERE lane = ? AND state = ${TurnState.due} AND place > 0 AND place <= ? LIMIT ${stride})`,
  )
  // From indexes alone. The head of a turn is one value, below 0 when its eta has not come.
  const reading = (isKnown: string, where: string, order: string): StatementSync => {
    const statement = db.prepare(
      `SELECT turn, place, key, ${isKnown}, (SELECT CASE WHEN eta <= ?6 THEN seq ELSE -seq END
           FROM outlive_records INDEXED BY outlive_keyed
           WHERE ${ofTurn("due.turn")} 0
           ORDER BY priority DESC, eta, seq LIMIT 1)
       FROM outlive_turns AS due INDEXED BY outlive_turn_order
       WHERE lane = ?2 AND state = ${TurnState.due} AND ${where} ORDER BY ${order} ${limitTo("?5")}`,
    )
    statement.setReturnArrays(true)
    return statement
  }
  const readings = (isKnown: string) => ({
    atPlace: reading(isKnown, "place = ?3 AND key > ?4", "key"),
    after: reading(isKnown, "(place, key) > (?3, ?4)", "place, key"),
  })
  const unknown = readings("?1 IS NULL")
  const known = readings("EXISTS (SELECT 1 FROM outlive_keys WHERE queue = ?1 AND outlive_keys.key = due.key)")

  /** The places of a lane up to the virtual time. */
  const placesOf = function* (lane: number, time: number): Steps<ReadonlyArray<number>> {
    const places: Array<number> = []
    let place = nextPlace.get(lane, Number.NEGATIVE_INFINITY) as { readonly place: number } | undefined
    while (place !== undefined && place.place <= time) {
      places.push(place.place)
      if (places.length > mostPlaces) {
        while (Number(gather.run(lane, time).changes) === stride) yield
        return [0]
      }
      place = nextPlace.get(lane, place.place) as { readonly place: number } | undefined
    }
    return places
  }

  return {
    keys: function* ({ isAnyKnown, lanes, now, queue, time, wanted }) {
      const { after, atPlace } = isAnyKnown ? known : unknown
      const runOf = (lane: number, statement: StatementSync, place: number, key: string | Uint8Array): Run => {
        return { lane, statement, rows: [], index: 0, place, key, isOver: false }
      }
      const past: Array<Run> = []
      for (const { lane } of lanes) {
        for (const place of yield* placesOf(lane, time)) past.push(runOf(lane, atPlace, place, ""))
      }
      let ahead: ReadonlyArray<Run> | undefined

      const peek = (run: Run): Row | undefined => {
        if (run.index < run.rows.length) return run.rows[run.index]
        if (run.isOver) return undefined
        const count = Math.min(wanted, past.length === 1 ? Number.POSITIVE_INFINITY : page)
        run.rows = asRows(run.statement.all(queue, run.lane, run.place, run.key, count, now))
        run.index = 0
        run.isOver = run.rows.length < count
        const last = run.rows.at(-1)
        if (last !== undefined) {
          run.place = last[1] as number
          run.key = last[2] as string
        }
        return run.rows[0]
      }
      const isBefore = (left: Row, right: Row, byPlace: boolean): boolean =>
        byPlace && left[1] !== right[1]
          ? (left[1] as number) < (right[1] as number)
          : compareTexts(left[2] as string, right[2] as string) < 0
      const firstOf = (runs: ReadonlyArray<Run>, byPlace: boolean): Row | undefined => {
        let first: Row | undefined
        for (const run of runs) {
          const row = peek(run)
          if (row !== undefined && (first === undefined || isBefore(row, first, byPlace))) first = row
        }
        return first
      }
      /** The key of a row, with its turns in all lanes: they are at the same place. */
      const gathered = (first: Row, runs: ReadonlyArray<Run>): DueKey => {
        const turns: Array<DueTurn> = []
        for (const run of runs) {
          const row = peek(run)
          if (row?.[2] !== first[2]) continue
          const head = row![4] as number | null
          turns.push({
            turn: row![0] as number,
            seq: head === null ? undefined : Math.abs(head),
            isReady: head !== null && head > 0,
          })
          run.index++
        }
        return { key: first[2] as string, place: first[1] as number, isKnown: first[3] === 1, turns }
      }
      return () => {
        const first = firstOf(past, false)
        if (first !== undefined) return gathered(first, past)
        ahead ??= lanes.map(({ lane }) => runOf(lane, after, time, lastKey))
        const next = firstOf(ahead, true)
        return next === undefined ? undefined : gathered(next, ahead)
      }
    },
  }
}

/** After every key: in SQLite's order what is not text comes after all texts. */
const lastKey = new Uint8Array(0)

/** As SQLite compares texts, which is by code points: where keys of several lanes are merged, both have to agree. */
export const compareTexts = (left: string, right: string): number => {
  const length = Math.min(left.length, right.length)
  for (let index = 0; index < length; index++) {
    const one = left.charCodeAt(index)
    const other = right.charCodeAt(index)
    if (one === other) continue
    // Surrogates stand for what comes after all else.
    return (isSurrogate(one) ? one + 0x10000 : one) - (isSurrogate(other) ? other + 0x10000 : other)
  }
  return left.length - right.length
}
const isSurrogate = (unit: number): boolean => unit >= 0xd800 && unit < 0xe000
