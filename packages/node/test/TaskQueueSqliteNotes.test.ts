import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { idOf, newFile, record as sample } from "./records.ts"

const record = (number: number, more?: Partial<NewRecord>) => sample(number, { keep: 1000, maxCrashes: 1000, ...more })
const numbers = (length: number) => Array.from({ length }, (_, index) => index)
const claimAt = (driver: TaskQueue.Driver, now: number, limit = 1000) =>
  Effect.map(
    driver.claim({
      queues: [{ name: "queue", limit }],
      tasks: [{ name: "task", maxVersion: 1 }],
      targets: [],
      lease: 10,
      worker: "worker",
      now,
    }),
    ({ records }) => records,
  )
/** Looks into the file beside the driver. */
const look = (filename: string, sql: string): unknown => {
  const db = new DatabaseSync(filename)
  const row = Object.values(db.prepare(sql).get() ?? {})[0]
  db.close()
  return row
}
const attempts = (filename: string) => look(filename, "SELECT count(*) FROM outlive_attempts")

describe("the ledger", () => {
  it.effect("costs no row when a record succeeds at its first attempt", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: [record(1)], now: 0 })
      const [claimed] = yield* claimAt(driver, 0)
      yield* driver.settle({ settlements: [{ ...claimed!, _tag: "Succeed", result: "1" }], now: 5 })
      assert.strictEqual(attempts(filename), 0)
      assert.deepStrictEqual(yield* driver.ledger({ ids: [idOf(1)] }), [
        [{ attempt: 1, worker: "worker", startedAt: 0, endedAt: 5, outcome: "Succeed", failure: undefined }],
      ])
    }),
  )

  it.effect("has the newest fifty attempts, and no rows for older ones", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: [record(1)], now: 0 })
      for (const now of numbers(120)) {
        const [claimed] = yield* claimAt(driver, now)
        // Some are given back, some crash.
        if (now % 3 === 0) yield* driver.settle({ settlements: [{ ...claimed!, _tag: "Release" }], now })
        else if (now % 3 === 1)
          yield* driver.settle({ settlements: [{ ...claimed!, _tag: "Retry", eta: 0, failure: "{}" }], now })
        else yield* driver.extend({ leases: [claimed!], until: now + 1, now })
      }
      assert.strictEqual(attempts(filename), 50)
      const [last] = yield* claimAt(driver, 120)
      yield* driver.settle({ settlements: [{ ...last!, _tag: "Succeed", result: undefined }], now: 200 })
      const [ledger = []] = yield* driver.ledger({ ids: [idOf(1)] })
      assert.deepStrictEqual(
        ledger.map(({ startedAt }) => startedAt),
        numbers(50).map((index) => 71 + index),
      )
      assert.deepStrictEqual(
        ledger.slice(-4).map(({ outcome }) => outcome),
        ["Release", "Retry", "Crash", "Succeed"],
      )
    }),
  )

  const ways: ReadonlyArray<
    readonly [
      string,
      (driver: TaskQueue.Driver, failed: TaskQueue.ClaimedRecord) => Effect.Effect<unknown, TaskQueue.TaskQueueError>,
    ]
  > = [
    ["is removed while it waits", (driver) => driver.remove({ ids: [idOf(1)] })],
    ["is purged", (driver) => driver.purge({ queue: "queue" })],
    [
      "is replaced",
      (driver) => driver.enqueue({ records: [record(2, { name: "n", onDuplicate: "replace" })], now: 2 }),
    ],
    [
      "is cancelled and pruned",
      (driver) =>
        Effect.andThen(
          driver.cancel({ ids: [idOf(1)], reason: "", now: 2 }),
          driver.prune({ now: 5000, deadBefore: 0, limit: 10 }),
        ),
    ],
    [
      "succeeds later and is pruned",
      (driver) =>
        Effect.gen(function* () {
          const [again] = yield* claimAt(driver, 2)
          yield* driver.settle({ settlements: [{ ...again!, _tag: "Succeed", result: undefined }], now: 2 })
          yield* driver.prune({ now: 5000, deadBefore: 0, limit: 10 })
        }),
    ],
    [
      "is buried and pruned",
      (driver) =>
        Effect.gen(function* () {
          const [again] = yield* claimAt(driver, 2)
          const bury = { _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: undefined } as const
          yield* driver.settle({ settlements: [{ ...again!, ...bury }], now: 2 })
          yield* driver.prune({ now: 5000, deadBefore: 5000, limit: 10 })
        }),
    ],
  ]
  it.effect.each(ways)("goes with its record when that %s", ([, way]) =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: [record(1, { name: "n" })], now: 0 })
      const [claimed] = yield* claimAt(driver, 0)
      yield* driver.settle({ settlements: [{ ...claimed!, _tag: "Retry", eta: 0, failure: "{}" }], now: 1 })
      assert.strictEqual(attempts(filename), 1)
      yield* way(driver, claimed!)
      assert.strictEqual(attempts(filename), 0)
    }),
  )

  it.effect("goes with records that are not kept, also when their first attempt does not succeed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: numbers(4).map((number) => record(number, { keep: 0 })), now: 0 })
      const [cancelled, asked, later, waiting] = yield* claimAt(driver, 0)
      yield* driver.cancel({ ids: [asked!.id], reason: "", now: 0 })
      const retry = { _tag: "Retry", eta: 0, failure: "{}" } as const
      yield* driver.settle({
        settlements: [
          { ...cancelled!, _tag: "Cancel" },
          { ...asked!, ...retry },
          { ...later!, ...retry },
          { ...waiting!, ...retry },
        ],
        now: 1,
      })
      assert.strictEqual(attempts(filename), 2)
      yield* driver.cancel({ ids: [waiting!.id], reason: "", now: 1 })
      const [again] = yield* claimAt(driver, 2)
      yield* driver.settle({ settlements: [{ ...again!, _tag: "Succeed", result: undefined }], now: 3 })
      assert.strictEqual(look(filename, "SELECT count(*) FROM outlive_records"), 0)
      assert.strictEqual(attempts(filename), 0)
    }),
  )
})

