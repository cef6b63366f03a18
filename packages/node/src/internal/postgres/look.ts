/**
 * Looking at records.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { TaskId } from "@outlive/deferred/TaskId"
import { type Count, type Driver, type Filter, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { Attempt, DeadReason, TaskState } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import type { Calls } from "./calls.ts"
import { columnNames, idOf, lookedAt, type Row, seqOf, texts, toRecord, uuids } from "./row.ts"

/** The conditions of a filter; the text depends only on which ones there are, so few texts exist. */
const conditionsOf = (filter: Filter, now: number, parameters: Array<unknown>): ReadonlyArray<string> => {
  const conditions: Array<string> = []
  const given = (value: unknown) => `$${parameters.push(typeof value === "number" ? PgTypes.float8(value) : value)}`
  if (filter.queue !== undefined) conditions.push(`r.queue = ${given(filter.queue)}`)
  if (filter.task !== undefined) conditions.push(`r.task = ${given(filter.task)}`)
  if (filter.reason !== undefined) conditions.push(`r.reason = ${given(filter.reason)}`)
  if (filter.tag !== undefined) conditions.push(`r.failure_tag = ${given(filter.tag)}`)
  if (filter.endedAfter !== undefined) conditions.push(`r.ended_at >= ${given(filter.endedAfter)}`)
  if (filter.endedBefore !== undefined) conditions.push(`r.ended_at < ${given(filter.endedBefore)}`)
  if (filter.memberOf !== undefined) conditions.push(`r.member_of = ${given(filter.memberOf)}`)
  if (filter.namePrefix !== undefined) conditions.push(`starts_with(r.name, ${given(filter.namePrefix)})`)
  if (filter.state !== undefined) {
    const states: Record<TaskState, () => string> = {
      scheduled: () => `r.state = 0 AND r.eta > ${given(now)}`,
      ready: () => `r.state = 0 AND r.eta <= ${given(now)}`,
      running: () => "r.state = 1",
      succeeded: () => "r.state = 2",
      cancelled: () => "r.state = 3",
      dead: () => "r.state = 4",
    }
    conditions.push(states[filter.state]())
  }
  return conditions
}

/** The order of pages: its column, before all, where a page ends, and where the next one begins. */
interface Order {
  readonly column: string
  readonly first: string
  readonly place: RegExp
  readonly at: (cursor: string) => unknown
  readonly of: (row: Row) => string
}

/** Of all records: an index of them by place would be a tenth of what the server does for a task. */
const byId: Order = {
  column: "r.id",
  first: "00000000-0000-0000-0000-000000000000",
  place: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  at: (cursor) => PgTypes.uuid(cursor),
  of: idOf,
}
/** Of members, whose index has them so. */
const byPlace: Order = {
  column: "r.seq",
  first: "0",
  place: /^\d{1,18}$/,
  at: (cursor) => PgTypes.int8(BigInt(cursor)),
  of: (row) => String(seqOf(row)),
}

const parts: ReadonlyArray<{
  readonly states: ReadonlyArray<TaskState>
  readonly where: string
  readonly select: (now: string) => string
  readonly groups: string
}> = [
  ...["IS NULL", "IS NOT NULL"].map((is) => ({
    states: ["scheduled", "ready"] as const,
    where: `r.state = 0 AND r.key ${is}`,
    select: (now: string) =>
      `r.queue, r.task, NULL, NULL, count(*) FILTER (WHERE r.eta > ${now}), count(*) FILTER (WHERE r.eta <= ${now})`,
    groups: "r.queue, r.task",
  })),
  {
    states: ["running"],
    where: "r.state = 1",
    select: () => "r.queue, r.task, NULL, NULL, count(*)",
    groups: "r.queue, r.task",
  },
  ...(["succeeded", "cancelled", "dead"] as const).map((state, index) => ({
    states: [state],
    where: `r.state = ${index + 2}`,
    select: () => `r.queue, r.task, ${state === "dead" ? "r.reason, r.failure_tag" : "NULL, NULL"}, count(*)`,
    groups: `r.queue, r.task${state === "dead" ? ", r.reason, r.failure_tag" : ""}`,
  })),
]

/** What waits with a key and what waits without one are in indexes of their own, and counted apart. */
const summed = (counts: ReadonlyArray<Count>): ReadonlyArray<Count> => {
  const sums = new Map<string, Count>()
  for (const each of counts) {
    const { count, ...of } = each
    const key = JSON.stringify(of)
    sums.set(key, { ...each, count: count + (sums.get(key)?.count ?? 0) })
  }
  return [...sums.values()]
}

