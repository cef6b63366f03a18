/**
 * What queues may do, and how they and the workers are.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { unlimited as keysUnlimited } from "@outlive/deferred/KeyLimits"
import { type QueueLimits, unlimited } from "@outlive/deferred/QueueLimits"
import type { Driver } from "@outlive/deferred/TaskQueue"
import type { WorkerInfo } from "@outlive/deferred/WorkerInfo"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"

export const makeLimits = (
  calls: Calls,
  by: string,
): Pick<Driver, "configure" | "limits" | "statistics" | "announce" | "withdraw" | "workers"> => {
  const { schema } = calls
  const float = (value: number | undefined) => PgTypes.float8(value ?? null)
  return {
    configure: Effect.fnUntraced(function* ({ limits, now, queue }) {
      const byKey = limits.byKey ?? keysUnlimited
      yield* calls.run(
        "configure",
        `SELECT ${schema}.configure($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
        [
          queue,
          Object.keys(limits),
          PgTypes.bool(limits.paused ?? null),
          float(limits.rate),
          float(limits.burst),
          float(limits.maxConcurrent),
          float(limits.ageing),
          float(byKey.maxConcurrent),
          float(byKey.rate),
          float(byKey.burst),
          PgTypes.bool(byKey.ordered),
          float(now),
          by,
        ],
      )
      yield* calls.publish(changesOf({ waiting: [queue] }))
    }),
    limits: ({ queue }) =>
      Effect.map(
        calls.one(
          "limits",
          `SELECT paused, rate, burst, max_concurrent, ageing, key_max_concurrent, key_rate, key_burst, key_ordered
           FROM ${schema}.queues WHERE queue = $1`,
          [queue],
        ),
        ([paused, rate, burst, maxConcurrent, ageing, ...byKey]): QueueLimits =>
          paused === undefined
            ? unlimited
            : {
                paused: paused as boolean,
                rate: (rate as number | null) ?? undefined,
                burst: burst as number,
                maxConcurrent: (maxConcurrent as number | null) ?? undefined,
                ageing: (ageing as number | null) ?? undefined,
                byKey: {
                  maxConcurrent: (byKey[0] as number | null) ?? undefined,
                  rate: (byKey[1] as number | null) ?? undefined,
                  burst: byKey[2] as number,
                  ordered: byKey[3] as boolean,
                },
              },
      ),
    statistics: ({ now, queue }) =>
      Effect.map(
        calls.one(
          "statistics",
          `SELECT w.waiting, w.ready, w.oldest,
             (SELECT count(*) FROM ${schema}.records WHERE state = 1 AND queue = $1),
             (SELECT coalesce(sum(count), 0)::bigint FROM ${schema}.executed
              WHERE queue = $1 AND second > floor($2 / 1000) - 60 AND second <= floor($2 / 1000)),
             (SELECT ${schema}.next_token_at(${schema}.refill(q, $2)) FROM ${schema}.queues q
              WHERE q.queue = $1 AND q.rate > 0),
             (SELECT q.paused_until FROM ${schema}.queues q WHERE q.queue = $1 AND q.paused_until > $2)
           FROM (SELECT sum(count)::bigint AS waiting, sum(ready)::bigint AS ready, min(oldest) AS oldest FROM (
             ${["IS NULL", "IS NOT NULL"]
               .map(
                 (is) => `SELECT count(*) AS count, count(*) FILTER (WHERE eta <= $2) AS ready,
               min(eta) FILTER (WHERE eta < 'Infinity') AS oldest
             FROM ${schema}.records WHERE state = 0 AND queue = $1 AND key ${is}`,
               )
               .join(" UNION ALL ")}) both_kinds) w`,
          [queue, float(now)],
        ),
        ([waiting, ready, oldestEta, inFlight, executed, tokenAt, pausedUntil]) => ({
          waiting: Number(waiting),
          ready: Number(ready),
          oldestEta: (oldestEta as number | null) ?? undefined,
          inFlight: Number(inFlight),
          executedLastMinute: Number(executed),
          nextTokenAt: tokenAt === null ? undefined : Math.max(now, tokenAt as number),
          pausedUntil: (pausedUntil as number | null) ?? undefined,
        }),
      ),
    announce: ({ until, worker }) =>
      Effect.asVoid(
        calls.run(
          "announce",
          `INSERT INTO ${schema}.workers (id, until, info) VALUES ($1, $2, $3)
           ON CONFLICT (id) DO UPDATE SET until = excluded.until, info = excluded.info`,
          [worker.id, float(until), JSON.stringify(worker)],
        ),
      ),
    withdraw: ({ worker }) =>
      Effect.asVoid(calls.run("withdraw", `DELETE FROM ${schema}.workers WHERE id = $1`, [worker])),
    workers: ({ now }) =>
      Effect.map(
        calls.run("workers", `SELECT info FROM ${schema}.workers WHERE until > $1 ORDER BY id`, [float(now)]),
        (rows) => rows.map(([info]) => toWorker(info as string)),
      ),
  }
}

/** JSON leaves out what is undefined. */
const toWorker = (info: string): WorkerInfo => {
  const worker = JSON.parse(info) as WorkerInfo
  return { ...worker, failingSince: worker.failingSince }
}
