/**
 * The transitions of all records in memory, synchronous and without Effect: `TaskQueueMemory` puts them behind the
 * contract.
 */
import * as Effect from "effect/Effect"
import type { KeyOverride, KeyStatistics } from "../KeyLimits.ts"
import { type QueueLimits, type QueueStatistics, unlimited } from "../QueueLimits.ts"
import type { TaskId } from "../TaskId.ts"
import type * as TaskQueue from "../TaskQueue.ts"
import type { Attempt, AttemptFailure, NewRecord, TaskRecord } from "../TaskRecord.ts"
import { type Heap, nowhere } from "./heap.ts"
import { MemoryEnds } from "./memoryEnds.ts"
import * as look from "./memoryLook.ts"
import type { MemoryRecord } from "./memoryParts.ts"
import { MemoryPlaces } from "./memoryPlaces.ts"
import { MemoryQueue } from "./memoryQueue.ts"
import { claimed, endAttempt, ledgerOf, view } from "./memoryRecord.ts"
import { MemoryStore } from "./memoryStore.ts"
import { MemoryWorkers } from "./memoryWorkers.ts"

export class Memory {
  readonly workers = new MemoryWorkers()
  private readonly store: MemoryStore
  private readonly ends: MemoryEnds
  private readonly places: MemoryPlaces

  constructor(tell: (make: () => TaskQueue.Change) => void) {
    this.store = new MemoryStore(tell)
    this.ends = new MemoryEnds(this.store)
    this.places = new MemoryPlaces(this.store, this.ends)
  }

  /** Runs one call of the contract and then tells what it changed. */
  call<A>(body: () => A): Effect.Effect<A> {
    return Effect.sync(() => {
      const result = body()
      this.store.changes.flush()
      return result
    })
  }

  enqueue(records: ReadonlyArray<NewRecord>, now: number): ReadonlyArray<TaskQueue.EnqueueOutcome> {
    return this.places.enqueue(records, now)
  }

  claim(params: TaskQueue.ClaimParams): TaskQueue.ClaimResult {
    this.takeBack(params.now)
    const records: Array<TaskQueue.ClaimedRecord> = []
    let nextAt: number | undefined
    const earliest = (at: number | undefined) => {
      if (at !== undefined) nextAt = Math.min(nextAt ?? Number.POSITIVE_INFINITY, at)
    }
    for (const { limit, name } of params.queues) {
      const queue = this.store.queues.get(name)
      if (queue === undefined) continue
      queue.claim(params, limit, (record) => {
        if (record.expiryPlace !== nowhere) this.store.expiries.remove(record)
        this.store.enter(record, "running")
        record.worker = params.worker
        record.startedAt = params.now
        record.firstAttemptAt ??= params.now
        record.leaseUntil = params.now + (record.lease ?? params.lease)
        record.attempt++
        record.token++
        records.push(claimed(record))
      })
      earliest(queue.nextAt(params))
    }
    return { records, nextAt }
  }

  extend(lease: TaskQueue.Lease, until: number): TaskQueue.ExtendOutcome {
    const record = this.held(lease)
    if (record === undefined) return "LeaseLost"
    record.leaseUntil = until
    this.store.queue(record.queue).leases.update(record)
    return record.cancelRequested === undefined ? "Extended" : "CancelRequested"
  }

  settle(settlement: TaskQueue.Settlement, now: number): TaskQueue.SettleOutcome {
    const record = this.held(settlement)
    if (record === undefined) return "LeaseLost"
    if (settlement._tag !== "Succeed") {
      endAttempt(record, settlement._tag, "failure" in settlement ? settlement.failure : undefined, now)
    }
    if (settlement.progress !== undefined) {
      record.progress = settlement.progress
      this.store.changes.progress(record.id)
    }
    const queue = this.store.queue(record.queue)
    if (settlement._tag !== "Release") queue.executed.add(now)
    this.store.letGo(record)
    switch (settlement._tag) {
      case "Succeed":
        record.result = settlement.result
        if (settlement.handOver !== undefined && record.memberOf !== undefined) {
          this.ends.handOver(record.memberOf, settlement.handOver)
        }
        this.ends.end(record, "succeeded", now)
        break
      case "Cancel":
        this.ends.end(record, "cancelled", now)
        break
      case "Bury":
        record.result = settlement.result
        record.failure = settlement.failure ?? record.failure
        this.ends.bury(record, settlement.reason, now)
        break
      case "Retry":
        record.failure = settlement.failure
        this.ends.waitAgain(record, settlement.eta, now)
        break
      case "Snooze":
        record.attempt--
        this.ends.waitAgain(record, settlement.eta, now)
        if (settlement.pause !== undefined && record.endedAt === undefined) {
          queue.prolong(settlement.pause === "key" ? record.key : undefined, settlement.eta)
        }
        break
      case "Release":
        record.attempt--
        this.ends.waitAgain(record, now, now)
    }
    return "Settled"
  }

  progress({ progress, ...lease }: TaskQueue.ProgressUpdate): TaskQueue.ProgressOutcome {
    const record = this.held(lease)
    if (record === undefined) return "LeaseLost"
    record.progress = progress
    this.store.changes.progress(record.id)
    return "Recorded"
  }

  cancel(id: TaskId, reason: string, now: number): TaskQueue.CancelOutcome {
    return this.ends.cancel(id, reason, now)
  }

