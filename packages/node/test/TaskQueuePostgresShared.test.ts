/** What holds over all processes that share a Postgres schema, also when they do the same at the same moment. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import { Effect } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { claim, idOf, now, on, processes, record, records, states, succeed } from "./postgres/records.ts"

const { client } = useDatabase()
const at = { concurrency: "unbounded" } as const
const times = (count: number) => Array.from({ length: count }, (_, index) => index)

describe.skipIf(isMissing)("several processes", () => {
  it.effect("start each record once, in order, without waiting for each other", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.enqueue({ records: records(2000), now })
      const claimed = yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          const mine: Array<TaskId> = []
          for (let found = 1; found > 0; ) {
            const ids = (yield* claim(driver, { limit: 25 })).records.map(({ id }) => id)
            assert.deepStrictEqual(ids, [...ids].sort())
            mine.push(...ids)
            found = ids.length
          }
          return mine
        }),
        at,
      )
      const all = claimed.flat()
      assert.strictEqual(new Set(all).size, all.length)
      // One that another was about to start when this one looked may have been left for the next look.
      for (const rest of [...(yield* claim(drivers[0]!)).records]) all.push(rest.id)
      assert.deepStrictEqual(all.sort(), times(2000).map(idOf))
    }),
  )

  it.effect("pass over what another is starting at this moment, and find it again when that comes to nothing", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2, { listen: false })
      yield* drivers[0]!.enqueue({ records: records(30), now })
      const sql = yield* Effect.provideContext(PgClient.PgClient, services[0]!)
      const ids = (result: { readonly records: ReadonlyArray<{ readonly id: TaskId }> }) =>
        result.records.map(({ id }) => id)
      yield* sql
        .withTransaction(
          Effect.gen(function* () {
            assert.deepStrictEqual(ids(yield* claim(drivers[0]!, { limit: 20 })), times(20).map(idOf))
            const { nextAt, ...other } = yield* claim(drivers[1]!, { limit: 20 })
            assert.deepStrictEqual(
              ids(other),
              times(10).map((index) => idOf(20 + index)),
            )
            assert.strictEqual(nextAt, now)
            yield* Effect.fail("no")
          }),
        )
        .pipe(Effect.ignore)
      assert.deepStrictEqual(ids(yield* claim(drivers[1]!)), times(20).map(idOf))
    }),
  )

  it.effect("never run more of a queue than its limit, nor start more than its rate", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.configure({ queue: "queue", limits: { maxConcurrent: 3, rate: 1000, burst: 40 }, now })
      yield* drivers[0]!.enqueue({ records: records(200), now })
      const running = Effect.map(
        on(services[0]!)(
          Effect.flatMap(
            PgClient.PgClient,
            (sql) => sql.unsafe(`SELECT count(*) FROM ${schema}.records WHERE state = 1`).values,
          ),
        ),
        (rows) => Number(rows[0]?.[0]),
      )
      let most = 0
      let started = 0
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          for (const _ of times(40)) {
            const { records } = yield* claim(driver, { limit: 5 })
            started += records.length
            most = Math.max(most, yield* running)
            yield* succeed(driver, records)
          }
        }),
        at,
      )
      assert.isAtMost(most, 3)
      // The clock stood still: what the bucket held, and no more.
      assert.strictEqual(started, 40)
      const { nextAt } = yield* claim(drivers[1]!)
      assert.strictEqual(nextAt, now + 1)
    }),
  )

  it.effect("store one record with a key and one with a name, whoever comes with them at the same moment", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      const outcomes = yield* Effect.forEach(
        times(200),
        (number) => {
          const only = number % 2 === 0 ? { unique: { key: "k", while: ["waiting"] as const } } : { name: "n" }
          return drivers[number % 4]!.enqueue({ records: [record(number, { ...only, onDuplicate: "ignore" })], now })
        },
        at,
      )
      const tags = outcomes.map(([outcome]) => outcome?._tag)
      assert.strictEqual(tags.filter((tag) => tag === "Inserted").length, 2)
      assert.strictEqual(tags.filter((tag) => tag === "Existing").length, 198)
      assert.deepStrictEqual(yield* states(drivers[0]!), { ready: 2 })
      const [first, second] = (yield* drivers[0]!.find({ limit: 2, now })).records
      for (const [outcome] of outcomes) {
        assert.include([first?.id, second?.id], outcome?._tag === "Tombstoned" ? undefined : outcome?.id)
      }
    }),
  )

  it.effect("do not stand in each other's way when they come with many names in opposite orders", () =>
    Effect.gen(function* () {
      const deadlocks = Effect.flatMap(PgClient.PgClient, (sql) =>
        Effect.map(
          sql.unsafe("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").values,
          (rows) => Number(rows[0]?.[0]),
        ),
      ).pipe(Effect.provide(client, { local: true }))
      const before = yield* deadlocks
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { drivers } = yield* processes(client, 4, { listen: false })
          const names = times(100).map((index) => `name-${index}`)
          const rounds = yield* Effect.forEach(
            times(12),
            (round) => {
              const ordered = Math.floor(round / 4) + (round % 2) === 0 ? names : [...names].reverse()
              const batch = ordered.map((name, index) =>
                record(round * 1000 + index, { name, onDuplicate: round % 3 === 0 ? "replace" : "ignore" }),
              )
              return drivers[round % 4]!.enqueue({ records: batch, now })
            },
            at,
          )
          const inserted = rounds.flat().filter(({ _tag }) => _tag === "Inserted")
          assert.strictEqual(inserted.length, 100)
          assert.deepStrictEqual(yield* states(drivers[0]!), { ready: 100 })
        }),
      )
      // A server that ends a deadlock lets everybody wait for a second before.
      assert.strictEqual(yield* deadlocks, before)
    }),
  )

  it.effect("take back a lease once, and let the old holder change nothing", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.enqueue({ records: records(100), now })
      const first = (yield* claim(drivers[0]!, { lease: 10 })).records
      const again = yield* Effect.forEach(drivers, (driver) => claim(driver, { now: now + 10, limit: 100 }), at)
      const taken = again.flatMap(({ records }) => records)
      for (const { crashes } of taken) assert.strictEqual(crashes, 1)
      assert.strictEqual(new Set(taken.map(({ id }) => id)).size, taken.length)
      const late = yield* succeed(drivers[0]!, first)
      assert.isTrue(late.every((outcome) => outcome === "LeaseLost"))
    }),
  )

  it.effect("extend, settle, cancel and claim the same records at the same moment without an error", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.enqueue({ records: records(400, () => ({ keep: 0, name: undefined })), now })
      let settled = 0
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver, index) {
          for (const _ of times(25)) {
            const { records } = yield* claim(driver, { limit: 8 })
            const leases = [...records].reverse()
            const [outcomes] = yield* Effect.all(
              [
                succeed(driver, records),
                driver.extend({ leases, until: now + 5000, now }),
                drivers[(index + 1) % 4]!.cancel({ ids: leases.map(({ id }) => id), reason: "why", now }),
                driver.progress({ updates: leases.map(({ id, token }) => ({ id, token, progress: "1" })), now }),
              ],
              at,
            )
            assert.isTrue(outcomes.every((outcome) => outcome === "Settled"))
            settled += outcomes.length
          }
        }),
        at,
      )
      for (let left = 1; left > 0; ) {
        const { records } = yield* claim(drivers[0]!)
        settled += (yield* succeed(drivers[0]!, records)).length
        left = records.length
      }
      assert.strictEqual(settled, 400)
      assert.deepStrictEqual(yield* states(drivers[0]!), {})
    }),
  )
})
