/**
 * Enqueueing in memory: by name, then by unique key, where the latest may take the place of another.
 */
import type { TaskId } from "../TaskId.ts"
import type { EnqueueOutcome } from "../TaskQueue.ts"
import type { Latest, NewRecord, TaskRecord } from "../TaskRecord.ts"
import type { MemoryEnds } from "./memoryEnds.ts"
import { Spacings } from "./memoryNames.ts"
import type { MemoryRecord } from "./memoryParts.ts"
import { fromNew } from "./memoryRecord.ts"
import type { MemoryStore } from "./memoryStore.ts"

export class MemoryPlaces {
  private readonly store: MemoryStore
  private readonly ends: MemoryEnds
  private readonly spacings = new Spacings()

  constructor(store: MemoryStore, ends: MemoryEnds) {
    this.store = store
    this.ends = ends
  }

  enqueue(records: ReadonlyArray<NewRecord>, now: number): ReadonlyArray<EnqueueOutcome> {
    let joins: Set<TaskId> | undefined
    const outcomes = records.map((record) => {
      const outcome = this.one(record, now)
      if (record.join !== undefined && outcome._tag === "Inserted") {
        joins ??= new Set()
        joins.add(record.id)
      }
      return outcome
    })
    if (joins !== undefined) this.miss(joins, records, outcomes, now)
    return outcomes
  }

  /** Forgets at most so many times that are over. */
  prune(now: number, limit: number): void {
    this.spacings.prune(now, limit)
  }

  /** What was not inserted never ends: for what would wait for it, it is cancelled. */
  private miss(
    joins: ReadonlySet<TaskId>,
    records: ReadonlyArray<NewRecord>,
    outcomes: ReadonlyArray<EnqueueOutcome>,
    now: number,
  ): void {
    records.forEach(({ memberOf }, index) => {
      const isMissing = memberOf !== undefined && outcomes[index]?._tag !== "Inserted" && joins.has(memberOf)
      if (isMissing) this.ends.report(memberOf, "cancelled", now)
    })
  }

  private one(record: NewRecord, now: number): EnqueueOutcome {
    const { names, records, uniqueKeys } = this.store
    if (records.has(record.id)) return existing(record.id)
    const named = record.name === undefined ? undefined : names.taken(record.queue, record.name, now)
    if (named !== undefined && record.onDuplicate !== "replace") {
      if (record.onDuplicate === "ignore") return existing(named.owner)
      if (named.until === undefined) return { _tag: "Duplicate", id: named.owner }
      return { _tag: "Tombstoned", until: named.until }
    }
    // Once it has ended another record may have its id.
    const owner = named === undefined || named.until !== undefined ? undefined : records.get(named.owner)
    const holding = record.unique === undefined ? undefined : uniqueKeys.holder(record.task, record.unique.key)
    if (owner?.phase === "waiting") {
      if (holding !== undefined && holding !== owner.id) return existing(holding)
      if (isOfJoin(record) || isOfJoin(owner)) return existing(owner.id)
      if (owner.follows !== undefined) owner.follows.follower = undefined
      this.store.replace(owner, fromNew(record, owner.seq, now), now)
      return { _tag: "Replaced", id: owner.id }
    }
    const holder = holding === undefined ? undefined : records.get(holding)
    if (holder !== undefined) return this.behind(holder, record, now)
    if (expectsPlace(record)) return existing(record.id)
    this.insert(this.spaced(record, now), now)
    return { _tag: "Inserted", id: record.id }
  }

  /** What a record does where another one holds its key. */
  private behind(holder: MemoryRecord, record: NewRecord, now: number): EnqueueOutcome {
    const latest = record.unique?.latest
    const isFixed = holder.endedAt !== undefined || isOfJoin(holder)
    if (latest === undefined || isOfJoin(record) || isFixed) return existing(holder.id)
    if (holder.phase === "running" && holder.follower === undefined) {
      if (expectsPlace(record)) return existing(holder.id)
      const following = this.spaced(record, now)
      holdBack(following)
      follow(following, holder)
      this.insert(following, now)
      return { _tag: "Inserted", id: record.id }
    }
    const place = holder.follower ?? holder
    if (latest.expects !== undefined && latest.expects !== (place.payloadRef ?? place.payload)) {
      return existing(place.id)
    }
    const by = taking(place, record, latest, now)
    if (place.follows !== undefined) {
      holdBack(by)
      by.follows = place.follows
    }
    this.store.replace(place, by, now)
    return { _tag: "Replaced", id: place.id }
  }

  private insert(record: MemoryRecord, now: number): void {
    if (record.join !== undefined) holdBack(record)
    this.store.insert(record, now)
  }

  /** A new record, not before the one before it of its key leaves room for it. */
  private spaced(record: NewRecord, now: number): MemoryRecord {
    const stored = fromNew(record, this.store.nextSeq(), now)
    const spacing = record.unique?.latest?.spacing
    if (spacing !== undefined && !isOfJoin(record)) {
      stored.eta = this.spacings.next(record.task, record.unique!.key, stored.eta, spacing)
    }
    return stored
  }
}

const existing = (id: TaskId): EnqueueOutcome => ({ _tag: "Existing", id })

const isOfJoin = ({ join, memberOf }: Pick<NewRecord | TaskRecord, "join" | "memberOf">): boolean =>
  join !== undefined || memberOf !== undefined

const follow = (record: MemoryRecord, holder: MemoryRecord): void => {
  record.follows = holder
  holder.follower = record
}

const holdBack = (record: MemoryRecord): void => {
  record.wanted = record.eta
  record.eta = Number.POSITIVE_INFINITY
}

/** What a place has when a record took it: its limit goes with it, and with a spacing its eta too. */
const taking = (place: MemoryRecord, record: NewRecord, latest: Latest, now: number): MemoryRecord => {
  const by = fromNew(record, place.seq, now)
  const { dueBy } = place.unique?.latest ?? {}
  const limit = dueBy ?? Number.POSITIVE_INFINITY
  by.eta =
    latest.spacing === undefined ? Math.max(now, Math.min(by.eta, limit)) : Math.min(place.wanted ?? place.eta, limit)
  if (dueBy !== undefined) by.unique = { ...record.unique!, latest: { ...latest, dueBy } }
  return by
}

/** It is stored only where it takes the place of what it expects. */
const expectsPlace = (record: NewRecord): boolean => !isOfJoin(record) && (record.unique?.latest?.expects ?? "") !== ""
