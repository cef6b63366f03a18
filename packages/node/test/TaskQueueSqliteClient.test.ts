import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Exit, Fiber, Latch, Layer, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { newFolder, record } from "./records.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const Ship = Task.make("Ship", {
  payload: { order: Schema.Int, note: Schema.String },
  success: Schema.Int,
  error: Refused,
  commit: "withHandler",
  retry: RetryPolicy.fixed("10 millis", { maxAttempts: 3 }),
})

/** An application's database, with a table of its own that has the name of one of ours without the prefix. */
const Database = Layer.unwrap(
  Effect.map(newFolder, (folder) => SqliteClient.layer({ filename: join(folder, "app.db"), synchronous: "normal" })),
)
const tables = Layer.effectDiscard(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY)`),
)
const Queue = TaskQueueSqlite.layerClient.pipe(Layer.provideMerge(tables), Layer.provideMerge(Database), Layer.orDie)
const orders = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ id: number }>`SELECT id FROM records ORDER BY id`, (rows) => rows.map(({ id }) => id)),
)
const payload = { order: 1, note: "" }
const insert = (id: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO records (id) VALUES (${id})`)
const inTransaction = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(effect))
const countAll = Effect.flatMap(TaskQueue, (queue) =>
  Effect.map(queue.counts({ now: 0 }), (counts) => counts.reduce((sum, { count }) => sum + count, 0)),
)

TaskQueueTest.suite("sqlite, beside an application's tables", Layer.fresh(Queue))

describe("a deferral in a transaction", () => {
  it.live("is there when the rest is, and not when it is rolled back, with a large payload too", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const large = { order: 1, note: "x".repeat(200_000) }
      const both = Effect.andThen(
        insert(1),
        Effect.all([Ship.defer(payload, { requireTransaction: true }), Ship.defer(large)]),
      )
      yield* Effect.exit(inTransaction(Effect.andThen(both, Effect.fail("no"))))
      assert.deepStrictEqual([yield* countAll, yield* orders], [0, []])
      const bodies = queue.payloads!.list({ before: Number.MAX_VALUE, limit: 10 })
      assert.deepStrictEqual((yield* bodies).refs, [])
      const [, apart] = yield* inTransaction(both)
      assert.deepStrictEqual([yield* countAll, yield* orders], [2, [1]])
      assert.deepStrictEqual((yield* bodies).refs, [apart.id])
    }).pipe(Effect.provide(Layer.fresh(Queue))),
  )

  it.live("is seen inside the transaction and by nobody outside, and told of after the commit", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const changes = yield* queue.changes
      const hint = yield* Effect.forkChild(Stream.runHead(Stream.filter(changes, ({ _tag }) => _tag === "Waiting")), {
        startImmediately: true,
      })
      const [written, go] = [yield* Latch.make(), yield* Latch.make()]
      const transaction = yield* Effect.forkChild(
        inTransaction(
          Effect.gen(function* () {
            const { id } = yield* Ship.defer(payload)
            assert.isDefined((yield* queue.get({ ids: [id], now: 0 }))[0])
            assert.strictEqual(yield* countAll, 1)
            yield* written.open
            yield* go.await
            return id
          }),
        ),
      )
      yield* written.await
      assert.strictEqual(yield* countAll, 0)
      yield* Effect.sleep("30 millis")
      assert.isUndefined(hint.pollUnsafe())
      yield* go.open
      yield* Fiber.join(transaction)
      assert.strictEqual((yield* Fiber.join(hint))._tag, "Some")
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Queue))),
  )

  it.live("that fails leaves nothing of itself, and the transaction can go on", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* inTransaction(
        Effect.gen(function* () {
          yield* insert(1)
          const good = record(1, { name: "good" })
          // No driver takes such a priority: the second record of the call fails, and with it the first.
          const bad = record(2, { priority: Number.NaN })
          const error = yield* Effect.flip(queue.enqueue({ records: [good, bad], now: 0 }))
          assert.strictEqual(error._tag, "TaskQueueError")
          yield* Ship.defer(payload, { name: "good" })
        }),
      )
      assert.deepStrictEqual([yield* countAll, yield* orders], [1, [1]])
    }).pipe(Effect.provide(Layer.fresh(Queue))),
  )

  it.live("is refused where a transaction is required and there is none", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Ship.defer(payload, { requireTransaction: true }))
      assert.deepInclude(error, { _tag: "NotInTransaction", driver: "sqlite" })
    }).pipe(Effect.provide(Layer.fresh(Queue))),
  )
})

