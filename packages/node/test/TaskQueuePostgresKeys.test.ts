/** Turns of many keys on a real server, against a plain simulation, and what is left of keys once nothing is known of them. */
import { PgClient } from "@effect/sql-pg"
import { afterAll, assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Effect, ManagedRuntime } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { newSchema, on, processes, record } from "./postgres/records.ts"
import { claim, follow, history, now, succeed, unlimited } from "./turns.ts"

const { client } = useDatabase()
// One pool of connections for the many schemas of the simulation.
const runtime = ManagedRuntime.make(client)
afterAll(() => runtime.dispose())

/** How many rows tables have. */
const rowsIn = (schema: string, ...tables: ReadonlyArray<string>) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.forEach(tables, (table) =>
      Effect.map(sql.unsafe(`SELECT count(*) FROM ${schema}.${table}`).values, (rows) => Number(rows[0]?.[0])),
    ),
  )

describe.skipIf(isMissing)("turns", () => {
  it.effect.prop(
    "are as the contract says, with many keys of many weights and limits in several lanes, and alike in one",
    history,
    follow({
      make: Effect.flatMap(runtime.contextEffect, (services) =>
        on(services)(TaskQueuePostgres.make({ schema: newSchema(), listen: false })),
      ),
      tellsNextAt: false,
    }),
    { arbitrary: { runs: 40, size: 25 }, timeout: 120_000 },
  )

  it.effect("of very many keys that arrive or are due at one time are all taken, some thousand at once", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const records = Array.from({ length: 6000 }, (_, n) => record(n, { key: `k${n}`, eta: n < 3000 ? 0 : now + 10 }))
      yield* driver.enqueue({ records, now })
      const claimed: Array<TaskId> = []
      for (const at of [now, now + 10]) {
        for (let next: number | undefined = at; next === at; ) {
          const result: TaskQueue.ClaimResult = yield* claim(driver, 700, at)
          for (const { id } of result.records) claimed.push(id)
          next = result.nextAt
        }
      }
      assert.strictEqual(new Set(claimed).size, 6000)
    }),
  )

  it.effect("go on for those whom the time has passed meanwhile, since nobody claimed what is theirs", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      // More than are brought up to the present at once.
      const theirs = Array.from({ length: 5000 }, (_, n) => record(n, { key: `k${n}`, task: "other" }))
      const own = Array.from({ length: 40 }, (_, n) => record(10_000 + n, { key: `k${n % 2}` }))
      yield* driver.enqueue({ records: theirs, now })
      while ((yield* claim(driver, 1, now, ["nothing"])).nextAt === now);
      yield* driver.enqueue({ records: own, now })
      assert.lengthOf((yield* claim(driver, 100)).records, 40)
      const claimed: Array<TaskId> = []
      for (let found = 1; found > 0; ) {
        const { records } = yield* claim(driver, 1000, now, ["other"])
        for (const { id } of records) claimed.push(id)
        found = records.length
      }
      assert.strictEqual(new Set(claimed).size, 5000)
    }),
  )

  it.effect("take in what a transaction stored that ended after later ones were seen to", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2, { listen: false })
      const [slow, quick] = drivers as [TaskQueue.Driver, TaskQueue.Driver]
      const sql = yield* on(services[0]!)(PgClient.PgClient)
      const give = (driver: TaskQueue.Driver, number: number) =>
        driver.enqueue({ records: [record(number, { key: `k${number}` })], now })
      yield* give(quick, 1)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* give(slow, 2)
          for (let number = 3; number < 10; number++) {
            yield* give(quick, number)
            yield* claim(quick, 10)
          }
        }),
      )
      assert.deepStrictEqual(
        (yield* claim(quick, 10)).records.map(({ key }) => key),
        ["k2"],
      )
    }),
  )

  it.effect("leave behind what they have taken in, also while there is more of it", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const sql = yield* on(services[0]!)(PgClient.PgClient)
      const from = Effect.map(
        sql.unsafe(
          `SELECT (SELECT arrived_from FROM ${schema}.queues)::text, (SELECT count(*) FROM ${schema}.arrivals)`,
        ).values,
        ([row]) => [Number(row![0]), Number(row![1])] as const,
      )
      for (let call = 0; call < 3; call++) {
        const some = Array.from({ length: 2000 }, (_, n) => record(2000 * call + n, { key: `k${2000 * call + n}` }))
        yield* driver.enqueue({ records: some, now })
      }
      const seen: Array<number> = []
      for (let left = Number.POSITIVE_INFINITY; left > 0; ) {
        yield* claim(driver, 1)
        const [at, rest] = yield* from
        seen.push(at)
        left = rest
      }
      assert.lengthOf(seen, 3)
      assert.isAbove(seen[0]!, 0)
      assert.deepStrictEqual(
        seen,
        [...new Set(seen)].sort((left, right) => left - right),
      )
    }),
  )

  it.effect("take in everything on a server whose transactions are numbered from the beginning again", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const sql = yield* on(services[0]!)(PgClient.PgClient)
      yield* driver.enqueue({ records: [record(1, { key: "a" })], now })
      assert.lengthOf((yield* claim(driver, 10)).records, 1)
      // As a dump of a server that has been there for longer leaves it.
      yield* sql.unsafe(`UPDATE ${schema}.queues SET arrived_from = '900000000000'`)
      for (const number of [2, 3]) {
        yield* driver.enqueue({ records: [record(number, { key: "a" })], now })
        assert.lengthOf((yield* claim(driver, 10)).records, 1)
      }
    }),
  )

  it.effect("are in the order of code points, also where a text's code units are not", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1, { listen: false })
      const keys = ["\u{1f600}", "\uffee", "z", "é"]
      yield* drivers[0]!.enqueue({ records: keys.map((key, n) => record(n, { key })), now })
      const { records } = yield* claim(drivers[0]!, 100)
      assert.deepStrictEqual(
        records.map(({ key }) => key),
        ["z", "é", "\uffee", "\u{1f600}"],
      )
    }),
  )
})

