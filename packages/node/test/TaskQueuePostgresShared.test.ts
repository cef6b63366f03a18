/** What holds over all processes that share a Postgres schema, also when they do the same at the same moment. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { Join } from "@outlive/deferred/TaskRecord"
import { type Context, Deferred, Effect, Fiber } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { claim, idOf, now, on, processes, record, records, states, succeed } from "./postgres/records.ts"

const { client } = useDatabase()
const at = { concurrency: "unbounded" } as const
const times = (count: number) => Array.from({ length: count }, (_, index) => index)

/** A server that ends a deadlock lets everybody wait for a second before. */
const deadlocks = Effect.flatMap(PgClient.PgClient, (sql) =>
  Effect.map(sql.unsafe("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").values, (rows) =>
    Number(rows[0]?.[0]),
  ),
).pipe(Effect.provide(client, { local: true }))

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

const ids = (result: { readonly records: ReadonlyArray<{ readonly id: TaskId }> }) => result.records.map(({ id }) => id)

/** Opens a transaction of another process, with what it does in it, and goes on while it is open. */
const meanwhile = Effect.fnUntraced(function* <A, E, B, F>(
  services: Context.Context<PgClient.PgClient>,
  before: Effect.Effect<A, E>,
  during: Effect.Effect<B, F>,
) {
  const sql = yield* Effect.provideContext(PgClient.PgClient, services)
  const begun = yield* Deferred.make<void>()
  const over = yield* Deferred.make<void>()
  const open = yield* Effect.forkChild(
    sql.withTransaction(
      Effect.andThen(before, Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(over))),
    ),
  )
  yield* Effect.raceFirst(Deferred.await(begun), Effect.andThen(Fiber.join(open), Effect.never))
  const result = yield* during
  yield* Deferred.succeed(over, undefined)
  yield* Fiber.join(open)
  return result
})

const byKey = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }

