import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Import from "@outlive/node/Import"
import * as ImportPgBoss from "@outlive/node/ImportPgBoss"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Context, Effect, Exit, Fiber, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { isMissing, useSqlDatabase } from "./import/database.ts"
import { isAbsent, load } from "./import/peers.ts"
import { newSchema } from "./postgres/records.ts"

class Mail extends Task.make("Mail", {
  payload: { to: Schema.NonEmptyString, subject: Schema.String },
  queue: "mail",
  unique: { key: () => "there can be only one" },
}) {}

const jobs = {
  "send-mail": Import.to(Mail, {
    from: Schema.Struct({ email: Schema.String }),
    payload: ({ email }, { createdAt }) => ({ to: email, subject: new Date(createdAt).toISOString() }),
    options: (_, { attempts, source }) => ({
      headers: { "failed-before": String(attempts), key: String(source.singleton_key) },
    }),
  }),
}

const { client, url } = useSqlDatabase()

/** The tables of pg-boss 12.35 that matter here, in a schema of their own. */
const makePgBoss = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const schema = newSchema()
  const name = sql.literal(schema)
  yield* sql`CREATE SCHEMA ${name}`
  yield* sql`CREATE TYPE ${name}.job_state AS ENUM ('created', 'retry', 'active', 'completed', 'cancelled', 'failed')`
  yield* sql`
    CREATE TABLE ${name}.job (
      id uuid NOT NULL DEFAULT gen_random_uuid(), name text NOT NULL, priority integer NOT NULL DEFAULT 0, data jsonb,
      state ${name}.job_state NOT NULL DEFAULT 'created', retry_count integer NOT NULL DEFAULT 0, singleton_key text,
      start_after timestamptz NOT NULL DEFAULT now(), created_on timestamptz NOT NULL DEFAULT clock_timestamp(),
      output jsonb, blocked boolean NOT NULL DEFAULT false, blocking boolean NOT NULL DEFAULT false,
      PRIMARY KEY (name, id)
    ) PARTITION BY LIST (name)`
  yield* sql`CREATE TABLE ${name}.job_common PARTITION OF ${name}.job DEFAULT`
  return schema
})

type Columns = Readonly<Record<string, unknown>>
const send = Effect.fnUntraced(function* (schema: string, name: string, data: unknown, columns?: Columns) {
  const sql = yield* SqlClient.SqlClient
  const id = randomUUID()
  const row = { id, name, data: JSON.stringify(data), ...columns }
  yield* sql`INSERT INTO ${sql(`${schema}.job`)} ${sql.insert(row)}`
  return id
})
const idsIn = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ id: string }>`SELECT id::text AS id FROM ${sql(`${schema}.job`)} ORDER BY created_on`
  return rows.map(({ id }) => id)
})
const records = Effect.flatMap(TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 1000, now: 0 }), ({ records }) => records),
)

/** The task queue in the database of pg-boss, on the same client. */
const beside = Layer.unwrap(Effect.sync(() => TaskQueuePostgres.layer({ schema: newSchema(), listen: false }))).pipe(
  Layer.provideMerge(client),
  Layer.orDie,
)
const elsewhere = Layer.merge(Layer.fresh(TaskQueueMemory.layer), client)

