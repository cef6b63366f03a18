/**
 * The keys of one queue in memory, and how they take turns (`TaskQueue.Driver.claim`). A key is in the heaps of the lanes
 * where it may start something; where it only waits for a time, in one by that time; else in none, until something becomes
 * ready, ends, or is allowed. Whether it may is told by the clock of the last claim, and asked again when its turn comes.
 */
import { type KeyLimits, type KeyOverride, type KeyStatistics, unlimited } from "../KeyLimits.ts"
import * as TokenBucket from "../TokenBucket.ts"
import { Heap, nowhere } from "./heap.ts"
import {
  allowance,
  bucketAt,
  isAsUnknown,
  isHeldByEnds,
  isKnown,
  laneOf,
  makeKey,
  makeOrder,
  opensAt,
  rateOf,
  tagOf,
} from "./memoryKey.ts"
import { byPriority, firstReady } from "./memoryLane.ts"
import type { KeyLane, Lane, MemoryKey, MemoryRecord } from "./memoryParts.ts"

/** The records without a key take part as one key more. */
export interface Unkeyed {
  /** The first that may start. */
  readonly first: () => MemoryRecord | undefined
  /** Takes that one out of what waits. */
  readonly start: () => void
}

/** So many keys of which nothing waits are remembered when they are ahead of the virtual time; of more, some. */
const remembered = 100_000

export class MemoryKeys {
  /** Whether the queue ever had a record with a key. */
  used = false
  private limits: KeyLimits = unlimited
  private readonly keys = new Map<string, MemoryKey>()
  /** The virtual time. */
  private time = 0
  /** The clock of the last claim. */
  private now = Number.NEGATIVE_INFINITY
  private readonly unkeyed = makeKey("")
  /** Keys that have something ready and wait for a time only. */
  private readonly asleep = new Heap<"place", MemoryKey>("place", (left, right) => left.wakeAt < right.wakeAt)
  /** Keys whose turn came in the claim that is being made and who may have another one. */
  private readonly turns = new Heap<"place", MemoryKey>("place", (left, right) => {
    const difference = tagOf(left) - tagOf(right)
    return difference !== 0 ? difference < 0 : left.name < right.name
  })
  /** Those who may have another one, but not before the smallest of their tags: in most claims nobody's turn comes again. */
  private readonly later: Array<MemoryKey> = []
  private laterTag = Number.POSITIVE_INFINITY
  /** Keys that have nothing to do and are ahead of the virtual time, by their place in it. */
  private readonly idle = new Heap<"place", MemoryKey>("place", (left, right) => left.turn < right.turn)

  /** Of how many something is known. */
  get size(): number {
    return this.keys.size
  }

  /** `waiting` is all that waits in the queue. */
  configure(limits: KeyLimits, waiting: () => Iterable<MemoryRecord>): void {
    const { ordered } = this.limits
    this.limits = limits
    if (limits.ordered !== ordered) {
      for (const key of this.keys.values()) key.order = limits.ordered ? makeOrder() : undefined
      if (limits.ordered) {
        for (const record of waiting()) if (record.key !== undefined) this.get(record.key).order?.push(record)
      }
    }
    for (const key of this.keys.values()) this.stand(key)
  }

  configureKey(name: string, override: KeyOverride): void {
    const key = this.get(name)
    key.override = Object.fromEntries(Object.entries(override).filter(([, value]) => value !== undefined))
    this.changed(key)
  }

  pauseUntil(name: string, until: number): void {
    const key = this.get(name)
    key.pausedUntil = until
    this.changed(key)
  }

  /** Makes a pause longer, never shorter. */
  prolong(name: string, until: number): void {
    this.pauseUntil(name, Math.max(this.get(name).pausedUntil, until))
  }

  /** `waiting` is all that waits in the queue. */
  statistics(name: string, waiting: Iterable<MemoryRecord>, now: number): KeyStatistics {
    const key = this.keys.get(name) ?? makeKey(name)
    let ready = 0
    for (const record of waiting) if (record.key === name && record.eta <= now) ready++
    const rate = rateOf(key, this.limits)
    const never = rate === undefined || rate.rate === 0
    const tokenAt = never ? undefined : TokenBucket.nextAt(bucketAt(key, rate, now), rate)
    return {
      waiting: key.waiting,
      ready,
      inFlight: key.running,
      pausedUntil: key.pausedUntil > now ? key.pausedUntil : undefined,
      nextTokenAt: tokenAt === undefined ? undefined : Math.max(now, tokenAt),
      override: key.override,
    }
  }

  /** All that is ready. */
  *[Symbol.iterator](): Iterator<MemoryRecord> {
    for (const { lanes } of this.keys.values()) for (const { ready } of lanes) yield* ready
  }

