/**
 * One queue in memory: its waiting records in lanes, its leases, its limits, its keys.
 */
import type { KeyOverride, KeyStatistics } from "../KeyLimits.ts"
import { type QueueLimits, type QueueStatistics, unlimited } from "../QueueLimits.ts"
import type { ClaimParams } from "../TaskQueue.ts"
import * as TokenBucket from "../TokenBucket.ts"
import { Executed } from "./executed.ts"
import { Heap } from "./heap.ts"
import { MemoryKeys } from "./memoryKeys.ts"
import { firstOf, firstReady, inOrderOf, makeLane, reorder } from "./memoryLane.ts"
import type { Lane, MemoryRecord } from "./memoryParts.ts"

export class MemoryQueue {
  limits: QueueLimits = unlimited
  /** Of the running records; how many there are is what `maxConcurrent` counts. */
  readonly leases = new Heap<"place", MemoryRecord>("place", (left, right) => left.leaseUntil! < right.leaseUntil!)
  readonly executed = new Executed()
  private bucket: TokenBucket.TokenBucket = { tokens: 0, at: 0 }
  private pausedUntil = Number.NEGATIVE_INFINITY
  private readonly lanes = new Map<string, Lane>()
  private readonly keys = new MemoryKeys()
  /** What waits for other records: for no time. */
  private readonly held = new Set<MemoryRecord>()
  /** Which of two ready records is claimed first. */
  private readonly before = inOrderOf(this)

  configure(changes: Partial<QueueLimits>, now: number): void {
    const before = this.rate()
    const { ageing } = this.limits
    this.limits = { ...this.limits, ...changes }
    if (this.limits.ageing !== ageing) for (const lane of this.lanes.values()) reorder(lane)
    if (changes.byKey !== undefined) this.keys.configure(changes.byKey, () => this.waiting())
    const after = this.rate()
    if (after === undefined) return
    this.bucket = before === undefined ? TokenBucket.full(after, now) : TokenBucket.refill(this.bucket, before, now)
  }

  configureKey(key: string, override: KeyOverride): void {
    this.keys.configureKey(key, override)
  }

  /** Of a key, or else of the queue. */
  pauseUntil(key: string | undefined, until: number): void {
    if (key === undefined) this.pausedUntil = until
    else this.keys.pauseUntil(key, until)
  }

  /** Makes a pause longer, never shorter. */
  prolong(key: string | undefined, until: number): void {
    if (key === undefined) this.pausedUntil = Math.max(this.pausedUntil, until)
    else this.keys.prolong(key, until)
  }

  add(record: MemoryRecord, now: number): void {
    const lane = this.laneOf(record)
    if (record.key !== undefined) this.keys.enter(record)
    // What is due already need not be moved by a claim, for which many of them would be a long stop.
    if (record.eta <= now) this.ready(record, lane)
    else if (record.eta === Number.POSITIVE_INFINITY) this.held.add(record)
    else lane.scheduled.push(record)
  }

  remove(record: MemoryRecord): void {
    const lane = this.laneOf(record)
    // A record's place alone does not say in which of the heaps it is.
    if (lane.ready.has(record)) lane.ready.remove(record)
    else if (lane.scheduled.has(record)) lane.scheduled.remove(record)
    else this.held.delete(record)
    if (record.ofKey !== undefined) this.keys.leave(record, record.ofKey)
  }

  /** Ends a lease. Whether that may let another record start. */
  release(record: MemoryRecord): boolean {
    this.leases.remove(record)
    const frees = record.ofKey !== undefined && this.keys.end(record, record.ofKey)
    return frees || this.limits.maxConcurrent !== undefined
  }

  /** Takes up to `limit` records that the parameters allow, in order; `take` gives each its lease. */
  claim(params: ClaimParams, limit: number, take: (record: MemoryRecord) => void): void {
    const { now } = params
    const lanes = this.eligible(params)
    for (const lane of lanes) this.promote(lane, now)
    const bucket = this.bucketAt(now)
    const allowed = Math.min(limit, this.slots(bucket, now))
    let started = 0
    if (this.keys.used) started = this.claimByTurns(lanes, allowed, now, take)
    else {
      while (started < allowed) {
        const record = firstOf(lanes, this.before, now)?.ready.pop()
        if (record === undefined) break
        take(record)
        this.leases.push(record)
        started++
      }
    }
    // A claim that started nothing changes nothing: its clock does not count for the next one.
    if (started > 0 && this.rate() !== undefined) this.bucket = TokenBucket.take(bucket, started)
  }

  /** When a claim like this one could next find something, by time alone. */
  nextAt(params: ClaimParams): number | undefined {
    const waiting = this.nextWaiting(params)
    const lease = this.leases.peek()?.leaseUntil
    return waiting === undefined || lease === undefined ? (waiting ?? lease) : Math.min(waiting, lease)
  }

