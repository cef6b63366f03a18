/** What the Postgres driver promises beyond the contract: its schema, the caller's transactions, hints, SQL callers. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Change } from "@outlive/deferred/TaskQueue"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Deferred, Effect, Exit, Fiber, Latch, Layer, Schema, Scope, Stream } from "effect"
import { clientAt, isMissing, useDatabase } from "./postgres/database.ts"
import {
  claim,
  idOf,
  newSchema,
  now,
  on,
  process,
  processes,
  record,
  records,
  states,
  succeed,
} from "./postgres/records.ts"

const { client, url } = useDatabase()

const query = (text: string, parameters: ReadonlyArray<unknown> = []) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(text, parameters).values)

/** The hints of a driver that are one of these, from now on. */
const hints = Effect.fnUntraced(function* (
  driver: { readonly changes: Effect.Effect<Stream.Stream<Change>, never, Scope.Scope> },
  count: number,
  ...tags: ReadonlyArray<Change["_tag"]>
) {
  const changes = yield* driver.changes
  const wanted = Stream.filter(changes, ({ _tag }) => tags.includes(_tag))
  return yield* Effect.forkChild(Stream.runCollect(Stream.take(wanted, count)), { startImmediately: true })
})

describe.skipIf(isMissing)("the schema", () => {
  it.effect("is made once by however many processes start at the same time", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 8)
      assert.deepStrictEqual(
        yield* on(services[0]!)(query(`SELECT version FROM ${schema}.migrations ORDER BY version`)),
        [[1], [2]],
      )
      yield* drivers[0]!.enqueue({ records: records(3), now })
      assert.deepStrictEqual(yield* states(drivers[7]!), { ready: 3 })
    }),
  )

  it.effect("is left alone when it is there already", () =>
    Effect.gen(function* () {
      const { drivers, schema } = yield* processes(client, 1)
      yield* drivers[0]!.enqueue({ records: records(3), now })
      const again = yield* process(client, { schema, migrations: "check" })
      assert.deepStrictEqual(yield* states(again.driver), { ready: 3 })
    }),
  )

  it.effect("is brought to the newest version with the records that it has", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      const { services } = yield* processes(client, 1)
      const [first] = TaskQueuePostgres.migrations({ schema })
      for (const statement of first!.sql.split(";\n\n")) yield* on(services[0]!)(query(statement))
      const columns = `id, priority, eta, version, keep, tombstone, max_crashes, enqueued_at, queue, task, payload`
      yield* on(services[0]!)(
        query(`INSERT INTO ${schema}.records (${columns}) SELECT gen_random_uuid(), 0, 0, 1, 1000, 0, 3, 0, 'queue', 'task', '{}'
          FROM generate_series(1, 3)`),
      )
      const checked = yield* Effect.flip(process(client, { schema, migrations: "check" }))
      assert.strictEqual(checked.operation, "open")
      const { driver } = yield* process(client, { schema })
      const { records } = yield* claim(driver)
      assert.strictEqual(records.length, 3)
      assert.deepStrictEqual(yield* succeed(driver, records), ["Settled", "Settled", "Settled"])
      yield* driver.enqueue({ records: [{ ...record(1), key: "a" }], now })
      assert.deepStrictEqual(
        (yield* claim(driver)).records.map(({ key }) => key),
        ["a"],
      )
    }),
  )

  it.effect("is refused, with a sentence, when a newer version made it", () =>
    Effect.gen(function* () {
      const { schema, services } = yield* processes(client, 1)
      yield* on(services[0]!)(query(`INSERT INTO ${schema}.migrations (version) VALUES (99)`))
      for (const migrations of ["auto", "check"] as const) {
        const error = yield* Effect.flip(process(client, { schema, migrations }))
        assert.strictEqual(error.operation, "open")
        assert.isFalse(error.isRetryable)
        assert.match(error.message, new RegExp(`"${schema}" is of version 99, and this program knows 2`))
      }
    }),
  )

  it.effect("is not made by who only checks it", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      const error = yield* Effect.flip(process(client, { schema, migrations: "check" }))
      assert.match(error.message, /there is no task queue in the schema .*: run TaskQueuePostgres.migrate/)
      const found = yield* Effect.provide(query("SELECT to_regnamespace($1)::text", [schema]), client)
      assert.deepStrictEqual(found, [[null]])
    }),
  )

  it.effect("can be made from the text, by those who run their own migrations", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      for (const { sql } of TaskQueuePostgres.migrations({ schema })) {
        // Many statements are one for the client's protocol when they are in a block.
        yield* Effect.provide(query(`DO $migration$ BEGIN ${sql} END $migration$`), client)
      }
      const { driver } = yield* process(client, { schema, migrations: "check" })
      yield* driver.enqueue({ records: records(2), now })
      assert.strictEqual((yield* claim(driver)).records.length, 2)
    }),
  )

  it.effect("shares a database with others of its kind", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* processes(client, 1), yield* processes(client, 1)]
      yield* one.drivers[0]!.enqueue({ records: records(2), now })
      assert.deepStrictEqual(yield* states(other.drivers[0]!), {})
    }),
  )

  it.effect("has a name that needs no quotes", () =>
    Effect.gen(function* () {
      for (const schema of ["", "Mixed", "a-b", 'a"; DROP', "x".repeat(49)]) {
        const error = yield* Effect.flip(process(client, { schema }))
        assert.match(error.message, /the schema must match/)
      }
      // A word of SQL's own.
      const { driver, services } = yield* process(client, { schema: "user" })
      yield* driver.enqueue({ records: records(1), now })
      assert.strictEqual((yield* claim(driver)).records.length, 1)
      yield* on(services)(query('DROP SCHEMA "user" CASCADE'))
    }),
  )
})

