/** What the Postgres driver does when the server restarts, ends a connection, or refuses: on a server of its own. */
import { readFileSync } from "node:fs"
import { PgClient } from "@effect/sql-pg"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import type { Change } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Deferred, Effect, Fiber, Latch, Layer, Schedule, Schema, Stream } from "effect"
import { TestConsole } from "effect/testing"
import { clientAt } from "./postgres/database.ts"
import { startProxy } from "./postgres/proxy.ts"
import { claim, newSchema, now, on, process, processes, record, records, states, succeed } from "./postgres/records.ts"
import { type Server, startServer, whyNoServer } from "./postgres/server.ts"

let server: Server
beforeAll(async () => {
  if (whyNoServer === undefined) server = await startServer()
  else console.warn(`\nTESTS THAT STOP A POSTGRES SERVER ARE LEFT OUT: ${whyNoServer}\n`)
}, 60_000)
afterAll(async () => {
  await server?.close()
})
const client = (options?: Parameters<typeof clientAt>[1]) =>
  Layer.unwrap(Effect.sync(() => clientAt(server.url, options)))
const restart = Effect.promise(() => server.restart())
const query = (text: string, parameters: ReadonlyArray<unknown> = []) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(text, parameters).values)

/** Until a call works again. */
const answered = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("20 millis"), times: 250 })

class Count extends Task.make("Count", { payload: { number: Schema.Int } }) {}

describe.skipIf(whyNoServer !== undefined)("a server that restarts", () => {
  it.live(
    "loses nothing that was acknowledged, and workers go on by themselves",
    () =>
      Effect.gen(function* () {
        const total = 300
        const ran = new Set<number>()
        const half = yield* Deferred.make<void>()
        const all = yield* Deferred.make<void>()
        const handler = Count.toLayer(({ number }) =>
          Effect.gen(function* () {
            yield* Effect.sleep("2 millis")
            ran.add(number)
            if (ran.size >= total / 2) yield* Deferred.succeed(half, undefined)
            if (ran.size === total) yield* Deferred.succeed(all, undefined)
          }),
        )
        const Live = Worker.layer({ tasks: [Count], concurrency: 10, lease: "2 seconds" }).pipe(
          Layer.provide(handler),
          Layer.provideMerge(TaskQueuePostgres.layer({ schema: newSchema() })),
          Layer.provide(client()),
          Layer.provide(Instance.layerBackend()),
        )
        yield* Effect.gen(function* () {
          const defer = (number: number) =>
            answered(Count.defer({ number }, { name: `count-${number}`, onDuplicate: "ignore" }))
          yield* Effect.forEach(
            Array.from({ length: total }, (_, number) => number),
            defer,
            { concurrency: 10, discard: true },
          ).pipe(Effect.forkChild)
          yield* Deferred.await(half)
          yield* restart
          yield* Deferred.await(all)
        }).pipe(Effect.provide(Live))
        assert.strictEqual(ran.size, total)
      }),
    60_000,
  )

  it.live(
    "is heard again, and hints say that something may have changed meanwhile; one line says each",
    () =>
      Effect.gen(function* () {
        const { driver } = yield* process(client(), { schema: newSchema() })
        const changes = yield* driver.changes
        const told = yield* Effect.forkChild(
          Stream.runHead(Stream.filter(changes, ({ _tag }) => _tag === "Elsewhere")),
          { startImmediately: true },
        )
        yield* restart
        assert.strictEqual((yield* Fiber.join(told))._tag, "Some")
        const lines = (yield* TestConsole.logLines).map(String)
        assert.strictEqual(lines.filter((line) => line.includes("cannot listen")).length, 1, lines.join("\n"))
        assert.strictEqual(lines.filter((line) => line.includes("listens to Postgres again")).length, 1)
      }).pipe(Effect.provide(TestConsole.layer)),
    30_000,
  )

  it.live(
    "fails calls meanwhile with an error that says to try again, and settles nothing twice",
    () =>
      Effect.gen(function* () {
        const { driver } = yield* process(client(), { schema: newSchema() })
        yield* driver.enqueue({ records: records(2), now })
        const claimed = (yield* claim(driver)).records
        yield* Effect.promise(() => server.halt("immediate"))
        const asked = [
          Effect.asVoid(driver.enqueue({ records: [record(10)], now })),
          Effect.asVoid(claim(driver)),
          Effect.asVoid(succeed(driver, claimed)),
          Effect.asVoid(states(driver)),
        ]
        const errors = yield* Effect.forEach(asked, Effect.flip, { concurrency: "unbounded" })
        for (const { isRetryable, message } of errors) assert.isTrue(isRetryable, message)
        yield* Effect.promise(() => server.start())
        assert.deepStrictEqual(yield* answered(states(driver)), { running: 2 })
        assert.deepStrictEqual(yield* succeed(driver, claimed), ["Settled", "Settled"])
        assert.deepStrictEqual(yield* succeed(driver, claimed), ["LeaseLost", "LeaseLost"])
      }),
    30_000,
  )
})

