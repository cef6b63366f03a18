/** A step that is done exactly once in the application's own transaction, on SQLite and on a Postgres server. */
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskContext } from "@outlive/deferred/TaskContext"
import * as TaskNotes from "@outlive/deferred/TaskNotes"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Clock, Effect, Latch, Layer, Redacted, References, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { newSchema } from "./postgres/records.ts"
import { newFolder } from "./records.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const options = {
  payload: {},
  success: Schema.String,
  error: Refused,
  retry: RetryPolicy.fixed("10 millis", { maxAttempts: 5 }),
} as const
const Order = Task.make("Order", options)
const Joint = Task.make("Joint", { ...options, commit: "withHandler" })

type Handle = (attempt: number) => Effect.Effect<string, unknown, TaskContext | SqlClient.SqlClient | TaskQueue>

const Codec = PayloadCodec.layer([
  PayloadCodec.encryption({ keys: [{ id: "one", key: Redacted.make(randomBytes(32)) }] }),
])

/** Whatever a handler fails with that is not refused is a defect, and so is tried again. */
const refused = <A, R>(effect: Effect.Effect<A, unknown, R>): Effect.Effect<A, Refused, R> =>
  Effect.catch(effect, (error) => (error instanceof Refused ? Effect.fail(error) : Effect.die(error)))

type App = TaskQueue | SqlClient.SqlClient

