/**
 * The transitions of all records in memory, synchronous and without Effect: `TaskQueueMemory` puts them behind the
 * contract.
 */
import * as Effect from "effect/Effect"
import { type QueueLimits, type QueueStatistics, unlimited } from "../QueueLimits.ts"
import type { TaskId } from "../TaskId.ts"
import type * as TaskQueue from "../TaskQueue.ts"
import type { Attempt, AttemptFailure, DeadReason, NewRecord, TaskRecord } from "../TaskRecord.ts"
import { Heap, nowhere } from "./heap.ts"
import * as look from "./memoryLook.ts"
import { Keys, Names, Refs } from "./memoryNames.ts"
import { MemoryQueue } from "./memoryQueue.ts"
import { claimed, endAttempt, fromNew, ledgerOf, type MemoryRecord, view } from "./memoryRecord.ts"
import { MemoryWorkers } from "./memoryWorkers.ts"

export class Memory {
  private readonly records = new Map<TaskId, MemoryRecord>()
  private readonly queues = new Map<string, MemoryQueue>()
  private readonly names = new Names()
  private readonly keys = new Keys()
  private readonly refs = new Refs()
  readonly workers = new MemoryWorkers()
  private readonly expiries = new Heap<"expiryPlace", MemoryRecord>(
    "expiryPlace",
    (l, r) => l.expiresAt! < r.expiresAt!,
  )
  private readonly kept = new Heap<"place", MemoryRecord>("place", (l, r) => l.endedAt! + l.keep < r.endedAt! + r.keep)
  private readonly dead = new Heap<"place", MemoryRecord>("place", (l, r) => l.endedAt! < r.endedAt!)
  private inserted = 0

  // What one call changed, told once when it is done.
  private waiting = new Set<string>()
  private ended: Array<TaskId> = []
  private cancelling: Array<TaskId> = []
  private progressed: Array<TaskId> = []
  private readonly tell: (make: () => TaskQueue.Change) => void

  constructor(tell: (make: () => TaskQueue.Change) => void) {
    this.tell = tell
  }

  /** Runs one call of the contract and then tells what it changed. */
  call<A>(body: () => A): Effect.Effect<A> {
    return Effect.sync(() => {
      const result = body()
      const { cancelling, ended, progressed, waiting } = this
      if (waiting.size > 0) {
        this.waiting = new Set()
        this.tell(() => ({ _tag: "Waiting", queues: [...waiting] }))
      }
      if (ended.length > 0) {
        this.ended = []
        this.tell(() => ({ _tag: "Ended", ids: ended }))
      }
      if (cancelling.length > 0) {
        this.cancelling = []
        this.tell(() => ({ _tag: "CancelRequested", ids: cancelling }))
      }
      if (progressed.length > 0) {
        this.progressed = []
        this.tell(() => ({ _tag: "Progress", ids: progressed }))
      }
      return result
    })
  }

  enqueue(record: NewRecord, now: number): TaskQueue.EnqueueOutcome {
    if (this.records.has(record.id)) return { _tag: "Existing", id: record.id }
    const named = record.name === undefined ? undefined : this.names.taken(record.queue, record.name, now)
    if (named !== undefined && record.onDuplicate !== "replace") {
      if (record.onDuplicate === "ignore") return { _tag: "Existing", id: named.owner }
      if (named.until === undefined) return { _tag: "Duplicate", id: named.owner }
      return { _tag: "Tombstoned", until: named.until }
    }
    // Once it has ended another record may have its id.
    const owner = named === undefined || named.until !== undefined ? undefined : this.records.get(named.owner)
    const replaced = owner?.phase === "waiting" ? owner : undefined
    const holder = record.unique === undefined ? undefined : this.keys.holder(record.task, record.unique.key)
    if (holder !== undefined && holder !== replaced?.id) return { _tag: "Existing", id: holder }
    if (replaced !== undefined) return this.replace(replaced, record, now)

    const stored = fromNew(record, this.inserted++, now)
    this.records.set(stored.id, stored)
    this.names.own(stored)
    this.keys.take(stored)
    this.refs.add(stored.payloadRef)
    this.wait(stored, now)
    return { _tag: "Inserted", id: stored.id }
  }

