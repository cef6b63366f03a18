/**
 * A `SqlClient` over Node's own SQLite, in one file, for applications that keep their tables beside their task queue:
 * `TaskQueueSqlite.layerClient` puts the queue into the same file, and then what is deferred, or settled with
 * `commit: "withHandler"`, inside `sql.withTransaction` is part of that transaction.
 *
 * One connection. A transaction has the connection, and the file's write lock, from its beginning (`BEGIN IMMEDIATE`) to its
 * end, and a stream of rows until its own; all other statements of this client wait meanwhile: keep both short. Locks of other connections and
 * processes are waited for without blocking the event loop, and never surface as errors.
 *
 * Effect's SQL modules are unstable: a minor release of `effect` may change them, and then this.
 *
 * @since 0.1.0
 */
import { resolve } from "node:path"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Reactivity } from "effect/reactivity"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"
import { whenFree } from "./internal/sqlite/whenFree.ts"

/**
 * @since 0.1.0
 */
export interface Options {
  /** The file; made when it is not there. `":memory:"` is a database of its own, which no task queue can share. */
  readonly filename: string
  /**
   * - `full` (default): a commit is on the disk when it returns
   * - `normal`: a power cut may take back the last commits, never half of one; a killed process takes back nothing
   */
  readonly synchronous?: "full" | "normal" | undefined
  /** Whether foreign keys are enforced. Default `true`. */
  readonly foreignKeys?: boolean | undefined
}

/**
 * The client, with the file it is for.
 *
 * @since 0.1.0
 */
export class SqliteClient extends Context.Service<
  SqliteClient,
  SqlClient.SqlClient & {
    /** The whole path, or `:memory:`. */
    readonly file: string
    readonly synchronous: "full" | "normal"
    /** The connection itself. What is done with it directly is done at once, in whatever transaction is open. */
    readonly database: DatabaseSync
  }
>()("outlive/node/SqliteClient") {}

const sqlError = (cause: unknown, message: string, operation: string): SqlError.SqlError => {
  // The classifier knows other drivers' names for the code, and a duplicate primary key is a duplicate as others are.
  const code = cause instanceof Error && "errcode" in cause ? Number(cause.errcode) : undefined
  const errno = code === primaryKeyViolation ? uniqueViolation : code
  const known = cause instanceof Error && errno !== undefined ? Object.assign(cause, { errno }) : cause
  return new SqlError.SqlError({ reason: SqlError.classifySqliteError(known, { message, operation }) })
}
const primaryKeyViolation = 1555
const uniqueViolation = 2067

/** Prepared statements that are kept, the ones used last. */
const mostStatements = 500

const makeStatements = (db: DatabaseSync): ((sql: string) => StatementSync) => {
  const statements = new Map<string, StatementSync>()
  return (sql) => {
    const found = statements.get(sql)
    const statement = found ?? db.prepare(sql)
    // A map has the order of insertion: the first is the one not used for longest.
    if (found !== undefined) statements.delete(sql)
    else if (statements.size >= mostStatements) statements.delete(statements.keys().next().value!)
    statements.set(sql, statement)
    return statement
  }
}

