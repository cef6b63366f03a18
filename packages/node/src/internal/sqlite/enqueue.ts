/**
 * defer ──► scheduled | ready, and the names that make records unique.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import type { Steps } from "./groupCommit.ts"
import { newColumns, newValues } from "./row.ts"
import type { Touched } from "./touched.ts"

interface Name {
  readonly id: TaskId
  readonly until: number | null
  /** The state of the record that has the name; `null` when the record is gone. */
  readonly state: number | null
}

export const makeEnqueue = (
  db: DatabaseSync,
  touched: Touched,
): ((records: ReadonlyArray<NewRecord>, now: number) => Steps<ReadonlyArray<EnqueueOutcome>>) => {
  const insert = db.prepare(
    `INSERT INTO records (id, state, token, attempt, crashes, ${newColumns.join(", ")})
     VALUES (?, 0, 0, 0, 0, ${newColumns.map(() => "?").join(", ")}) ON CONFLICT (id) DO NOTHING`,
  )
  // The id stays, and the token, which only ever rises; the place in the order of insertion too.
  const replace = db.prepare(
    `UPDATE records SET ${newColumns.map((column) => `${column} = ?`).join(", ")}, attempt = 0, crashes = 0,
       first_attempt_at = NULL, started_at = NULL, failure = NULL WHERE id = ?`,
  )
  const hasId = db.prepare("SELECT 1 FROM records WHERE id = ?")
  const findName = db.prepare(
    `SELECT names.id, until, state FROM names LEFT JOIN records ON records.id = names.id
     WHERE names.queue = ? AND names.name = ?`,
  )
  const own = db.prepare("INSERT OR REPLACE INTO names (queue, name, id, until) VALUES (?, ?, ?, NULL)")

  const named = (record: NewRecord, name: string, now: number): EnqueueOutcome | undefined => {
    if (hasId.get(record.id) !== undefined) return { _tag: "Existing", id: record.id }
    const taken = findName.get(record.queue, name) as Name | undefined
    if (taken !== undefined && (taken.until === null || taken.until > now)) {
      if (record.onDuplicate === "ignore") return { _tag: "Existing", id: taken.id }
      if (record.onDuplicate === "fail") {
        return taken.until === null ? { _tag: "Duplicate", id: taken.id } : { _tag: "Tombstoned", until: taken.until }
      }
      // A tombstone has no owner, also when a record with its id has come back without the name.
      if (taken.until === null && taken.state === 0) {
        replace.run(...newValues(record, now), taken.id)
        touched.waiting(record.queue)
        return { _tag: "Replaced", id: taken.id }
      }
    }
    own.run(record.queue, name, record.id)
    return undefined
  }

  const enqueue = (record: NewRecord, now: number): EnqueueOutcome => {
    const outcome = record.name === undefined ? undefined : named(record, record.name, now)
    if (outcome !== undefined) return outcome
    if (insert.run(record.id, ...newValues(record, now)).changes === 0) return { _tag: "Existing", id: record.id }
    touched.waiting(record.queue)
    return { _tag: "Inserted", id: record.id }
  }

  return function* (records, now) {
    const outcomes: Array<EnqueueOutcome> = []
    for (const record of records) {
      outcomes.push(enqueue(record, now))
      yield
    }
    return outcomes
  }
}