  /** A record with a key waits from now on; that it is ready is said apart. */
  enter(record: MemoryRecord): void {
    this.used = true
    const key = this.get(record.key!)
    record.ofKey = key
    if (key.waiting++ === 0 && this.idle.has(key)) this.idle.remove(key)
    if (key.order === undefined) return
    key.order.push(record)
    this.stand(key)
  }

  /** One that waits is due now. */
  ready(record: MemoryRecord, key: MemoryKey, lane: Lane): void {
    const there = laneOf(key, lane)
    there.ready.push(record)
    if (there.duePlace === nowhere) this.stand(key)
  }

  /** One that waited, ready or not, goes otherwise than by its start. */
  leave(record: MemoryRecord, key: MemoryKey): void {
    record.ofKey = undefined
    takeOut(key, record)
    this.changed(key)
  }

  /** One that ran no longer does. Whether that may let another one start. */
  end(record: MemoryRecord, key: MemoryKey): boolean {
    record.ofKey = undefined
    key.running--
    this.changed(key)
    return isHeldByEnds(key, this.limits)
  }

  /** Starts up to `allowed` records by the turns of their keys, and gives how many. */
  claim(
    lanes: ReadonlyArray<Lane>,
    allowed: number,
    now: number,
    unkeyed: Unkeyed,
    start: (record: MemoryRecord) => void,
  ): number {
    this.wake(now)
    for (const lane of lanes) this.catchUp(lane)
    let latest = this.time
    let total = 0
    const met: Array<MemoryKey> = []
    this.unkeyed.base = Math.max(this.unkeyed.turn, this.time)
    this.unkeyed.started = 0
    let first = unkeyed.first()
    while (total < allowed) {
      const key = this.next(lanes)
      if (first !== undefined && (key === undefined || tagOf(this.unkeyed) <= tagOf(key))) {
        latest = Math.max(latest, tagOf(this.unkeyed))
        this.unkeyed.started++
        unkeyed.start()
        start(first)
        first = unkeyed.first()
      } else if (key !== undefined) {
        const tag = tagOf(key)
        const record = this.take(key, lanes, met)
        if (record === undefined) continue
        latest = Math.max(latest, tag)
        start(record)
      } else break
      total++
    }
    this.close(met, latest)
    return total
  }

  /** When a claim like this could next find something with a key, besides by an eta. */
  nextAt(lanes: ReadonlyArray<Lane>, now: number): number | undefined {
    this.wake(now)
    return lanes.some((lane) => this.isDue(lane)) ? now : this.asleep.peek()?.wakeAt
  }

  /** Forgets at most so many keys of which nothing matters any more. */
  prune(now: number, limit: number): void {
    let count = 0
    for (const key of this.keys.values()) {
      if (count >= limit) return
      const isAhead = key.turn > this.time && this.keys.size <= remembered
      if (key.waiting > 0 || isAhead || !isAsUnknown(key, this.limits, now)) continue
      key.bucket = undefined
      key.pausedUntil = Number.NEGATIVE_INFINITY
      if (key.running > 0) continue
      this.keys.delete(key.name)
      count++
    }
  }

  private get(name: string): MemoryKey {
    let key = this.keys.get(name)
    if (key === undefined) {
      key = makeKey(name)
      if (this.limits.ordered) key.order = makeOrder()
      this.keys.set(name, key)
    }
    return key
  }

  /** The key whose turn is next, with its tag; whether it may start something is asked by whoever takes it. */
  private next(lanes: ReadonlyArray<Lane>): MemoryKey | undefined {
    const front = this.front(lanes)
    if (this.later.length === 0 || (front !== undefined && tagOf(front) < this.laterTag)) return front
    for (const key of this.later) this.turns.push(key)
    this.later.length = 0
    this.laterTag = Number.POSITIVE_INFINITY
    return this.front(lanes)
  }

  private front(lanes: ReadonlyArray<Lane>): MemoryKey | undefined {
    let best = this.turns.peek()
    let tag = best === undefined ? Number.POSITIVE_INFINITY : tagOf(best)
    let isNew = false
    const consider = (key: MemoryKey, base: number) => {
      if (best !== undefined && (base > tag || (base === tag && key.name >= best.name))) return
      best = key
      tag = base
      isNew = true
    }
    for (const { ahead, present } of lanes) {
      const behind = present.peek()
      if (behind !== undefined) consider(behind.key, this.time)
      const other = ahead.peek()
      if (other !== undefined) consider(other.key, other.key.turn)
    }
    if (best !== undefined && isNew) {
      best.base = tag
      best.started = 0
    }
    return best
  }