/**
 * Opens the file for as long as the scope. Fails with `SqlError` when it cannot be opened or is no database.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<SqliteClient["Service"], SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> {
  const file = options.filename === ":memory:" ? options.filename : resolve(options.filename)
  const synchronous = options.synchronous ?? "full"
  const cannotOpen = (cause: unknown) => sqlError(cause, `cannot open ${file}`, "open")
  const db = yield* Effect.acquireRelease(
    Effect.try({ try: () => new DatabaseSync(file, { timeout: 0 }), catch: cannotOpen }),
    (db) => Effect.sync(() => db.close()),
  )
  yield* whenFree(() => {
    db.exec("PRAGMA journal_mode = WAL")
    db.exec(`PRAGMA synchronous = ${synchronous}`)
    db.exec(`PRAGMA foreign_keys = ${options.foreignKeys === false ? "OFF" : "ON"}`)
  }, cannotOpen)

  const prepared = makeStatements(db)
  const unprepared = (sql: string) => db.prepare(sql)

  type Mode = "rows" | "values" | "raw"
  const ready = (statement: StatementSync, mode: Mode, safeIntegers: boolean): StatementSync => {
    statement.setReadBigInts(safeIntegers)
    statement.setReturnArrays(mode === "values")
    return statement
  }
  const execute = (
    statementOf: (sql: string) => StatementSync,
    sql: string,
    params: ReadonlyArray<unknown>,
    mode: Mode,
    // biome-ignore lint/suspicious/noExplicitAny: the rows are whatever the statement says
  ): Effect.Effect<ReadonlyArray<any>, SqlError.SqlError> =>
    Effect.flatMap(SqlClient.SafeIntegers, (safeIntegers) => {
      const body = () => {
        const statement = ready(statementOf(sql), mode, safeIntegers)
        const values = params as Array<SQLInputValue>
        if (statement.columns().length > 0) return statement.all(...values)
        const result = statement.run(...values)
        return mode === "raw" ? result : []
      }
      const failed = (cause: unknown) => sqlError(cause, "Failed to execute statement", "execute")
      // In a transaction that has the write lock nobody is in the way; in one that wanted to have it later, waiting is no use.
      const call = Effect.suspend(() =>
        db.isTransaction ? Effect.try({ try: body, catch: failed }) : whenFree(body, failed),
      )
      // biome-ignore lint/suspicious/noExplicitAny: as above
      return call as Effect.Effect<ReadonlyArray<any>, SqlError.SqlError>
    })
  const rows = (statementOf: (sql: string) => StatementSync): SqlConnection.Connection["execute"] => {
    return (sql, params, transform) => {
      const found = execute(statementOf, sql, params, "rows")
      return transform === undefined ? found : Effect.map(found, transform)
    }
  }
  const connection: SqlConnection.Connection = {
    execute: rows(prepared),
    executeUnprepared: rows(unprepared),
    executeRaw: (sql, params) => execute(prepared, sql, params, "raw"),
    executeValues: (sql, params) => execute(prepared, sql, params, "values"),
    executeValuesUnprepared: (sql, params) => execute(unprepared, sql, params, "values"),
    executeStream: (sql, params, transform) =>
      Stream.unwrap(
        Effect.map(SqlClient.SafeIntegers, (safeIntegers) => {
          // A statement of its own: another use of a kept one would end the iteration.
          const all = Stream.fromIterable({
            [Symbol.iterator]: () =>
              ready(unprepared(sql), "rows", safeIntegers).iterate(...(params as Array<SQLInputValue>)),
          })
          const checked = Stream.catchDefect(all, (cause) =>
            Stream.fail(sqlError(cause, "Failed to execute statement", "stream")),
          )
          return transform === undefined
            ? checked
            : Stream.flatMap(checked, (row) => Stream.fromIterable(transform([row])))
        }),
      ),
  }
  const client = yield* SqlClient.make({
    ...SqlClient.makeSqliteAcquirers({
      connection: Effect.succeed(connection),
      semaphore: yield* Semaphore.make(1),
      isTransaction: () => db.isTransaction,
    }),
    compiler: Statement.makeCompilerSqlite(),
    driver: "outlive-node-sqlite",
    // The write lock at once: a transaction that had to get it later could find the file changed since it began to read.
    beginTransaction: "BEGIN IMMEDIATE",
    prepareTransactionControls: true,
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    spanAttributes: [
      ["db.system.name", "sqlite"],
      ["db.namespace", file],
    ],
  })
  return SqliteClient.of(Object.assign(client, { file, synchronous, database: db }))
})

/**
 * The client as both `SqliteClient` and Effect's `SqlClient`. Fails as `make` does.
 *
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<SqliteClient | SqlClient.SqlClient, SqlError.SqlError> =>
  Layer.effectContext(
    Effect.map(make(options), (client) => Context.add(Context.make(SqliteClient, client), SqlClient.SqlClient, client)),
  ).pipe(Layer.provide(Reactivity.layer))
