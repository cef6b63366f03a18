/**
 * Bringing a schema to the version that this code needs.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { failure } from "./failure.ts"
import { latest, migrations, preparation, quoted } from "./migrations.ts"

const refuse = (message: string) => Effect.fail(new TaskQueueError({ operation: "open", message, isRetryable: false }))

/** The version of the schema; 0 when there is no task queue in it. */
const versionOf = Effect.fnUntraced(function* (sql: PgClient, schema: string) {
  const [[exists] = []] = yield* sql.unsafe("SELECT to_regclass($1) IS NOT NULL", [`${quoted(schema)}.migrations`])
    .values
  if (exists !== true) return 0
  const [[version] = []] = yield* sql.unsafe(`SELECT coalesce(max(version), 0) FROM ${quoted(schema)}.migrations`)
    .values
  return version as number
})

const notNewer = (schema: string, version: number) =>
  version > latest
    ? refuse(
        `the task queue in the schema "${schema}" is of version ${version}, and this program knows ${latest}: ` +
          "it was made by a newer version of @outlive/node, install that or use another schema",
      )
    : Effect.void

/** Applies what the schema lacks. Of several processes one does it, the others wait. */
export const migrate = Effect.fnUntraced(
  function* (sql: PgClient, schema: string) {
    const version = yield* versionOf(sql, schema)
    yield* notNewer(schema, version)
    if (version === latest) return
    yield* sql.withTransaction(
      Effect.gen(function* () {
        // Whoever waits for another to migrate waits as long as that takes, whatever is usual for this role.
        yield* sql.unsafe("SET LOCAL lock_timeout = 0").unprepared
        yield* sql.unsafe("SET LOCAL statement_timeout = 0").unprepared
        yield* sql.unsafe("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`outlive migrates ${schema}`])
          .values
        for (const statement of preparation(schema)) yield* sql.unsafe(statement).unprepared
        const found = yield* versionOf(sql, schema)
        yield* notNewer(schema, found)
        for (const { statements } of migrations(schema).slice(found)) {
          for (const statement of statements) yield* sql.unsafe(statement).unprepared
        }
      }),
    )
  },
  (effect, _, schema) => Effect.mapError(effect, (error: SqlError | TaskQueueError) => opened(error, schema)),
)

/** Fails when the schema has not exactly the version that this code needs. */
export const check = Effect.fnUntraced(
  function* (sql: PgClient, schema: string) {
    const version = yield* versionOf(sql, schema)
    yield* notNewer(schema, version)
    if (version === latest) return
    return yield* refuse(
      version === 0
        ? `there is no task queue in the schema "${schema}": run TaskQueuePostgres.migrate, or its SQL, first`
        : `the task queue in the schema "${schema}" is of version ${version}, and this program needs ${latest}: run TaskQueuePostgres.migrate, or its SQL, first`,
    )
  },
  (effect, _, schema) => Effect.mapError(effect, (error: SqlError | TaskQueueError) => opened(error, schema)),
)

const opened = (error: SqlError | TaskQueueError, schema: string): TaskQueueError =>
  error._tag === "TaskQueueError" ? error : failure("open", schema, error)