describe.skipIf(isMissing)("several processes, keys", () => {
  it.effect("give each key its share, and start each record once", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.enqueue({ records: records(1200, (number) => ({ key: `key-${number % 30}` })), now })
      const claimed = yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          const mine: Array<TaskId> = []
          for (let found = 1; found > 0; ) {
            const result = ids(yield* claim(driver, { limit: 15 }))
            mine.push(...result)
            found = result.length
          }
          return mine
        }),
        at,
      )
      assert.deepStrictEqual(claimed.flat().sort(), times(1200).map(idOf))
      const found = yield* drivers[0]!.find({ limit: 1200, now })
      assert.isTrue(found.records.every(({ attempt }) => attempt === 1))
    }),
  )

  it.effect("never run more of a key than it may, and all get done", () =>
    Effect.gen(function* () {
      const { drivers, schema, services } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.configure({ queue: "queue", limits: { byKey: { ...byKey, maxConcurrent: 2 } }, now })
      yield* drivers[0]!.enqueue({ records: records(200, (number) => ({ key: `key-${number % 5}` })), now })
      const running = Effect.map(
        on(services[0]!)(
          Effect.flatMap(
            PgClient.PgClient,
            (sql) =>
              sql.unsafe(
                `SELECT max(count) FROM (SELECT count(*) FROM ${schema}.records WHERE state = 1 GROUP BY key) s`,
              ).values,
          ),
        ),
        (rows) => Number(rows[0]?.[0]),
      )
      let most = 0
      let done = 0
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          while (done < 200) {
            const { records } = yield* claim(driver, { limit: 4 })
            const count = yield* running
            most = Math.max(most, count)
            const outcomes = yield* succeed(driver, records)
            done += outcomes.length
          }
        }),
        at,
      )
      assert.strictEqual(done, 200)
      assert.isAtMost(most, 2)
    }),
  )

  it.effect("run the records of each key one after the other, as they were inserted", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      yield* drivers[0]!.configure({ queue: "queue", limits: { byKey: { ...byKey, ordered: true } }, now })
      const tasks = ["task", "other"].map((name) => ({ name, maxVersion: 1 }))
      yield* drivers[0]!.enqueue({
        records: records(120, (number) => ({ key: `key-${number % 4}`, task: number % 3 === 0 ? "other" : "task" })),
        now,
      })
      const order: Array<TaskId> = []
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          while (order.length < 120) {
            const { records } = yield* driver.claim({
              queues: [{ name: "queue", limit: 3 }],
              tasks,
              targets: [],
              lease: 1000,
              worker: "worker",
              now,
            })
            order.push(...records.map(({ id }) => id))
            yield* succeed(driver, records)
          }
        }),
        at,
      )
      for (const key of times(4)) {
        const ofKey = order.filter((id) => Number(id.slice(-12)) % 4 === key)
        assert.deepStrictEqual(ofKey, [...ofKey].sort())
      }
      assert.strictEqual(order.length, 120)
    }),
  )

  it.effect("wait for nobody whose transaction defers with a key and is long in committing", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2, { listen: false })
      const [slow, quick] = drivers as [TaskQueue.Driver, TaskQueue.Driver]
      // Also the first ones with a key in the queue.
      yield* meanwhile(
        services[0]!,
        slow.enqueue({ records: [record(1, { key: "a" }), record(2, { key: "b" })], now }),
        Effect.gen(function* () {
          yield* quick.enqueue({ records: [record(3, { key: "a" }), record(4, { key: "c" }), record(5)], now })
          const first = yield* claim(quick)
          assert.deepStrictEqual(ids(first), [5, 3, 4].map(idOf))
          yield* succeed(quick, first.records)
          yield* quick.enqueue({ records: [record(6, { key: "b" })], now })
          assert.deepStrictEqual(ids(yield* claim(quick)), [idOf(6)])
          assert.deepStrictEqual(ids(yield* claim(quick)), [])
        }),
      )
      assert.deepStrictEqual(ids(yield* claim(quick)), [1, 2].map(idOf))
    }),
  )

  it.effect("find what becomes free when a transaction that settles is committed, and not before", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2, { listen: false })
      const [slow, quick] = drivers as [TaskQueue.Driver, TaskQueue.Driver]
      yield* quick.configure({ queue: "queue", limits: { byKey: { ...byKey, maxConcurrent: 1 } }, now })
      yield* quick.enqueue({ records: records(4, (number) => ({ key: number < 3 ? "a" : "b" })), now })
      const { records: running } = yield* claim(slow)
      assert.deepStrictEqual(
        running.map(({ key }) => key),
        ["a", "b"],
      )
      yield* meanwhile(
        services[0]!,
        succeed(slow, running),
        Effect.gen(function* () {
          yield* quick.enqueue({ records: [record(10, { key: "c" })], now })
          assert.deepStrictEqual(ids(yield* claim(quick)), [idOf(10)])
        }),
      )
      assert.deepStrictEqual(ids(yield* claim(quick)), [idOf(1)])
    }),
  )
})

