/**
 * How records in memory end, and what that means for those that wait for it: what follows them, and what they are members
 * of. One end may bring many others: what they mean is done one by one, however long the chain is.
 */
import type { TaskId } from "../TaskId.ts"
import type { CancelOutcome } from "../TaskQueue.ts"
import type { DeadReason } from "../TaskRecord.ts"
import type { MemoryRecord } from "./memoryParts.ts"
import { isHeldJoin } from "./memoryRecord.ts"
import type { MemoryStore } from "./memoryStore.ts"

type End = "succeeded" | "cancelled" | "dead"

export class MemoryEnds {
  private readonly store: MemoryStore
  /** What is still to be done about ends, the next one last. */
  private readonly agenda: Array<() => void> = []
  /** What came to it last, in order. */
  private readonly added: Array<() => void> = []
  private isBusy = false

  constructor(store: MemoryStore) {
    this.store = store
  }

  end(record: MemoryRecord, phase: End, now: number): void {
    const { follower } = record
    record.wanted = undefined
    unfollow(record)
    this.store.enter(record, phase)
    record.endedAt = now
    this.store.changes.end(record.id)
    this.store.names.entomb(record, now)
    this.store.keep(record)
    if (follower !== undefined) {
      unfollow(follower)
      this.release(follower, now)
      this.store.uniqueKeys.take(follower)
    }
    if (record.memberOf !== undefined) this.report(record.memberOf, phase, now)
  }

  bury(record: MemoryRecord, reason: DeadReason, now: number): void {
    record.reason = reason
    this.end(record, "dead", now)
  }

  /** Back to waiting; or cancelled, when somebody asked for that or what comes after it waits already. */
  waitAgain(record: MemoryRecord, eta: number, now: number): void {
    if (record.follower !== undefined) record.cancelRequested ??= "superseded"
    if (record.cancelRequested !== undefined) this.end(record, "cancelled", now)
    else {
      this.store.enter(record, "waiting")
      record.eta = Math.max(now, eta)
      this.store.wait(record, now)
    }
  }

  cancel(id: TaskId, reason: string, now: number): CancelOutcome {
    const record = this.store.records.get(id)
    if (record === undefined) return "NotFound"
    if (record.endedAt !== undefined) return "TooLate"
    record.cancelRequested = reason
    if (record.phase === "running") {
      this.store.changes.cancel(id)
      return "Requested"
    }
    const isJoin = isHeldJoin(record)
    this.store.unwait(record)
    this.end(record, "cancelled", now)
    if (isJoin) this.next(() => this.cancelMembers(id, reason, now))
    return "Cancelled"
  }

  /** Deletes what does not run. For what waits for it, what had not ended is cancelled. */
  forget(record: MemoryRecord, now: number): void {
    const { endedAt, memberOf } = record
    this.store.delete(record)
    unfollow(record)
    if (memberOf !== undefined && endedAt === undefined) this.report(memberOf, "cancelled", now)
  }

  /** Deletes records, of which none is there any more when what they mean for others is done. */
  forgetAll(records: ReadonlyArray<MemoryRecord>, now: number): void {
    this.isBusy = true
    for (const record of records) this.forget(record, now)
    this.isBusy = false
    this.work()
  }

  /** Tells what waits for a record how that ended. */
  report(join: TaskId, how: End, now: number): void {
    this.next(() => this.count(join, how, now))
  }

  /** What was dead is not: while something still waits for it, it is counted anew when it ends. */
  uncount(id: TaskId): void {
    const join = this.store.records.get(id)
    if (join === undefined || !isHeldJoin(join)) return
    join.join.dead--
    this.store.changes.progress(id)
  }

  /** The payload for what waits for a record. */
  handOver(id: TaskId, payload: string): void {
    const join = this.store.records.get(id)
    if (join === undefined || !isHeldJoin(join)) return
    this.store.refs.remove(join.payloadRef)
    join.payloadRef = undefined
    join.payload = payload
  }

  private count(id: TaskId, how: End, now: number): void {
    const join = this.store.records.get(id)
    if (join === undefined || !isHeldJoin(join)) return
    const tally = join.join
    tally[how]++
    this.store.changes.progress(id)
    if (how !== "succeeded" && tally.onFailure === "cancel") {
      join.cancelRequested = "a task before it did not succeed"
      this.store.unwait(join)
      this.end(join, "cancelled", now)
      return
    }
    const isFirst = how !== "succeeded" && tally.cancelled + tally.dead === 1
    if (isFirst && tally.onFailure === "cancelSiblings") {
      this.cancelMembers(id, "another of the group did not succeed", now)
      // After what these report.
      this.next(() => this.complete(id, now))
    } else this.complete(id, now)
  }

  /** Once all members of a record have ended it is held back no longer. */
  private complete(id: TaskId, now: number): void {
    const join = this.store.records.get(id)
    if (join === undefined || !isHeldJoin(join)) return
    const { afterwards, cancelled, dead, succeeded, total } = join.join
    if (succeeded + cancelled + dead < total) return
    if (afterwards === "run") this.release(join, now)
    else {
      this.store.unwait(join)
      this.end(join, "succeeded", now)
    }
  }

  private cancelMembers(id: TaskId, reason: string, now: number): void {
    for (const member of this.store.membersOf(id)) this.cancel(member.id, reason, now)
  }

  /** It is held back no longer. */
  private release(record: MemoryRecord, now: number): void {
    this.store.unwait(record)
    record.eta = Math.max(now, record.wanted!)
    record.wanted = undefined
    this.store.wait(record, now)
  }

  private next(step: () => void): void {
    this.added.push(step)
    this.work()
  }

  private work(): void {
    if (this.isBusy) return
    this.isBusy = true
    while (this.added.length > 0 || this.agenda.length > 0) {
      // What a step adds is done before what was there.
      for (let step = this.added.pop(); step !== undefined; step = this.added.pop()) this.agenda.push(step)
      this.agenda.pop()?.()
    }
    this.isBusy = false
  }
}

/** It no longer waits for the holder of its unique key. */
const unfollow = (record: MemoryRecord): void => {
  if (record.follows === undefined) return
  record.follows.follower = undefined
  record.follows = undefined
}