describe.skipIf(isMissing)("group commit", () => {
  it.effect("makes few transactions of the calls of many fibers", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1)
      yield* Effect.forEach(records(500), (each) => drivers[0]!.enqueue({ records: [each], now }), {
        concurrency: "unbounded",
      })
      const [[count] = []] = yield* on(services[0]!)(query(`SELECT count(DISTINCT xmin::text) FROM ${schema}.records`))
      assert.isAtMost(Number(count), 5)
      assert.deepStrictEqual(yield* states(drivers[0]!), { ready: 500 })
    }),
  )

  it.effect("fails a bad call alone, and changes nothing for it", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1)
      const driver = drivers[0]!
      const exits = yield* Effect.forEach(
        [0, 1, 2, 3, 4],
        (number) => {
          const bad = number === 2 ? [record(100), record(200, { priority: Number.NaN })] : []
          return Effect.exit(driver.enqueue({ records: [...bad, record(number)], now }))
        },
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(
        exits.map(({ _tag }) => _tag),
        ["Success", "Success", "Failure", "Success", "Success"],
      )
      const error = yield* Effect.flip(driver.enqueue({ records: [record(9, { name: "a\0b" })], now }))
      assert.isFalse(error.isRetryable)
      const found = yield* driver.find({ limit: 10, now })
      assert.deepStrictEqual(
        found.records.map(({ id }) => id),
        [0, 1, 3, 4].map(idOf),
      )
    }),
  )

  it.effect("gives pages in the order of ids, of members in that of insertion, and refuses a cursor that is none", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1)
      const driver = drivers[0]!
      const join = { total: 3, onFailure: "continue", afterwards: "run" } as const
      const members = [9, 7, 8].map((number) => record(number, { memberOf: idOf(20) }))
      yield* driver.enqueue({ records: [record(20, { join }), ...members, record(3)], now })
      const pages = Effect.fnUntraced(function* (filter: { readonly memberOf?: ReturnType<typeof idOf> }) {
        const found: Array<string> = []
        let cursor: string | undefined
        do {
          const page = yield* driver.find({ ...filter, limit: 2, now, cursor })
          found.push(...page.records.map(({ id }) => id))
          cursor = page.cursor
        } while (cursor !== undefined)
        return found
      })
      assert.deepStrictEqual(yield* pages({}), [3, 7, 8, 9, 20].map(idOf))
      assert.deepStrictEqual(yield* pages({ memberOf: idOf(20) }), [9, 7, 8].map(idOf))
      for (const filter of [{}, { memberOf: idOf(20) }]) {
        const error = yield* Effect.flip(driver.find({ ...filter, limit: 2, now, cursor: "no such" }))
        assert.deepInclude({ ...error }, { _tag: "TaskQueueError", isRetryable: false })
      }
    }),
  )

  it.effect("withdraws a call that is interrupted before its turn", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1)
      const started = Effect.forkChild({ startImmediately: true })
      const kept = yield* started(drivers[0]!.enqueue({ records: [record(1)], now }))
      const interrupted = yield* started(drivers[0]!.enqueue({ records: [record(2)], now }))
      yield* Fiber.interrupt(interrupted)
      yield* Fiber.join(kept)
      assert.deepStrictEqual(yield* states(drivers[0]!), { ready: 1 })
    }),
  )

  it.effect("commits what was asked before the scope closed, and refuses what comes after", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1)
      const scope = yield* Scope.make()
      const driver = yield* Scope.provide(on(services[0]!)(TaskQueuePostgres.make({ schema })), scope)
      const asked = yield* Effect.forkChild(
        Effect.forEach(records(50), (each) => driver.enqueue({ records: [each], now }), { concurrency: "unbounded" }),
        { startImmediately: true },
      )
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(asked)
      assert.deepStrictEqual(yield* states(drivers[0]!), { ready: 50 })
      const error = yield* Effect.flip(driver.enqueue({ records: [record(100)], now }))
      assert.match(error.message, /closed/)
    }),
  )
})