describe.skipIf(whyNoServer !== undefined)("an answer that is lost", () => {
  const proxied = Effect.acquireRelease(
    Effect.promise(() => startProxy(server.url)),
    (proxy) => Effect.promise(() => proxy.close()),
  )

  it.live("is made up for when a settlement is asked for again", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const { driver } = yield* process(clientAt(proxy.url), { schema: newSchema(), listen: false })
      const kinds = [{ keep: 0 }, { keep: 1000 }, {}, {}, {}, {}]
      yield* driver.enqueue({ records: kinds.map((kind, index) => record(index, kind)), now })
      const { records: claimed } = yield* claim(driver)
      const end = { result: undefined, failure: '"no"', eta: now, reason: "PermanentFailure" } as const
      const tags = ["Succeed", "Succeed", "Retry", "Bury", "Cancel", "Release"] as const
      const settlements = claimed.map(({ id, token }, index) => ({ id, token, ...end, _tag: tags[index]! }))
      proxy.loseAnswer()
      const error = yield* Effect.flip(driver.settle({ settlements, now }))
      assert.isTrue(error.isRetryable)
      assert.match(error.message, /may have happened or not/)
      assert.deepStrictEqual(yield* states(driver), { ready: 2, succeeded: 1, dead: 1, cancelled: 1 })
      assert.deepStrictEqual(
        yield* driver.settle({ settlements, now }),
        tags.map(() => "Settled"),
      )
      // Made up for once: who asks without need is told the truth.
      assert.deepStrictEqual(
        yield* driver.settle({ settlements, now }),
        tags.map(() => "LeaseLost"),
      )
    }),
  )

  it.live("of a claim costs the lease, and another settlement of it is still lost", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const { driver } = yield* process(clientAt(proxy.url), { schema: newSchema(), listen: false })
      yield* driver.enqueue({ records: [record(1)], now })
      const { records: first } = yield* claim(driver, { lease: 10 })
      proxy.loseAnswer()
      // Taken back and given anew, to nobody: the answer is lost.
      yield* Effect.flip(claim(driver, { lease: 10, now: now + 10 }))
      const [outcome] = yield* succeed(driver, first)
      assert.strictEqual(outcome, "LeaseLost")
      const { records: again } = yield* claim(driver, { now: now + 20 })
      assert.deepInclude(again[0], { attempt: 3, crashes: 2 })
    }),
  )

  it.live("of an enqueueing can be asked for again: the record is there once", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const { driver } = yield* process(clientAt(proxy.url), { schema: newSchema(), listen: false })
      proxy.loseAnswer()
      yield* Effect.flip(driver.enqueue({ records: records(3), now }))
      const outcomes = yield* driver.enqueue({ records: records(3), now })
      assert.isTrue(outcomes.every(({ _tag }) => _tag === "Existing"))
      assert.deepStrictEqual(yield* states(driver), { ready: 3 })
    }),
  )
})

