/**
 * Looking at records, without the write lock.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Filter, FindParams, Page } from "@outlive/deferred/TaskQueue"
import type { TaskRecord, TaskState } from "@outlive/deferred/TaskRecord"
import { limitTo } from "./limitTo.ts"
import { asRow, asRows, columns, type Tallies, toRecord } from "./row.ts"
import { tagOfFailure } from "./schema.ts"

export const makeGet = (
  db: DatabaseSync,
  tallies: Tallies,
): ((ids: ReadonlyArray<TaskId>, now: number) => ReadonlyArray<TaskRecord | undefined>) => {
  const get = db.prepare(`SELECT ${columns} FROM outlive_records WHERE id = ?`)
  get.setReturnArrays(true)
  return (ids, now) =>
    ids.map((id) => {
      const row = asRow(get.get(id))
      return row === undefined ? undefined : toRecord(row, now, tallies)
    })
}

export const makePayloadRefs = (db: DatabaseSync): ((refs: ReadonlyArray<string>) => ReadonlyArray<boolean>) => {
  const has = db.prepare("SELECT 1 FROM outlive_records WHERE payload_ref = ? LIMIT 1")
  return (refs) => refs.map((ref) => has.get(ref) !== undefined)
}

/** Columns as `conditionsOf` names them: where tables are joined, of which one. */
export interface Named {
  readonly queue: string
  readonly task: string
  readonly state: string
  readonly eta: string
}

const plainly: Named = { queue: "queue", task: "task", state: "state", eta: "eta" }

/** The conditions of a filter; the text depends only on which ones there are, so few texts exist. */
export const conditionsOf = (
  filter: Filter,
  now: number,
  named: Named = plainly,
): { readonly conditions: ReadonlyArray<string>; readonly values: ReadonlyArray<SQLInputValue> } => {
  const conditions: Array<string> = []
  const values: Array<SQLInputValue> = []
  const add = (condition: string, ...given: ReadonlyArray<SQLInputValue>) => {
    conditions.push(condition)
    values.push(...given)
  }
  if (filter.queue !== undefined) add(`${named.queue} = ?`, filter.queue)
  if (filter.task !== undefined) add(`${named.task} = ?`, filter.task)
  if (filter.reason !== undefined) add("reason = ?", filter.reason)
  if (filter.tag !== undefined) add(`${tagOfFailure} = ?`, filter.tag)
  if (filter.endedAfter !== undefined) add("ended_at >= ?", filter.endedAfter)
  if (filter.endedBefore !== undefined) add("ended_at < ?", filter.endedBefore)
  if (filter.memberOf !== undefined) add("member_of = ?", filter.memberOf)
  if (filter.namePrefix !== undefined) add("substr(name, 1, length(?)) = ?", filter.namePrefix, filter.namePrefix)
  if (filter.state !== undefined) {
    const states: Record<TaskState, string> = {
      scheduled: `${named.state} = 0 AND ${named.eta} > ?`,
      ready: `${named.state} = 0 AND ${named.eta} <= ?`,
      running: `${named.state} = 1`,
      succeeded: `${named.state} = 2`,
      cancelled: `${named.state} = 3`,
      dead: `${named.state} = 4`,
    }
    const waiting = filter.state === "scheduled" || filter.state === "ready"
    add(states[filter.state], ...(waiting ? [now] : []))
  }
  return { conditions, values }
}

/** Prepares each text once. Its rows are arrays. */
export const makeCached = (db: DatabaseSync): ((sql: string) => StatementSync) => {
  const statements = new Map<string, StatementSync>()
  return (sql) => {
    let statement = statements.get(sql)
    if (statement === undefined) {
      statement = db.prepare(sql)
      statement.setReturnArrays(true)
      statements.set(sql, statement)
    }
    return statement
  }
}

/** Records that ended, group by group: in each the index has them by time. */
export interface EndedGroup {
  readonly queue: string
  readonly task: string
  readonly state: number
}

export type EndedGroups = (filter: Filter) => ReadonlyArray<EndedGroup>

/** The groups that a filter allows, each found by one seek: there are few, however many records ended. */
export const makeEndedGroups = (db: DatabaseSync): EndedGroups => {
  const next = db.prepare(
    `SELECT queue, task, state FROM outlive_records INDEXED BY outlive_ended
     WHERE state >= 2 AND (queue, task, state) > (?, ?, ?) ORDER BY queue, task, state LIMIT 1`,
  )
  const states: ReadonlyArray<TaskState | undefined> = [undefined, "running", "succeeded", "cancelled", "dead"]
  return ({ queue, state, task }) => {
    const groups: Array<EndedGroup> = []
    let group = next.get(queue ?? "", "", 0) as EndedGroup | undefined
    while (group !== undefined && (queue === undefined || group.queue === queue)) {
      const isAllowed = (task ?? group.task) === group.task && (state ?? states[group.state]) === states[group.state]
      if (isAllowed) groups.push(group)
      group = next.get(group.queue, group.task, group.state) as EndedGroup | undefined
    }
    return groups
  }
}

/** What of a group ended in the time of a filter, with `ended_at` between two values. */
export const inGroup = "INDEXED BY outlive_ended WHERE state >= 2 AND queue = ? AND task = ? AND state = ?"

export const makeFind = (
  db: DatabaseSync,
  endedGroups: EndedGroups,
  tallies: Tallies,
): ((params: FindParams) => Page) => {
  const cached = makeCached(db)
  const read = db.prepare(`SELECT ${columns} FROM outlive_records WHERE seq = ?`)
  read.setReturnArrays(true)

  /** Of the records that match, the first after the cursor. */
  const seqsOf = (params: FindParams, after: number, limit: number): ReadonlyArray<number> => {
    const { conditions, values } = conditionsOf(params, params.now)
    const look = (from: string, ...given: ReadonlyArray<SQLInputValue>) =>
      asRows(
        cached(
          `SELECT seq FROM outlive_records ${from} AND ${[...conditions, "seq > ?"].join(" AND ")} ORDER BY seq ${limitTo()}`,
        ).all(...given, ...values, after, limit),
      ).map(([seq]) => seq as number)
    if (params.memberOf !== undefined) return look("INDEXED BY outlive_members WHERE true")
    // Dead letters and running records are few among many: all of them are looked at, in their index.
    if (params.state === "dead" || params.reason !== undefined)
      return look("INDEXED BY outlive_dead_letters WHERE state = 4")
    if (params.state === "running") return look("INDEXED BY outlive_running WHERE state = 1")
    if (params.endedAfter !== undefined || params.endedBefore !== undefined) {
      return endedGroups(params)
        .flatMap(({ queue, state, task }) => look(inGroup, queue, task, state))
        .sort((left, right) => left - right)
        .slice(0, limit)
    }
    return look("WHERE true")
  }

  return (params) => {
    const after = params.cursor === undefined ? 0 : Number(params.cursor)
    const seqs = seqsOf(params, after, params.limit + 1)
    const page = seqs.slice(0, params.limit)
    return {
      records: page.map((seq) => toRecord(asRow(read.get(seq))!, params.now, tallies)),
      cursor: seqs.length > page.length ? String(page.at(-1) ?? after) : undefined,
    }
  }
}
