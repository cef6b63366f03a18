/** Turns of many keys, against a plain simulation, and what is left of keys once nothing is known of them. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Schema } from "effect"
import { idOf, newFile, record } from "./records.ts"

const now = 1000
const unlimited = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }

const claim = (driver: TaskQueue.Driver, limit: number, at = now, tasks: ReadonlyArray<string> = ["task"]) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: tasks.map((name) => ({ name, maxVersion: 2 })),
    targets: [],
    lease: 1e9,
    worker: "worker",
    now: at,
  })

const succeed = (driver: TaskQueue.Driver, records: ReadonlyArray<TaskQueue.ClaimedRecord>, at = now) =>
  driver.settle({
    settlements: records.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
    now: at,
  })

/** How many rows tables have. */
const rowsIn = (filename: string, ...tables: ReadonlyArray<string>) =>
  Effect.sync(() => {
    const db = new DatabaseSync(filename, { readOnly: true })
    const counts = tables.map((table) => db.prepare(`SELECT count(*) AS rows FROM outlive_${table}`).get()?.rows)
    db.close()
    return counts
  })

interface Waiting {
  readonly id: TaskId
  readonly key: string
  readonly task: string
  readonly priority: number
}

/** Virtual time as the contract has it, over what waits in the order of insertion. */
const makeTurns = (weightOf: (key: string) => number) => {
  const places = new Map<string, number>()
  let time = 0
  return (waiting: ReadonlyArray<Waiting>, limit: number): ReadonlyArray<Waiting> => {
    const tagged = [...new Set(waiting.map(({ key }) => key))].flatMap((key) => {
      const base = Math.max(places.get(key) ?? time, time)
      return waiting
        .filter((each) => each.key === key)
        .sort((left, right) => right.priority - left.priority)
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
    return started.map(({ each }) => each)
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
  }),
  Schema.TaggedStruct("Claim", { limit: Schema.Literals([1, 5, 20, 100]), tasks: Schema.Literals(["tu", "t", "u"]) }),
])

/** Of the keys, in turn: with many different ones there are many different places. */
const weightsOf = { same: [1], few: [1, 3], many: Array.from({ length: 37 }, (_, n) => n * 0.7 + 0.3) }

describe("turns", () => {
  it.effect.prop(
    "are as the contract says, with many keys of many weights in several lanes",
    {
      steps: Schema.Array(Step),
      weighted: Schema.Literals(["same", "few", "many"]),
    },
    ({ steps, weighted }) =>
      Effect.gen(function* () {
        const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile, synchronous: "normal" })
        const weights = weightsOf[weighted]
        const weightOf = (key: string) => (key === "" ? 1 : weights[Number(key.slice(1)) % weights.length]!)
        // One key is none; the others are not in the order of their numbers.
        const keyOf = (number: number) => (number === 0 ? "" : `k${number}`)
        for (let number = 1; number < 60; number++) {
          const key = keyOf(number)
          yield* driver.configureKey({ queue: "queue", key, override: { weight: weightOf(key) }, now })
        }
        const turns = makeTurns(weightOf)
        let waiting: ReadonlyArray<Waiting> = []
        let number = 0
        const check = Effect.fnUntraced(function* (limit: number, tasks: ReadonlyArray<string>) {
          const { nextAt, records } = yield* claim(driver, limit, now, tasks)
          const allowed = waiting.filter(({ task }) => tasks.includes(task))
          const expected = turns(allowed, limit)
          assert.deepStrictEqual(
            records.map(({ id }) => id),
            expected.map(({ id }) => id),
          )
          assert.strictEqual(nextAt, allowed.length > expected.length ? now : records.length > 0 ? now + 1e9 : nextAt)
          waiting = waiting.filter((each) => !expected.includes(each))
          return records.length
        })
        // A queue that never had a key takes no turns.
        yield* driver.enqueue({ records: [record(9999, { key: "k1", keep: 0 })], now })
        yield* succeed(driver, (yield* claim(driver, 1)).records)
        turns([{ id: idOf(9999), key: "k1", task: "task", priority: 0 }], 1)
        for (const step of steps) {
          if (step._tag === "Claim") {
            yield* check(step.limit, [...step.tasks])
            continue
          }
          const { count, each, from, priority, task, version } = step
          const records = Array.from({ length: count * each }, (_, n) => {
            const key = keyOf(from + (n % count))
            return record(number++, { task, version, priority, key: key === "" ? undefined : key })
          })
          yield* driver.enqueue({ records, now })
          waiting = [...waiting, ...records.map(({ id, key = "", priority, task }) => ({ id, key, priority, task }))]
        }
        while ((yield* check(50, ["t", "u"])) > 0);
        assert.lengthOf(waiting, 0)
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 40, size: 25 } },
  )

  it.effect("of very many keys that are due at one time are all taken, some thousand made due by each claim", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const records = Array.from({ length: 4500 }, (_, n) => record(n, { key: `k${n}`, eta: now + 10 }))
      yield* driver.enqueue({ records, now })
      assert.deepStrictEqual(yield* claim(driver, 1), { records: [], nextAt: now + 10 })
      const claimed: Array<TaskId> = []
      for (let next: number | undefined = now + 10; next === now + 10; ) {
        const { nextAt, records } = yield* claim(driver, 3000, now + 10)
        for (const { id } of records) claimed.push(id)
        next = nextAt
      }
      assert.strictEqual(new Set(claimed).size, 4500)
    }),
  )

  it.effect("are in the order of code points, also where a text's code units are not", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const keys = ["\u{1f600}", "\uffee", "z", "é"]
      const records = keys.flatMap((key, n) => [
        record(2 * n, { key, version: 1 }),
        record(2 * n + 1, { key, version: 2 }),
      ])
      yield* driver.configure({ queue: "queue", limits: { byKey: { ...unlimited, maxConcurrent: 1 } }, now })
      yield* driver.enqueue({ records, now })
      const { records: claimed } = yield* claim(driver, 100)
      assert.deepStrictEqual(
        claimed.map(({ key }) => key),
        ["z", "é", "\uffee", "\u{1f600}"],
      )
    }),
  )
})

