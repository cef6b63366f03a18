/**
 * Moves the jobs that wait in pg-boss, in the Postgres database of the context's `SqlClient`, over to tasks. Read from its
 * tables: written to those of pg-boss 12.35 (and held against it in the tests), it needs of them what versions since 11 have.
 *
 * Jobs in the states `created` and `retry` are moved, those that are due later with their time. Stop sending to pg-boss first,
 * or run it again until it moves nothing. Its workers may go on: what they have stays with them.
 *
 * With the task queue in the same database, on the same client, a batch is one transaction: its jobs are gone from pg-boss when
 * its records are there, and at no other time. See `Import` for what holds with another one, and for all imports.
 *
 * Not moved: schedules, subscriptions, dead letter queues as such (name them like any other queue), and what pg-boss does with
 * singletons, groups and policies of queues: `job.source` has the columns, for `options` to make something of them.
 *
 * @since 0.1.0
 */
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Job, Report, Target, TargetServices, UnknownSource } from "./Import.ts"
import { millisOf, type Row, run as runPostgres } from "./internal/import/postgres.ts"

/** @since 0.1.0 */
export interface Options<Targets extends Readonly<Record<string, Target<unknown>>>> {
  /** What jobs become, by pg-boss's name of their queue. Jobs of other queues stay. */
  readonly jobs: Targets
  /** pg-boss's schema. Default `pgboss`. */
  readonly schema?: string | undefined
  /** Decodes and checks, and changes nothing. Default `false`. */
  readonly dryRun?: boolean | undefined
  /** How many jobs one transaction moves. Default 500. */
  readonly batch?: number | undefined
}

/**
 * Moves them, and says what it did. Interrupted or killed, it has moved whole batches; run it again for the rest.
 *
 * Fails with `UnknownSource` when pg-boss's tables are not there, with `SqlError` and `TaskQueueError` when a database does.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as Import from "@outlive/node/Import"
 * import * as ImportPgBoss from "@outlive/node/ImportPgBoss"
 * import { Effect, Schema } from "effect"
 *
 * class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
 *
 * const program = Effect.gen(function* () {
 *   const { left, moved } = yield* ImportPgBoss.run({ jobs: { "send-mail": Import.to(Mail) } })
 *   yield* Effect.log(`${moved} moved`, left)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const run = Effect.fnUntraced(function* <const Targets extends Readonly<Record<string, Target<unknown>>>>(
  options: Options<Targets>,
): Effect.fn.Return<
  Report,
  SqlError | TaskQueueError | UnknownSource,
  SqlClient | TaskQueue | TargetServices<Targets>
> {
  const sql = yield* SqlClient
  const schema = options.schema ?? "pgboss"
  const job = sql(`${schema}.job`)
  return yield* runPostgres<TargetServices<Targets>>(
    {
      name: "pgboss",
      schema,
      tables: ["job"],
      key: ({ id, name }) => [name, id],
      waiting: (name) =>
        Effect.map(
          sql<{ id: string }>`
            SELECT id::text AS id FROM ${job} j
            WHERE state IN ('created', 'retry') AND name = ${name} AND NOT ${held(sql)}
            ORDER BY priority DESC, created_on, id`,
          (rows) => rows.map(({ id }) => id),
        ),
      lock: (name, ids) =>
        Effect.map(
          sql<{ job: Row }>`
            SELECT to_jsonb(j) - 'output' AS job FROM ${job} j
            WHERE state IN ('created', 'retry') AND name = ${name} AND id = ANY(${ids}::uuid[]) AND NOT ${held(sql)}
            FOR UPDATE SKIP LOCKED`,
          (rows) => rows.map(({ job }) => jobOf(job)),
        ),
      remove: (name, ids) => sql`DELETE FROM ${job} WHERE name = ${name} AND id = ANY(${ids}::uuid[])`,
      left: (names) => sql<{ name: string; why: "unmapped"; count: number }>`
        SELECT name, count(*)::int AS count,
          CASE
            WHEN state = 'active' THEN 'running'
            WHEN state = 'failed' THEN 'failed'
            WHEN NOT name = ANY(${names}) THEN 'unmapped'
            ELSE 'dependent'
          END AS why
        FROM ${job} j
        WHERE state IN ('active', 'failed')
          OR (state IN ('created', 'retry') AND (NOT name = ANY(${names}) OR ${held(sql)}))
        GROUP BY name, why ORDER BY name, why`,
    },
    options as unknown as Options<Readonly<Record<string, Target<never>>>>,
  )
})

/** It waits for jobs before it, or others wait for it. Versions without such jobs have no such columns. */
const held = (sql: SqlClient) =>
  sql`(COALESCE((to_jsonb(j) ->> 'blocked')::bool, false) OR COALESCE((to_jsonb(j) ->> 'blocking')::bool, false))`

const jobOf = ({ created_on, data, id, name, priority, retry_count, start_after, ...source }: Row): Job => ({
  id: String(id),
  name: String(name),
  data,
  priority: Number(priority),
  eta: millisOf(start_after),
  createdAt: millisOf(created_on),
  attempts: Number(retry_count),
  source,
})