  statistics(now: number): QueueStatistics {
    let waiting = 0
    let ready = 0
    let oldestEta: number | undefined
    for (const { eta } of this.waiting()) {
      waiting++
      if (eta <= now) ready++
      if (eta !== Number.POSITIVE_INFINITY && (oldestEta === undefined || eta < oldestEta)) oldestEta = eta
    }
    const rate = this.rate()
    const never = rate === undefined || rate.rate === 0
    const tokenAt = never ? undefined : TokenBucket.nextAt(this.bucketAt(now), rate)
    return {
      waiting,
      ready,
      oldestEta,
      inFlight: this.leases.size,
      executedLastMinute: this.executed.lastMinute(now),
      nextTokenAt: tokenAt === undefined ? undefined : Math.max(now, tokenAt),
      pausedUntil: this.pausedUntil > now ? this.pausedUntil : undefined,
    }
  }

  keyStatistics(key: string, now: number): KeyStatistics {
    return this.keys.statistics(key, this.waiting(), now)
  }

  /** Forgets at most so many keys of which nothing matters any more. */
  prune(now: number, limit: number): void {
    this.keys.prune(now, limit)
  }

  private claimByTurns(
    lanes: ReadonlyArray<Lane>,
    allowed: number,
    now: number,
    take: (record: MemoryRecord) => void,
  ): number {
    let lane: Lane | undefined
    const unkeyed = {
      first: () => {
        lane = firstOf(lanes, this.before, now)
        return lane?.ready.peek()
      },
      start: () => {
        lane?.ready.pop()
      },
    }
    return this.keys.claim(lanes, allowed, now, unkeyed, (record) => {
      take(record)
      this.leases.push(record)
    })
  }

  /** Without a free slot, never: the end of a lease or an attempt comes first. */
  private nextWaiting(params: ClaimParams): number | undefined {
    const { now } = params
    if (this.limits.paused || this.limits.rate === 0 || !this.hasSlot()) return undefined
    const rate = this.rate()
    const tokenAt = rate === undefined ? now : TokenBucket.nextAt(this.bucketAt(now), rate)
    if (tokenAt === undefined) return undefined
    const lanes = this.eligible(params)
    let next = this.keys.used ? this.keys.nextAt(lanes, now) : undefined
    for (const lane of lanes) {
      const waiting = firstReady(lane.ready, lane, now) === undefined ? lane.scheduled.peek()?.eta : now
      if (waiting !== undefined) next = Math.min(next ?? Number.POSITIVE_INFINITY, waiting)
    }
    return next === undefined ? undefined : Math.max(next, tokenAt, this.pausedUntil)
  }

  private *waiting(): Generator<MemoryRecord> {
    for (const { ready, scheduled } of this.lanes.values()) {
      yield* scheduled
      yield* ready
    }
    yield* this.keys
    yield* this.held
  }

  private hasSlot(): boolean {
    return this.limits.maxConcurrent === undefined || this.leases.size < this.limits.maxConcurrent
  }

  private bucketAt(now: number): TokenBucket.TokenBucket {
    const rate = this.rate()
    return rate === undefined ? this.bucket : TokenBucket.refill(this.bucket, rate, now)
  }

  private slots(bucket: TokenBucket.TokenBucket, now: number): number {
    if (this.limits.paused || this.limits.rate === 0 || now < this.pausedUntil) return 0
    const tokens = this.limits.rate === undefined ? Number.POSITIVE_INFINITY : TokenBucket.available(bucket)
    return Math.min(tokens, (this.limits.maxConcurrent ?? Number.POSITIVE_INFINITY) - this.leases.size)
  }

  private rate(): TokenBucket.Rate | undefined {
    return this.limits.rate === undefined ? undefined : { rate: this.limits.rate, burst: this.limits.burst }
  }

  private eligible(params: ClaimParams): ReadonlyArray<Lane> {
    const found: Array<Lane> = []
    for (const lane of this.lanes.values()) {
      const known = params.tasks.some((task) => task.name === lane.task && task.maxVersion >= lane.version)
      if (known && (lane.target === undefined || params.targets.includes(lane.target))) found.push(lane)
    }
    return found
  }

  private ready(record: MemoryRecord, lane: Lane): void {
    if (record.ofKey === undefined) lane.ready.push(record)
    else this.keys.ready(record, record.ofKey, lane)
  }

  private promote(lane: Lane, now: number): void {
    for (let top = lane.scheduled.peek(); top !== undefined && top.eta <= now; top = lane.scheduled.peek()) {
      lane.scheduled.remove(top)
      this.ready(top, lane)
    }
  }

  private laneOf(record: MemoryRecord): Lane {
    const { target, task, version } = record
    const key = `${version}:${task.length}:${task}${target === undefined ? "" : `=${target}`}`
    let lane = this.lanes.get(key)
    if (lane === undefined) {
      lane = makeLane(record, this.before)
      this.lanes.set(key, lane)
    }
    return lane
  }
}
