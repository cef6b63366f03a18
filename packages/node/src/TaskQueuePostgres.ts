/**
 * The task queue in a schema of a Postgres database: durable, and shared by any number of machines. Over Effect's own
 * client, `@effect/sql-pg`, which is an optional peer: install it, and provide its `PgClient`.
 *
 * Every call is one statement, and so one round trip. Calls of one kind that are made while one is under way gather, and are
 * the next statement together; each returns after its commit. A call made inside `sql.withTransaction` of the same client is
 * part of that transaction instead, happens with it or not at all, and wakes workers when it is committed.
 *
 * Claims from a queue that has limits, or records with keys, come one after the other: each waits until the one before it is
 * committed, and whoever claims in a transaction of its own keeps the others waiting until its end. Nobody waits for who
 * enqueues, settles or cancels, however long their transactions are; what those free, and what they add, counts once they are
 * committed.
 *
 * Other processes' changes are heard by LISTEN, on a connection of its own. They are a hint; looking is the truth, and it is
 * all there is with `listen: false`, which is for poolers that give each transaction another connection (there also set the
 * client's `prepare: false`).
 *
 * From SQL, for triggers and for programs in other languages, there is a function in the schema,
 * `outlive.defer(task text, payload jsonb, options jsonb)`, both of the latter optional: it stores a record in the caller's
 * transaction and gives `{"outcome": "Inserted", "id": ...}`, or what else `TaskQueue.EnqueueOutcome` may be. The options are
 * those of a record, in milliseconds: `queue`, `key`, `delay` or `eta`, `name` with `onDuplicate` and `tombstone`, `unique`
 * (`key`, `while`, `latest` with `dueBy`, `spacing` and `expects`), `priority`, `version`, `target`, `headers`, `expires`, `retry`, `timeout`, `lease`, `maxCrashes`, `keep`, `id`, and
 * `now`, for which it else takes the server's clock. Nobody checks the payload there: give what the task's schema encodes.
 *
 * ```sql
 * SELECT outlive.defer('SendWelcome', '{"userId": "42"}', '{"name": "welcome-42", "delay": 60000}');
 * ```
 *
 * Limits: Postgres 13 or later, on the primary. Names, keys, targets and queues have no NUL character. All times are those
 * that calls are given, never the server's; retrying and listening again wait by the machine's clock.
 *
 * @barrel none: needs the optional peer "@effect/sql-pg"
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { makeCalls } from "./internal/postgres/calls.ts"
import { makeChanges } from "./internal/postgres/changes.ts"
import { makeClaim } from "./internal/postgres/claim.ts"
import { makeEnqueue } from "./internal/postgres/enqueue.ts"
import { makeKeeps } from "./internal/postgres/keeps.ts"
import { makeKeys } from "./internal/postgres/keys.ts"
import { makeLimits } from "./internal/postgres/limits.ts"
import { makeLook } from "./internal/postgres/look.ts"
import { makeManage } from "./internal/postgres/manage.ts"
import * as Migrate from "./internal/postgres/migrate.ts"
import * as Migrations from "./internal/postgres/migrations.ts"
import { makePayloads } from "./internal/postgres/payloads.ts"
import { makeExtend, makeProgress, makeSettle } from "./internal/postgres/settle.ts"

/** @since 0.1.0 */
export interface Options {
  /**
   * The schema, which is also the channel of notifications. Default `outlive`. Each schema is a task queue of its own: any
   * number of them can be in one database. Lower-case letters, digits and `_`, at most 48.
   */
  readonly schema?: string | undefined
  /**
   * Whether to hear of other processes' changes by LISTEN. Default `true`. It takes one connection of the client's pool for
   * as long as the layer lives, from the first subscriber on: the pool must have at least two.
   */
  readonly listen?: boolean | undefined
  /**
   * - `auto` (default): makes the schema, or brings it to the version that this code needs, when the layer is built
   * - `check`: fails when it has another version, for roles that may not change it: see `migrate` and `migrations`
   */
  readonly migrations?: "auto" | "check" | undefined
}

const schemaPattern = /^[a-z_][a-z0-9_]{0,47}$/

const schemaOf = (options: Options | undefined): Effect.Effect<string, TaskQueue.TaskQueueError> => {
  const schema = options?.schema ?? "outlive"
  if (schemaPattern.test(schema)) return Effect.succeed(schema)
  const message = `the schema must match ${schemaPattern.source}, and is ${JSON.stringify(schema)}`
  return Effect.fail(new TaskQueue.TaskQueueError({ operation: "open", message, isRetryable: false }))
}