const suite = (name: string, skipped: boolean, database: Layer.Layer<App, unknown>) => {
  /** A worker with one handler for both tasks, in a database of its own. */
  const app = (
    handle: Handle,
    change: (queue: TaskQueue["Service"]) => Partial<TaskQueue["Service"]> = () => ({}),
  ): Layer.Layer<App> => {
    const Changed = Layer.effect(
      TaskQueue,
      Effect.map(TaskQueue, (queue) => TaskQueue.of({ ...queue, ...change(queue) })),
    )
    const handlers = Layer.mergeAll(
      Order.toLayer((_, { attempt }) => refused(handle(attempt))),
      Joint.toLayer((_, { attempt }) => refused(handle(attempt))),
    )
    return Worker.layer({ tasks: [Order, Joint], lease: "5 seconds", pollInterval: "20 millis" }).pipe(
      Layer.provide(handlers),
      Layer.provide(Instance.layerBackend()),
      Layer.provideMerge(Changed),
      Layer.provideMerge(Layer.fresh(database)),
      Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
      Layer.orDie,
    )
  }
  const book = (number: number) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) =>
      Effect.as(sql.unsafe(`INSERT INTO ${bookings} (attempt) VALUES (${number})`), number),
    )
  const once = (number: number, then: Effect.Effect<unknown, unknown> = Effect.void) =>
    TaskNotes.once("book", Schema.Int, Effect.tap(book(number), then))
  const booked = Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ attempt: number }>(`SELECT attempt FROM ${bookings} ORDER BY attempt`), (rows) =>
      rows.map(({ attempt }) => attempt),
    ),
  )

  describe.skipIf(skipped)(`TaskNotes.once on ${name}`, () => {
    it.live("is not run again by a later attempt, which is given its value", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "1 in 3")
        assert.deepStrictEqual(yield* booked, [1])
      }).pipe(
        Effect.provide(
          app((attempt) =>
            Effect.flatMap(once(attempt), (value) =>
              attempt < 3 ? Effect.fail(new Refused()) : Effect.succeed(`${value} in ${attempt}`),
            ),
          ),
        ),
      ),
    )

    it.live("is rolled back with what it wrote when it fails, and run again", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "2")
        assert.deepStrictEqual(yield* booked, [2])
      }).pipe(
        Effect.provide(
          app((attempt) => Effect.map(once(attempt, attempt === 1 ? Effect.fail(new Refused()) : Effect.void), String)),
        ),
      ),
    )

    it.live("runs again in the same attempt after it was rolled back, and not after it was done", () => {
      let runs = 0
      return Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "2 2")
        assert.deepStrictEqual(yield* booked, [2])
        assert.strictEqual(runs, 2)
      }).pipe(
        Effect.provide(
          app(() =>
            Effect.gen(function* () {
              const step = Effect.suspend(() =>
                once(++runs, runs === 1 ? Effect.fail(new Refused()) : Effect.void),
              ).pipe(Effect.retry({ times: 3 }))
              // Made once, so that only the first failure is tried again.
              const first = yield* step
              return `${first} ${yield* once(99)}`
            }),
          ),
        ),
      )
    })

    it.live("is rolled back when the lease was lost before its note, and the attempt goes no further", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ref = yield* Order.defer({})
        yield* started.await
        yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
        // As when it has expired: a claim at a later time takes it back.
        const later = (yield* Clock.currentTimeMillis) + 3_600_000
        const none = { queues: [{ name: "default", limit: 1 }], tasks: [{ name: "Order", maxVersion: 1 }], targets: [] }
        yield* queue.claim({ ...none, lease: 1, worker: "other", now: later })
        yield* go.open
        yield* Effect.sleep("150 millis")
        assert.deepStrictEqual(yield* booked, [])
        assert.strictEqual(after, 0)
        const record = yield* ref.record
        assert.deepInclude(record, { state: "scheduled", crashes: 1, progress: undefined })
      }).pipe(Effect.provide(app(() => slowly))),
    )
    let after = 0
    const started = Latch.makeUnsafe(false)
    const go = Latch.makeUnsafe(false)
    const slowly = Effect.gen(function* () {
      // On SQLite nobody could take the lease while the transaction is open; Postgres takes it meanwhile.
      const wait = Effect.andThen(started.open, go.await)
      if (name === "SQLite") yield* wait
      yield* once(1, name === "SQLite" ? Effect.void : wait)
      after++
      return "after"
    })

    it.live("asks the queue before it runs again when the answer to the commit was lost", () => {
      let lost = 0
      let runs = 0
      return Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "1")
        assert.deepStrictEqual(yield* booked, [1])
        assert.strictEqual(lost, 1)
      }).pipe(
        Effect.provide(
          app(
            () =>
              Effect.suspend(() => once(++runs)).pipe(
                Effect.retry({ times: 3, while: (error) => error instanceof TaskQueueError }),
                Effect.map(String),
              ),
            ({ transaction }) => ({
              transaction: (effect) =>
                Effect.flatMap(transaction!(effect), (value) =>
                  lost++ === 0
                    ? Effect.fail(new TaskQueueError({ operation: "transaction", message: "cut", isRetryable: true }))
                    : Effect.succeed(value),
                ),
            }),
          ),
        ),
      )
    })

    it.live("is part of the transaction of a handler that commits with its success", () => {
      const runs: Array<number> = []
      return Effect.gen(function* () {
        const ref = yield* Joint.defer({})
        assert.strictEqual(yield* ref.await, "2 2")
        // Rolled back with the handler that failed after it, and its note with it, in spite of its progress.
        assert.deepStrictEqual(runs, [1, 2])
        assert.deepStrictEqual(yield* booked, [2])
      }).pipe(
        Effect.provide(
          app((attempt) =>
            Effect.gen(function* () {
              const { progress } = yield* TaskContext
              const step = Effect.suspend(() => {
                runs.push(attempt)
                return once(attempt)
              })
              const first = yield* step
              yield* progress({ done: attempt })
              const again = yield* once(99)
              if (attempt === 1) return yield* Effect.fail(new Refused())
              return `${first} ${again}`
            }),
          ),
        ),
      )
    })

    it.live("is run again where a savepoint of the handler took it back", () =>
      Effect.gen(function* () {
        const ref = yield* Joint.defer({})
        assert.strictEqual(yield* ref.await, "2")
        assert.deepStrictEqual(yield* booked, [2])
      }).pipe(
        Effect.provide(
          app(() =>
            Effect.gen(function* () {
              const sql = yield* SqlClient.SqlClient
              yield* Effect.flip(sql.withTransaction(Effect.andThen(once(1), Effect.fail("back"))))
              return String(yield* once(2))
            }),
          ),
        ),
      ),
    )

    it.live("takes back the notes that were written within it", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "2 2")
        assert.deepStrictEqual(yield* booked, [2, 20])
      }).pipe(
        Effect.provide(
          app(() => {
            const both = (number: number, then: Effect.Effect<void, string>) =>
              TaskNotes.once(
                "both",
                Schema.Int,
                Effect.gen(function* () {
                  yield* TaskNotes.once("inner", Schema.Int, book(number * 10))
                  const value = yield* TaskNotes.step("step", Schema.Int, Effect.succeed(number))
                  yield* book(number)
                  yield* then
                  return value
                }),
              )
            return Effect.gen(function* () {
              yield* Effect.flip(both(1, Effect.fail("back")))
              const value = yield* both(2, Effect.void)
              return `${value} ${yield* TaskNotes.step("step", Schema.Int, Effect.succeed(3))}`
            })
          }),
        ),
      ),
    )

    it.live("is one of many notes at the same time, and none takes back another", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "0,1,2,3,4,5,6,7")
        // The two of the same name are one.
        assert.deepStrictEqual(yield* booked, [0, 2, 4, 6])
      }).pipe(
        Effect.provide(
          app((attempt) =>
            Effect.gen(function* () {
              const { progress } = yield* TaskContext
              const note = (number: number) => {
                const value = attempt === 1 ? number : 100
                return number % 2 === 0
                  ? TaskNotes.once(`${number}`, Schema.Int, Effect.tap(book(value), Effect.sleep("2 millis")))
                  : TaskNotes.step(`${number}`, Schema.Int, Effect.as(Effect.sleep("1 millis"), value))
              }
              const numbers = [0, 1, 2, 3, 4, 5, 6, 7]
              const all = { concurrency: "unbounded" } as const
              const [values] = yield* Effect.all(
                [
                  Effect.forEach(numbers, note, all),
                  note(0),
                  Effect.forEach(numbers, (done) => Effect.andThen(progress({ done }), Effect.sleep("1 millis"))),
                ],
                all,
              )
              if (attempt === 1) return yield* Effect.fail(new Refused())
              return values.join(",")
            }),
          ),
        ),
      ),
    )

    it.live("is not taken back by a word of progress that was on its way, or came meanwhile", () => {
      const told: Array<string> = []
      return Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "1 2")
        assert.deepStrictEqual(yield* booked, [1, 2])
        // That of the second attempt waited for the end of the transaction that it came in.
        assert.deepStrictEqual(told, ['{"done":1}', '{"done":2,"notes":{"step book":1,"step more":2}}'])
      }).pipe(
        Effect.provide(
          app(
            (attempt) =>
              Effect.gen(function* () {
                const { progress } = yield* TaskContext
                if (attempt === 1) {
                  yield* progress({ done: 1 })
                  // It is on its way now, with what is known before the step.
                  yield* Effect.sleep("10 millis")
                }
                const value = yield* once(attempt, Effect.sleep("120 millis"))
                if (attempt === 1) return yield* Effect.fail(new Refused())
                const meanwhile = Effect.andThen(progress({ done: 2 }), Effect.sleep("120 millis"))
                const more = yield* TaskNotes.once("more", Schema.Int, Effect.tap(book(attempt), meanwhile))
                yield* Effect.sleep("450 millis")
                return `${value} ${more}`
              }),
            (queue) => ({
              progress: (params) =>
                Effect.flatMap(queue.inTransaction!, (isIn) => {
                  if (isIn) return queue.progress(params)
                  // On the way for a while.
                  return Effect.andThen(
                    Effect.sleep("60 millis"),
                    Effect.tap(queue.progress(params), () =>
                      Effect.sync(() => told.push(...params.updates.map(({ progress }) => progress))),
                    ),
                  )
                }),
            }),
          ),
        ),
      )
    })

    it.live("is refused in a transaction that the handler began itself, and has run nothing", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(
          yield* ref.await,
          "the step book is to be done exactly once, and is in a transaction that the handler began itself: begin the step outside of it",
        )
        assert.deepStrictEqual(yield* booked, [])
      }).pipe(
        Effect.provide(
          app(() =>
            Effect.flatMap(SqlClient.SqlClient, (sql) =>
              Effect.map(Effect.flip(sql.withTransaction(once(1))), (error) =>
                error instanceof TaskNotes.NotTransactional ? error.message : String(error),
              ),
            ),
          ),
        ),
      ),
    )

    it.live("fails and runs nothing when what was kept does not decode any more, or the note is too large", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({})
        assert.strictEqual(yield* ref.await, "SchemaError NoteTooLarge")
        assert.deepStrictEqual(yield* booked, [1])
      }).pipe(
        Effect.provide(
          app(() =>
            Effect.gen(function* () {
              yield* once(1)
              const changed = yield* Effect.flip(TaskNotes.once("book", Schema.String, Effect.as(book(2), "")))
              const large = TaskNotes.once("large", Schema.String, Effect.as(book(3), "x".repeat(70_000)))
              return [changed, yield* Effect.flip(large)]
                .map((error) => (error as { readonly _tag: string })._tag)
                .join(" ")
            }),
          ),
        ),
      ),
    )

    it.live("is interrupted and rolled back with its attempt", () =>
      Effect.gen(function* () {
        const ref = yield* Order.defer({}, { timeout: "50 millis", retry: RetryPolicy.never })
        assert.deepInclude(yield* Effect.flip(ref.await), { _tag: "TaskDead", reason: "RetriesExhausted" })
        assert.deepStrictEqual(yield* booked, [])
      }).pipe(Effect.provide(app(() => Effect.map(once(1, Effect.never), String)))),
    )
  })
}