for (const [where, queue] of [
  ["into the same database", beside],
  ["into another queue", elsewhere],
] as const) {
  describe.skipIf(isMissing)(`an import from pg-boss, ${where}`, () => {
    it.live("moves what waits, by its mapping, with its time and its priority, in order", () =>
      Effect.gen(function* () {
        const schema = yield* makePgBoss
        const at = new Date(Date.UTC(2100, 0, 1))
        const first = yield* send(schema, "send-mail", { email: "a" }, { created_on: new Date(0) })
        yield* send(schema, "send-mail", { email: "b" }, { created_on: new Date(1000), start_after: at })
        yield* send(schema, "send-mail", { email: "c" }, { created_on: new Date(2000), priority: 7 })
        yield* send(schema, "send-mail", { email: "d" }, { state: "retry", retry_count: 2, singleton_key: "k" })
        const report = yield* ImportPgBoss.run({ jobs, schema })
        assert.deepStrictEqual(report, {
          dryRun: false,
          moved: 4,
          already: 0,
          movedByName: { "send-mail": 4 },
          left: [],
        })
        assert.deepStrictEqual(yield* idsIn(schema), [])
        const found = yield* records
        assert.deepStrictEqual(
          found.map(({ payload, priority, queue }) => [JSON.parse(payload).to, priority, queue]),
          [
            ["c", 7, "mail"],
            ["a", 0, "mail"],
            ["b", 0, "mail"],
            ["d", 0, "mail"],
          ],
        )
        assert.strictEqual(JSON.parse(found[1]!.payload).subject, "1970-01-01T00:00:00.000Z")
        assert.strictEqual(found[2]?.eta, at.getTime())
        assert.deepInclude(found[3]?.headers, { "failed-before": "2", key: "k" })
        assert.include(found[1]?.name, first)
      }).pipe(Effect.provide(Layer.fresh(queue))),
    )

    it.live("leaves what it cannot move where it is, and says why", () =>
      Effect.gen(function* () {
        const schema = yield* makePgBoss
        const stay = [
          yield* send(schema, "send-mail", { email: 5 }),
          yield* send(schema, "send-mail", { email: "" }),
          yield* send(schema, "send-mail", { email: "a" }, { state: "active" }),
          yield* send(schema, "send-mail", { email: "a" }, { state: "failed" }),
          yield* send(schema, "send-mail", { email: "a" }, { blocked: true }),
          yield* send(schema, "send-mail", { email: "a" }, { blocking: true }),
          yield* send(schema, "other", { email: "a" }),
          yield* send(schema, "send-mail", { email: "a" }, { state: "completed" }),
        ]
        yield* send(schema, "send-mail", { email: "good" })
        const { left, moved } = yield* ImportPgBoss.run({ jobs, schema })
        assert.strictEqual(moved, 1)
        assert.deepStrictEqual(yield* idsIn(schema), stay)
        assert.deepStrictEqual(left.map(({ count, name, why }) => `${count} ${name} ${why}`).sort(), [
          "1 other unmapped",
          "1 send-mail failed",
          "1 send-mail running",
          "2 send-mail dependent",
          "2 send-mail refused",
        ])
        const refused = left.find(({ why }) => why === "refused")
        assert.deepStrictEqual(
          refused?.examples.map(({ id }) => id),
          stay.slice(0, 2),
        )
        assert.include(refused?.examples[0]?.detail, "string")
      }).pipe(Effect.provide(Layer.fresh(queue))),
    )

    it.live("changes nothing in a dry run, and says what it would do", () =>
      Effect.gen(function* () {
        const schema = yield* makePgBoss
        const ids = [yield* send(schema, "send-mail", { email: "a" }), yield* send(schema, "send-mail", { email: "" })]
        const report = yield* ImportPgBoss.run({ jobs, schema, dryRun: true })
        assert.deepInclude(report, { dryRun: true, moved: 1, movedByName: { "send-mail": 1 } })
        assert.deepStrictEqual(
          report.left.map(({ count, why }) => [count, why]),
          [[1, "refused"]],
        )
        assert.deepStrictEqual(yield* idsIn(schema), ids)
        assert.deepStrictEqual(yield* records, [])
      }).pipe(Effect.provide(Layer.fresh(queue))),
    )

    it.live(
      "moves each once when two import at the same time, a worker claims, and the import is stopped and run again",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const schema = yield* makePgBoss
          yield* sql`
          INSERT INTO ${sql(`${schema}.job`)} (name, data)
          SELECT 'send-mail', jsonb_build_object('email', n::text) FROM generate_series(1, 300) n`
          const claimed = sql<{ id: string }>`
          UPDATE ${sql(`${schema}.job`)} SET state = 'active' WHERE id IN (
            SELECT id FROM ${sql(`${schema}.job`)} WHERE state = 'created' ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED
          ) RETURNING id::text AS id`
          const imported = ImportPgBoss.run({ jobs, schema, batch: 7 })
          const moving = yield* Effect.forkChild(imported, { startImmediately: true })
          yield* Effect.repeat(records, { until: (found) => found.length > 20 })
          yield* Fiber.interrupt(moving)
          const [workers, ...reports] = yield* Effect.all([claimed, imported, imported], { concurrency: 3 })
          const found = yield* records
          const held = new Set(workers.map(({ id }) => id))
          assert.strictEqual(held.size + found.length, 300)
          assert.strictEqual(new Set(found.map(({ payload }) => payload)).size, found.length)
          assert.deepStrictEqual(new Set(yield* idsIn(schema)), held)
          assert.isAbove(reports[0].moved + reports[1].moved, 0)
        }).pipe(Effect.provide(Layer.fresh(queue))),
    )
  })
}

