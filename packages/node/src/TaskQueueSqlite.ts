/**
 * The task queue in a SQLite file, on Node's own `node:sqlite`: durable, and shared by all processes of one machine.
 *
 * All calls of one turn of the event loop are one transaction, and each returns after its commit, when that is on the disk.
 * Other processes that have the lock are waited for, without blocking the event loop, and so is a disk that needs more than
 * a millisecond, without the lock: "database is locked" is never an error here.
 *
 * A call that is interrupted before its turn is withdrawn; after that it is done. Times are those that calls are given;
 * other processes' changes are looked for while somebody subscribes, when the system says that the file was written to, and
 * by the `Clock` of the layer every 20 milliseconds, and every 5 for a second after one.
 *
 * Limits: one machine (SQLite's write-ahead log needs shared memory: no network file systems), one writer at a time, and
 * calls run on the event loop of the process, a few milliseconds a turn: a call that takes longer goes on in the next turns,
 * and other calls wait for it. Only `counts`, `find`, `statistics` and `keyStatistics` take their time in one piece, as much
 * as they look at: the first and the last two at an index entry of every record that they count, `find` at the records
 * between one that matches and the next, or at the index entries of all dead letters, running records, members of a join, or
 * what ended in the time asked for. Telling a queue that its keys keep their order looks at all records of the file, once.
 *
 * In an application's own database (`layerClient`), calls that are made inside `sql.withTransaction` of its `SqliteClient` are
 * part of that transaction.
 *
 * @since 0.1.0
 */
import type { Capabilities } from "@outlive/deferred/Capabilities"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Calls, makeCalls } from "./internal/sqlite/calls.ts"
import { type Changes, makeChanges } from "./internal/sqlite/changes.ts"
import { failure } from "./internal/sqlite/failure.ts"
import { makeGroupCommit } from "./internal/sqlite/groupCommit.ts"
import { either, inTransaction, isInTransaction, joinedCommits } from "./internal/sqlite/joined.ts"
import { open } from "./internal/sqlite/open.ts"
import { makeSnapshot } from "./internal/sqlite/snapshot.ts"
import { makeWalSync } from "./internal/sqlite/walSync.ts"
import { whenWritten } from "./internal/sqlite/whenWritten.ts"
import { SqliteClient } from "./SqliteClient.ts"

/** @since 0.1.0 */
export interface Options {
  /**
   * The file, absolute or from the working directory; created when there is none. Its folder must exist. SQLite keeps a
   * `-wal` and a `-shm` file beside it.
   */
  readonly filename: string
  /**
   * - `full` (default): what was acknowledged survives a power cut; one fsync a transaction
   * - `normal`: it survives a killed process, and a power cut may take back the last transactions, never half of one
   */
  readonly synchronous?: "full" | "normal" | undefined
}

/**
 * Opens the file for as long as the scope: closing it commits what is pending first.
 *
 * Fails with `TaskQueueError` (operation `open`) and has written nothing when the file is not a SQLite database, belongs
 * to another program or to a newer version of this package, cannot be written, is a folder, or has no folder to be in.
 * Waits as long as another process has the file locked; interruption ends that.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<TaskQueue.Driver, TaskQueue.TaskQueueError, Scope.Scope> {
  const { calls, changes } = yield* openCalls({ ...options, shared: false })
  return { name: "sqlite", capabilities, ...calls, changes: changes.subscribe }
})

/**
 * As `make`, in the file of the context's `SqliteClient`, beside the application's own tables: those of the queue begin with
 * `outlive_`. The queue has a connection of its own; calls made inside a transaction of the client are made on the client's,
 * and happen with the transaction or not at all.
 *
 * @since 0.1.0
 */
export const makeClient: Effect.Effect<TaskQueue.Driver, TaskQueue.TaskQueueError, SqliteClient | Scope.Scope> =
  Effect.gen(function* () {
    const client = yield* SqliteClient
    const { calls, changes } = yield* openCalls({
      filename: client.file,
      synchronous: client.synchronous,
      shared: true,
    })
    const joined = makeCalls(client.database, (body) => body(), joinedCommits(client, changes.publish))
    return {
      name: "sqlite",
      capabilities: { ...capabilities, transactional: true },
      ...either(client, calls, joined),
      transaction: inTransaction(client),
      inTransaction: isInTransaction(client),
      changes: changes.subscribe,
    }
  })

