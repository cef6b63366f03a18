/**
 * defer ──► scheduled | ready, and the names and keys that make records unique.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord, Unique } from "@outlive/deferred/TaskRecord"
import { isStep, type Steps } from "./groupCommit.ts"
import type { JoinRows } from "./joinRows.ts"
import type { Joins } from "./joins.ts"
import { expectsPlace, makeLatest } from "./latest.ts"
import { isOfJoin, type Placing } from "./placing.ts"
import type { PlainRows } from "./plainRows.ts"
import { State } from "./schema.ts"
import type { Keys } from "./unique.ts"

interface Name {
  readonly id: TaskId
  readonly until: number | null
  /** Of the record that has the name; `null` when the record is gone. */
  readonly seq: number | null
  readonly state: number
  readonly token: number
  readonly queue: string
  readonly key: string | null
  readonly name: string | null
  readonly is_of_join: number
}

export const makeEnqueue = (
  db: DatabaseSync,
  {
    joinRows,
    joins,
    keys,
    placing,
    plainRows,
  }: {
    readonly joinRows: JoinRows
    readonly joins: Joins
    readonly keys: Keys
    readonly placing: Placing
    readonly plainRows: PlainRows
  },
): ((records: ReadonlyArray<NewRecord>, now: number) => Steps<ReadonlyArray<EnqueueOutcome>>) => {
  const latest = makeLatest(db, placing)
  const hasId = db.prepare("SELECT 1 FROM outlive_records WHERE id = ?")
  const findName = db.prepare(
    `SELECT outlive_names.id, until, seq, state, token, outlive_records.queue, key, outlive_records.name,
       member_of IS NOT NULL OR is_join IS NOT NULL AS is_of_join
     FROM outlive_names LEFT JOIN outlive_records ON outlive_records.id = outlive_names.id
     WHERE outlive_names.queue = ? AND outlive_names.name = ?`,
  )
  const existing = (id: TaskId): EnqueueOutcome => ({ _tag: "Existing", id })

  /** What the name decides; `undefined`: the record may be stored. */
  const named = (record: NewRecord, name: string, now: number): EnqueueOutcome | undefined => {
    if (hasId.get(record.id) !== undefined) return existing(record.id)
    const taken = findName.get(record.queue, name) as Name | undefined
    if (taken === undefined || (taken.until !== null && taken.until <= now)) return undefined
    if (record.onDuplicate === "ignore") return existing(taken.id)
    if (record.onDuplicate === "fail") {
      return taken.until === null ? { _tag: "Duplicate", id: taken.id } : { _tag: "Tombstoned", until: taken.until }
    }
    // A tombstone has no owner, also when a record with its id has come back without the name.
    const { seq } = taken
    if (taken.until !== null || seq === null || taken.state !== State.waiting) return undefined
    const holder = record.unique === undefined ? undefined : keys.holder(record.task, record.unique.key)
    if (holder !== undefined && holder !== taken.id) return existing(holder)
    if (isOfJoin(record) || taken.is_of_join === 1) return existing(taken.id)
    const how = { eta: Math.max(now, record.eta), dueBy: record.unique?.latest?.dueBy }
    placing.replace({ ...taken, seq }, record, how, now)
    return { _tag: "Replaced", id: taken.id }
  }

  /** What becomes of a record whose unique key another one holds. */
  const behind = (record: NewRecord, unique: Unique, now: number): EnqueueOutcome =>
    unique.latest === undefined || isOfJoin(record)
      ? existing(keys.holder(record.task, unique.key)!)
      : latest.behind(record, unique.key, unique.latest, now)

  const enqueue = (record: NewRecord, now: number): EnqueueOutcome => {
    const outcome = record.name === undefined ? undefined : named(record, record.name, now)
    if (outcome !== undefined) return outcome
    const { unique } = record
    if (unique !== undefined && expectsPlace(record)) {
      const isThere = hasId.get(record.id) !== undefined
      return isThere || keys.holder(record.task, unique.key) === undefined
        ? existing(record.id)
        : behind(record, unique, now)
    }
    const eta = unique?.latest === undefined ? Math.max(now, record.eta) : latest.etaOf(record, now)
    if (!placing.insert(record, { eta, dueBy: unique?.latest?.dueBy }, now)) {
      // The id comes first; what else is unique is the key.
      const isThere = unique === undefined || hasId.get(record.id) !== undefined
      return isThere ? existing(record.id) : behind(record, unique, now)
    }
    if (unique?.latest !== undefined) latest.inserted(record, eta)
    return { _tag: "Inserted", id: record.id }
  }

  /** What was not inserted never ends: for the record of this call that would wait for it it counts as cancelled. */
  const reportMissing = (records: ReadonlyArray<NewRecord>, outcomes: ReadonlyArray<EnqueueOutcome>) => {
    const isInserted = (index: number) => outcomes[index]!._tag === "Inserted"
    const joins = new Set(
      records.filter(({ join }, index) => join !== undefined && isInserted(index)).map(({ id }) => id),
    )
    for (const [index, { memberOf }] of records.entries()) {
      if (memberOf === undefined || isInserted(index) || !joins.has(memberOf)) continue
      joinRows.report({ id: memberOf, how: "cancelled" })
    }
  }

  return function* (records, now) {
    const outcomes: Array<EnqueueOutcome> = []
    let hasJoins = false
    for (const record of records) {
      if (plainRows.takes(record)) plainRows.add(record, outcomes, now)
      else {
        plainRows.flush()
        outcomes.push(enqueue(record, now))
      }
      hasJoins ||= record.join !== undefined
      if (isStep(outcomes.length)) yield
    }
    if (hasJoins) reportMissing(records, outcomes)
    if (joins.hasNews()) yield* joins.hear(now)
    return outcomes
  }
}