describe.skipIf(isMissing)("what is known of keys", () => {
  it.effect("is gone when nothing of them waits, their place is past and their rate is full again", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const rows = on(services[0]!)(rowsIn(schema, "turns", "keys", "arrivals"))
      yield* driver.configure({ queue: "queue", limits: { byKey: { ...unlimited, rate: 10, maxConcurrent: 2 } }, now })
      const records = Array.from({ length: 300 }, (_, n) => record(n, { key: `k${n % 100}`, keep: 0 }))
      yield* driver.enqueue({ records, now })
      let at = now
      for (let found = 1; found > 0; at += 10) {
        const { records } = yield* claim(driver, 50, at)
        yield* succeed(driver, records, at)
        found = records.length
      }
      assert.deepStrictEqual(yield* rows, [100, 100, 0])
      // The places of the last round are not past before something comes after it.
      for (const from of [1000, 2000]) {
        yield* driver.enqueue({ records: Array.from({ length: 5 }, (_, n) => record(from + n, { keep: 0 })), now: at })
        yield* succeed(driver, (yield* claim(driver, 10, at)).records, at)
      }
      yield* driver.prune({ now: at + 1000, deadBefore: 0, limit: 1000 })
      assert.deepStrictEqual(yield* rows, [0, 100, 0])
      // Clocks of workers differ, so a bucket that is full stays for a while.
      yield* driver.prune({ now: at + 120_000, deadBefore: 0, limit: 1000 })
      assert.deepStrictEqual(yield* rows, [0, 0, 0])
    }),
  )

  it.effect("keeps what was said for one, and a pause until it is over", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const rows = on(services[0]!)(rowsIn(schema, "keys"))
      yield* driver.configureKey({ queue: "queue", key: "a", override: { weight: 3 }, now })
      yield* driver.configureKey({ queue: "queue", key: "b", override: { rate: 0 }, now })
      yield* driver.configureKey({ queue: "queue", key: "b", override: {}, now })
      yield* driver.pauseUntil({ queue: "queue", key: "c", until: now + 100_000, now })
      yield* driver.prune({ now: now + 100_000, deadBefore: 0, limit: 500 })
      assert.deepStrictEqual(yield* rows, [2])
      yield* driver.prune({ now: now + 200_000, deadBefore: 0, limit: 500 })
      assert.deepStrictEqual(yield* rows, [1])
      assert.deepStrictEqual((yield* driver.keyStatistics({ queue: "queue", key: "a", now })).override, { weight: 3 })
    }),
  )

  it.effect("does not grow with the priorities that records once had", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const records = Array.from({ length: 300 }, (_, n) => record(n, { key: `k${n % 3}`, priority: n / 7 }))
      yield* driver.enqueue({ records, now })
      assert.lengthOf((yield* claim(driver, 1000)).records, 300)
      yield* driver.enqueue({ records: [record(1000, { key: "k1", priority: 5 })], now })
      yield* driver.prune({ now, deadBefore: 0, limit: 500 })
      yield* claim(driver, 1, now, ["nothing"])
      const [lanes] = yield* on(services[0]!)(rowsIn(schema, "lanes"))
      assert.isAtMost(lanes!, 100)
      assert.lengthOf((yield* claim(driver, 10)).records, 1)
    }),
  )
})
