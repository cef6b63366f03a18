/**
 * The turns of keys: for each key and lane one row that says whether something of it may start now, and where the key
 * stands among others. A lane is what the same workers may claim: the records of one queue, task, target and version.
 *
 * A turn that is due is looked at by a claim, in the order of places. What turns out not to start is set aside with the
 * time at which to look again, or until something of its key changes: looking once too often costs little.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimParams } from "@outlive/deferred/TaskQueue"
import type { Steps } from "./groupCommit.ts"
import { limitTo } from "./limitTo.ts"
import type { Line } from "./line.ts"
import { ofTurn, TurnState } from "./schema.ts"
import type { Touched } from "./touched.ts"

/** Of what a record is one. */
export interface Place {
  readonly queue: string
  readonly key: string
  readonly task: string
  readonly target: string | null | undefined
  readonly version: number
}

/** What a waiting record knows of its turn. */
export interface Turn {
  readonly turn: number
  /** Whether the records of its key keep their order. */
  readonly inOrder: boolean
  /** Whether the queue had no record with a key before. */
  readonly isFirst: boolean
}

/** A lane that a claim may take from. */
export interface Lane {
  readonly lane: number
}

export interface Turns {
  /** The turn of a record that is about to wait until `eta`. */
  readonly wait: (place: Place, eta: number, now: number) => Turn
  /** A record that was there before waits again, or anew: its turn, with what that means for others of its key. */
  readonly waitAgain: (seq: number, now: number) => void
  /** Something of a key ended, or left its place in the order: if the key has limits, more of it may start. */
  readonly left: (queue: string, key: string) => void
  /** Whatever was said about one key, or all keys of a queue, may be otherwise now. */
  readonly changed: (queue: string, key: string) => void
  readonly allChanged: (queue: string) => Steps<void>
  /** A turn of a queue in which something waits. */
  readonly anyUsed: (queue: string) => number | undefined
  /** Nothing waits in it any more. */
  readonly emptied: (turn: number) => void
  /** The lanes of a queue that a claim may take from. */
  readonly lanes: (queue: string, params: ClaimParams) => ReadonlyArray<Lane>
  /** Makes those due whose time has come. */
  readonly promote: (lane: Lane, now: number) => Steps<void>
  /** When the first turn of a lane is due that is not yet. */
  readonly firstAt: (lane: Lane) => number | undefined
  /**
   * Deletes turns of which nothing waits or runs and whose place is past. Looks at so many, after those of an earlier look;
   * gives how many went, and the last that it looked at if there may be more.
   */
  readonly forget: (
    lane: Lane,
    time: number,
    most: number,
    after?: Forgotten,
  ) => { readonly removed: number; readonly last: Forgotten | undefined }
  /** The place from which on a lane's turns without anything to do are remembered, where there are very many of them. */
  readonly remembered: (lane: Lane) => number
  /** Whether something of a key waits, or its place is not past. */
  readonly isUsed: (queue: string, key: string, time: number) => boolean
}

/** How far a lane was looked through for turns to forget. */
export interface Forgotten {
  readonly place: number
  readonly key: string
}

/** How many turns one claim makes due at the most: the rest is for the next one, whose time is now. */
const mostPromoted = 2000

/** Turns of a lane that have nothing to do and are ahead of the virtual time: enough to be fair to all who come back. */
const mostRemembered = 100_000

/** Turns that one step changes. */
const stride = 50

/** A target may be empty, and no target is not one. */
const targetText = (target: string | null | undefined): string =>
  target === null || target === undefined ? "" : `=${target}`

interface TurnRow {
  readonly turn: number
  readonly state: number
  readonly next_at: number | null
  readonly key_ordered: number | null
  readonly fair_time: number | null
}

interface PastRow extends Forgotten {
  readonly turn: number
  readonly is_used: number
}

interface PlaceRow extends Place {
  readonly eta: number
}

