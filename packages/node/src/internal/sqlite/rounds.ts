/**
 * What starts next in a queue whose records have keys: those with the smallest tags, see `TaskQueue.Driver.claim`.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimParams } from "@outlive/deferred/TaskQueue"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import { compareTexts, type DueKey, type DueTurn, makeDueTurns } from "./dueTurns.ts"
import {
  blockedUntil,
  type Entrant,
  KeyEntrant,
  noLimits,
  PlainEntrant,
  type Room,
  type Startable,
} from "./entrants.ts"
import { isStep, type Steps } from "./groupCommit.ts"
import { makeHeads } from "./heads.ts"
import { type KeyRows, type Known, keyBucketOf, keyRateOf, maxConcurrentOf, nothingKnown } from "./keyLimits.ts"
import type { Lanes } from "./lanes.ts"
import type { Fair, Limits } from "./limits.ts"
import type { Line } from "./line.ts"
import { TurnState } from "./schema.ts"
import type { Turns } from "./turns.ts"

/** What may start of a queue. */
export interface Round {
  /** In the order of their tags. */
  readonly ready: ReadonlyArray<Startable>
  /** The first so many of them have started. */
  readonly started: (count: number) => Steps<void>
  /** When the first record is due of those that were not, once what is ready has started. */
  readonly firstAt: (queue: string, params: ClaimParams) => number | undefined
}

export type Rounds = (options: {
  readonly queue: string
  readonly params: ClaimParams
  readonly wanted: number
  readonly ageing: number | undefined
  readonly fair: Fair
  /** Whether nothing waits that should have been buried. */
  readonly isTidy: boolean
}) => Steps<Round>

interface Tagged extends Startable {
  readonly tag: number
  readonly entrant: Entrant
}

/** Keys that started something, for which the same is written. */
interface Moved {
  readonly place: number
  /** `undefined`: more of them may start now. */
  readonly until: number | null | undefined
  readonly keys: Array<string>
}

/** Claims between two looks for turns to forget, and how many are looked at for one that started. */
const forgetEvery = 16
const forgetFor = 2
/** Keys that one statement moves on. */
const movedAtOnce = 100