describe("what is known of keys", () => {
  it.effect("is gone when nothing of them waits, their place is past and their rate is full again", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const byKey = { ...unlimited, rate: 10, ordered: true }
      yield* driver.configure({ queue: "queue", limits: { byKey }, now })
      const records = Array.from({ length: 300 }, (_, n) => record(n, { key: `k${n % 100}`, keep: 0 }))
      yield* driver.enqueue({ records, now })
      let at = now
      for (let round = 0; round < 30; round++, at += 10) {
        const { records } = yield* claim(driver, 50, at)
        yield* succeed(driver, records, at)
      }
      // The times of the last round are not past before something comes after it.
      yield* driver.enqueue({ records: Array.from({ length: 5 }, (_, n) => record(1000 + n, { keep: 0 })), now: at })
      yield* succeed(driver, (yield* claim(driver, 10, at)).records, at)
      yield* driver.enqueue({ records: Array.from({ length: 5 }, (_, n) => record(1100 + n, { keep: 0 })), now: at })
      yield* succeed(driver, (yield* claim(driver, 10, at)).records, at)
      assert.lengthOf((yield* driver.find({ limit: 1, now: at })).records, 0)
      yield* driver.prune({ now: at + 1000, deadBefore: 0, limit: 500 })
      assert.deepStrictEqual(yield* rowsIn(filename, "turns", "lanes", "keys", "line"), [0, 0, 0, 0])
    }),
  )

  it.effect("goes bit by bit with the claims that follow, without a prune", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      for (let round = 0; round < 100; round++) {
        // One key always waits, so that the time goes on; the others come once.
        const keys = ["a", ...Array.from({ length: 20 }, (_, n) => `k${round}.${n}`)]
        yield* driver.enqueue({
          records: keys.flatMap((key, n) => [0, 1].map((k) => record(round * 100 + n * 2 + k, { key, keep: 0 }))),
          now,
        })
        while (true) {
          const { records } = yield* claim(driver, 10)
          if (records.length === 0) break
          yield* succeed(driver, records)
        }
      }
      const [turns] = yield* rowsIn(filename, "turns")
      assert.isBelow(Number(turns), 200)
    }),
  )

  it.effect("keeps what was said for one, and a pause until it is over", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.configureKey({ queue: "queue", key: "a", override: { weight: 3 }, now })
      yield* driver.configureKey({ queue: "queue", key: "b", override: { rate: 0 }, now })
      yield* driver.configureKey({ queue: "queue", key: "b", override: {}, now })
      yield* driver.pauseUntil({ queue: "queue", key: "c", until: now + 100, now })
      yield* driver.prune({ now, deadBefore: 0, limit: 500 })
      assert.deepStrictEqual(yield* rowsIn(filename, "keys"), [2])
      yield* driver.prune({ now: now + 100, deadBefore: 0, limit: 500 })
      assert.deepStrictEqual(yield* rowsIn(filename, "keys"), [1])
      assert.deepStrictEqual((yield* driver.keyStatistics({ queue: "queue", key: "a", now })).override, { weight: 3 })
    }),
  )
})