export const makeTurns = (
  db: DatabaseSync,
  { line, touched }: { readonly line: Line; readonly touched: Touched },
): Turns => {
  const findLane = db.prepare(
    "SELECT lane FROM outlive_lanes WHERE queue = ? AND task = ? AND target = ? AND version = ?",
  )
  const addLane = db.prepare("INSERT INTO outlive_lanes (queue, task, target, version) VALUES (?, ?, ?, ?)")
  const lanesOf = db.prepare(
    "SELECT lane FROM outlive_lanes WHERE queue = ? AND task = ? AND target = ? AND version <= ?",
  )
  const find = db.prepare(
    `SELECT turn, state, next_at, key_ordered, fair_time
     FROM outlive_turns LEFT JOIN outlive_queues ON outlive_queues.queue = ?1
     WHERE outlive_turns.queue = ?1 AND key = ?2 AND lane =
       (SELECT lane FROM outlive_lanes WHERE queue = ?1 AND task = ?3 AND target = ?4 AND version = ?5)`,
  )
  // The place is the same over all turns of a key.
  const add = db.prepare(
    `INSERT INTO outlive_turns (queue, key, lane, state, place, next_at) VALUES (?1, ?2, ?3, ?4,
       coalesce((SELECT max(place) FROM outlive_turns WHERE queue = ?1 AND key = ?2), 0), ?5)`,
  )
  const move = db.prepare("UPDATE outlive_turns SET state = ?, next_at = ? WHERE turn = ?")
  const placeOf = db.prepare("SELECT queue, key, task, target, version, eta FROM outlive_records WHERE seq = ?")
  const setTurn = db.prepare("UPDATE outlive_records SET turn = ? WHERE seq = ?")
  const queueRow = db.prepare("SELECT key_ordered, fair_time FROM outlive_queues WHERE queue = ?")
  const unblock = db.prepare(
    `UPDATE outlive_turns SET state = ${TurnState.due}, next_at = NULL
     WHERE queue = ? AND key = ? AND state = ${TurnState.blocked}`,
  )
  const hasLimits = db.prepare(
    `SELECT 1 FROM outlive_queues WHERE queue = ?1 AND (key_max_concurrent IS NOT NULL OR key_ordered = 1 OR EXISTS
       (SELECT 1 FROM outlive_keys WHERE queue = ?1 AND key = ?2 AND max_concurrent IS NOT NULL))`,
  )
  const queueLanes = db.prepare("SELECT lane FROM outlive_lanes WHERE queue = ?")
  const unblockSome = db.prepare(
    `UPDATE outlive_turns SET state = ${TurnState.due}, next_at = NULL WHERE turn IN
       (SELECT turn FROM outlive_turns WHERE lane = ? AND state = ${TurnState.blocked} LIMIT ${stride})`,
  )
  const anyUsed = db.prepare(
    `SELECT turn FROM outlive_lanes CROSS JOIN outlive_turns INDEXED BY outlive_turn_order
       ON outlive_turns.lane = outlive_lanes.lane AND state < ${TurnState.idle}
     WHERE outlive_lanes.queue = ? LIMIT 1`,
  )
  const firstAt = db.prepare(
    `SELECT next_at FROM outlive_turns INDEXED BY outlive_turn_times WHERE lane = ? AND next_at IS NOT NULL
     ORDER BY next_at LIMIT 1`,
  )
  const promoteSome = db.prepare(
    `UPDATE outlive_turns SET state = ${TurnState.due}, next_at = NULL WHERE turn IN
       (SELECT turn FROM outlive_turns INDEXED BY outlive_turn_times WHERE lane = ? AND next_at <= ?
        ORDER BY next_at LIMIT ${stride})`,
  )
  const hasSome = (state: number) =>
    `EXISTS (SELECT 1 FROM outlive_records INDEXED BY outlive_keyed WHERE ${ofTurn("outlive_turns.turn")} ${state})`
  const past = db.prepare(
    `SELECT turn, place, key, ${hasSome(0)} OR ${hasSome(1)} AS is_used FROM outlive_turns INDEXED BY outlive_turn_order
     WHERE lane = ? AND state = ${TurnState.idle} AND place <= ? AND (place, key) > (?, ?) ORDER BY place, key ${limitTo()}`,
  )
  const most = db.prepare(
    `SELECT place FROM outlive_turns INDEXED BY outlive_turn_order WHERE lane = ? AND state = ${TurnState.idle}
     ORDER BY place DESC LIMIT 1 OFFSET ${mostRemembered}`,
  )
  const isUsed = db.prepare(
    `SELECT 1 FROM outlive_turns WHERE queue = ? AND key = ? AND (place > ? OR ${hasSome(0)}) LIMIT 1`,
  )
  const remove = db.prepare("DELETE FROM outlive_turns WHERE turn = ?")
  const removeLane = db.prepare(
    "DELETE FROM outlive_lanes WHERE lane = ?1 AND NOT EXISTS (SELECT 1 FROM outlive_turns WHERE lane = ?1)",
  )

  const laneOf = ({ queue, target, task, version }: Place): number => {
    const found = findLane.get(queue, task, targetText(target), version) as Lane | undefined
    return found?.lane ?? Number(addLane.run(queue, task, targetText(target), version).lastInsertRowid)
  }
  const wait: Turns["wait"] = (place, eta, now) => {
    const { key, queue, target, task, version } = place
    const state = eta <= now ? TurnState.due : TurnState.later
    const at = eta <= now ? null : eta
    const found = find.get(queue, key, task, targetText(target), version) as TurnRow | undefined
    if (found === undefined) {
      const turn = Number(add.run(queue, key, laneOf(place), state, at).lastInsertRowid)
      const row = queueRow.get(queue) as Pick<TurnRow, "key_ordered" | "fair_time"> | undefined
      return { turn, inOrder: row?.key_ordered === 1, isFirst: row === undefined || row.fair_time === null }
    }
    // What is blocked waits for something else.
    const isSooner =
      found.state === TurnState.idle || (found.state === TurnState.later && (at === null || at < found.next_at!))
    if (isSooner) move.run(state, at, found.turn)
    return { turn: found.turn, inOrder: found.key_ordered === 1, isFirst: found.fair_time === null }
  }
  const left: Turns["left"] = (queue, key) => {
    if (hasLimits.get(queue, key) === undefined) return
    unblock.run(queue, key)
    touched.waiting(queue)
  }
  return {
    wait,
    waitAgain: (seq, now) => {
      const place = placeOf.get(seq) as unknown as PlaceRow
      left(place.queue, place.key)
      const { inOrder, turn } = wait(place, place.eta, now)
      setTurn.run(turn, seq)
      if (inOrder) line.add(turn, seq)
    },
    left,
    changed: (queue, key) => {
      unblock.run(queue, key)
    },
    allChanged: function* (queue) {
      for (const { lane } of queueLanes.all(queue) as unknown as ReadonlyArray<Lane>) {
        while (Number(unblockSome.run(lane).changes) === stride) yield
      }
    },
    anyUsed: (queue) => (anyUsed.get(queue) as { readonly turn: number } | undefined)?.turn,
    emptied: (turn) => {
      move.run(TurnState.idle, null, turn)
    },
    lanes: (queue, params) => {
      const lanes: Array<Lane> = []
      for (const { maxVersion, name } of params.tasks) {
        for (const target of [undefined, ...new Set(params.targets)]) {
          for (const lane of lanesOf.all(queue, name, targetText(target), maxVersion))
            lanes.push(lane as unknown as Lane)
        }
      }
      return lanes
    },
    promote: function* ({ lane }, now) {
      const first = firstAt.get(lane) as { readonly next_at: number } | undefined
      if (first === undefined || first.next_at > now) return
      for (let count = 0; count < mostPromoted; count += stride) {
        if (Number(promoteSome.run(lane, now).changes) < stride) return
        yield
      }
    },
    firstAt: ({ lane }) => (firstAt.get(lane) as { readonly next_at: number } | undefined)?.next_at,
    forget: ({ lane }, time, most, after = { place: Number.NEGATIVE_INFINITY, key: "" }) => {
      const turns = past.all(lane, time, after.place, after.key, most) as unknown as ReadonlyArray<PastRow>
      let removed = 0
      for (const { is_used, turn } of turns) {
        if (is_used === 1) continue
        remove.run(turn)
        line.forget(turn)
        removed++
      }
      if (turns.length === most) return { removed, last: turns.at(-1) }
      removeLane.run(lane)
      return { removed, last: undefined }
    },
    remembered: ({ lane }) =>
      (most.get(lane) as { readonly place: number } | undefined)?.place ?? Number.NEGATIVE_INFINITY,
    isUsed: (queue, key, time) => isUsed.get(queue, key, time) !== undefined,
  }
}