/** The application's table; on a server that is not the tests' own it goes with the schema of its test. */
let bookings = "bookings"
const table = (name: string) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      bookings = name
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(`CREATE TABLE ${name} (attempt INTEGER)`)
    }),
  )

const sqlite = (file: string) =>
  TaskQueueSqlite.layerClient.pipe(Layer.provideMerge(SqliteClient.layer({ filename: file, synchronous: "normal" })))
const Sqlite = Layer.unwrap(
  Effect.map(newFolder, (folder) => Layer.provideMerge(table("bookings"), sqlite(join(folder, "app.db")))),
)
suite("SQLite", false, Sqlite)

const { client: pool, url } = useDatabase()
const client = Layer.effect(SqlClient.SqlClient, PgClient.PgClient).pipe(Layer.provideMerge(pool))
const Postgres = Layer.unwrap(
  Effect.sync(() => {
    const schema = newSchema()
    const Queue = TaskQueuePostgres.layer({ schema }).pipe(Layer.provideMerge(Layer.fresh(client)))
    return Layer.provideMerge(table(`${schema}.bookings`), Queue)
  }),
)
suite("Postgres", isMissing, Postgres)

describe("TaskNotes.once with a codec", () => {
  it.live("keeps what is read again, encrypted", () => {
    const Encrypted = Layer.unwrap(
      Effect.map(newFolder, (folder) => Layer.provideMerge(table("bookings"), sqlite(join(folder, "app.db")))),
    ).pipe(Layer.provide(Codec))
    const handler = Order.toLayer((_, { attempt }) =>
      refused(
        Effect.flatMap(TaskNotes.once("secret", Schema.String, Effect.succeed(`said in ${attempt}`)), (value) =>
          attempt === 1 ? Effect.fail(new Refused()) : Effect.succeed(value),
        ),
      ),
    )
    const Workers = Worker.layer({ tasks: [Order] }).pipe(
      Layer.provide(handler),
      Layer.provide(Instance.layerBackend()),
      Layer.provideMerge(Encrypted),
    )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({})
      assert.strictEqual(yield* ref.await, "said in 1")
      assert.notInclude((yield* ref.record).progress ?? "", "said")
    }).pipe(Effect.provide(Workers), Effect.provideService(References.MinimumLogLevel, "None"))
  })
})