  redrive(id: TaskId, now: number): TaskQueue.RedriveOutcome {
    const record = this.store.records.get(id)
    if (record === undefined) return "NotFound"
    if (record.phase !== "dead") return "NotDead"
    this.store.exhume(record)
    Object.assign(record, {
      eta: now,
      attempt: 0,
      crashes: 0,
      firstAttemptAt: undefined,
      startedAt: undefined,
      worker: undefined,
      expiresAt: undefined,
      cancelRequested: undefined,
      endedAt: undefined,
      reason: undefined,
      result: undefined,
      progress: undefined,
    })
    this.store.enter(record, "waiting")
    const { names, uniqueKeys } = this.store
    const owner = record.name === undefined ? undefined : names.taken(record.queue, record.name, now)?.owner
    if (owner === undefined || owner === id) names.own(record)
    if (!record.holdsKey) uniqueKeys.take(record)
    this.store.wait(record, now)
    if (record.memberOf !== undefined) this.ends.uncount(record.memberOf)
    return "Redriven"
  }

  remove(id: TaskId, only: "dead" | undefined, now: number): TaskQueue.RemoveOutcome {
    const record = this.store.records.get(id)
    if (record === undefined) return "NotFound"
    if (only === "dead" && record.phase !== "dead") return "NotDead"
    if (record.phase === "running") return "Running"
    this.ends.forget(record, now)
    return "Removed"
  }

  purge(queue: string, now: number): number {
    const isWaiting = (record: MemoryRecord) => record.queue === queue && record.phase === "waiting"
    const waiting = [...this.store.records.values()].filter(isWaiting)
    this.ends.forgetAll(waiting, now)
    return waiting.length
  }

  get(id: TaskId, now: number): TaskRecord | undefined {
    const record = this.store.records.get(id)
    return record === undefined ? undefined : view(record, now)
  }

  ledger(id: TaskId): ReadonlyArray<Attempt> {
    const record = this.store.records.get(id)
    return record === undefined ? [] : ledgerOf(record)
  }

  hasRef(ref: string): boolean {
    return this.store.refs.has(ref)
  }

  find(params: TaskQueue.FindParams): TaskQueue.Page {
    return look.find(this.store.records.values(), params)
  }

  counts(filter: TaskQueue.Filter, now: number): ReadonlyArray<TaskQueue.Count> {
    return look.counts(this.store.records.values(), filter, now)
  }

  configure(queue: string, limits: Partial<QueueLimits>, now: number): void {
    this.store.queue(queue).configure(limits, now)
    this.store.changes.waiting(queue)
  }

  limits(queue: string): QueueLimits {
    return this.store.queues.get(queue)?.limits ?? unlimited
  }

  configureKey(queue: string, key: string, override: KeyOverride): void {
    this.store.queue(queue).configureKey(key, override)
    this.store.changes.waiting(queue)
  }

  keyStatistics(queue: string, key: string, now: number): KeyStatistics {
    return (this.store.queues.get(queue) ?? new MemoryQueue()).keyStatistics(key, now)
  }

  pauseUntil(queue: string, key: string | undefined, until: number): void {
    this.store.queue(queue).pauseUntil(key, until)
    this.store.changes.waiting(queue)
  }

  statistics(queue: string, now: number): QueueStatistics {
    return (this.store.queues.get(queue) ?? new MemoryQueue()).statistics(now)
  }

  prune(now: number, deadBefore: number, limit: number): number {
    const pruned = this.store.prune(now, deadBefore, limit)
    this.places.prune(now, limit)
    this.workers.prune(now)
    return pruned
  }

  /** Expired leases come back, and then what was not started in time is buried: both in the order of insertion. */
  private takeBack(now: number): void {
    const isLost = (record: MemoryRecord) => record.phase === "running" && record.leaseUntil! <= now
    const lost = [...this.store.queues.values()].flatMap(({ leases }) => firsts(leases, isLost))
    for (const record of lost.sort(bySeq)) if (isLost(record)) this.crash(record, now)
    const isLate = (record: MemoryRecord) => record.expiryPlace !== nowhere && record.expiresAt! <= now
    for (const record of firsts(this.store.expiries, isLate).sort(bySeq)) {
      // One before it may have ended it.
      if (!isLate(record)) continue
      this.store.unwait(record)
      this.ends.bury(record, "Expired", now)
    }
  }

  private crash(record: MemoryRecord, now: number): void {
    const crash: AttemptFailure = {
      attempt: record.attempt,
      at: now,
      kind: "crash",
      tag: "Crashed",
      message: `worker ${record.worker} did not extend its lease`,
    }
    const failure = JSON.stringify(crash)
    endAttempt(record, "Crash", failure, now)
    this.store.letGo(record)
    record.crashes++
    record.failure = failure
    if (record.cancelRequested === undefined && record.crashes > record.maxCrashes) {
      this.ends.bury(record, "Crashed", now)
    } else this.ends.waitAgain(record, now, now)
  }

  private held({ id, token }: TaskQueue.Lease): MemoryRecord | undefined {
    const record = this.store.records.get(id)
    return record?.phase === "running" && record.token === token ? record : undefined
  }
}

const bySeq = (left: MemoryRecord, right: MemoryRecord): number => left.seq - right.seq

/** Those of a heap that come before the first which is not asked for. They stay in it. */
const firsts = <Key extends "place" | "expiryPlace">(
  heap: Heap<Key, MemoryRecord>,
  is: (record: MemoryRecord) => boolean,
): Array<MemoryRecord> => {
  const found: Array<MemoryRecord> = []
  for (let top = heap.peek(); top !== undefined && is(top); top = heap.peek()) {
    heap.remove(top)
    found.push(top)
  }
  for (const record of found) heap.push(record)
  return found
}
