/** Turns of many keys, against a plain simulation, and what is left of keys once nothing is known of them. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { newFile, record } from "./records.ts"
import { claim, follow, history, now, succeed, unlimited } from "./turns.ts"

/** How many rows tables have. */
const rowsIn = (filename: string, ...tables: ReadonlyArray<string>) =>
  Effect.sync(() => {
    const db = new DatabaseSync(filename, { readOnly: true })
    const counts = tables.map((table) => db.prepare(`SELECT count(*) AS rows FROM outlive_${table}`).get()?.rows)
    db.close()
    return counts
  })

describe("turns", () => {
  it.effect.prop(
    "are as the contract says, with many keys of many weights and limits in several lanes, and alike in one",
    history,
    follow({
      make: Effect.flatMap(newFile, (filename) => TaskQueueSqlite.make({ filename, synchronous: "normal" })),
      tellsNextAt: true,
    }),
    { arbitrary: { runs: 150, size: 25 }, timeout: 120_000 },
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
