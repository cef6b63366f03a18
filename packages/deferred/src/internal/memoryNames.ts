/**
 * What records in memory are known by besides their ids: names, with their tombstones, unique keys, with the times that space
 * them, references.
 */
import type { TaskId } from "../TaskId.ts"
import { Heap, nowhere } from "./heap.ts"
import type { MemoryRecord } from "./memoryParts.ts"

/** Who has a name, and until when it stays taken once its record has ended. */
export interface Name {
  readonly key: string
  readonly owner: TaskId
  until: number | undefined
  place: number
}

/** Whatever they hold, no two pairs have the same. */
const pairKey = (first: string, second: string): string => `${first.length}:${first}${second}`

export class Names {
  private readonly names = new Map<string, Name>()
  private readonly tombstones = new Heap<"place", Name>("place", (l, r) => l.until! < r.until!)

  /** Who has it at a time; one whose tombstone is over has it no more. */
  taken(queue: string, name: string, now: number): Name | undefined {
    const taken = this.names.get(pairKey(queue, name))
    return taken === undefined || (taken.until !== undefined && taken.until <= now) ? undefined : taken
  }

  own(record: MemoryRecord): void {
    if (record.name === undefined) return
    const key = pairKey(record.queue, record.name)
    const before = this.names.get(key)
    if (before !== undefined) this.free(before)
    this.names.set(key, { key, owner: record.id, until: undefined, place: nowhere })
  }

  /** The record has ended: its tombstone begins. */
  entomb(record: MemoryRecord, now: number): void {
    const name = this.ownedBy(record)
    if (name === undefined) return
    name.until = now + record.tombstone
    this.tombstones.push(name)
  }

  /** The record goes before its end: its name is free at once. */
  release(record: MemoryRecord): void {
    const name = this.ownedBy(record)
    if (name !== undefined) this.free(name)
  }

  /** Forgets at most `limit` names whose tombstone is over. */
  prune(now: number, limit: number): void {
    for (let count = 0; count < limit; count++) {
      const name = this.tombstones.peek()
      if (name === undefined || name.until! > now) break
      this.free(name)
    }
  }

  private ownedBy(record: MemoryRecord): Name | undefined {
    const name = record.name === undefined ? undefined : this.names.get(pairKey(record.queue, record.name))
    return name?.owner === record.id ? name : undefined
  }

  private free(name: Name): void {
    if (name.place !== nowhere) this.tombstones.remove(name)
    this.names.delete(name.key)
  }
}

export class UniqueKeys {
  private readonly holders = new Map<string, TaskId>()

  holder(task: string, key: string): TaskId | undefined {
    return this.holders.get(pairKey(task, key))
  }

  /** Takes the record's key, if it has one that nobody holds. */
  take(record: MemoryRecord): void {
    if (record.unique === undefined || this.holder(record.task, record.unique.key) !== undefined) return
    this.holders.set(pairKey(record.task, record.unique.key), record.id)
    record.holdsKey = true
  }

  /** The record is in another phase now, or is about to go (`undefined`). */
  moved(record: MemoryRecord, phase: MemoryRecord["phase"] | undefined): void {
    if (!record.holdsKey || record.unique === undefined) return
    if (phase !== undefined && record.unique.while.includes(phase)) return
    record.holdsKey = false
    this.holders.delete(pairKey(record.task, record.unique.key))
  }
}

/** When the next record of a task and unique key may come. */
interface Spacing {
  readonly key: string
  until: number
  place: number
}

export class Spacings {
  private readonly rows = new Map<string, Spacing>()
  private readonly times = new Heap<"place", Spacing>("place", (l, r) => l.until < r.until)

  /** When a record that is to come at `eta` comes; the one after it comes so many milliseconds later at the earliest. */
  next(task: string, unique: string, eta: number, spacing: number): number {
    const key = pairKey(task, unique)
    const before = this.rows.get(key)
    if (before === undefined) {
      const row = { key, until: eta + spacing, place: nowhere }
      this.rows.set(key, row)
      this.times.push(row)
      return eta
    }
    const at = Math.max(eta, before.until)
    before.until = at + spacing
    this.times.update(before)
    return at
  }

  /** Forgets at most so many times that are over. */
  prune(now: number, limit: number): void {
    for (let count = 0; count < limit; count++) {
      const row = this.times.peek()
      if (row === undefined || row.until > now) break
      this.times.remove(row)
      this.rows.delete(row.key)
    }
  }
}

/** References into the `PayloadStore`, and how many records have each. */
export class Refs {
  private readonly counts = new Map<string, number>()

  has(ref: string): boolean {
    return this.counts.has(ref)
  }

  add(ref: string | undefined): void {
    if (ref !== undefined) this.counts.set(ref, (this.counts.get(ref) ?? 0) + 1)
  }

  remove(ref: string | undefined): void {
    if (ref === undefined) return
    const left = (this.counts.get(ref) ?? 0) - 1
    if (left > 0) this.counts.set(ref, left)
    else this.counts.delete(ref)
  }
}
