/**
 * The transitions of all records in memory, synchronous and without Effect: `TaskQueueMemory` puts them behind the
 * contract.
 */
import * as Effect from "effect/Effect"
import type { TaskId } from "../TaskId.ts"
import * as TaskQueue from "../TaskQueue.ts"
import type { AttemptFailure, DeadReason, NewRecord, TaskRecord } from "../TaskRecord.ts"
import { Heap } from "./heap.ts"
import { MemoryQueue } from "./memoryQueue.ts"
import { claimed, fromNew, type MemoryRecord, matches, stateOf, view } from "./memoryRecord.ts"

/** Who has a name, and until when it stays taken once its record has ended. */
interface Name {
  readonly key: string
  readonly owner: TaskId
  until: number | undefined
  place: number
}

/** Whatever they hold, no two have the same. */
const nameKey = (queue: string, name: string): string => `${queue.length}:${queue}${name}`

export class Memory {
  private readonly records = new Map<TaskId, MemoryRecord>()
  private readonly queues = new Map<string, MemoryQueue>()
  private readonly names = new Map<string, Name>()
  private readonly expiries = new Heap<"expiryPlace", MemoryRecord>(
    "expiryPlace",
    (l, r) => l.expiresAt! < r.expiresAt!,
  )
  private readonly kept = new Heap<"place", MemoryRecord>("place", (l, r) => l.endedAt! + l.keep < r.endedAt! + r.keep)
  private readonly dead = new Heap<"place", MemoryRecord>("place", (l, r) => l.endedAt! < r.endedAt!)
  private readonly tombstones = new Heap<"place", Name>("place", (l, r) => l.until! < r.until!)
  private inserted = 0

  // What one call changed, told once when it is done.
  private waiting = new Set<string>()
  private ended: Array<TaskId> = []
  private cancelling: Array<TaskId> = []
  private readonly tell: (make: () => TaskQueue.Change) => void

  constructor(tell: (make: () => TaskQueue.Change) => void) {
    this.tell = tell
  }

  /** Runs one call of the contract and then tells what it changed. */
  call<A>(body: () => A): Effect.Effect<A> {
    return Effect.sync(() => {
      const result = body()
      const { cancelling, ended, waiting } = this
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
      return result
    })
  }

  enqueue(record: NewRecord, now: number): TaskQueue.EnqueueOutcome {
    if (this.records.has(record.id)) return { _tag: "Existing", id: record.id }
    if (record.name !== undefined) {
      const taken = this.nameTaken(record, record.name, now)
      if (taken !== undefined) return taken
    }
    const stored = fromNew(record, this.inserted++, now)
    this.records.set(stored.id, stored)
    if (stored.name !== undefined) this.own(stored.queue, stored.name, stored.id)
    this.wait(stored, now)
    return { _tag: "Inserted", id: stored.id }
  }

