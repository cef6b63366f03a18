/**
 * Where the records in memory are: by id, in their queues, by expiry, by end; and what they are known by.
 */
import type { TaskId } from "../TaskId.ts"
import type { Change } from "../TaskQueue.ts"
import { Heap, nowhere } from "./heap.ts"
import { MemoryChanges } from "./memoryChanges.ts"
import { Names, Refs, UniqueKeys } from "./memoryNames.ts"
import type { MemoryRecord } from "./memoryParts.ts"
import { MemoryQueue } from "./memoryQueue.ts"

export class MemoryStore {
  readonly records = new Map<TaskId, MemoryRecord>()
  readonly queues = new Map<string, MemoryQueue>()
  readonly names = new Names()
  readonly uniqueKeys = new UniqueKeys()
  readonly refs = new Refs()
  readonly changes: MemoryChanges
  /** Of the waiting ones that were never started. */
  readonly expiries = new Heap<"expiryPlace", MemoryRecord>(
    "expiryPlace",
    (left, right) => left.expiresAt! < right.expiresAt!,
  )
  private readonly kept = new Heap<"place", MemoryRecord>(
    "place",
    (left, right) => left.endedAt! + left.keep < right.endedAt! + right.keep,
  )
  private readonly dead = new Heap<"place", MemoryRecord>("place", (left, right) => left.endedAt! < right.endedAt!)
  /** By what waits for them, those that have not ended. */
  private readonly members = new Map<TaskId, Set<MemoryRecord>>()
  private inserted = 0

  constructor(tell: (make: () => Change) => void) {
    this.changes = new MemoryChanges(tell)
  }

  queue(name: string): MemoryQueue {
    let queue = this.queues.get(name)
    if (queue === undefined) {
      queue = new MemoryQueue()
      this.queues.set(name, queue)
    }
    return queue
  }

  nextSeq(): number {
    return this.inserted++
  }

  insert(record: MemoryRecord, now: number): void {
    this.records.set(record.id, record)
    this.names.own(record)
    this.uniqueKeys.take(record)
    this.refs.add(record.payloadRef)
    this.join(record)
    this.wait(record, now)
  }

  /** A waiting record gets the content of another one and keeps its id and its place in the order of insertion. */
  replace(record: MemoryRecord, by: MemoryRecord, now: number): void {
    this.unwait(record)
    this.names.release(record)
    this.uniqueKeys.moved(record, undefined)
    this.refs.remove(record.payloadRef)
    const { id: _, seq: __, token: ___, place: ____, expiryPlace: _____, orderPlace: ______, ...content } = by
    Object.assign(record, content)
    this.names.own(record)
    this.uniqueKeys.take(record)
    this.refs.add(record.payloadRef)
    this.wait(record, now)
  }

  wait(record: MemoryRecord, now: number): void {
    this.queue(record.queue).add(record, now)
    // Once started it can no longer expire.
    if (record.expiresAt !== undefined && record.firstAttemptAt === undefined) this.expiries.push(record)
    this.changes.waiting(record.queue)
  }

  unwait(record: MemoryRecord): void {
    this.queue(record.queue).remove(record)
    if (record.expiryPlace !== nowhere) this.expiries.remove(record)
  }

  enter(record: MemoryRecord, phase: MemoryRecord["phase"]): void {
    record.phase = phase
    this.uniqueKeys.moved(record, phase)
  }

  /** A lease ends. */
  letGo(record: MemoryRecord): void {
    if (this.queue(record.queue).release(record)) this.changes.waiting(record.queue)
    record.leaseUntil = undefined
  }

  /** A record that has ended stays for as long as it is to be kept. */
  keep(record: MemoryRecord): void {
    this.part(record)
    if (record.phase === "dead") this.dead.push(record)
    else if (record.keep === 0) this.drop(record)
    else if (Number.isFinite(record.keep)) this.kept.push(record)
  }

  /** A dead letter is one no longer. */
  exhume(record: MemoryRecord): void {
    this.dead.remove(record)
    this.join(record)
  }

  /** Deletes a record that does not run. */
  delete(record: MemoryRecord): void {
    this.drop(record)
    if (record.phase === "waiting") {
      this.unwait(record)
      this.names.release(record)
      this.part(record)
    } else if (record.phase === "dead") this.dead.remove(record)
    else if (this.kept.has(record)) this.kept.remove(record)
  }

  /** Deletes at most so many of each whose time is over, and gives how many. */
  prune(now: number, deadBefore: number, limit: number): number {
    const due = (heap: Heap<"place", MemoryRecord>, isDue: (top: MemoryRecord) => boolean): number => {
      let count = 0
      for (let top = heap.peek(); count < limit && top !== undefined && isDue(top); top = heap.peek()) {
        this.delete(top)
        count++
      }
      return count
    }
    const pruned =
      due(this.kept, (top) => top.endedAt! + top.keep <= now) + due(this.dead, (top) => top.endedAt! < deadBefore)
    this.names.prune(now, limit)
    for (const queue of this.queues.values()) queue.prune(now, limit)
    return pruned
  }

  /** What a record waits for and has not ended. */
  membersOf(id: TaskId): ReadonlyArray<MemoryRecord> {
    return [...(this.members.get(id) ?? [])]
  }

  private join(record: MemoryRecord): void {
    if (record.memberOf === undefined) return
    const others = this.members.get(record.memberOf)
    if (others === undefined) this.members.set(record.memberOf, new Set([record]))
    else others.add(record)
  }

  private part(record: MemoryRecord): void {
    const others = record.memberOf === undefined ? undefined : this.members.get(record.memberOf)
    if (others?.delete(record) && others.size === 0) this.members.delete(record.memberOf!)
  }

  private drop(record: MemoryRecord): void {
    this.records.delete(record.id)
    this.uniqueKeys.moved(record, undefined)
    this.refs.remove(record.payloadRef)
  }
}
