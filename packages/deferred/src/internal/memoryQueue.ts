/**
 * One queue in memory: its waiting records in lanes, its leases, its limits.
 */
import { type QueueLimits, type QueueStatistics, unlimited } from "../QueueLimits.ts"
import type { ClaimParams } from "../TaskQueue.ts"
import * as TokenBucket from "../TokenBucket.ts"
import { Executed } from "./executed.ts"
import { Heap } from "./heap.ts"
import type { MemoryRecord } from "./memoryRecord.ts"

/** Records that the same workers may claim. */
interface Lane {
  readonly task: string
  readonly version: number
  readonly target: string | undefined
  /** By eta. */
  readonly scheduled: Heap<"place", MemoryRecord>
  /** In the order of claims. */
  readonly ready: Heap<"place", MemoryRecord>
}

export class MemoryQueue {
  limits: QueueLimits = unlimited
  /** Of the running records; how many there are is what `maxConcurrent` counts. */
  readonly leases = new Heap<"place", MemoryRecord>("place", (left, right) => left.leaseUntil! < right.leaseUntil!)
  readonly executed = new Executed()
  private bucket: TokenBucket.TokenBucket = { tokens: 0, at: 0 }
  private readonly lanes = new Map<string, Lane>()

  configure(changes: Partial<QueueLimits>, now: number): void {
    const before = this.rate()
    const { ageing } = this.limits
    this.limits = { ...this.limits, ...changes }
    if (this.limits.ageing !== ageing) for (const lane of this.lanes.values()) reorder(lane)
    const after = this.rate()
    if (after === undefined) return
    this.bucket = before === undefined ? TokenBucket.full(after, now) : TokenBucket.refill(this.bucket, before, now)
  }

  add(record: MemoryRecord, now: number): void {
    const lane = this.laneOf(record)
    // What is due already need not be moved by a claim, for which many of them would be a long stop.
    if (record.eta <= now) lane.ready.push(record)
    else lane.scheduled.push(record)
  }

  remove(record: MemoryRecord): void {
    const lane = this.laneOf(record)
    // A record's place alone does not say in which of the two heaps it is.
    if (lane.ready.has(record)) lane.ready.remove(record)
    else lane.scheduled.remove(record)
  }

  /** Takes up to `limit` records that the parameters allow, in order; `take` gives each its lease. */
  claim(params: ClaimParams, limit: number, take: (record: MemoryRecord) => void): void {
    const lanes = this.eligible(params)
    for (const lane of lanes) promote(lane, params.now)
    const bucket = this.bucketAt(params.now)
    const allowed = Math.min(limit, this.slots(bucket))
    let started = 0
    while (started < allowed) {
      let best: Lane | undefined
      for (const lane of lanes) {
        const top = firstReady(lane, params.now)
        if (top !== undefined && (best === undefined || this.before(top, best.ready.peek()!))) best = lane
      }
      const record = best?.ready.pop()
      if (record === undefined) break
      take(record)
      this.leases.push(record)
      started++
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

  /** Without a free slot, never: the end of a lease or an attempt comes first. */
  private nextWaiting(params: ClaimParams): number | undefined {
    if (this.limits.paused || this.limits.rate === 0 || !this.hasSlot()) return undefined
    const rate = this.rate()
    const tokenAt = rate === undefined ? params.now : TokenBucket.nextAt(this.bucketAt(params.now), rate)
    if (tokenAt === undefined) return undefined
    let next: number | undefined
    for (const lane of this.eligible(params)) {
      const waiting = firstReady(lane, params.now) === undefined ? lane.scheduled.peek()?.eta : params.now
      if (waiting !== undefined) next = Math.min(next ?? Number.POSITIVE_INFINITY, waiting)
    }
    return next === undefined ? undefined : Math.max(next, tokenAt)
  }

  statistics(now: number): QueueStatistics {
    let waiting = 0
    let ready = 0
    let oldestEta: number | undefined
    for (const lane of this.lanes.values()) {
      for (const heap of [lane.scheduled, lane.ready]) {
        waiting += heap.size
        for (const { eta } of heap) {
          if (eta <= now) ready++
          if (oldestEta === undefined || eta < oldestEta) oldestEta = eta
        }
      }
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
    }
  }

  /** Which of two ready records is claimed first. By ageing it is the same at any time, so a heap can keep it. */
  private readonly before = (left: MemoryRecord, right: MemoryRecord): boolean => {
    const { ageing } = this.limits
    if (ageing === undefined) {
      if (left.priority !== right.priority) return left.priority > right.priority
      return left.eta !== right.eta ? left.eta < right.eta : left.seq < right.seq
    }
    const difference = left.eta - left.priority * ageing - (right.eta - right.priority * ageing)
    return difference !== 0 ? difference < 0 : left.seq < right.seq
  }

  private hasSlot(): boolean {
    return this.limits.maxConcurrent === undefined || this.leases.size < this.limits.maxConcurrent
  }

  private bucketAt(now: number): TokenBucket.TokenBucket {
    const rate = this.rate()
    return rate === undefined ? this.bucket : TokenBucket.refill(this.bucket, rate, now)
  }

  private slots(bucket: TokenBucket.TokenBucket): number {
    if (this.limits.paused || this.limits.rate === 0) return 0
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

  private laneOf({ target, task, version }: MemoryRecord): Lane {
    const key = `${version}:${task.length}:${task}${target === undefined ? "" : `=${target}`}`
    let lane = this.lanes.get(key)
    if (lane === undefined) {
      lane = {
        task,
        version,
        target,
        scheduled: new Heap("place", (left, right) =>
          left.eta !== right.eta ? left.eta < right.eta : left.seq < right.seq,
        ),
        ready: new Heap("place", this.before),
      }
      this.lanes.set(key, lane)
    }
    return lane
  }
}

/** Whoever claimed before may have a clock that is ahead: what is not due by this one's goes back. */
const firstReady = (lane: Lane, now: number): MemoryRecord | undefined => {
  for (let top = lane.ready.peek(); top !== undefined; top = lane.ready.peek()) {
    if (top.eta <= now) return top
    lane.ready.remove(top)
    lane.scheduled.push(top)
  }
  return undefined
}

const reorder = ({ ready }: Lane): void => {
  const records = [...ready]
  for (const record of records) ready.remove(record)
  for (const record of records) ready.push(record)
}

const promote = (lane: Lane, now: number): void => {
  for (let top = lane.scheduled.peek(); top !== undefined && top.eta <= now; top = lane.scheduled.peek()) {
    lane.scheduled.remove(top)
    lane.ready.push(top)
  }
}