describe("pruning", () => {
  it.effect("deletes as many ended records as it is told, whatever way they ended, and as many dead letters", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: numbers(120).map((number) => record(number)), now: 0 })
      const claimed = yield* claimAt(driver, 0)
      const endings = [
        { _tag: "Succeed", result: undefined },
        { _tag: "Cancel" },
        { _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: undefined },
      ] as const
      const settlements = claimed.map((each, index) => ({ ...each, ...endings[index % 3]! }))
      yield* driver.settle({ settlements, now: 1 })
      const prune = (limit: number) => driver.prune({ now: 5000, deadBefore: 5000, limit })
      assert.strictEqual(yield* prune(30), 60)
      assert.strictEqual(yield* prune(30), 40)
      assert.strictEqual(yield* prune(30), 20)
      assert.strictEqual(yield* prune(30), 0)
      assert.deepStrictEqual(yield* driver.counts({ now: 5000 }), [])
    }),
  )
})

describe("the count of settled attempts", () => {
  it.effect("is one row for a second and queue, however many calls, and only of the last two minutes", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const settleTen = Effect.fnUntraced(function* (from: number, now: number) {
        yield* driver.enqueue({ records: numbers(10).map((number) => record(from + number)), now })
        const claimed = yield* claimAt(driver, now)
        yield* Effect.forEach(
          claimed,
          (each) => driver.settle({ settlements: [{ ...each, _tag: "Succeed", result: undefined }], now }),
          { concurrency: "unbounded" },
        )
      })
      const executed = (now: number) =>
        Effect.map(driver.statistics({ queue: "queue", now }), ({ executedLastMinute }) => executedLastMinute)
      yield* settleTen(0, 10_000)
      assert.strictEqual(look(filename, "SELECT count(*) FROM outlive_executed"), 1)
      assert.strictEqual(yield* executed(69_999), 10)
      assert.strictEqual(yield* executed(70_000), 0)
      assert.strictEqual(yield* executed(9_999), 0)
      for (const minute of numbers(10)) yield* settleTen((minute + 1) * 10, 60_000 * (minute + 1))
      assert.isAtMost(Number(look(filename, "SELECT count(*) FROM outlive_executed")), 3)
      assert.strictEqual(yield* executed(600_000), 10)
    }),
  )

  it.effect("is of all processes together, and has nothing of a call that failed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const left = yield* TaskQueueSqlite.make({ filename })
      const right = yield* TaskQueueSqlite.make({ filename })
      yield* left.enqueue({ records: numbers(20).map((number) => record(number)), now: 0 })
      for (const driver of [left, right]) {
        const claimed = yield* claimAt(driver, 0, 10)
        const succeed = { _tag: "Succeed", result: undefined } as const
        const settlements = claimed.map((each) => ({ ...each, ...succeed }))
        // SQLite has no NaN, and refuses the NULL that comes of it: not even the good half of the call happened.
        const bad = { ...claimed[9]!, _tag: "Retry", eta: Number.NaN, failure: "{}" } as const
        const failed = yield* Effect.result(driver.settle({ settlements: [...settlements.slice(0, 9), bad], now: 0 }))
        assert.strictEqual(failed._tag, "Failure")
        yield* driver.settle({ settlements, now: 0 })
      }
      for (const driver of [left, right]) {
        assert.strictEqual((yield* driver.statistics({ queue: "queue", now: 0 })).executedLastMinute, 20)
      }
    }),
  )
})

describe("the tag of a failure", () => {
  it.effect("is what its text has of it, and nothing when that is not an object with a tag that is text", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const failures = [
        '{"tag":"A"}',
        "no JSON",
        '"A"',
        '["A"]',
        "null",
        '{"tag":5}',
        '{"tag":{"tag":"A"}}',
        "{}",
        '{"tag":""}',
      ]
      yield* driver.enqueue({ records: failures.map((_, number) => record(number)), now: 0 })
      const claimed = yield* claimAt(driver, 0)
      const settlements = claimed.map(
        (each, index) =>
          ({ ...each, _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: failures[index] }) as const,
      )
      yield* driver.settle({ settlements, now: 1 })
      const counts = yield* driver.counts({ now: 1 })
      assert.deepStrictEqual(
        counts.map(({ count, tag }) => [tag, count]),
        [
          [undefined, 7],
          ["", 1],
          ["A", 1],
        ],
      )
      const { records } = yield* driver.find({ tag: "A", limit: 10, now: 1 })
      assert.deepStrictEqual(
        records.map(({ id }) => id),
        [idOf(0)],
      )
    }),
  )
})