/** Who listens holds a connection: with a pool of one nobody else would ever get one. */
const hasRoom = ({ config }: PgClient.PgClient, listen: boolean): Effect.Effect<void, TaskQueue.TaskQueueError> => {
  const { maxConnections }: PgClient.PgPoolConfig = config
  if (!listen || maxConnections === undefined || maxConnections > 1) return Effect.void
  const message = "the client's pool has one connection, and listening needs one: give it more, or listen: false"
  return Effect.fail(new TaskQueue.TaskQueueError({ operation: "open", message, isRetryable: false }))
}

/**
 * A driver on the client of the context, for as long as the scope: closing it waits for what was asked before.
 *
 * Fails with `TaskQueueError` (operation `open`) when the server does not answer, when the role may not make the schema,
 * when the schema is of a newer version than this code (with `migrations: "check"` also when it is of an older one), when
 * the schema's name is no name, and when it should listen and the pool has one connection only.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options?: Options,
): Effect.fn.Return<TaskQueue.Driver, TaskQueue.TaskQueueError, PgClient.PgClient | Scope.Scope> {
  const sql = yield* PgClient.PgClient
  const schema = yield* schemaOf(options)
  const listen = options?.listen ?? true
  yield* hasRoom(sql, listen)
  yield* options?.migrations === "check" ? Migrate.check(sql, schema) : Migrate.migrate(sql, schema)

  const by = randomUUID().slice(0, 13)
  const changes = yield* makeChanges({ sql, schema, by, listen })
  const calls = makeCalls({ sql, schema, publish: changes.publish })
  const keeps = makeKeeps()
  return {
    name: "postgres",
    capabilities: {
      durable: true,
      shared: true,
      transactional: true,
      listens: listen,
      claims: true,
      results: true,
      priorities: true,
      uniqueKeys: true,
    },
    payloads: makePayloads(calls),
    transaction: calls.transaction,
    inTransaction: calls.isInTransaction,
    enqueue: yield* makeEnqueue(calls, by),
    claim: makeClaim(calls, by, keeps),
    extend: yield* makeExtend(calls),
    settle: yield* makeSettle(calls, by, keeps),
    progress: yield* makeProgress(calls, by),
    ...makeManage(calls, by),
    ...makeLook(calls),
    ...makeLimits(calls, by),
    ...makeKeys(calls, by),
    changes: changes.subscribe,
  }
})

/**
 * The task queue in a schema of the database of the context's client. Fails as `make` does.
 *
 * @example
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import * as TaskQueue from "@outlive/deferred/TaskQueue"
 * import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
 * import { Config, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const queue = yield* TaskQueue.TaskQueue
 *   return yield* queue.limits({ queue: "mail" })
 * })
 *
 * const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
 *
 * Effect.runPromise(Effect.provide(program, TaskQueuePostgres.layer().pipe(Layer.provide(Database))))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options?: Options,
): Layer.Layer<TaskQueue.TaskQueue, TaskQueue.TaskQueueError, PgClient.PgClient> => TaskQueue.layer(make(options))

/**
 * Makes the schema, or brings it to the version that this code needs. Many may do it at once: one does it, in a
 * transaction, the others wait. Does nothing when nothing is lacking. Fails as `make` does.
 *
 * @since 0.1.0
 */
export const migrate = (
  options?: Pick<Options, "schema">,
): Effect.Effect<void, TaskQueue.TaskQueueError, PgClient.PgClient> =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.flatMap(schemaOf(options), (schema) => Migrate.migrate(sql, schema)),
  )

/**
 * `migrate` as a layer.
 *
 * @since 0.1.0
 */
export const layerMigrate = (
  options?: Pick<Options, "schema">,
): Layer.Layer<never, TaskQueue.TaskQueueError, PgClient.PgClient> => Layer.effectDiscard(migrate(options))

/**
 * What `migrate` does as SQL text, for those who run their own: each after those before it, in a transaction. Each ends by
 * writing its version into the table `migrations` of the schema.
 *
 * @since 0.1.0
 */
export const migrations = (
  options?: Pick<Options, "schema">,
): ReadonlyArray<{ readonly version: number; readonly sql: string }> => {
  const schema = Effect.runSync(schemaOf(options))
  return Migrations.migrations(schema).map(({ statements, version }) => ({
    version,
    sql: `${[...(version === 1 ? Migrations.preparation(schema) : []), ...statements].join(";\n\n")};\n`,
  }))
}
