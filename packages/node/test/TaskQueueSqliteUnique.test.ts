import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { idOf, newFile, record as sample } from "./records.ts"

const record = (number: number, more?: Partial<NewRecord>) => sample(number, { keep: 1000, maxCrashes: 1000, ...more })
const numbers = (length: number) => Array.from({ length }, (_, index) => index)
const unique = (key: number | string) => ({ unique: { key: String(key), while: ["waiting", "running"] as const } })

describe("unique keys", () => {
  it.effect("are held once, however many connections want them at once", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const drivers = yield* Effect.all([TaskQueueSqlite.make({ filename }), TaskQueueSqlite.make({ filename })])
      const outcomes = yield* Effect.forEach(
        numbers(400),
        (number) =>
          Effect.map(
            drivers[number % 2]!.enqueue({ records: [record(number, unique(number % 40))], now: 0 }),
            ([outcome]) => ({ key: number % 40, own: idOf(number), outcome: outcome! }),
          ),
        { concurrency: "unbounded" },
      )
      const inserted = outcomes.filter(({ outcome }) => outcome._tag === "Inserted")
      assert.deepStrictEqual(
        inserted.map(({ key }) => key).sort((left, right) => left - right),
        numbers(40),
      )
      const holders = new Map(inserted.map(({ key, own }) => [key, own]))
      for (const { key, outcome, own } of outcomes) {
        const isFirst = holders.get(key) === own
        assert.deepStrictEqual(outcome, { _tag: isFirst ? "Inserted" : "Existing", id: holders.get(key)! })
      }
    }),
  )

  it.effect("cost nothing in the index for records that have none", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const records = numbers(100).map((number) => record(number, number % 2 === 0 ? unique(number) : {}))
      yield* driver.enqueue({ records, now: 0 })
      const db = new DatabaseSync(filename)
      const held = db
        .prepare("SELECT count(*) AS count FROM outlive_records INDEXED BY outlive_unique_keys WHERE holds_key = 1")
        .get()
      const others = db.prepare("SELECT count(*) AS count FROM outlive_records WHERE holds_key IS NULL").get()
      db.close()
      assert.deepStrictEqual([held?.count, others?.count], [50, 50])
    }),
  )

  it.effect("leave no place in the order of insertion to what was not stored", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const records = [record(0, unique("k")), record(1, unique("k")), record(2), record(0, unique("other"))]
      assert.deepStrictEqual(yield* driver.enqueue({ records, now: 0 }), [
        { _tag: "Inserted", id: idOf(0) },
        { _tag: "Existing", id: idOf(0) },
        { _tag: "Inserted", id: idOf(2) },
        { _tag: "Existing", id: idOf(0) },
      ])
      const page = yield* driver.find({ limit: 1, now: 0 })
      assert.strictEqual(page.records[0]?.uniqueKey, "k")
      const next = yield* driver.find({ limit: 1, now: 0, cursor: page.cursor })
      assert.strictEqual(next.records[0]?.id, idOf(2))
    }),
  )

  it.effect("of which the latest wins leave nothing behind once their records and times are over", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const latest = { unique: { ...unique(1).unique, latest: { spacing: 50 } }, keep: 0 }
      const claimed = Effect.map(
        driver.claim({
          queues: [{ name: "queue", limit: 1 }],
          tasks: [{ name: "task", maxVersion: 1 }],
          targets: [],
          lease: 1000,
          worker: "worker",
          now: 0,
        }),
        ({ records }) => records[0]!,
      )
      yield* driver.enqueue({ records: [record(0, latest)], now: 0 })
      const { id, token } = yield* claimed
      // One that goes while it is held back, and one that comes to its turn.
      const outcomes = yield* Effect.forEach([1, 2], (number) =>
        Effect.tap(driver.enqueue({ records: [record(number, latest)], now: 0 }), () =>
          number === 1 ? driver.remove({ ids: [idOf(1)] }) : Effect.void,
        ),
      )
      assert.deepStrictEqual(outcomes.flat(), [
        { _tag: "Inserted", id: idOf(1) },
        { _tag: "Inserted", id: idOf(2) },
      ])
      yield* driver.settle({ settlements: [{ id, token, _tag: "Succeed", result: undefined }], now: 1 })
      const [follower] = yield* driver.get({ ids: [idOf(2)], now: 1 })
      assert.deepInclude(follower, { state: "scheduled", eta: 100 })
      yield* driver.remove({ ids: [idOf(2)] })
      const rows = Effect.sync(() => {
        const db = new DatabaseSync(filename, { readOnly: true })
        const counts = ["records", "followers", "paces"].map(
          (table) => db.prepare(`SELECT count(*) AS rows FROM outlive_${table}`).get()?.rows,
        )
        db.close()
        return counts
      })
      yield* driver.prune({ now: 149, deadBefore: 0, limit: 10 })
      assert.deepStrictEqual(yield* rows, [0, 0, 1])
      yield* driver.prune({ now: 150, deadBefore: 0, limit: 10 })
      assert.deepStrictEqual(yield* rows, [0, 0, 0])
    }),
  )
})