export const makeRounds = (
  db: DatabaseSync,
  {
    keyRows,
    lanes,
    limits,
    line: inOrder,
    turns,
  }: {
    readonly keyRows: KeyRows
    readonly lanes: Lanes
    readonly limits: Limits
    readonly line: Line
    readonly turns: Turns
  },
): Rounds => {
  const heads = makeHeads(db, inOrder)
  const due = makeDueTurns(db)
  const setAside = db.prepare("UPDATE outlive_turns SET state = ?, next_at = ? WHERE turn = ?")
  const block = db.prepare(
    `UPDATE outlive_turns SET state = ${TurnState.blocked}, next_at = ? WHERE queue = ? AND key = ? AND state = ${TurnState.due}`,
  )
  const ofKeys = "WHERE queue = ? AND key IN (SELECT value FROM json_each(?))"
  const move = db.prepare(`UPDATE outlive_turns SET place = ? ${ofKeys}`)
  // All of its turns, also those that would have to wait longer: when the key is free again each is looked at.
  const moveAndBlock = db.prepare(
    `UPDATE outlive_turns SET place = ?, state = ${TurnState.blocked}, next_at = ? ${ofKeys}`,
  )
  let claims = 0
  let startedSince = 0

  return function* ({ ageing, fair, isTidy, params, queue, wanted }) {
    const { byKey, time } = fair
    const { now } = params
    const scene = { heads, now, wanted }
    const isFree = byKey.maxConcurrent === undefined && byKey.rate === undefined && !byKey.ordered
    const open = turns.lanes(queue, params)
    for (const lane of open) yield* turns.promote(lane, now)
    /** Something is due, but past its expiry, and was not buried: soon it is. */
    let isOverdue = false

    /** A turn in which nothing is ready. */
    const aside = (turn: number) => {
      const eta = heads.firstEta(turn)
      if (eta === undefined) setAside.run(TurnState.idle, null, turn)
      else if (eta > now) setAside.run(TurnState.later, eta, turn)
      else isOverdue = true
    }

    /** Of a key that keeps its order: its first record, if that may start. */
    const firstInLine = (key: string, turns: ReadonlyArray<number>): Startable | undefined => {
      const first = heads.first(queue, key, now)
      if (first !== undefined && first.eta <= now) {
        isOverdue ||= first.isOver
        if (first.isOver) return undefined
        if (open.some(({ lane }) => lane === first.lane)) return first
      }
      for (const turn of turns) setAside.run(TurnState.blocked, turn === first?.turn ? first.eta : null, turn)
      return undefined
    }

    /** The first record of these turns; those in which nothing is ready are set aside. */
    const firstReady = (turns: ReadonlyArray<number>): Startable | undefined => {
      const ready = turns.filter((turn) => {
        const isReady = heads.ready([turn], now, 1).length > 0
        if (!isReady) aside(turn)
        return isReady
      })
      return ready.length === 0 ? undefined : heads.ready(ready, now, 1)[0]
    }

    const isWaiting = ({ seq, turn }: DueTurn): boolean => {
      if (seq === undefined) setAside.run(TurnState.idle, null, turn)
      return seq !== undefined
    }

    const roomOf = (key: string, known: Known): Room => {
      const most = Math.min(maxConcurrentOf(byKey, known), byKey.ordered ? 1 : Number.POSITIVE_INFINITY)
      const rate = keyRateOf(byKey, known)
      return {
        slots: most === Number.POSITIVE_INFINITY ? most : Math.floor(most - heads.running(queue, key)),
        rate,
        bucket: rate && keyBucketOf(known, rate, now),
        pausedUntil: known.paused_until,
      }
    }

    /** The key with its first candidate; `undefined`: nothing of it may start, which is noted. */
    const enter = ({ isKnown, key, place, turns }: DueKey): KeyEntrant | undefined => {
      const known = isKnown ? keyRows.get(queue, key) : nothingKnown
      const room = isFree && !isKnown ? noLimits : roomOf(key, known)
      const at = { key, base: Math.max(place, time), stride: 1 / (known.weight ?? 1) }
      const until = blockedUntil(room, 0, now)
      if (until !== undefined) {
        block.run(until, queue, key)
        return undefined
      }
      const [only] = turns
      if (turns.length === 1 && only!.isReady && isTidy && !byKey.ordered) {
        return new KeyEntrant(scene, at, room, [only!.turn], only as Startable)
      }
      const waiting = turns.filter(isWaiting).map(({ turn }) => turn)
      if (waiting.length === 0) return undefined
      const first = byKey.ordered ? firstInLine(key, waiting) : firstReady(waiting)
      return first && new KeyEntrant(scene, at, room, waiting, first)
    }

    const ready: Array<Tagged> = []
    /** Those who may be next, in order, from `front` on. */
    const line: Array<{ readonly tag: number; readonly entrant: Entrant }> = []
    let front = 0
    const isBefore = (tag: number, key: string, other: (typeof line)[number]): boolean =>
      tag < other.tag || (tag === other.tag && compareTexts(key, other.entrant.key) < 0)
    const queueUp = (entrant: Entrant, tag: number) => {
      const last = line.at(-1)
      // As most of the time, with keys of the same weight.
      if (front === line.length || !isBefore(tag, entrant.key, last!)) return line.push({ tag, entrant })
      let low = front
      let high = line.length - 1
      while (low < high) {
        const middle = (low + high) >> 1
        if (isBefore(tag, entrant.key, line[middle]!)) high = middle
        else low = middle + 1
      }
      line.splice(low, 0, { tag, entrant })
    }
    const take = (entrant: Entrant, tag: number) => {
      const next = entrant.next()
      if (next === undefined) return
      ready.push({ seq: next.seq, tag, entrant })
      entrant.told++
      queueUp(entrant, entrant.base + entrant.told * entrant.stride)
    }
    const plain = new PlainEntrant(lanes, {
      queue,
      params,
      ageing,
      base: Math.max(fair.plainPlace, time),
      wanted,
    })
    queueUp(plain, plain.base)
    const nextKey = yield* due.keys({
      queue,
      lanes: open,
      time,
      now,
      isAnyKnown: keyRows.hasAny(queue),
      wanted,
    })
    let key: DueKey | undefined
    let isLast = false
    let looks = 0
    while (ready.length < wanted) {
      if (key === undefined && !isLast) {
        key = nextKey()
        isLast = key === undefined
      }
      const next = line[front]
      const base = key === undefined ? Number.POSITIVE_INFINITY : Math.max(key.place, time)
      if (key !== undefined && (next === undefined || isBefore(base, key.key, next))) {
        const entrant = enter(key)
        if (entrant !== undefined) take(entrant, base)
        key = undefined
      } else if (next !== undefined) {
        front++
        take(next.entrant, next.tag)
      } else break
      if (isStep(++looks)) yield
    }

    /** Where keys are after they started something, and what is left of their limits. */
    const write = function* (entrants: ReadonlyArray<KeyEntrant>): Steps<void> {
      const groups: Array<Moved> = []
      let written = 0
      for (const { base, key, room, started, stride } of entrants) {
        const place = base + started * stride
        const until = blockedUntil(room, started, now)
        const isSame = (group: Moved) => group.place === place && group.until === until
        // Mostly it is the same for all.
        const group = groups.length > 0 && isSame(groups[0]!) ? groups[0] : groups.find(isSame)
        if (group === undefined) groups.push({ place, until, keys: [key] })
        else group.keys.push(key)
        if (room.rate === undefined) continue
        keyRows.spend(queue, key, TokenBucket.take(room.bucket!, started), room.rate)
        if (isStep(++written)) yield
      }
      for (const { keys, place, until } of groups) {
        for (let from = 0; from < keys.length; from += movedAtOnce) {
          const some = JSON.stringify(keys.slice(from, from + movedAtOnce))
          if (until === undefined) move.run(place, queue, some)
          else moveAndBlock.run(place, until, queue, some)
          yield
        }
      }
      for (const { isExhausted, room, started, turns } of entrants) {
        if (!isExhausted || blockedUntil(room, started, now) !== undefined) continue
        turns.forEach(aside)
        if (isStep(++written)) yield
      }
    }

    const started = function* (count: number): Steps<void> {
      const entrants: Array<KeyEntrant> = []
      let latest = time
      for (let index = 0; index < count; index++) {
        const { entrant, tag } = ready[index]!
        if (entrant.started++ === 0 && entrant instanceof KeyEntrant) entrants.push(entrant)
        latest = Math.max(latest, tag)
      }
      yield* write(entrants)
      if (plain.started > 0 || latest !== time) {
        const plainPlace = plain.started === 0 ? fair.plainPlace : plain.base + plain.started
        limits.moved(queue, { ...fair, time: latest, plainPlace })
      }
      startedSince += count
      if (++claims < forgetEvery) return
      for (const lane of open) turns.forget(lane, latest, forgetFor * startedSince)
      claims = 0
      startedSince = 0
    }
    const firstAt = () => {
      let first = isOverdue ? now : lanes.firstAt(queue, params)
      for (const lane of open) {
        const at = turns.firstAt(lane)
        if (at !== undefined && (first === undefined || at < first)) first = at
      }
      return first
    }
    return { ready, started, firstAt }
  }
}
