/** Turns of many keys on a real server, against a plain simulation, and what is left of keys once nothing is known of them. */
import { PgClient } from "@effect/sql-pg"
import { afterAll, assert, describe, it } from "@effect/vitest"
import type { KeyLimits } from "@outlive/deferred/KeyLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Effect, ManagedRuntime, Schema } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { idOf, newSchema, now, on, processes, record } from "./postgres/records.ts"

const { client } = useDatabase()
// One pool of connections for the many schemas of the simulation.
const runtime = ManagedRuntime.make(client)
afterAll(() => runtime.dispose())

const unlimited: KeyLimits = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }

const claim = (driver: TaskQueue.Driver, limit: number, at = now, tasks: ReadonlyArray<string> = ["task"]) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: tasks.map((name) => ({ name, maxVersion: 2 })),
    targets: [],
    lease: 1e9,
    worker: "worker",
    now: at,
  })

const succeed = (driver: TaskQueue.Driver, records: ReadonlyArray<TaskQueue.Lease>, at = now) =>
  driver.settle({
    settlements: records.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
    now: at,
  })

/** How many rows tables have. */
const rowsIn = (schema: string, ...tables: ReadonlyArray<string>) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.forEach(tables, (table) =>
      Effect.map(sql.unsafe(`SELECT count(*) FROM ${schema}.${table}`).values, (rows) => Number(rows[0]?.[0])),
    ),
  )

type Waiting = Pick<NewRecord, "id" | "task" | "priority" | "eta"> & { readonly key: string }

/** The contract on one queue, in the order of insertion, as plainly as it can be said. */
const makeQueue = (weightOf: (key: string) => number, byKey: KeyLimits) => {
  const places = new Map<string, number>()
  const running = new Map<TaskId, string>()
  let waiting: ReadonlyArray<Waiting> = []
  let time = 0
  return {
    add: (records: ReadonlyArray<Waiting>) => {
      waiting = [...waiting, ...records]
    },
    end: (id: TaskId) => running.delete(id),
    isEmpty: () => waiting.length === 0,
    claim: (limit: number, tasks: ReadonlyArray<string>, at: number): ReadonlyArray<TaskId> => {
      const tagged = [...new Set(waiting.map(({ key }) => key))].flatMap((key) => {
        const base = Math.max(places.get(key) ?? time, time)
        const own = waiting.filter((each) => each.key === key)
        const busy = [...running.values()].filter((of) => of === key).length
        const slots = key === "" ? limit : (byKey.maxConcurrent ?? Number.POSITIVE_INFINITY) - busy
        const isOrdered = byKey.ordered && key !== ""
        return (isOrdered ? own.slice(0, busy > 0 ? 0 : 1) : own)
          .filter((each) => tasks.includes(each.task) && each.eta <= at)
          .sort((left, right) => right.priority - left.priority || left.eta - right.eta)
          .slice(0, Math.max(0, slots))
          .map((each, index) => ({ each, base, tag: base + index * (1 / weightOf(key)) }))
      })
      const order = (left: (typeof tagged)[number], right: (typeof tagged)[number]) =>
        left.tag - right.tag || (left.each.key < right.each.key ? -1 : left.each.key > right.each.key ? 1 : 0)
      const started = tagged.sort(order).slice(0, limit)
      for (const key of new Set(started.map(({ each }) => each.key))) {
        const own = started.filter(({ each }) => each.key === key)
        places.set(key, own[0]!.base + own.length * (1 / weightOf(key)))
      }
      time = Math.max(time, ...started.map(({ tag }) => tag))
      const ids = started.map(({ each }) => each.id)
      for (const { each } of started) running.set(each.id, each.key)
      waiting = waiting.filter(({ id }) => !ids.includes(id))
      return ids
    },
  }
}

const Step = Schema.Union([
  Schema.TaggedStruct("Enqueue", {
    /** Which keys, by number: from the first on, so many. */
    from: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 })),
    count: Schema.Literals([1, 3, 30]),
    each: Schema.Literals([1, 2, 7]),
    task: Schema.Literals(["t", "u"]),
    version: Schema.Literals([1, 2]),
    priority: Schema.Literals([0, 0, 1]),
    delay: Schema.Literals([0, 0, 0, 20]),
  }),
  Schema.TaggedStruct("Claim", { limit: Schema.Literals([1, 5, 20, 100]), tasks: Schema.Literals(["tu", "t", "u"]) }),
  Schema.TaggedStruct("Claim", { limit: Schema.Literals([1, 5, 20, 100]), tasks: Schema.Literals(["tu", "tu", "u"]) }),
  /** Ends so many of what runs, from the oldest on. */
  Schema.TaggedStruct("End", { count: Schema.Literals([1, 7, 40]), isRetried: Schema.Boolean }),
  Schema.TaggedStruct("Wait", { by: Schema.Literals([5, 25]) }),
])