const capabilities: Capabilities = {
  durable: true,
  shared: true,
  transactional: false,
  listens: true,
  claims: true,
  results: true,
  priorities: true,
  uniqueKeys: true,
}

const openCalls = Effect.fnUntraced(function* (
  options: Options & { readonly shared: boolean },
): Effect.fn.Return<{ readonly calls: Calls; readonly changes: Changes }, TaskQueue.TaskQueueError, Scope.Scope> {
  const { filename, shared, synchronous } = options
  const { db, file } = yield* open({ filename, shared, synchronous: synchronous ?? "full" })
  const dataVersion = db.prepare("PRAGMA data_version")
  let isClaimExpected = () => false
  const changes = yield* makeChanges({
    version: () => {
      try {
        return (dataVersion.get() as { readonly data_version: number }).data_version
      } catch {
        // Only a hint is late. If something is wrong with the file, the calls say so.
        return undefined
      }
    },
    whenWritten: (written) => whenWritten(`${file}-wal`, written),
    isLooking: () => isClaimExpected(),
  })
  const sync = (synchronous ?? "full") === "full" ? makeWalSync(file) : undefined
  if (sync !== undefined) {
    db.exec("PRAGMA synchronous = normal")
    yield* Effect.addFinalizer(() => Effect.sync(sync.close))
  }
  let close: Effect.Effect<void> = Effect.void
  const calls = makeCalls(db, makeSnapshot(db), ({ beforeCommit, committed, expectedClaim, rolledBack }) => {
    const commits = makeGroupCommit({
      db,
      failure: (operation, cause) => failure(operation, file, cause),
      beforeCommit,
      committed: () => {
        const told = committed()
        // Other processes can see it by now, and who claims it hears of that when it is on the disk.
        changes.publish(told.filter(({ _tag }) => _tag === "Waiting"))
        return () => changes.publish(told.filter(({ _tag }) => _tag !== "Waiting"))
      },
      rolledBack,
      sync,
      expectedClaim,
    })
    close = commits.close
    isClaimExpected = () => expectedClaim.isExpected()
    return commits
  })
  yield* Effect.addFinalizer(() => close)
  return { calls, changes }
})

/**
 * The task queue in the given file, for as long as the layer lives. Fails as `make` does.
 *
 * @example
 * ```ts
 * import * as TaskQueue from "@outlive/deferred/TaskQueue"
 * import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const queue = yield* TaskQueue.TaskQueue
 *   return yield* queue.limits({ queue: "mail" })
 * })
 *
 * Effect.runPromise(Effect.provide(program, TaskQueueSqlite.layer({ filename: "tasks.db" })))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<TaskQueue.TaskQueue, TaskQueue.TaskQueueError> =>
  TaskQueue.layer(make(options))

/**
 * The task queue in the file of the application's `SqliteClient`. Fails as `make` does.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as SqliteClient from "@outlive/node/SqliteClient"
 * import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
 * import { Effect, Layer, Schema } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const SendReceipt = Task.make("SendReceipt", { payload: { order: Schema.Int } })
 *
 * // The order and its receipt, or neither.
 * const placeOrder = Effect.gen(function* () {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql.withTransaction(
 *     Effect.andThen(sql`INSERT INTO orders (id) VALUES (7)`, SendReceipt.defer({ order: 7 }, { requireTransaction: true })),
 *   )
 * })
 *
 * const Database = SqliteClient.layer({ filename: "app.db" })
 * const main = placeOrder.pipe(Effect.provide(Layer.provideMerge(TaskQueueSqlite.layerClient, Database)))
 * ```
 *
 * @since 0.1.0
 */
export const layerClient: Layer.Layer<TaskQueue.TaskQueue, TaskQueue.TaskQueueError, SqliteClient> =
  TaskQueue.layer(makeClient)