describe.skipIf(isMissing)("the caller's transaction", () => {
  it.effect("takes what was enqueued in it along when it is rolled back, large payloads and settlements too", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 1)
      const driver = drivers[0]!
      const sql = services[0]!.pipe((context) => Effect.provideContext(PgClient.PgClient, context))
      yield* driver.enqueue({ records: [record(1)], now })
      const claimed = (yield* claim(driver)).records
      const body = "x".repeat(1_000_000)
      const exit = yield* Effect.exit(
        (yield* sql).withTransaction(
          Effect.gen(function* () {
            yield* driver.payloads!.put({ ref: "ref", body, now })
            const stored = records(3, () => ({ payload: "", payloadRef: "ref", queue: "other" }))
            yield* driver.enqueue({ records: stored.slice(2), now })
            assert.deepStrictEqual(yield* succeed(driver, claimed), ["Settled"])
            assert.deepStrictEqual(yield* states(driver), { ready: 1, succeeded: 1 })
            assert.strictEqual(yield* driver.payloads!.get({ ref: "ref" }), body)
            return yield* Effect.fail("no")
          }),
        ),
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* states(driver), { running: 1 })
      assert.isUndefined(yield* driver.payloads!.get({ ref: "ref" }))
      assert.deepStrictEqual(yield* succeed(driver, claimed), ["Settled"])
    }),
  )

  it.effect("wakes workers of this and of other processes when it is committed, and not before", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2)
      const [driver, other] = drivers as [TaskQueue["Service"], TaskQueue["Service"]]
      const here: Array<Change> = []
      const both = yield* Latch.make(false)
      const heard = (change: Change) => Effect.sync(() => here.push(change) === 2 && both.openUnsafe())
      yield* Effect.forkChild(Stream.runForEach(yield* driver.changes, heard), { startImmediately: true })
      const there = yield* hints(other, 2, "Waiting")
      const sql = yield* Effect.provideContext(PgClient.PgClient, services[0]!)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* driver.enqueue({ records: [record(1, { queue: "in" })], now })
          // Told meanwhile, by another connection: what was done in the transaction is told after it.
          yield* on(services[1]!)(other.enqueue({ records: [record(2, { queue: "out" })], now }))
          assert.deepStrictEqual(yield* other.get({ ids: [idOf(1)], now }), [undefined])
          assert.notDeepInclude(here, { _tag: "Waiting", queues: ["in"] })
        }),
      )
      const expected = [
        { _tag: "Waiting", queues: ["out"] },
        { _tag: "Waiting", queues: ["in"] },
      ]
      assert.deepStrictEqual(yield* Fiber.join(there), expected as ReadonlyArray<Change>)
      yield* both.await
      assert.deepStrictEqual(
        here.map((each) => JSON.stringify(each)).sort(),
        expected.map((each) => JSON.stringify(each)).sort(),
      )
    }),
  )

  it.effect("is known to the driver, which can begin one by itself", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 1)
      const [driver] = drivers as [TaskQueue["Service"]]
      const sql = yield* Effect.provideContext(PgClient.PgClient, services[0]!)
      const transaction = driver.transaction!
      const isIn = driver.inTransaction!
      assert.isFalse(yield* isIn)
      assert.isTrue(yield* sql.withTransaction(isIn))
      assert.isTrue(yield* transaction(isIn))
      yield* transaction(driver.enqueue({ records: [record(1)], now }))
      const failed = transaction(Effect.andThen(driver.enqueue({ records: [record(2)], now }), Effect.fail("mine")))
      assert.strictEqual(yield* Effect.flip(failed), "mine")
      assert.deepStrictEqual(yield* states(driver), { ready: 1 })
      // An error of the database within it is the caller's, one of the transaction itself the driver's.
      const refused = yield* Effect.flip(transaction(sql`SELECT nothing`))
      assert.strictEqual(refused._tag, "SqlError")
      const broken = yield* Effect.flip(transaction(Effect.ignore(sql`SELECT nothing`)))
      assert.strictEqual(broken._tag, "TaskQueueError")
    }),
  )

  it.effect("can be a savepoint within another", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 1)
      const sql = yield* Effect.provideContext(PgClient.PgClient, services[0]!)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* drivers[0]!.enqueue({ records: [record(1)], now })
          yield* Effect.ignore(
            sql.withTransaction(Effect.andThen(drivers[0]!.enqueue({ records: [record(2)], now }), Effect.fail("no"))),
          )
        }),
      )
      assert.deepStrictEqual(
        (yield* claim(drivers[0]!)).records.map(({ id }) => id),
        [idOf(1)],
      )
    }),
  )
})