describe.skipIf(isMissing)("several processes, records that wait for others", () => {
  const joinOf = (
    total: number,
    onFailure: Join["onFailure"] = "continue",
    afterwards: Join["afterwards"] = "run",
  ): Join => ({
    total,
    onFailure,
    afterwards,
  })

  it.effect("count the members of many joins that they settle at the same moment", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 4, { listen: false })
      const joins = 10
      const each = 40
      const all = times(joins).flatMap((join) => [
        record(join, { join: joinOf(each), priority: -1 }),
        ...times(each).map((number) => record(1000 + number * joins + join, { memberOf: idOf(join) })),
      ])
      yield* drivers[0]!.enqueue({ records: all, now })
      let settled = 0
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver) {
          for (let found = 1; found > 0 || settled < joins * each; ) {
            const { records } = yield* claim(driver, { limit: 20 })
            const outcomes = yield* succeed(driver, records)
            settled += outcomes.length
            found = records.length
          }
        }),
        at,
      )
      const found = yield* drivers[0]!.get({ ids: times(joins).map(idOf), now })
      for (const each of found) assert.deepInclude(each, { state: "succeeded", attempt: 1 })
      assert.isTrue(found.every((record) => record?.join?.succeeded === each))
    }),
  )

  it.effect("fail, cancel and settle the members of nested joins at the same moment, and all of them end", () =>
    Effect.gen(function* () {
      const before = yield* deadlocks
      const { drivers } = yield* processes(client, 4, { listen: false })
      const all = times(12).flatMap((group) => [
        record(group, { join: joinOf(3, "cancelSiblings", "end") }),
        ...times(3).flatMap((inner) => [
          record(100 + group * 3 + inner, {
            join: joinOf(6, inner === 0 ? "cancel" : "cancelSiblings"),
            memberOf: idOf(group),
          }),
          ...times(6).map((number) =>
            record(1000 + (group * 3 + inner) * 6 + number, { memberOf: idOf(100 + group * 3 + inner) }),
          ),
        ]),
      ])
      yield* drivers[0]!.enqueue({ records: all, now })
      yield* Effect.forEach(
        drivers,
        Effect.fnUntraced(function* (driver, index) {
          for (const round of times(40)) {
            const { records } = yield* claim(driver, { limit: 7 })
            const settlements = records.map(({ id, token }, place) =>
              (place + round + index) % 5 === 0
                ? ({
                    id,
                    token,
                    _tag: "Bury",
                    reason: "PermanentFailure",
                    result: undefined,
                    failure: undefined,
                  } as const)
                : ({ id, token, _tag: "Succeed", result: undefined } as const),
            )
            const some = times(2).map((number) => idOf(1000 + ((round * 13 + index * 31 + number * 7) % 216)))
            yield* Effect.all(
              [driver.settle({ settlements, now }), driver.cancel({ ids: some, reason: "why", now })],
              at,
            )
          }
        }),
        at,
      )
      for (let left = 1; left > 0; ) {
        const { records } = yield* claim(drivers[0]!)
        yield* succeed(drivers[0]!, records)
        left = records.length
      }
      const counts = yield* states(drivers[0]!)
      assert.strictEqual(
        Object.values(counts).reduce((sum, count) => sum + count, 0),
        all.length,
      )
      for (const state of ["ready", "scheduled", "running"]) assert.isUndefined(counts[state], JSON.stringify(counts))
      assert.strictEqual(yield* deadlocks, before)
    }),
  )

  it.effect("release what follows a record that ended while the transaction that deferred it was open", () =>
    Effect.gen(function* () {
      const { drivers, services } = yield* processes(client, 2, { listen: false })
      const [slow, quick] = drivers as [TaskQueue.Driver, TaskQueue.Driver]
      const unique = { key: "k", while: ["waiting", "running"] as const, latest: {} }
      for (const [first, end] of [
        [10, "Succeed"],
        [20, "Release"],
      ] as const) {
        yield* quick.enqueue({ records: [record(first, { unique })], now })
        const [running] = (yield* claim(quick)).records
        yield* meanwhile(
          services[0]!,
          slow.enqueue({ records: [record(first + 1, { unique })], now }),
          Effect.gen(function* () {
            const lease = { id: running!.id, token: running!.token }
            const settlement = end === "Succeed" ? { ...lease, _tag: end, result: undefined } : { ...lease, _tag: end }
            assert.deepStrictEqual(yield* quick.settle({ settlements: [settlement], now }), ["Settled"])
          }),
        )
        // It is found by the next claim.
        const { records: found } = yield* claim(quick)
        assert.deepStrictEqual(
          found.map(({ id }) => id),
          [idOf(first + 1)],
        )
        const [before] = yield* quick.get({ ids: [idOf(first)], now })
        assert.strictEqual(before?.state, end === "Succeed" ? "succeeded" : "cancelled")
        yield* succeed(quick, found)
      }
    }),
  )

  it.effect("cancel more members than at once, the rest with the claims that follow", () =>
    Effect.gen(function* () {
      const { drivers } = yield* processes(client, 1, { listen: false })
      const [driver] = drivers as [TaskQueue.Driver]
      const count = 7000
      const members = times(count).map((number) => record(10 + number, { memberOf: idOf(0), task: "unknown" }))
      yield* driver.enqueue({ records: [record(0, { join: joinOf(count) }), ...members], now })
      assert.deepStrictEqual(yield* driver.cancel({ ids: [idOf(0)], reason: "why", now }), ["Cancelled"])
      assert.isBelow((yield* states(driver)).cancelled ?? 0, count)
      yield* claim(driver)
      assert.deepStrictEqual(yield* states(driver), { cancelled: count + 1 })
      const [last] = yield* driver.get({ ids: [idOf(9 + count)], now })
      assert.strictEqual(last?.cancelRequested, "why")
    }),
  )
})