  private nameTaken(record: NewRecord, name: string, now: number): TaskQueue.EnqueueOutcome | undefined {
    const taken = this.names.get(nameKey(record.queue, name))
    if (taken === undefined || (taken.until !== undefined && taken.until <= now)) return undefined
    if (record.onDuplicate === "ignore") return { _tag: "Existing", id: taken.owner }
    if (record.onDuplicate === "fail") {
      if (taken.until === undefined) return { _tag: "Duplicate", id: taken.owner }
      return { _tag: "Tombstoned", until: taken.until }
    }
    // Once it has ended another record may have its id.
    const owner = taken.until === undefined ? this.records.get(taken.owner) : undefined
    if (owner?.phase !== "waiting") return undefined
    this.unwait(owner)
    const { id: _, place: __, expiryPlace: ___, seq: ____, token: _____, ...content } = fromNew(record, 0, now)
    Object.assign(owner, content)
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
        if (record.expiryPlace >= 0) this.expiries.remove(record)
        record.phase = "running"
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
      phase: "waiting",
      eta: now,
      attempt: 0,
      crashes: 0,
      firstAttemptAt: undefined,
      startedAt: undefined,
      expiresAt: undefined,
      cancelRequested: undefined,
      endedAt: undefined,
      reason: undefined,
      result: undefined,
    })
    if (record.name !== undefined) {
      const name = this.names.get(nameKey(record.queue, record.name))
      const free = name === undefined || name.owner === id || (name.until !== undefined && name.until <= now)
      if (free) this.own(record.queue, record.name, id)
    }
    this.wait(record, now)
    return "Redriven"
  }

  remove(id: TaskId): TaskQueue.RemoveOutcome {
    const record = this.records.get(id)
    if (record === undefined) return "NotFound"
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

  find(params: TaskQueue.FindParams): TaskQueue.Page {
    const after = params.cursor === undefined ? -1 : Number(params.cursor)
    const found: Array<MemoryRecord> = []
    for (const record of this.records.values()) {
      if (record.seq <= after || !matches(record, params, params.now)) continue
      if (found.length === params.limit) {
        return { records: found.map((each) => view(each, params.now)), cursor: String(found.at(-1)?.seq ?? after) }
      }
      found.push(record)
    }
    return { records: found.map((each) => view(each, params.now)), cursor: undefined }
  }

  counts(filter: TaskQueue.Filter, now: number): ReadonlyArray<TaskQueue.Count> {
    const counts = new Map<string, { -readonly [K in keyof TaskQueue.Count]: TaskQueue.Count[K] }>()
    for (const record of this.records.values()) {
      if (!matches(record, filter, now)) continue
      const state = stateOf(record, now)
      const key = JSON.stringify([record.queue, record.task, state, record.reason])
      const same = counts.get(key)
      if (same === undefined) {
        counts.set(key, { queue: record.queue, task: record.task, state, reason: record.reason, count: 1 })
      } else same.count++
    }
    return [...counts.values()]
  }

  configure(queue: string, limits: Partial<TaskQueue.QueueLimits>, now: number): void {
    this.queue(queue).configure(limits, now)
    this.waiting.add(queue)
  }

  limits(queue: string): TaskQueue.QueueLimits {
    return this.queues.get(queue)?.limits ?? TaskQueue.unlimited
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
    for (let count = 0; count < limit; count++) {
      const name = this.tombstones.peek()
      if (name === undefined || name.until! > now) break
      this.free(name)
    }
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
    this.letGo(record)
    record.crashes++
    record.failure = JSON.stringify(crash)
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
    record.worker = undefined
    record.leaseUntil = undefined
  }

  private waitAgain(record: MemoryRecord, eta: number, now: number): void {
    if (record.cancelRequested !== undefined) this.end(record, "cancelled", now)
    else {
      record.phase = "waiting"
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
    if (record.expiryPlace >= 0) this.expiries.remove(record)
  }

  private bury(record: MemoryRecord, reason: DeadReason, now: number): void {
    record.reason = reason
    this.end(record, "dead", now)
  }

  private end(record: MemoryRecord, phase: "succeeded" | "cancelled" | "dead", now: number): void {
    record.phase = phase
    record.endedAt = now
    this.ended.push(record.id)
    if (record.name !== undefined) {
      const name = this.names.get(nameKey(record.queue, record.name))
      if (name?.owner === record.id) {
        name.until = now + record.tombstone
        this.tombstones.push(name)
      }
    }
    if (phase === "dead") this.dead.push(record)
    else if (record.keep === 0) this.records.delete(record.id)
    else if (Number.isFinite(record.keep)) this.kept.push(record)
  }

  private forget(record: MemoryRecord): void {
    this.records.delete(record.id)
    if (record.phase === "waiting") {
      this.unwait(record)
      const name = record.name === undefined ? undefined : this.names.get(nameKey(record.queue, record.name))
      if (name?.owner === record.id) this.free(name)
    } else if (record.phase === "dead") this.dead.remove(record)
    else if (this.kept.has(record)) this.kept.remove(record)
  }

  private own(queue: string, name: string, owner: TaskId): void {
    const key = nameKey(queue, name)
    const before = this.names.get(key)
    if (before !== undefined) this.free(before)
    this.names.set(key, { key, owner, until: undefined, place: -1 })
  }

  private free(name: Name): void {
    if (name.place >= 0) this.tombstones.remove(name)
    this.names.delete(name.key)
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