describe.skipIf(isMissing)("hints", () => {
  it.effect("say precisely what another process changed", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 2)
      const [driver, other] = drivers as [TaskQueue["Service"], TaskQueue["Service"]]
      const told = yield* hints(other, 5, "Waiting", "Ended", "CancelRequested", "Progress", "Elsewhere")
      yield* driver.enqueue({ records: [record(1), record(2, { queue: "more" })], now })
      const claimed = (yield* claim(driver)).records
      yield* driver.cancel({ ids: [idOf(1)], reason: "why", now })
      yield* driver.progress({ updates: claimed.map(({ id, token }) => ({ id, token, progress: "1" })), now })
      yield* succeed(driver, claimed)
      yield* driver.configure({ queue: "queue", limits: { paused: true }, now })
      assert.deepStrictEqual(yield* Fiber.join(told), [
        { _tag: "Waiting", queues: ["more", "queue"] },
        { _tag: "CancelRequested", ids: [idOf(1)] },
        { _tag: "Progress", ids: [idOf(1)] },
        { _tag: "Ended", ids: [idOf(1)] },
        { _tag: "Waiting", queues: ["queue"] },
      ])
    }),
  )

  it.effect("say that something changed when it is too much to name", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 2)
      const told = yield* hints(drivers[1]!, 2, "Waiting", "Ended", "Elsewhere")
      yield* drivers[0]!.enqueue({ records: records(300), now })
      yield* succeed(drivers[0]!, (yield* claim(drivers[0]!)).records)
      assert.deepStrictEqual(yield* Fiber.join(told), [{ _tag: "Waiting", queues: ["queue"] }, { _tag: "Elsewhere" }])
    }),
  )

  it.effect("come from this process alone when it does not listen, and it takes no connection for that", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      const { driver, services } = yield* process(client, { schema, listen: false })
      assert.isFalse(driver.capabilities.listens)
      const told = yield* hints(driver, 1, "Waiting")
      yield* driver.enqueue({ records: [record(1)], now })
      assert.deepStrictEqual(yield* Fiber.join(told), [{ _tag: "Waiting", queues: ["queue"] }])
      const listening = query(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LISTEN%' || $1 || '%' AND pid <> pg_backend_pid()",
        [schema],
      )
      assert.deepStrictEqual(yield* on(services)(listening), [[0n]])
      const other = yield* process(client, { schema })
      yield* other.driver.changes
      assert.deepStrictEqual(yield* on(services)(listening), [[1n]])
    }),
  )
})

