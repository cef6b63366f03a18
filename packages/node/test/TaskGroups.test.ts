/** Groups and chains in databases: by several workers, in the application's transactions, over HTTP. */
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskChain from "@outlive/deferred/TaskChain"
import * as TaskFanOut from "@outlive/deferred/TaskFanOut"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as PushDispatcher from "@outlive/node/PushDispatcher"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Exit, Layer, Option, Redacted, References, Schema, type Scope, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { SqlClient } from "effect/sql"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { newSchema } from "./postgres/records.ts"
import { Act, endpoint, type Handle, Keys, port } from "./push/endpoint.ts"
import { newFolder } from "./records.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const retry = RetryPolicy.fixed("5 millis", { maxAttempts: 3 })
const options = { success: Schema.Int, error: Refused, retry } as const
const payload = { n: Schema.Int }

const Square = Task.make("Square", { ...options, payload })
const Sum = Task.make("Sum", { success: Schema.String })
const Book = Task.make("Book", { ...options, payload, commit: "withHandler" })
const Double = Task.make("Double", { ...options, payload: Schema.Int, commit: "withHandler", keep: "none" })
const Say = Task.make("Say", { payload: Schema.Int, success: Schema.String })

type Services = TaskQueue | SqlClient.SqlClient

/** What a process has that works on a database, with a table of the application's. */
interface Database {
  readonly table: string
  readonly process: Layer.Layer<Services>
}

const ran: Array<string> = []
const insert = (table: string, n: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`INSERT INTO ${table} (n) VALUES (${n})`))
const rows = (table: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ n: number }>(`SELECT n FROM ${table} ORDER BY n`), (found) => found.map(({ n }) => n)),
  )

/** The numbers that are divisible by 3 fail at first, those by 7 always. */
const handlersOf = (table: string) =>
  Layer.mergeAll(
    Square.toLayer(({ n }, { attempt }) =>
      n % 7 === 0 || (n % 3 === 0 && attempt === 1) ? Effect.fail(new Refused()) : Effect.succeed(n * n),
    ),
    Sum.toLayer((_, { members }) =>
      TaskFanOut.resultsOf(Square).pipe(
        Stream.runFold(
          () => 0,
          (sum, { exit }) => sum + (Exit.isSuccess(exit) ? exit.value : 0),
        ),
        Effect.map((sum) => {
          ran.push("sum")
          return `${sum} of ${Option.getOrThrow(members).succeeded}`
        }),
        Effect.orDie,
      ),
    ),
    Book.toLayer(({ n }, { attempt }) =>
      Effect.gen(function* () {
        yield* Effect.orDie(insert(table, n))
        // Rolled back with what was written.
        if (attempt === 1) return yield* Effect.fail(new Refused())
        return n
      }),
    ),
    Double.toLayer((n) => Effect.as(Effect.orDie(insert(table, n * 2)), n * 2)),
    Say.toLayer((n) => Effect.succeed(`said ${n}`)),
  )

const working = ({ process, table }: Database) =>
  Worker.layer({
    tasks: [Square, Sum, Book, Double, Say],
    concurrency: 20,
    lease: "5 seconds",
    pollInterval: "20 millis",
  }).pipe(
    Layer.provide(handlersOf(table)),
    Layer.provide(Instance.layerBackend()),
    Layer.provideMerge(Layer.fresh(process)),
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
  )

const numbers = (count: number) => Array.from({ length: count }, (_, index) => ({ n: index + 1 }))