  /** Takes the first record of the key whose turn it is, and lets it have others if it may start more. */
  private take(key: MemoryKey, lanes: ReadonlyArray<Lane>, met: Array<MemoryKey>): MemoryRecord | undefined {
    const isAgain = this.turns.has(key)
    if (!isAgain) {
      met.push(key)
      for (const there of key.lanes) leaveLane(there)
      key.left = allowance(key, this.limits, this.now)
    }
    const record = key.started < key.left ? this.first(key, lanes) : undefined
    if (record !== undefined) {
      takeOut(key, record)
      key.running++
      key.started++
    }
    const isOver = record === undefined || key.waiting === 0 || key.started === key.left
    if (!isAgain) {
      if (!isOver) {
        this.later.push(key)
        this.laterTag = Math.min(this.laterTag, tagOf(key))
      }
    } else if (isOver) this.turns.remove(key)
    else this.turns.update(key)
    return record
  }

  private first(key: MemoryKey, lanes: ReadonlyArray<Lane>): MemoryRecord | undefined {
    const head = key.order?.peek()
    let best: MemoryRecord | undefined
    for (const { lane, ready } of key.lanes) {
      if (!lanes.includes(lane)) continue
      if (key.order !== undefined) {
        if (head === undefined || !ready.has(head)) continue
        if (head.eta <= this.now) return head
        ready.remove(head)
        lane.scheduled.push(head)
      } else {
        const top = firstReady(ready, lane, this.now)
        if (top !== undefined && (best === undefined || byPriority(top, best))) best = top
      }
    }
    return best
  }

  /** Ends a claim: its keys have moved on, and so has the time. */
  private close(met: ReadonlyArray<MemoryKey>, latest: number): void {
    if (this.unkeyed.started > 0) this.unkeyed.turn = tagOf(this.unkeyed)
    this.time = latest
    this.later.length = 0
    this.laterTag = Number.POSITIVE_INFINITY
    for (const key of met) {
      if (this.turns.has(key)) this.turns.remove(key)
      if (key.started > 0) {
        key.turn = tagOf(key)
        const rate = rateOf(key, this.limits)
        if (rate !== undefined) key.bucket = TokenBucket.take(bucketAt(key, rate, this.now), key.started)
      }
      this.stand(key)
    }
    for (let key = this.idle.peek(); key !== undefined && key.turn <= this.time; key = this.idle.peek()) this.rest(key)
  }

  private wake(now: number): void {
    this.now = now
    for (let key = this.asleep.peek(); key !== undefined && key.wakeAt <= now; key = this.asleep.peek()) this.stand(key)
  }

  /** Those behind the time are as if they were there. */
  private catchUp({ ahead, present }: Lane): void {
    for (let top = ahead.peek(); top !== undefined && top.key.turn < this.time; top = ahead.peek()) {
      ahead.remove(top)
      present.push(top)
    }
  }

  private isDue(lane: Lane): boolean {
    const { ahead, present } = lane
    for (let top = present.peek() ?? ahead.peek(); top !== undefined; top = present.peek() ?? ahead.peek()) {
      const { key } = top
      if (allowance(key, this.limits, this.now) > 0 && this.first(key, [lane]) !== undefined) return true
      this.stand(key)
    }
    return false
  }

  private changed(key: MemoryKey): void {
    this.stand(key)
    if (key.waiting === 0 && key.running === 0) this.rest(key)
  }

  /** Puts a key where it belongs: into its lanes' heaps, among those asleep, or nowhere. */
  private stand(key: MemoryKey): void {
    const head = key.order?.peek()
    const isOpen = allowance(key, this.limits, this.now) > 0
    let hasReady = false
    for (const there of key.lanes) {
      const has = key.order === undefined ? there.ready.size > 0 : head !== undefined && there.ready.has(head)
      hasReady ||= has
      if (!has || !isOpen) leaveLane(there)
      else if (there.duePlace === nowhere) {
        if (key.turn < this.time) there.lane.present.push(there)
        else there.lane.ahead.push(there)
      }
    }
    if (this.asleep.has(key)) this.asleep.remove(key)
    if (isOpen || !hasReady) return
    const at = opensAt(key, this.limits, this.now)
    if (at === undefined) return
    // By rounding alone a rate may not allow a start yet at the time that was said.
    key.wakeAt = Math.max(at, this.now + 1)
    this.asleep.push(key)
  }

  /** It has nothing to do: if nothing is known of it, it is forgotten, now or when the virtual time has come so far. */
  private rest(key: MemoryKey): void {
    if (this.idle.has(key)) this.idle.remove(key)
    key.lanes = []
    if (key.turn > this.time) this.idle.push(key)
    else if (!isKnown(key)) this.keys.delete(key.name)
  }
}

const leaveLane = (there: KeyLane): void => {
  if (there.duePlace === nowhere) return
  const { ahead, present } = there.lane
  if (present.has(there)) present.remove(there)
  else ahead.remove(there)
}

const takeOut = (key: MemoryKey, record: MemoryRecord): void => {
  for (const { ready } of key.lanes) if (ready.has(record)) ready.remove(record)
  key.order?.remove(record)
  key.waiting--
}
