/**
 * New records that have nothing rare about them, which is most: they are written many at a time, of whichever calls they
 * are, the last of them before the transaction does anything else.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import type { EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Code, codeOf } from "./failure.ts"
import { addNewValues, insertion, isPlain, newColumns } from "./row.ts"
import { stride, ten } from "./tens.ts"
import type { Touched } from "./touched.ts"

export interface PlainRows {
  /** Whether the record is one of those. */
  readonly takes: (record: NewRecord) => boolean
  /** Adds the record's outcome to the others, where it is right once the record is written. */
  readonly add: (record: NewRecord, outcomes: Array<EnqueueOutcome>, now: number) => void
  /** Writes what was added. */
  readonly flush: () => void
  /** The transaction is over. */
  readonly forget: () => void
}

interface Added {
  readonly record: NewRecord
  readonly now: number
  readonly outcomes: Array<EnqueueOutcome>
  readonly index: number
}

export const makePlainRows = (db: DatabaseSync, touched: Touched): PlainRows => {
  const insertOne = db.prepare(`${insertion(newColumns)} ON CONFLICT DO NOTHING`)
  const atOnce = [stride, ten].map((count) => ({ count, insert: db.prepare(insertion(newColumns, count)) }))
  let added: Array<Added> = []

  const addValues = (values: Array<SQLInputValue>, { now, record }: Added) => {
    values.push(record.id)
    return addNewValues(values, record, Math.max(now, record.eta), now)
  }

  /** All of them or none; `false`: some id is there already. */
  const tryAll = (insert: StatementSync, some: ReadonlyArray<Added>): boolean => {
    try {
      const values: Array<SQLInputValue> = []
      for (const each of some) addValues(values, each)
      insert.run(...values)
      return true
    } catch (cause) {
      if (codeOf(cause) === Code.constraint) return false
      throw cause
    }
  }
  /** As many at once as can be, by the ways from one on. */
  const write = (all: ReadonlyArray<Added>, way: number) => {
    const { count, insert } = atOnce[way] ?? { count: 1 }
    for (let from = 0; from < all.length; from += count) {
      const some = all.slice(from, from + count)
      if (insert === undefined) writeOne(some[0]!)
      else if (some.length < count || !tryAll(insert, some)) write(some, way + 1)
      else for (const { record } of some) touched.waiting(record.queue)
    }
  }
  const writeOne = (each: Added) => {
    const { index, outcomes, record } = each
    if (insertOne.run(...addValues([], each)).changes === 1) touched.waiting(record.queue)
    else outcomes[index] = { _tag: "Existing", id: record.id }
  }
  const flush = () => {
    if (added.length === 0) return
    const all = added
    added = []
    write(all, 0)
  }

  return {
    takes: (record) => record.key === undefined && isPlain(record),
    add: (record, outcomes, now) => {
      added.push({ record, now, outcomes, index: outcomes.length })
      outcomes.push({ _tag: "Inserted", id: record.id })
      if (added.length === stride) flush()
    },
    flush,
    forget: () => {
      added = []
    },
  }
}
