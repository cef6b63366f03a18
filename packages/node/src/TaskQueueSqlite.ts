/**
 * The task queue in a SQLite file, on Node's own `node:sqlite`: durable, and shared by all processes of one machine.
 *
 * All calls of one turn of the event loop are one transaction, and each returns after its commit. Other processes that
 * have the lock are waited for, without blocking the event loop: "database is locked" is never an error here.
 *
 * A call that is interrupted before its turn is withdrawn; after that it is done. Times are those that calls are given;
 * other processes' changes are looked for every 20 milliseconds by the `Clock` of the layer, while somebody subscribes.
 *
 * Limits: one machine (SQLite's write-ahead log needs shared memory: no network file systems), one writer at a time, and
 * calls run on the event loop of the process, a few milliseconds a turn: a call that takes longer goes on in the next turns,
 * and other calls wait for it. Only `counts`, `find` and `statistics` take their time in one piece, as much as they look at:
 * `statistics` and `counts` at an index entry of every record that they count, `find` at the records between one that
 * matches and the next, or at the index entries of all dead letters, running records, or what ended in the time asked for.
 *
 * @since 0.1.0
 */
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { makeCancel, makeRedrive } from "./internal/sqlite/cancel.ts"
import { makeChanges } from "./internal/sqlite/changes.ts"
import { makeClaim } from "./internal/sqlite/claim.ts"
import { makeCounts } from "./internal/sqlite/counts.ts"
import { makeEnding } from "./internal/sqlite/ending.ts"
import { makeEnqueue } from "./internal/sqlite/enqueue.ts"
import { makeExecuted } from "./internal/sqlite/executed.ts"
import { failure } from "./internal/sqlite/failure.ts"
import { makeEndedGroups, makeFind, makeGet, makePayloadRefs } from "./internal/sqlite/find.ts"
import { atOnce, makeGroupCommit } from "./internal/sqlite/groupCommit.ts"
import { makeLanes } from "./internal/sqlite/lanes.ts"
import { makeLedger, makeReadLedger } from "./internal/sqlite/ledger.ts"
import { makeLimits } from "./internal/sqlite/limits.ts"
import { open } from "./internal/sqlite/open.ts"
import { makePayloads } from "./internal/sqlite/payloads.ts"
import { makeProgress } from "./internal/sqlite/progress.ts"
import { makePrune, makePurge, makeRemove } from "./internal/sqlite/remove.ts"
import { makeExtend, makeSettle } from "./internal/sqlite/settle.ts"
import { makeSnapshot } from "./internal/sqlite/snapshot.ts"
import { makeStatistics } from "./internal/sqlite/statistics.ts"
import { makeTakeBack } from "./internal/sqlite/takeBack.ts"
import { Touched } from "./internal/sqlite/touched.ts"
import { makeKeys } from "./internal/sqlite/unique.ts"
import { makeWorkers } from "./internal/sqlite/workers.ts"

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
  const { db, file } = yield* open({ filename: options.filename, synchronous: options.synchronous ?? "full" })
  const dataVersion = db.prepare("PRAGMA data_version")
  const changes = yield* makeChanges(() => {
    try {
      return (dataVersion.get() as { readonly data_version: number }).data_version
    } catch {
      // Only a hint is late. If something is wrong with the file, the calls say so.
      return undefined
    }
  })
  const touched = new Touched()
  const executed = makeExecuted(db)
  const commits = makeGroupCommit({
    db,
    failure: (operation, cause) => failure(operation, file, cause),
    beforeCommit: executed.flush,
    committed: () => {
      executed.forget()
      changes.publish(touched.take())
    },
    rolledBack: () => {
      executed.forget()
      touched.take()
    },
  })
  yield* Effect.addFinalizer(() => commits.close)

  const limits = makeLimits(db, touched)
  const keys = makeKeys(db)
  const ledger = makeLedger(db)
  const ending = makeEnding(db, { keys, ledger, limits, touched })
  const enqueue = makeEnqueue(db, { keys, ledger, touched })
  const claim = makeClaim(db, { keys, lanes: makeLanes(db), limits, takeBack: makeTakeBack(db, ending) })
  const extend = makeExtend(db)
  const progress = makeProgress(db, touched)
  const settle = makeSettle(db, ending, executed, progress)
  const cancel = makeCancel(db, ending, touched)
  const redrive = makeRedrive(db, keys, touched)
  const remove = makeRemove(db, ledger)
  const purge = makePurge(db, ledger)
  const prune = makePrune(db, ledger)
  const workers = makeWorkers(db)
  const get = makeGet(db)
  const readLedger = makeReadLedger(db)
  const payloadRefs = makePayloadRefs(db)
  const endedGroups = makeEndedGroups(db)
  const find = makeFind(db, endedGroups)
  const counts = makeCounts(db, endedGroups)
  const statistics = makeStatistics(db, limits, executed)
  const snapshot = makeSnapshot(db)

  return {
    name: "sqlite",
    capabilities: {
      durable: true,
      shared: true,
      transactional: false,
      listens: true,
      claims: true,
      results: true,
      priorities: true,
      uniqueKeys: true,
    },
    payloads: makePayloads(db, commits),
    enqueue: ({ now, records }) => commits.write("enqueue", () => enqueue(records, now)),
    claim: (params) => commits.write("claim", () => claim(params)),
    extend: ({ leases, until }) => commits.write("extend", () => atOnce(() => extend(leases, until))),
    settle: ({ now, settlements }) => commits.write("settle", () => settle(settlements, now)),
    progress: ({ updates }) => commits.write("progress", () => atOnce(() => progress.noteAll(updates))),
    cancel: ({ ids, now, reason }) => commits.write("cancel", () => atOnce(() => cancel(ids, reason, now))),
    redrive: ({ ids, now }) => commits.write("redrive", () => atOnce(() => redrive(ids, now))),
    remove: ({ ids }) => commits.write("remove", () => atOnce(() => remove(ids))),
    purge: ({ queue }) => commits.write("purge", () => purge(queue)),
    get: ({ ids, now }) => commits.read("get", () => get(ids, now)),
    ledger: ({ ids }) => commits.read("ledger", () => snapshot(() => readLedger(ids))),
    payloadRefs: ({ refs }) => commits.read("payloadRefs", () => payloadRefs(refs)),
    find: (params) => commits.read("find", () => snapshot(() => find(params))),
    counts: (params) => commits.read("counts", () => snapshot(() => counts(params, params.now))),
    configure: ({ limits: changed, now, queue }) =>
      commits.write("configure", () => atOnce(() => limits.configure(queue, changed, now))),
    limits: ({ queue }) => commits.read("limits", () => limits.get(queue)),
    statistics: ({ now, queue }) => commits.read("statistics", () => snapshot(() => statistics(queue, now))),
    announce: ({ until, worker }) => commits.write("announce", () => atOnce(() => workers.announce(worker, until))),
    withdraw: ({ worker }) => commits.write("withdraw", () => atOnce(() => workers.withdraw(worker))),
    workers: ({ now }) => commits.read("workers", () => workers.list(now)),
    prune: ({ deadBefore, limit, now }) => commits.write("prune", () => prune(now, deadBefore, limit)),
    changes: changes.subscribe,
  }
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
