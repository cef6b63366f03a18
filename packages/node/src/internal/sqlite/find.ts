/**
 * Looking at records, without the write lock.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Count, Filter, FindParams, Page } from "@outlive/deferred/TaskQueue"
import type { DeadReason, TaskRecord, TaskState } from "@outlive/deferred/TaskRecord"
import { asRow, asRows, columns, toRecord } from "./row.ts"

export const makeGet = (
  db: DatabaseSync,
): ((ids: ReadonlyArray<TaskId>, now: number) => ReadonlyArray<TaskRecord | undefined>) => {
  const get = db.prepare(`SELECT ${columns} FROM records WHERE id = ?`)
  get.setReturnArrays(true)
  return (ids, now) =>
    ids.map((id) => {
      const row = asRow(get.get(id))
      return row === undefined ? undefined : toRecord(row, now)
    })
}

/** The conditions of a filter; the text depends only on which ones there are, so few texts exist. */
const conditionsOf = (filter: Filter, now: number) => {
  const conditions: Array<string> = []
  const values: Array<SQLInputValue> = []
  const add = (condition: string, ...given: ReadonlyArray<SQLInputValue>) => {
    conditions.push(condition)
    values.push(...given)
  }
  if (filter.queue !== undefined) add("queue = ?", filter.queue)
  if (filter.task !== undefined) add("task = ?", filter.task)
  if (filter.reason !== undefined) add("reason = ?", filter.reason)
  if (filter.namePrefix !== undefined) add("substr(name, 1, length(?)) = ?", filter.namePrefix, filter.namePrefix)
  if (filter.state !== undefined) {
    const states: Record<TaskState, string> = {
      scheduled: "state = 0 AND eta > ?",
      ready: "state = 0 AND eta <= ?",
      running: "state = 1",
      succeeded: "state = 2",
      cancelled: "state = 3",
      dead: "state = 4",
    }
    const waiting = filter.state === "scheduled" || filter.state === "ready"
    add(states[filter.state], ...(waiting ? [now] : []))
  }
  return { conditions, values }
}

const makeCached = (db: DatabaseSync): ((sql: string) => StatementSync) => {
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

export const makeFind = (db: DatabaseSync): ((params: FindParams) => Page) => {
  const cached = makeCached(db)
  return (params) => {
    const { conditions, values } = conditionsOf(params, params.now)
    const after = params.cursor === undefined ? 0 : Number(params.cursor)
    const where = [...conditions, "seq > ?"].join(" AND ")
    const rows = asRows(
      cached(`SELECT ${columns}, seq FROM records WHERE ${where} ORDER BY seq LIMIT ?`).all(
        ...values,
        after,
        params.limit + 1,
      ),
    )
    const page = rows.slice(0, params.limit)
    return {
      records: page.map((row) => toRecord(row, params.now)),
      cursor: rows.length > page.length ? String(page.at(-1)?.at(-1) ?? after) : undefined,
    }
  }
}

/**
 * One statement for each index that has all that is counted: the rows themselves, with their payloads, are not read, and
 * waiting and ended records come in the order of their groups.
 */
export const makeCounts = (db: DatabaseSync): ((filter: Filter, now: number) => ReadonlyArray<Count>) => {
  const cached = makeCached(db)
  const parts = [
    {
      states: ["scheduled", "ready"],
      select: "SELECT queue, task, NULL, count(*) - sum(eta <= ?), sum(eta <= ?) FROM records INDEXED BY waiting",
      where: "state = 0",
      groups: "queue, task",
    },
    {
      states: ["running"],
      select: "SELECT queue, task, NULL, count(*) FROM records INDEXED BY running",
      where: "state = 1",
      groups: "queue, task",
    },
    {
      states: ["succeeded", "cancelled", "dead"],
      select: `SELECT queue, task, reason, sum(state = 2), sum(state = 3), sum(state = 4)
        FROM records INDEXED BY ended`,
      where: "state >= 2",
      groups: "queue, task, state, reason",
    },
  ] as const satisfies ReadonlyArray<{ readonly states: ReadonlyArray<TaskState>; [text: string]: unknown }>

  return (filter, now) => {
    const { conditions, values } = conditionsOf(filter, now)
    const counts: Array<Count> = []
    for (const { groups, select, states, where } of parts) {
      if (filter.state !== undefined && !(states as ReadonlyArray<TaskState>).includes(filter.state)) continue
      const sql = `${select} WHERE ${[where, ...conditions].join(" AND ")} GROUP BY ${groups}`
      const times = where === "state = 0" ? [now, now] : []
      for (const row of asRows(cached(sql).all(...times, ...values))) {
        states.forEach((state, index) => {
          const count = row[3 + index] as number
          if (count === 0) return
          const reason = (row[2] as DeadReason | null) ?? undefined
          counts.push({ queue: row[0] as string, task: row[1] as string, state, reason, count })
        })
      }
    }
    return counts
  }
}