describe.skipIf(isMissing)("a pool of one connection", () => {
  it.effect("is enough for who does not listen, and refused with a sentence for who does", () =>
    Effect.gen(function* () {
      const one = Layer.unwrap(Effect.sync(() => clientAt(url(), { maxConnections: 1 })))
      const schema = newSchema()
      const error = yield* Effect.flip(process(one, { schema }))
      assert.match(error.message, /listening needs one/)
      const { driver } = yield* process(one, { schema, listen: false })
      yield* driver.changes
      yield* driver.enqueue({ records: records(1), now })
      assert.deepStrictEqual(yield* states(driver), { ready: 1 })
    }),
  )
})

class Greet extends Task.make("Greet", {
  payload: { name: Schema.String },
  success: Schema.String,
}) {}

describe.skipIf(isMissing)("SQL callers", () => {
  it.live("have a typed handler run what a trigger defers, when its transaction is committed", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      const greeted = yield* Deferred.make<string>()
      const Live = Worker.layer({ tasks: [Greet] }).pipe(
        Layer.provide(Greet.toLayer(({ name }) => Effect.as(Deferred.succeed(greeted, name), `hello ${name}`))),
        Layer.provideMerge(TaskQueuePostgres.layer({ schema })),
        Layer.provideMerge(client),
        Layer.provide(Instance.layerBackend()),
      )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const sql = yield* PgClient.PgClient
        yield* query(`CREATE TABLE ${schema}.people (name text)`)
        yield* query(`CREATE FUNCTION ${schema}.greet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          PERFORM ${schema}.defer('Greet', jsonb_build_object('name', NEW.name), '{"name": "first"}');
          RETURN NEW; END $$`)
        yield* query(
          `CREATE TRIGGER greet AFTER INSERT ON ${schema}.people FOR EACH ROW EXECUTE FUNCTION ${schema}.greet()`,
        )
        yield* sql.withTransaction(query(`INSERT INTO ${schema}.people VALUES ('Ada')`))
        assert.strictEqual(yield* Deferred.await(greeted), "Ada")
        const { records } = yield* queue.find({ namePrefix: "first", limit: 1, now: 0 })
        const ended = yield* queue.awaitEnded(records[0]!.id)
        assert.strictEqual(ended?.state, "succeeded")
      }).pipe(Effect.provide(Live))
    }),
  )

  it.effect("defer with a key, and as the latest of a unique key", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1)
      const [driver] = drivers as [TaskQueue["Service"]]
      const defer = (payload: string, options: object) =>
        Effect.map(
          on(services[0]!)(
            query(`SELECT ${schema}.defer('task', $1::text::jsonb, $2::text::jsonb)`, [
              payload,
              JSON.stringify({ queue: "queue", now, ...options }),
            ]),
          ),
          (rows) => rows[0]?.[0] as { readonly outcome: string; readonly id: TaskId },
        )
      for (const key of ["a", "a", "b"]) yield* defer("{}", { key })
      const claimed = (yield* claim(driver)).records
      assert.deepStrictEqual(
        claimed.map(({ key }) => key),
        ["a", "b", "a"],
      )
      const refused = yield* Effect.flip(defer("{}", { key: "" }))
      assert.match(String((refused.reason.cause as Error).message), /a key has 1 to 255 characters/)
      const latest = { unique: { key: "k", latest: { spacing: 50 } } }
      const first = yield* defer("1", latest)
      const second = yield* defer("2", latest)
      assert.deepStrictEqual(second, { outcome: "Replaced", id: first.id })
      const [running] = (yield* claim(driver)).records
      assert.strictEqual(running?.payload, "2")
      const third = yield* defer("3", latest)
      assert.strictEqual(third.outcome, "Inserted")
      assert.strictEqual((yield* driver.get({ ids: [third.id], now }))[0]?.eta, Number.POSITIVE_INFINITY)
      yield* succeed(driver, [running!])
      assert.strictEqual((yield* driver.get({ ids: [third.id], now }))[0]?.eta, now + 50)
      assert.strictEqual((yield* defer("4", { ...latest, unique: { key: "k" } })).outcome, "Existing")
    }),
  )

  it.effect("give the options that a program has, and are told when there is no such option", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1)
      const defer = (options: object, payload = "{}") =>
        Effect.map(
          on(services[0]!)(
            query(`SELECT ${schema}.defer('task', $1::text::jsonb, $2::text::jsonb)`, [
              payload,
              JSON.stringify(options),
            ]),
          ),
          (rows) => rows[0]?.[0] as { readonly outcome: string; readonly id?: string | undefined },
        )
      const first = yield* defer(
        { name: "n", tombstone: 5, queue: "q", priority: 2, eta: 5000, headers: { a: "b" }, now: 1000 },
        '{"a":1}',
      )
      assert.strictEqual(first.outcome, "Inserted")
      assert.match(first.id ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      const [stored] = yield* drivers[0]!.get({ ids: [first.id as never], now })
      assert.deepInclude(stored, {
        name: "n",
        queue: "q",
        priority: 2,
        eta: 5000,
        task: "task",
        version: 1,
        enqueuedAt: 1000,
      })
      assert.deepInclude(stored, { headers: { a: "b" }, maxCrashes: 3, keep: 86_400_000, state: "scheduled" })
      assert.deepStrictEqual(JSON.parse(stored?.payload ?? ""), { a: 1 })
      assert.deepStrictEqual(yield* defer({ name: "n", queue: "q" }), { outcome: "Duplicate", id: first.id })
      assert.deepStrictEqual(yield* defer({ name: "n", queue: "q", onDuplicate: "ignore" }), {
        outcome: "Existing",
        id: first.id,
      })
      assert.deepStrictEqual(yield* defer({ name: "n", queue: "q", onDuplicate: "replace", delay: 10 }), {
        outcome: "Replaced",
        id: first.id,
      })
      const keyed = yield* defer({ unique: { key: "k" } })
      assert.deepStrictEqual(yield* defer({ unique: { key: "k" } }), { outcome: "Existing", id: keyed.id })
      for (const [options, message] of [
        [{ priorty: 1 }, /no option "priorty"/],
        [{ onDuplicate: "drop" }, /onDuplicate is .* not "drop"/],
      ] as const) {
        const error = yield* Effect.flip(defer(options))
        assert.match(String((error.reason.cause as Error).message), message)
      }
    }),
  )
})