describe.skipIf(isMissing)("an import from pg-boss", () => {
  it.live("takes jobs out and puts records in by one commit in the same database", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const schema = yield* makePgBoss
      const id = yield* send(schema, "send-mail", { email: "a" })
      const imported = ImportPgBoss.run({ jobs, schema })
      const exit = yield* Effect.exit(sql.withTransaction(Effect.andThen(imported, Effect.fail("no"))))
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* idsIn(schema), [id])
      assert.deepStrictEqual(yield* records, [])
    }).pipe(Effect.provide(Layer.fresh(beside))),
  )

  it.live("finishes what was cut off between another queue's records and its own commit", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const schema = yield* makePgBoss
      yield* send(schema, "send-mail", { email: "a" })
      // The jobs come back, and the other queue keeps its records.
      yield* Effect.exit(sql.withTransaction(Effect.andThen(ImportPgBoss.run({ jobs, schema }), Effect.fail("no"))))
      assert.strictEqual((yield* records).length, 1)
      yield* send(schema, "send-mail", { email: "b" })
      assert.deepInclude(yield* ImportPgBoss.run({ jobs, schema }), { moved: 1, already: 1, left: [] })
      assert.strictEqual((yield* records).length, 2)
      assert.deepStrictEqual(yield* idsIn(schema), [])
    }).pipe(Effect.provide(Layer.fresh(elsewhere))),
  )

  it.live("passes over a job that somebody else is about to take, without waiting", () =>
    Effect.gen(function* () {
      const schema = yield* makePgBoss
      const taken = yield* send(schema, "send-mail", { email: "a" })
      yield* send(schema, "send-mail", { email: "b" })
      const worker = Context.get(yield* Layer.build(Layer.fresh(client)), SqlClient.SqlClient)
      const report = yield* worker.withTransaction(
        Effect.andThen(
          worker`SELECT FROM ${worker(`${schema}.job`)} WHERE id = ${taken}::uuid FOR UPDATE`,
          ImportPgBoss.run({ jobs, schema }),
        ),
      )
      assert.strictEqual(report.moved, 1)
      assert.deepStrictEqual(yield* idsIn(schema), [taken])
    }).pipe(Effect.provide(Layer.fresh(elsewhere))),
  )

  it.live("says that there is no pg-boss", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ImportPgBoss.run({ jobs, schema: "nowhere" }))
      assert.strictEqual(error._tag, "UnknownSource")
      assert.include(error.message, "the schema nowhere has no table job")
    }).pipe(Effect.provide(Layer.fresh(elsewhere))),
  )
})

interface PgBoss {
  readonly start: () => Promise<unknown>
  readonly stop: (options: { readonly graceful: boolean }) => Promise<unknown>
  readonly createQueue: (name: string, options?: object) => Promise<unknown>
  readonly send: (name: string, data: object, options?: object) => Promise<string>
  readonly fetch: (name: string) => Promise<ReadonlyArray<{ readonly id: string; readonly data: unknown }>>
  readonly on: (event: "error", listener: (error: unknown) => void) => void
}

describe.skipIf(isMissing || isAbsent("pg-boss"))("an import from the real pg-boss", () => {
  it.live("moves what it has waiting, and leaves what its worker has", () =>
    Effect.gen(function* () {
      const { PgBoss } = yield* Effect.promise(() =>
        load<{ readonly PgBoss: new (options: object) => PgBoss }>("pg-boss"),
      )
      const schema = newSchema()
      const boss = new PgBoss({ connectionString: url(), schema, supervise: false, schedule: false })
      boss.on("error", () => undefined)
      yield* Effect.acquireRelease(
        Effect.promise(() => boss.start()),
        () => Effect.promise(() => boss.stop({ graceful: false })),
      )
      yield* Effect.promise(async () => {
        await boss.createQueue("send-mail")
        await boss.createQueue("own", { partition: true })
        await boss.send("send-mail", { email: "taken" }, { priority: 99 })
        assert.deepStrictEqual((await boss.fetch("send-mail"))[0]?.data, { email: "taken" })
        await boss.send("send-mail", { email: "a" })
        await boss.send("send-mail", { email: "b" }, { priority: 3, startAfter: 3600, singletonKey: "s" })
        await boss.send("own", { email: "c" })
      })
      const { left, moved } = yield* ImportPgBoss.run({ jobs: { ...jobs, own: jobs["send-mail"] }, schema })
      assert.strictEqual(moved, 3)
      assert.deepStrictEqual(
        left.map(({ count, why }) => [count, why]),
        [[1, "running"]],
      )
      const found = yield* records
      assert.deepStrictEqual(
        found.map(({ payload }) => JSON.parse(payload).to),
        ["b", "a", "c"],
      )
      assert.isAbove(found[0]!.eta, found[0]!.enqueuedAt + 3_500_000)
      assert.strictEqual(found[0]!.headers.key, "s")
      assert.deepStrictEqual(yield* Effect.promise(() => boss.fetch("send-mail")), [])
      assert.deepStrictEqual(yield* Effect.promise(() => boss.fetch("own")), [])
    }).pipe(Effect.provide(Layer.fresh(beside))),
  )
})