describe("a process that is killed", () => {
  const program = fileURLToPath(new URL("./programs/taskOnce.ts", import.meta.url))
  /** Runs the program to its end, or kills it as soon as it says that it is where it was to stop. */
  const run = (...args: ReadonlyArray<string>) =>
    Effect.callback<string>((resume) => {
      const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "inherit"] })
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => {
        output += chunk
        if (output.trim() === args.at(-1)) child.kill("SIGKILL")
      })
      child.on("close", () => resume(Effect.succeed(output.trim())))
      return Effect.sync(() => child.kill("SIGKILL"))
    })
  const places = [
    ["inside", "booked in 2, ended in 2"],
    ["noted", "booked in 2, ended in 2"],
    ["after", "booked in 1, ended in 2"],
  ] as const

  for (const [place, ended] of places) {
    it.live(`${place} the step has booked exactly once in the end, on SQLite`, () =>
      Effect.gen(function* () {
        const file = join(yield* newFolder, "app.db")
        assert.strictEqual(yield* run("sqlite", file, place), place)
        assert.strictEqual(yield* run("sqlite", file, "never"), ended)
        const rows = yield* Effect.provide(countIn("bookings"), SqliteClient.layer({ filename: file }))
        assert.strictEqual(rows, 1)
      }),
    )
    it.live.skipIf(isMissing)(`${place} the step has booked exactly once in the end, on Postgres`, () =>
      Effect.gen(function* () {
        const schema = newSchema()
        assert.strictEqual(yield* run("postgres", url(), schema, place), place)
        assert.strictEqual(yield* run("postgres", url(), schema, "never"), ended)
        assert.strictEqual(yield* Effect.provide(countIn(`${schema}.bookings`), client), 1)
      }),
    )
  }
})

const countIn = (name: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe(`SELECT attempt FROM ${name}`), (rows) => rows.length),
  )