describe.skipIf(whyNoServer !== undefined)("a server that refuses", () => {
  it.live(
    "to go on with connections is asked on new ones",
    () =>
      Effect.gen(function* () {
        const { driver } = yield* process(client(), { schema: newSchema() })
        const changes = yield* driver.changes
        yield* driver.enqueue({ records: records(5), now })
        const heard = yield* Latch.make(false)
        yield* Effect.forkChild(
          Stream.runForEach(changes, (change: Change) => (change._tag === "Elsewhere" ? heard.open : Effect.void)),
          { startImmediately: true },
        )
        yield* Effect.provide(
          query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
          ),
          client(),
        )
        yield* heard.await
        const { records: claimed } = yield* answered(claim(driver))
        assert.strictEqual(claimed.length, 5)
        assert.strictEqual((yield* succeed(driver, claimed)).length, 5)
      }),
    30_000,
  )

  it.effect("writes, as a standby does, says so, and its connections are given up for new ones", () =>
    Effect.gen(function* () {
      const { driver, services } = yield* process(client({ maxConnections: 1 }), { schema: newSchema(), listen: false })
      yield* on(services)(query("SET default_transaction_read_only = on"))
      const error = yield* Effect.flip(driver.enqueue({ records: [record(1)], now }))
      assert.isTrue(error.isRetryable)
      assert.match(error.message, /the server is read-only/)
      assert.deepStrictEqual(yield* states(driver), {})
      // A new connection has not heard of that setting, as the new primary has not.
      yield* driver.enqueue({ records: [record(1)], now })
      assert.deepStrictEqual(yield* states(driver), { ready: 1 })
    }),
  )

  it.effect("to wait for a lock any longer is asked again by the caller", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client({ startupParameters: { lock_timeout: "50" } }), 2)
      yield* drivers[0]!.configure({ queue: "queue", limits: { maxConcurrent: 1 }, now })
      yield* drivers[0]!.enqueue({ records: [record(1)], now })
      const sql = yield* Effect.provideContext(PgClient.PgClient, services[0]!)
      const error = yield* sql.withTransaction(
        Effect.andThen(
          on(services[0]!)(query(`SELECT 1 FROM ${schema}.queues FOR UPDATE`)),
          Effect.flip(on(services[1]!)(claim(drivers[1]!))),
        ),
      )
      assert.isTrue(error.isRetryable)
      assert.match(error.message, /lock timeout/)
      assert.strictEqual((yield* claim(drivers[1]!)).records.length, 1)
    }),
  )

  it.effect("a role that has no rights, and a schema that is gone, say what to do", () =>
    Effect.gen(function* () {
      const { driver, services } = yield* process(client({ maxConnections: 1 }), { schema: "gone", listen: false })
      yield* on(services)(query("DROP SCHEMA gone CASCADE"))
      const gone = yield* Effect.flip(driver.enqueue({ records: [record(1)], now }))
      assert.isFalse(gone.isRetryable)
      assert.match(gone.message, /the schema "gone" has no task queue.*run TaskQueuePostgres.migrate/)
      yield* on(services)(query("CREATE ROLE nobody LOGIN"))
      const poor = Layer.unwrap(Effect.sync(() => clientAt(server.url.replace("postgres@", "nobody@"))))
      const error = yield* Effect.flip(process(poor, { schema: newSchema() }))
      assert.isFalse(error.isRetryable)
      assert.match(error.message, /this role may not/)
    }),
  )

  it.effect("everything but what docs/postgres.md grants lets a role work nevertheless", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      const page = readFileSync(new URL("../../../docs/postgres.md", import.meta.url), "utf8")
      const grants = page.match(/^GRANT .*$/gm) ?? []
      assert.isAbove(grants.length, 2)
      const owner = yield* process(client(), { schema })
      yield* on(owner.services)(
        Effect.gen(function* () {
          yield* query("CREATE ROLE worker LOGIN")
          for (const grant of grants) yield* query(grant.replaceAll("outlive", schema).replace(";", ""))
        }),
      )
      const asWorker = Layer.unwrap(Effect.sync(() => clientAt(server.url.replace("postgres@", "worker@"))))
      const { driver, services } = yield* process(asWorker, { schema, migrations: "check" })
      yield* driver.changes
      yield* driver.configure({ queue: "queue", limits: { maxConcurrent: 2 }, now })
      yield* driver.enqueue({ records: records(2, (number) => ({ name: `name-${number}` })), now })
      yield* on(services)(query(`SELECT ${schema}.defer('task')`))
      yield* driver.payloads!.put({ ref: "ref", body: "body", now })
      assert.deepStrictEqual(yield* succeed(driver, (yield* claim(driver)).records), ["Settled", "Settled"])
      yield* driver.prune({ now, deadBefore: now, limit: 10 })
      assert.strictEqual((yield* driver.statistics({ queue: "queue", now })).executedLastMinute, 2)
    }),
  )

  it.live("to answer at all fails the start with an error that says to try again", () =>
    Effect.gen(function* () {
      const nowhere = clientAt("postgres://postgres@127.0.0.1:1/postgres")
      const error = yield* Effect.flip(process(nowhere, { schema: newSchema() }))
      assert.strictEqual(error.operation, "open")
      assert.isTrue(error.isRetryable)
    }),
  )
})