/** Of the keys, in turn: with many different ones there are many different places. */
const weightsOf = { same: [1], few: [1, 3], many: Array.from({ length: 37 }, (_, n) => n * 0.7 + 0.3) }
const limitsOf = { none: {}, one: { maxConcurrent: 1 }, three: { maxConcurrent: 3 }, ordered: { ordered: true } }

describe.skipIf(isMissing)("turns", () => {
  it.effect.prop(
    "are as the contract says, with many keys of many weights and limits in several lanes, and alike in one",
    {
      steps: Schema.Array(Step),
      // All of one task, version and priority, with keys that are all alike: then claims have a shorter way.
      isEven: Schema.Boolean,
      weights: Schema.Literals(["same", "few", "many"]),
      limits: Schema.Literals(["none", "none", "one", "three", "ordered"]),
    },
    ({ isEven, limits, steps, weights: given }) =>
      Effect.gen(function* () {
        const [weighted, limited] = isEven ? (["same", "none"] as const) : [given, limits]
        const services = yield* runtime.contextEffect
        const driver = yield* on(services)(TaskQueuePostgres.make({ schema: newSchema(), listen: false }))
        const weights = weightsOf[weighted]
        const weightOf = (key: string) => (key === "" ? 1 : weights[Number(key.slice(1)) % weights.length]!)
        // One key is none; the others are not in the order of their numbers.
        const keyOf = (number: number) => (number === 0 && !isEven ? "" : `k${number}`)
        if (weighted !== "same") {
          for (let number = 1; number < 60; number++) {
            const key = keyOf(number)
            yield* driver.configureKey({ queue: "queue", key, override: { weight: weightOf(key) }, now })
          }
        }
        const byKey = { ...unlimited, ...limitsOf[limited] }
        yield* driver.configure({ queue: "queue", limits: { byKey }, now })
        const queue = makeQueue(weightOf, byKey)
        let running: ReadonlyArray<TaskQueue.ClaimedRecord> = []
        let at = now
        let number = 0
        const take = Effect.fnUntraced(function* (limit: number, tasks: ReadonlyArray<string>) {
          const { nextAt, records } = yield* claim(driver, limit, at, tasks)
          const ids = records.map(({ id }) => id)
          assert.deepStrictEqual(ids, queue.claim(limit, tasks, at))
          if (ids.length === 0 && nextAt !== undefined) assert.isAbove(nextAt, at)
          running = [...running, ...records]
          return ids.length
        })
        const end = Effect.fnUntraced(function* (count: number) {
          const ended = running.slice(0, count)
          running = running.slice(count)
          yield* succeed(driver, ended, at)
          for (const { id } of ended) queue.end(id)
        })
        // A queue that never had a key takes no turns.
        yield* driver.enqueue({ records: [record(9999, { key: "k1", task: "t" })], now })
        queue.add([{ id: idOf(9999), key: "k1", task: "t", priority: 0, eta: now }])
        yield* take(1, ["t"])
        for (const step of steps) {
          if (step._tag === "Claim") yield* take(step.limit, [...step.tasks])
          else if (step._tag === "End") yield* end(step.count)
          else if (step._tag === "Wait") at += step.by
          else {
            const { count, delay, each, from } = step
            const { priority, task, version } = isEven ? { priority: 0, task: "t", version: 1 } : step
            const records = Array.from({ length: count * each }, (_, n) => {
              const key = keyOf(from + (n % count))
              return record(number++, {
                task,
                version,
                priority,
                key: key === "" ? undefined : key,
                eta: delay === 0 ? 0 : at + delay,
              })
            })
            yield* driver.enqueue({ records, now: at })
            queue.add(records.map((each) => ({ ...each, key: each.key ?? "", eta: Math.max(at, each.eta) })))
          }
        }
        at += 100
        while (!queue.isEmpty()) {
          yield* take(50, ["t", "u"])
          yield* end(1000)
        }
      }).pipe(Effect.scoped),
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
