/**
 * ready ──► running.
 */

import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { Driver } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"
import type { Keeps } from "./keeps.ts"
import { columnNames, floats, list, toClaimed } from "./row.ts"

/** Where the columns of a record begin. */
const first = 3

export const makeClaim = (calls: Calls, by: string, keeps: Keeps): Driver["claim"] => {
  const text = `SELECT next_at, waiting_queues, ended_ids, ${columnNames}
    FROM ${calls.schema}.claim($1, $2, $3, $4, $5, $6, $7, $8, $9)`
  return Effect.fnUntraced(function* ({ lease, now, queues, targets, tasks, worker }) {
    if (queues.length === 0) return { records: [], nextAt: undefined }
    const rows = yield* calls.run("claim", text, [
      array(queues.map(({ name }) => name)),
      floats(queues.map(({ limit }) => limit)),
      array(tasks.map(({ name }) => name)),
      floats(tasks.map(({ maxVersion }) => maxVersion)),
      array(targets),
      PgTypes.float8(lease),
      worker,
      PgTypes.float8(now),
      by,
    ])
    const [nextAt, waiting, ended] = rows.at(-1) ?? []
    yield* calls.publish(changesOf({ waiting, ended }))
    const records = rows.slice(0, -1).map((row) => toClaimed(row.slice(first)))
    keeps.claimed(records)
    return { records, nextAt: (nextAt as number | null) ?? undefined }
  })
}

/** Also an empty one: it is not NULL. */
const array = (values: ReadonlyArray<string>) => ({ ...list(PgTypes.OID.textArray, []), value: values })