describe("a handler that commits with its success", () => {
  const app = (handle: (attempt: number) => Effect.Effect<void, Refused>) =>
    Worker.layer({ tasks: [Ship], lease: "2 seconds", pollInterval: "50 millis" }).pipe(
      Layer.provide(
        Ship.toLayer(({ order }, { attempt }) =>
          Effect.gen(function* () {
            yield* Effect.orDie(insert(order))
            yield* handle(attempt)
            return order
          }),
        ),
      ),
      Layer.provideMerge(Layer.fresh(Queue)),
      Layer.provide(Instance.layerBackend()),
    )

  it.live("writes once what it writes, however often it is tried", () =>
    Effect.gen(function* () {
      const ref = yield* Ship.defer(payload)
      assert.strictEqual(yield* ref.await, 1)
      // A second insert of the same key would have failed.
      assert.deepStrictEqual(yield* orders, [1])
      assert.deepStrictEqual(
        (yield* ref.attempts).map(({ outcome }) => outcome),
        ["Retry", "Succeed"],
      )
    }).pipe(Effect.provide(app((attempt) => (attempt === 1 ? Effect.fail(new Refused()) : Effect.void)))),
  )

  it.live("works many at once, one transaction after the other", () =>
    Effect.gen(function* () {
      const refs = yield* Effect.forEach(Array.from({ length: 200 }), (_, order) => Ship.defer({ order, note: "" }), {
        concurrency: "unbounded",
      })
      yield* Effect.forEach(refs, (ref) => ref.await, { concurrency: "unbounded" })
      assert.strictEqual((yield* orders).length, 200)
    }).pipe(Effect.provide(app(() => Effect.void))),
  )

  it.live("rolls back when its time is over, and others go on", () =>
    Effect.gen(function* () {
      const ref = yield* Ship.defer(payload, { timeout: "50 millis", retry: RetryPolicy.never })
      const error = yield* Effect.flip(ref.await)
      assert.deepInclude(error, { _tag: "TaskDead", reason: "RetriesExhausted" })
      assert.deepStrictEqual(yield* orders, [])
    }).pipe(Effect.provide(app(() => Effect.never))),
  )
})

describe("one file for both", () => {
  it.live("is refused by a queue that was to have a file of its own, until it is there on purpose", () =>
    Effect.gen(function* () {
      const filename = join(yield* newFolder, "app.db")
      const client = SqliteClient.layer({ filename })
      yield* Effect.scoped(Layer.build(Layer.provideMerge(tables, client)))
      const error = yield* Effect.flip(Effect.scoped(TaskQueueSqlite.make({ filename })))
      assert.include(error.message, "layerClient")
      yield* Effect.scoped(Layer.build(TaskQueueSqlite.layerClient.pipe(Layer.provide(client))))
      // A worker in another process need not know the application's tables.
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(Effect.scoped(TaskQueueSqlite.make({ filename })))))
    }).pipe(Effect.scoped),
  )

  it.live("cannot be memory, which no second connection could share", () =>
    Effect.gen(function* () {
      const memory = SqliteClient.layer({ filename: ":memory:" })
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Layer.provide(TaskQueueSqlite.layerClient, memory))))
      assert.include(error.message, "a SQLite task queue is a file")
    }),
  )
})
