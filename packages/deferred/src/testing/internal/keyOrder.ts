/** Keys whose records run strictly one after the other. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { configureByKey, fill, known, turns } from "./keyed.ts"
import {
  bury,
  claim,
  claimOne,
  claimResult,
  enqueue,
  idsOf,
  insert,
  joinOf,
  record,
  settle,
  succeed,
} from "./records.ts"

export const keyOrder: Chapter = {
  title: "ordered keys",
  tests: (test) => {
    test(
      "runs one record of a key after the other, as they were inserted, whatever their priorities and etas",
      Effect.gen(function* () {
        yield* configureByKey({ ordered: true })
        yield* enqueue([
          { key: "A", payload: "1", eta: 50 },
          { key: "A", payload: "2", priority: 5, task: "Other" },
          { key: "B", payload: "3" },
          { key: "A", payload: "4", priority: 9, eta: 10 },
          { payload: "5" },
          { payload: "6" },
        ])
        const tasks = known("Task", "Other")
        assert.deepStrictEqual(
          (yield* claim(10, tasks)).map(({ payload }) => payload),
          ["5", "3", "6"],
        )
        for (const payload of ["1", "2", "4"]) {
          const [next, ...more] = yield* claim(50, tasks)
          assert.deepStrictEqual([next?.payload, more], [payload, []])
          assert.deepStrictEqual(yield* claim(60, tasks), [])
          yield* succeed(next!, 60)
        }
      }),
    )
    test(
      "keeps all others waiting while one is to be tried again, snoozes, crashed or was released",
      Effect.gen(function* () {
        yield* configureByKey({ ordered: true })
        const first = yield* insert({ key: "A" })
        yield* insert({ key: "A", priority: 1, payload: "2" })
        yield* settle(yield* claimOne(0), { _tag: "Retry", eta: 100, failure: "{}" }, 0)
        assert.deepStrictEqual(yield* claim(99), [])
        yield* settle(yield* claimOne(100), { _tag: "Snooze", eta: 200 }, 100)
        assert.deepStrictEqual(yield* claim(199), [])
        yield* settle(yield* claimOne(200), { _tag: "Release" }, 200)
        const crashing = yield* claimOne(200, { lease: 10 })
        const again = yield* claimOne(210)
        assert.deepStrictEqual([crashing.id, again.id], [first, first])
        yield* bury(again, 210)
        assert.strictEqual((yield* claimOne(210)).payload, "2")
      }),
    )
    test(
      "keeps all others waiting behind one that no worker knows, or is for none of them",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* configureByKey({ ordered: true })
        const unknown = yield* insert({ key: "A", task: "Unknown" })
        const newer = yield* insert({ key: "A", version: 2 })
        const targeted = yield* insert({ key: "A", target: "gpu" })
        const last = yield* insert({ key: "A" })
        assert.deepStrictEqual(yield* claimResult(0), { records: [], nextAt: undefined })
        yield* queue.cancel({ ids: [unknown], reason: "", now: 0 })
        assert.deepStrictEqual(yield* claim(0), [])
        yield* queue.remove({ ids: [newer] })
        assert.deepStrictEqual(yield* claim(0), [])
        const [gpu] = yield* claim(0, { targets: ["gpu"] })
        assert.strictEqual(gpu?.id, targeted)
        yield* succeed(gpu!, 0)
        assert.deepStrictEqual(idsOf(yield* claim(0)), [last])
      }),
    )
    test(
      "says when the first of a key is due",
      Effect.gen(function* () {
        yield* configureByKey({ ordered: true })
        yield* enqueue([
          { key: "A", eta: 300 },
          { key: "A", eta: 100 },
          { key: "B", eta: 200 },
        ])
        assert.deepStrictEqual(yield* claimResult(100), { records: [], nextAt: 200 })
        const { nextAt, records } = yield* claimResult(200, { lease: 1_000_000 })
        assert.strictEqual(records.length, 1)
        assert.strictEqual(nextAt, 300)
      }),
    )
    test(
      "goes by insertion also for a record that was redriven or replaced",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* configureByKey({ ordered: true })
        const first = yield* insert({ key: "A", name: "n", eta: 9 })
        const second = yield* insert({ key: "A" })
        yield* enqueue([{ key: "A", name: "n", onDuplicate: "replace", eta: 10 }])
        assert.deepStrictEqual(yield* claim(5), [])
        yield* bury(yield* claimOne(10), 10)
        yield* queue.redrive({ ids: [first], now: 10 })
        const again = yield* claimOne(10)
        assert.strictEqual(again.id, first)
        yield* succeed(again, 10)
        assert.deepStrictEqual(idsOf(yield* claim(10)), [second])
      }),
    )
    test(
      "lets one wait for others of its key that were inserted before it",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* configureByKey({ ordered: true })
        const last = yield* record({ key: "A", join: joinOf(2, "cancel", "run"), eta: 100 })
        const members = yield* Effect.forEach([2, 1], (priority) => record({ key: "A", priority, memberOf: last.id }))
        yield* queue.enqueue({ records: [...members, last], now: 0 })
        yield* insert({ key: "A", payload: "after" })
        for (const { id } of members) {
          const claimed = yield* claim(0)
          assert.deepStrictEqual(idsOf(claimed), [id])
          yield* succeed(claimed[0]!, 0)
        }
        assert.deepStrictEqual(yield* claimResult(50), { records: [], nextAt: 100 })
        yield* succeed(yield* claimOne(100), 100)
        assert.strictEqual((yield* claimOne(100)).payload, "after")
      }),
    )
    test(
      "holds when many claim at once",
      Effect.gen(function* () {
        yield* configureByKey({ ordered: true })
        yield* fill(10, "ABC")
        const claimed = yield* Effect.all(
          Array.from({ length: 10 }, () => turns(5)),
          { concurrency: "unbounded" },
        )
        assert.strictEqual([...claimed.join("")].sort().join(""), "ABC")
      }),
    )
  },
}