export const makeLook = (calls: Calls): Pick<Driver, "get" | "find" | "counts" | "ledger" | "payloadRefs"> => {
  const records = `${calls.schema}.records r`
  return {
    get: Effect.fnUntraced(function* ({ ids, now }) {
      if (ids.length === 0) return []
      const rows = yield* calls.run("get", `SELECT ${columnNames} FROM ${calls.schema}.get_records($1)`, [uuids(ids)])
      const found = new Map(rows.map((row) => [row[1] as TaskId, row]))
      return ids.map((id) => {
        const row = found.get(id)
        return row === undefined ? undefined : toRecord(row, now)
      })
    }),
    find: Effect.fnUntraced(function* ({ cursor, limit, now, ...filter }) {
      const order = filter.memberOf === undefined ? byId : byPlace
      const after = cursor ?? order.first
      if (!order.place.test(after)) {
        const message = `cursor must come from a page of the same filter, and is ${JSON.stringify(after)}`
        return yield* new TaskQueueError({ operation: "find", message, isRetryable: false })
      }
      const parameters: Array<unknown> = [order.at(after), PgTypes.int8(BigInt(limit + 1))]
      const where = [`${order.column} > $1`, ...conditionsOf(filter, now, parameters)].join(" AND ")
      const text = `SELECT ${lookedAt(calls.schema, "r")} FROM ${records} WHERE ${where} ORDER BY ${order.column} LIMIT $2`
      const rows = yield* calls.run("find", text, parameters)
      const page = rows.slice(0, limit)
      const last = page.at(-1)
      return {
        records: page.map((row) => toRecord(row, now)),
        cursor: rows.length > page.length ? (last === undefined ? after : order.of(last)) : undefined,
      }
    }),
    // One statement for all states, a part for each index that has what is counted.
    counts: Effect.fnUntraced(function* ({ now, ...filter }) {
      const wanted = parts.filter(({ states }) => filter.state === undefined || states.includes(filter.state))
      const parameters: Array<unknown> = [PgTypes.float8(now)]
      const conditions = conditionsOf(filter, now, parameters)
      const selects = wanted.map(
        ({ groups, select, states, where }, index) =>
          `SELECT ${index} AS part, ${select("$1")}${states.length === 1 ? ", 0" : ""} FROM ${records}
           WHERE ${[where, ...conditions].join(" AND ")} GROUP BY ${groups}`,
      )
      const rows = yield* calls.run("counts", selects.join(" UNION ALL "), parameters)
      return summed(
        rows.flatMap(([part, queue, task, reason, tag, ...counts]) =>
          wanted[part as number]!.states.flatMap((state, index): ReadonlyArray<Count> => {
            const count = Number(counts[index])
            if (count === 0 || (filter.state !== undefined && filter.state !== state)) return []
            return [
              {
                queue: queue as string,
                task: task as string,
                state,
                reason: (reason as DeadReason | null) ?? undefined,
                tag: (tag as string | null) ?? undefined,
                count,
              },
            ]
          }),
        ),
      )
    }),
    ledger: Effect.fnUntraced(function* ({ ids }) {
      if (ids.length === 0) return []
      const text = `SELECT id, ledger, state, attempt, worker, started_at, ended_at FROM ${calls.schema}.get_ledgers($1)`
      const rows = yield* calls.run("ledger", text, [uuids(ids)])
      const found = new Map(rows.map((row) => [row[0] as TaskId, ledgerOf(row)]))
      return ids.map((id) => found.get(id) ?? [])
    }),
    payloadRefs: Effect.fnUntraced(function* ({ refs }) {
      if (refs.length === 0) return []
      const text = `SELECT payload_ref FROM ${calls.schema}.get_payload_refs($1)`
      const found = new Set((yield* calls.run("payloadRefs", text, [texts(refs)])).map(([ref]) => ref))
      return refs.map((ref) => found.has(ref))
    }),
  }
}

/** The success that a record ended with is not written a second time into its ledger; some succeed without an attempt. */
const ledgerOf = ([, ledger, state, attempt, worker, startedAt, endedAt]: Row): ReadonlyArray<Attempt> => {
  const written = ledger === null ? [] : (JSON.parse(ledger as string) as ReadonlyArray<Row>)
  const attempts = written.map(
    ([attempt, worker, startedAt, endedAt, outcome, failure]) =>
      ({ attempt, worker, startedAt, endedAt, outcome, failure: failure ?? undefined }) as Attempt,
  )
  return state === 2 && startedAt !== null
    ? [...attempts, { attempt, worker, startedAt, endedAt, outcome: "Succeed", failure: undefined } as Attempt]
    : attempts
}