const suite = (name: string, skipped: boolean, newDatabase: Effect.Effect<Database, unknown, Scope.Scope>) => {
  const inProcess = <A, E>(body: (database: Database) => Effect.Effect<A, E, Services | Scope.Scope>) =>
    Effect.flatMap(newDatabase, (database) => {
      const table = Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.unsafe(`CREATE TABLE ${database.table} (n INTEGER)`),
      )
      return Effect.provide(Effect.andThen(table, body(database)), Layer.fresh(database.process))
    })

  describe.skipIf(skipped)(`groups and chains on ${name}`, () => {
    it.live("count each member's end once, whoever works it, and run what comes after it once", () =>
      inProcess((database) =>
        Effect.gen(function* () {
          ran.length = 0
          const count = 1000
          const group = yield* TaskFanOut.all(Square, numbers(count), { onDone: TaskFanOut.item(Sum, undefined) })
          for (const _ of [1, 2, 3]) yield* Layer.build(working(database))
          const alive = numbers(count).filter(({ n }) => n % 7 !== 0)
          const total = { total: count, succeeded: alive.length, cancelled: 0, dead: count - alive.length }
          assert.deepStrictEqual(yield* group.await, total)
          const sum = alive.reduce((all, { n }) => all + n * n, 0)
          assert.strictEqual(yield* group.done.await, `${sum} of ${alive.length}`)
          assert.deepStrictEqual(ran, ["sum"])
          const ends = yield* Stream.runCollect(group.results)
          assert.deepStrictEqual(
            ends.map(({ exit, index }) => [index, Exit.isSuccess(exit) ? exit.value : "dead"]),
            numbers(count).map(({ n }, index) => [index, n % 7 === 0 ? "dead" : n * n]),
          )
        }),
      ),
    )

    it.live("tell how far they are, and cancel what is left when one fails", () =>
      inProcess((database) =>
        Effect.gen(function* () {
          const group = yield* TaskFanOut.all(Square, [{ n: 1 }, { n: 7 }, { n: 2 }], {
            onFailure: "cancelSiblings",
            each: ({ n }) => ({ delay: n === 2 ? "1 hour" : 0 }),
          })
          yield* Layer.build(working(database))
          const seen = yield* Stream.runCollect(group.progress)
          assert.deepStrictEqual(seen.at(-1), { total: 3, succeeded: 1, cancelled: 1, dead: 1 })
          assert.deepStrictEqual(yield* group.await, seen.at(-1))
        }),
      ),
    )

    it.live("are there with the transaction that they are deferred in, or not at all", () =>
      inProcess((database) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const queue = yield* TaskQueue
          const both = Effect.gen(function* () {
            yield* insert(database.table, 1)
            const group = yield* TaskFanOut.all(Square, numbers(3), { requireTransaction: true })
            const chain = yield* TaskChain.make(Book).to(Double).defer({ n: 1 }, { requireTransaction: true })
            return { group, chain }
          })
          yield* Effect.flip(sql.withTransaction(Effect.andThen(both, Effect.fail("no"))))
          assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
          const { chain, group } = yield* sql.withTransaction(both)
          yield* Layer.build(working(database))
          assert.deepInclude(yield* group.await, { succeeded: 3 })
          assert.strictEqual(yield* chain.links[0].await, 1)
        }),
      ),
    )

    it.live("hand over what is committed together with what the handlers wrote", () =>
      inProcess((database) =>
        Effect.gen(function* () {
          const chain = TaskChain.make(Book).to(Double).to(Double).to(Say)
          const refs = yield* Effect.forEach(numbers(20), ({ n }) => chain.defer({ n }))
          for (const _ of [1, 2]) yield* Layer.build(working(database))
          const said = yield* Effect.forEach(refs, (ref) => ref.await)
          assert.deepStrictEqual(
            said,
            numbers(20).map(({ n }) => `said ${n * 4}`),
          )
          // Each once, in spite of the attempts that failed after they had written.
          const expected = numbers(20).flatMap(({ n }) => [n, n * 2, n * 4])
          assert.deepStrictEqual(
            yield* rows(database.table),
            expected.sort((a, b) => a - b),
          )
        }),
      ),
    )

    it.live("cancel what comes after a link that died, and all of a chain when they are asked to", () =>
      inProcess((database) =>
        Effect.gen(function* () {
          const chain = TaskChain.make(Square).to(Double).to(Say)
          const dying = yield* chain.defer({ n: 7 })
          const waiting = yield* chain.defer({ n: 1 }, { delay: "1 hour" })
          yield* Layer.build(working(database))
          const why = "a task before it did not succeed"
          assert.deepInclude(yield* Effect.flip(dying.await), { _tag: "TaskCancelled", reason: why })
          assert.strictEqual((yield* Effect.flip(dying.links[0].await))._tag, "Refused")
          assert.strictEqual(yield* waiting.cancel({ reason: "enough" }), "Cancelled")
          assert.deepInclude(yield* Effect.flip(waiting.links[0].await), { _tag: "TaskCancelled", reason: "enough" })
          assert.deepInclude(yield* Effect.flip(waiting.await), { _tag: "TaskCancelled", reason: "enough" })
        }),
      ),
    )
  })
}

suite(
  "SQLite",
  false,
  Effect.map(newFolder, (folder) => {
    const client = SqliteClient.layer({ filename: join(folder, "app.db"), synchronous: "normal" })
    return { table: "numbers", process: TaskQueueSqlite.layerClient.pipe(Layer.provideMerge(client), Layer.orDie) }
  }),
)

const { client: pool } = useDatabase()
const client = Layer.effect(SqlClient.SqlClient, PgClient.PgClient).pipe(Layer.provideMerge(pool))
suite(
  "Postgres",
  isMissing,
  Effect.sync(() => {
    const schema = newSchema()
    const process = TaskQueuePostgres.layer({ schema }).pipe(Layer.provideMerge(Layer.fresh(client)), Layer.orDie)
    return { table: `${schema}.numbers`, process }
  }),
)

describe("a chain over HTTP", () => {
  const Next = Task.make("Next", { payload: Schema.String, success: Schema.Int })
  const Codec = PayloadCodec.layer([
    PayloadCodec.encryption({ keys: [{ id: "one", key: Redacted.make(randomBytes(32)) }] }),
  ])
  const handle: Handle = ({ how }) => Effect.succeed(`${how} over there`)

  for (const [what, codec] of [
    ["as it is", Layer.empty],
    ["encrypted", Codec],
  ] as const) {
    it.live(`hands over what a push endpoint answered, ${what}`, () =>
      Effect.gen(function* () {
        yield* PushDispatcher.make({ tasks: [Act], url: `http://127.0.0.1:${yield* port}` })
        yield* Worker.make({ tasks: [Next] })
        const chain = yield* TaskChain.make(Act).to(Next).defer({ how: "done" })
        assert.strictEqual(yield* chain.await, "done over there".length)
        const { payload } = yield* chain.links[1].record
        assert.strictEqual(payload.includes("done"), what === "as it is")
      }).pipe(
        Effect.provide(
          Layer.mergeAll(
            endpoint(handle),
            Layer.fresh(TaskQueueMemory.layer),
            Keys,
            FetchHttpClient.layer,
            Next.toLayer((text) => Effect.succeed(text.length)),
          ).pipe(Layer.provide(codec)),
        ),
        Effect.provideService(References.MinimumLogLevel, "None"),
      ),
    )
  }
})
