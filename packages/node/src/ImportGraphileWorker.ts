/**
 * Moves the jobs that wait in graphile-worker, in the Postgres database of the context's `SqlClient`, over to tasks. Read from
 * its private tables: written to those of graphile-worker 0.18 (and held against it in the tests), which it has had since 0.16.
 *
 * Jobs with attempts left are moved, those that are due later with their time. Stop adding jobs first, or run it again until it
 * moves nothing. Its workers may go on: what they have locked stays with them, and what is behind it in a named queue too.
 *
 * With the task queue in the same database, on the same client, a batch is one transaction: its jobs are gone from there when
 * its records are here, and at no other time. See `Import` for what holds with another one, and for all imports.
 *
 * Not moved: the crontab, and what named queues and job keys mean there: `job.source` has `queue_name` and `key`, for `options`
 * to make something of them.
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
  /** What jobs become, by their task identifier. Jobs of other tasks stay. */
  readonly jobs: Targets
  /** graphile-worker's schema. Default `graphile_worker`. */
  readonly schema?: string | undefined
  /** Decodes and checks, and changes nothing. Default `false`. */
  readonly dryRun?: boolean | undefined
  /** How many jobs one transaction moves. Default 500. */
  readonly batch?: number | undefined
}

/**
 * Moves them, and says what it did. Interrupted or killed, it has moved whole batches; run it again for the rest.
 *
 * Fails with `UnknownSource` when its tables are not there, with `SqlError` and `TaskQueueError` when a database does.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as Import from "@outlive/node/Import"
 * import * as ImportGraphileWorker from "@outlive/node/ImportGraphileWorker"
 * import { Schema } from "effect"
 *
 * class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
 *
 * const program = ImportGraphileWorker.run({ jobs: { send_mail: Import.to(Mail) }, dryRun: true })
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
  const schema = options.schema ?? "graphile_worker"
  const jobs = sql(`${schema}._private_jobs`)
  const joined = sql`${jobs} j
    JOIN ${sql(`${schema}._private_tasks`)} t ON t.id = j.task_id
    LEFT JOIN ${sql(`${schema}._private_job_queues`)} q ON q.id = j.job_queue_id`
  const free = sql`(j.attempts < j.max_attempts AND j.locked_at IS NULL AND q.locked_at IS NULL)`
  return yield* runPostgres<TargetServices<Targets>>(
    {
      name: "graphile",
      schema,
      tables: ["_private_jobs", "_private_tasks", "_private_job_queues"],
      // Ids are counted from 1 again when the schema is made anew.
      key: ({ createdAt, id }) => [id, String(createdAt)],
      waiting: (name) =>
        Effect.map(
          sql<{ id: string }>`
            SELECT j.id::text AS id FROM ${joined} WHERE ${free} AND t.identifier = ${name}
            ORDER BY j.priority, j.run_at, j.id`,
          (rows) => rows.map(({ id }) => id),
        ),
      lock: (_, ids) =>
        Effect.map(
          sql<{ job: Row }>`
            SELECT to_jsonb(j) || jsonb_build_object('task', t.identifier, 'queue_name', q.queue_name) AS job
            FROM ${joined} WHERE ${free} AND j.id = ANY(${ids}::bigint[])
            FOR UPDATE OF j SKIP LOCKED`,
          (rows) => rows.map(({ job }) => jobOf(job)),
        ),
      remove: (_, ids) => sql`DELETE FROM ${jobs} WHERE id = ANY(${ids}::bigint[])`,
      left: (names) => sql<{ name: string; why: "unmapped"; count: number }>`
        SELECT t.identifier AS name, count(*)::int AS count,
          CASE
            WHEN j.locked_at IS NOT NULL THEN 'running'
            WHEN j.attempts >= j.max_attempts THEN 'failed'
            WHEN NOT t.identifier = ANY(${names}) THEN 'unmapped'
            ELSE 'running'
          END AS why
        FROM ${joined} WHERE NOT ${free} OR NOT t.identifier = ANY(${names})
        GROUP BY 1, 3 ORDER BY 1, 3`,
    },
    options as unknown as Options<Readonly<Record<string, Target<never>>>>,
  )
})

const jobOf = ({ attempts, created_at, id, payload, priority, run_at, task, ...source }: Row): Job => ({
  id: String(id),
  name: String(task),
  data: payload,
  // There the lowest number comes first.
  priority: 0 - Number(priority),
  eta: millisOf(run_at),
  createdAt: millisOf(created_at),
  attempts: Number(attempts),
  source,
})
