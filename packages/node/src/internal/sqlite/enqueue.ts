/**
 * defer ──► scheduled | ready, and the names and keys that make records unique.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { isStep, type Steps } from "./groupCommit.ts"
import type { Ledger } from "./ledger.ts"
import { isPlain, newColumns, newValues, rareColumns, rareValues } from "./row.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Keys } from "./unique.ts"

interface Name {
  readonly id: TaskId
  readonly until: number | null
  /** Of the record that has the name; `null` when the record is gone. */
  readonly seq: number | null
  readonly state: number | null
  readonly token: number | null
}

export const makeEnqueue = (
  db: DatabaseSync,
  { keys, ledger, touched }: { readonly keys: Keys; readonly ledger: Ledger; readonly touched: Touched },
): ((records: ReadonlyArray<NewRecord>, now: number) => Steps<ReadonlyArray<EnqueueOutcome>>) => {
  const inserting = (columns: ReadonlyArray<string>) =>
    db.prepare(
      `INSERT INTO outlive_records (id, state, token, attempt, crashes, ${columns.join(", ")})
       VALUES (?, 0, 0, 0, 0, ${columns.map(() => "?").join(", ")}) ON CONFLICT DO NOTHING`,
    )
  const insertPlain = inserting(newColumns)
  const insertWhole = inserting([...newColumns, ...rareColumns])
  // The id stays, and the token, which only ever rises; the place in the order of insertion too.
  const replace = db.prepare(
    `UPDATE outlive_records SET ${[...newColumns, ...rareColumns].map((column) => `${column} = ?`).join(", ")}, attempt = 0,
       crashes = 0, first_attempt_at = NULL, started_at = NULL, worker = NULL, failure = NULL, progress = NULL
     WHERE seq = ?`,
  )
  const hasId = db.prepare("SELECT 1 FROM outlive_records WHERE id = ?")
  const findName = db.prepare(
    `SELECT outlive_names.id, until, seq, state, token FROM outlive_names LEFT JOIN outlive_records ON outlive_records.id = outlive_names.id
     WHERE outlive_names.queue = ? AND outlive_names.name = ?`,
  )
  const own = db.prepare("INSERT OR REPLACE INTO outlive_names (queue, name, id, until) VALUES (?, ?, ?, NULL)")

  const insert = (record: NewRecord, now: number): boolean => {
    const result = isPlain(record)
      ? insertPlain.run(record.id, ...newValues(record, now))
      : insertWhole.run(record.id, ...newValues(record, now), ...rareValues(record))
    return result.changes !== 0
  }
  const holderOf = ({ task, unique }: NewRecord): TaskId | undefined =>
    unique === undefined ? undefined : keys.holder(task, unique.key)

  /** What the name decides; `undefined`: the record may be stored. */
  const named = (record: NewRecord, name: string, now: number): EnqueueOutcome | undefined => {
    if (hasId.get(record.id) !== undefined) return { _tag: "Existing", id: record.id }
    const taken = findName.get(record.queue, name) as Name | undefined
    if (taken === undefined || (taken.until !== null && taken.until <= now)) return undefined
    if (record.onDuplicate === "ignore") return { _tag: "Existing", id: taken.id }
    if (record.onDuplicate === "fail") {
      return taken.until === null ? { _tag: "Duplicate", id: taken.id } : { _tag: "Tombstoned", until: taken.until }
    }
    // A tombstone has no owner, also when a record with its id has come back without the name.
    const { seq, state, token } = taken
    if (taken.until !== null || seq === null || token === null || state !== State.waiting) return undefined
    const holder = holderOf(record)
    if (holder !== undefined && holder !== taken.id) return { _tag: "Existing", id: holder }
    replace.run(...newValues(record, now), ...rareValues(record), seq)
    ledger.forget({ seq, state, token })
    touched.waiting(record.queue)
    return { _tag: "Replaced", id: taken.id }
  }

  const enqueue = (record: NewRecord, now: number): EnqueueOutcome => {
    const outcome = record.name === undefined ? undefined : named(record, record.name, now)
    if (outcome !== undefined) return outcome
    if (!insert(record, now)) {
      // The id comes first; what else is unique is the key.
      const isThere = hasId.get(record.id) !== undefined
      return { _tag: "Existing", id: isThere ? record.id : holderOf(record)! }
    }
    if (record.name !== undefined) own.run(record.queue, record.name, record.id)
    touched.waiting(record.queue)
    return { _tag: "Inserted", id: record.id }
  }

  return function* (records, now) {
    const outcomes: Array<EnqueueOutcome> = []
    for (const record of records) {
      outcomes.push(enqueue(record, now))
      if (isStep(outcomes.length)) yield
    }
    return outcomes
  }
}