  private replace(owner: MemoryRecord, record: NewRecord, now: number): TaskQueue.EnqueueOutcome {
    this.unwait(owner)
    this.keys.moved(owner, undefined)
    this.refs.remove(owner.payloadRef)
    const { id: _, place: __, expiryPlace: ___, seq: ____, token: _____, ...content } = fromNew(record, 0, now)
    Object.assign(owner, content)
    this.keys.take(owner)
    this.refs.add(owner.payloadRef)
    this.wait(owner, now)
    return { _tag: "Replaced", id: owner.id }
  }

  claim(params: TaskQueue.ClaimParams): TaskQueue.ClaimResult {
    this.takeBack(params.now)
    const records: Array<TaskQueue.ClaimedRecord> = []
    let nextAt: number | undefined
    const earliest = (at: number | undefined) => {
      if (at !== undefined) nextAt = Math.min(nextAt ?? Number.POSITIVE_INFINITY, at)
    }
    for (const { limit, name } of params.queues) {
      const queue = this.queues.get(name)
      if (queue === undefined) continue
      queue.claim(params, limit, (record) => {
        if (record.expiryPlace !== nowhere) this.expiries.remove(record)
        this.enter(record, "running")
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
    this.queue(record.queue).leases.update(record)
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
      this.progressed.push(record.id)
    }
    if (settlement._tag !== "Release") this.queue(record.queue).executed.add(now)
    this.letGo(record)
    switch (settlement._tag) {
      case "Succeed":
        record.result = settlement.result
        this.end(record, "succeeded", now)
        break
      case "Cancel":
        this.end(record, "cancelled", now)
        break
      case "Bury":
        record.result = settlement.result
        record.failure = settlement.failure ?? record.failure
        this.bury(record, settlement.reason, now)
        break
      case "Retry":
        record.failure = settlement.failure
        this.waitAgain(record, settlement.eta, now)
        break
      case "Snooze":
        record.attempt--
        this.waitAgain(record, settlement.eta, now)
        break
      case "Release":
        record.attempt--
        this.waitAgain(record, now, now)
    }
    return "Settled"
  }

  progress({ progress, ...lease }: TaskQueue.ProgressUpdate): TaskQueue.ProgressOutcome {
    const record = this.held(lease)
    if (record === undefined) return "LeaseLost"
    record.progress = progress
    this.progressed.push(record.id)
    return "Recorded"
  }

  cancel(id: TaskId, reason: string, now: number): TaskQueue.CancelOutcome {
    const record = this.records.get(id)
    if (record === undefined) return "NotFound"
    if (record.endedAt !== undefined) return "TooLate"
    record.cancelRequested = reason
    if (record.phase === "running") {
      this.cancelling.push(id)
      return "Requested"
    }
    this.unwait(record)
    this.end(record, "cancelled", now)
    return "Cancelled"
  }

  redrive(id: TaskId, now: number): TaskQueue.RedriveOutcome {
    const record = this.records.get(id)
    if (record === undefined) return "NotFound"
    if (record.phase !== "dead") return "NotDead"
    this.dead.remove(record)
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
    this.enter(record, "waiting")
    const owner = record.name === undefined ? undefined : this.names.taken(record.queue, record.name, now)?.owner
    if (owner === undefined || owner === id) this.names.own(record)
    if (!record.holdsKey) this.keys.take(record)
    this.wait(record, now)
    return "Redriven"
  }

  remove(id: TaskId, only: "dead" | undefined): TaskQueue.RemoveOutcome {
    const record = this.records.get(id)
    if (record === undefined) return "NotFound"
    if (only === "dead" && record.phase !== "dead") return "NotDead"
    if (record.phase === "running") return "Running"
    this.forget(record)
    return "Removed"
  }

  purge(queue: string): number {
    const waiting = [...this.records.values()].filter((record) => record.queue === queue && record.phase === "waiting")
    for (const record of waiting) this.forget(record)
    return waiting.length
  }

  get(id: TaskId, now: number): TaskRecord | undefined {
    const record = this.records.get(id)
    return record === undefined ? undefined : view(record, now)
  }

  ledger(id: TaskId): ReadonlyArray<Attempt> {
    const record = this.records.get(id)
    return record === undefined ? [] : ledgerOf(record)
  }

  hasRef(ref: string): boolean {
    return this.refs.has(ref)
  }

  find(params: TaskQueue.FindParams): TaskQueue.Page {
    return look.find(this.records.values(), params)
  }

  counts(filter: TaskQueue.Filter, now: number): ReadonlyArray<TaskQueue.Count> {
    return look.counts(this.records.values(), filter, now)
  }

  configure(queue: string, limits: Partial<QueueLimits>, now: number): void {
    this.queue(queue).configure(limits, now)
    this.waiting.add(queue)
  }

  limits(queue: string): QueueLimits {
    return this.queues.get(queue)?.limits ?? unlimited
  }

  statistics(queue: string, now: number): QueueStatistics {
    return (this.queues.get(queue) ?? new MemoryQueue()).statistics(now)
  }

  prune(now: number, deadBefore: number, limit: number): number {
    const due = (heap: Heap<"place", MemoryRecord>, isDue: (top: MemoryRecord) => boolean): number => {
      let count = 0
      for (let top = heap.peek(); count < limit && top !== undefined && isDue(top); top = heap.peek()) {
        this.forget(top)
        count++
      }
      return count
    }
    const pruned =
      due(this.kept, (top) => top.endedAt! + top.keep <= now) + due(this.dead, (top) => top.endedAt! < deadBefore)
    this.names.prune(now, limit)
    this.workers.prune(now)
    return pruned
  }

  /** Expired leases come back, and what was not started in time is buried. */
  private takeBack(now: number): void {
    for (const { leases } of this.queues.values()) {
      for (let top = leases.peek(); top !== undefined && top.leaseUntil! <= now; top = leases.peek())
        this.crash(top, now)
    }
    for (let top = this.expiries.peek(); top !== undefined && top.expiresAt! <= now; top = this.expiries.peek()) {
      this.unwait(top)
      this.bury(top, "Expired", now)
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
    this.letGo(record)
    record.crashes++
    record.failure = failure
    if (record.cancelRequested === undefined && record.crashes > record.maxCrashes) this.bury(record, "Crashed", now)
    else this.waitAgain(record, now, now)
  }

  private held({ id, token }: TaskQueue.Lease): MemoryRecord | undefined {
    const record = this.records.get(id)
    return record?.phase === "running" && record.token === token ? record : undefined
  }

  private letGo(record: MemoryRecord): void {
    const queue = this.queue(record.queue)
    queue.leases.remove(record)
    if (queue.limits.maxConcurrent !== undefined) this.waiting.add(record.queue)
    record.leaseUntil = undefined
  }

  private waitAgain(record: MemoryRecord, eta: number, now: number): void {
    if (record.cancelRequested !== undefined) this.end(record, "cancelled", now)
    else {
      this.enter(record, "waiting")
      record.eta = Math.max(now, eta)
      this.wait(record, now)
    }
  }

  private wait(record: MemoryRecord, now: number): void {
    this.queue(record.queue).add(record, now)
    if (record.expiresAt !== undefined) {
      // Once started it can no longer expire.
      if (record.firstAttemptAt === undefined) this.expiries.push(record)
    }
    this.waiting.add(record.queue)
  }

  private unwait(record: MemoryRecord): void {
    this.queue(record.queue).remove(record)
    if (record.expiryPlace !== nowhere) this.expiries.remove(record)
  }

  private bury(record: MemoryRecord, reason: DeadReason, now: number): void {
    record.reason = reason
    this.end(record, "dead", now)
  }

  private end(record: MemoryRecord, phase: "succeeded" | "cancelled" | "dead", now: number): void {
    this.enter(record, phase)
    record.endedAt = now
    this.ended.push(record.id)
    this.names.entomb(record, now)
    if (phase === "dead") this.dead.push(record)
    else if (record.keep === 0) this.drop(record)
    else if (Number.isFinite(record.keep)) this.kept.push(record)
  }

  private forget(record: MemoryRecord): void {
    this.drop(record)
    if (record.phase === "waiting") {
      this.unwait(record)
      this.names.release(record)
    } else if (record.phase === "dead") this.dead.remove(record)
    else if (this.kept.has(record)) this.kept.remove(record)
  }

  private drop(record: MemoryRecord): void {
    this.records.delete(record.id)
    this.keys.moved(record, undefined)
    this.refs.remove(record.payloadRef)
  }

  private enter(record: MemoryRecord, phase: MemoryRecord["phase"]): void {
    record.phase = phase
    this.keys.moved(record, phase)
  }

  private queue(name: string): MemoryQueue {
    let queue = this.queues.get(name)
    if (queue === undefined) {
      queue = new MemoryQueue()
      this.queues.set(name, queue)
    }
    return queue
  }
}
