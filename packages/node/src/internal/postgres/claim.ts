/**
 * ready ──► running.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { ClaimedRecord, ClaimParams, Driver } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"
import { answer } from "./claimSql.ts"
import { makeHeads, type Run } from "./heads.ts"
import type { Keeps } from "./keeps.ts"
import { claimedNames, floats, list, type Row, toClaimed } from "./row.ts"
import { runNames } from "./runsSql.ts"

const { OID } = PgTypes

/** A run as JSON has it: infinite numbers are text there. */
const runOf = ([task, target, version, rank, eta, seq]: Row): Run => [
  task as string,
  target as string | null,
  Number(version),
  Number(rank),
  Number(eta),
  BigInt(seq as number),
]

/** Also an empty one: it is not NULL. */
const array = (oid: number, values: ReadonlyArray<unknown>): PgTypes.Parameter => ({ ...list(oid, []), value: values })

const runTypes = [OID.textArray, OID.textArray, OID.float8Array, OID.float8Array, OID.float8Array, OID.int8Array]

const place = Object.fromEntries(answer.map(([name], index) => [name, index]))

export const makeClaim = (calls: Calls, by: string, keeps: Keeps): Driver["claim"] => {
  const text = `SELECT ${claimedNames}, answer FROM ${calls.schema}.claim(
    ${Array.from({ length: 12 + runNames.length }, (_, index) => `$${index + 1}`).join(", ")})`
  const heads = makeHeads()

  /** One call, which looks at the queues from the heads that are known. */
  const call = Effect.fnUntraced(function* (params: ClaimParams) {
    const { lease, now, queues, targets, tasks, worker } = params
    const known = queues.map(({ name }) => heads.of(params, name))
    const runs = known.flatMap((of, index) => (of ?? []).map((run) => [index + 1, ...run]))
    const takesBack = heads.takesBack()
    const rows = yield* calls.run("claim", text, [
      array(
        OID.textArray,
        queues.map(({ name }) => name),
      ),
      floats(queues.map(({ limit }) => limit)),
      array(
        OID.textArray,
        tasks.map(({ name }) => name),
      ),
      floats(tasks.map(({ maxVersion }) => maxVersion)),
      array(OID.textArray, targets),
      PgTypes.float8(lease),
      worker,
      PgTypes.float8(now),
      by,
      PgTypes.bool(takesBack),
      array(
        OID.boolArray,
        known.map((of) => of === undefined),
      ),
      ...[OID.int4Array, ...runTypes].map((oid, index) =>
        array(
          oid,
          runs.map((run) => run[index]),
        ),
      ),
    ])
    const said = JSON.parse((rows.at(-1)?.at(-1) ?? "[]") as string) as Row
    const get = (name: string) => said[place[name]!]
    yield* calls.publish(
      changesOf({
        waiting: get("waiting_queues"),
        ended: get("ended_ids"),
        cancelling: get("cancelling_ids"),
        progressed: get("progressed_ids"),
      }),
    )
    if (takesBack) heads.tookBack(Number(get("took_back_pages")))
    const walkedPages = get("walked_pages") as ReadonlyArray<number | null>
    const runQueues = (get("run_queue") ?? []) as ReadonlyArray<number>
    const lists = runNames.map((name) => get(`run_${name}`) as Row)
    queues.forEach(({ name }, index) => {
      const at = runQueues.flatMap((queue, run) => (queue === index + 1 ? [run] : []))
      heads.found(
        params,
        name,
        at.map((run) => runOf(lists.map((values) => values[run]))),
        known[index] === undefined ? Number(walkedPages[index] ?? 0) : undefined,
      )
    })
    const counts = get("counts") as ReadonlyArray<number>
    return {
      records: rows.slice(0, -1).map((row) => toClaimed(row, worker, now)),
      nextAt: (get("next_at") as number | null) ?? undefined,
      /** Queues that were not walked along and gave less than was asked for: there may be more. */
      short: queues.flatMap(({ limit, name }, index) => {
        const left = limit - counts[index]!
        return known[index] !== undefined && left >= 1 ? [{ name, limit: left }] : []
      }),
    }
  })

  return Effect.fnUntraced(function* (params) {
    if (params.queues.length === 0) return { records: [], nextAt: undefined }
    const first = yield* call(params)
    let { nextAt, records } = first
    if (first.short.length > 0) {
      for (const { name } of first.short) heads.forget(params, name)
      const second = yield* call({ ...params, queues: first.short })
      records = [...records, ...second.records]
      nextAt = earlier(nextAt, second.nextAt)
    }
    keeps.claimed(records)
    return { records, nextAt: earlier(earliestLease(records), earlier(heads.looksAgainAt(params.now), nextAt)) }
  })
}

const earlier = (left: number | undefined, right: number | undefined): number | undefined =>
  left === undefined || right === undefined ? (left ?? right) : Math.min(left, right)

const earliestLease = (records: ReadonlyArray<ClaimedRecord>): number | undefined =>
  records.reduce<number | undefined>((earliest, { leaseUntil }) => earlier(earliest, leaseUntil), undefined)
