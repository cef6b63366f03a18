/** Keys: the records of a queue take turns by whom they are for. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { configureKey, fill, known, turns } from "./keyed.ts"
import { claim, claimOne, enqueue, insert, succeed } from "./records.ts"

export const keys: Chapter = {
  title: "keys",
  tests: (test) => {
    test(
      "take turns: each starts one before another starts its second, whoever came first",
      Effect.gen(function* () {
        yield* fill(6, "BAC")
        assert.strictEqual(yield* turns(7), "ABCABCA")
        assert.strictEqual(yield* turns(100), "BCABCABCABC")
      }),
    )
    test(
      "take turns from claim to claim too, whoever claims",
      Effect.gen(function* () {
        yield* fill(3, "AB")
        const one = (worker: string) => turns(1, 0, { worker })
        const order = []
        for (const worker of ["w", "w", "x", "w", "x", "x"]) order.push(yield* one(worker))
        assert.strictEqual(order.join(""), "ABABAB")
      }),
    )
    test(
      "delay the only record of one by a round at the most, however many another has",
      Effect.gen(function* () {
        yield* fill(500, "A")
        yield* claim(0, { limit: 100, lease: 1_000_000 })
        yield* insert({ key: "B" })
        assert.strictEqual(yield* turns(2), "BA")
        yield* fill(1, "CB")
        assert.strictEqual(yield* turns(4), "BCAA")
      }),
    )
    test(
      "gain nothing by having been away",
      Effect.gen(function* () {
        yield* fill(20, "A")
        yield* fill(1, "B")
        assert.strictEqual(yield* turns(10), "ABAAAAAAAA")
        yield* fill(10, "B")
        assert.strictEqual(yield* turns(5), "BABAB")
      }),
    )
    test(
      "keep a place that is ahead of the others, also while nothing of them waits",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* fill(3, "A")
        for (const claimed of yield* claim(0)) yield* succeed(claimed, 0)
        yield* queue.prune({ now: 0, deadBefore: 0, limit: 1000 })
        yield* fill(2, "AB")
        assert.strictEqual(yield* turns(9), "BABA")
        // All others have come as far by now: nothing needs to be known of A any more.
        yield* fill(9, "B")
        yield* turns(9)
        yield* queue.prune({ now: 0, deadBefore: 0, limit: 1000 })
        yield* fill(2, "AB")
        assert.strictEqual(yield* turns(9), "AABB")
      }),
    )
    test(
      "share by weight",
      Effect.gen(function* () {
        yield* configureKey("A", { weight: 3 })
        yield* fill(12, "AB")
        assert.strictEqual(yield* turns(8), "ABAAABAA")
        yield* configureKey("A", {})
        yield* configureKey("B", { weight: 0.5 })
        assert.strictEqual(yield* turns(6), "ABAABA")
      }),
    )
    test(
      "share by weight from claim to claim as in one",
      Effect.gen(function* () {
        yield* configureKey("A", { weight: 3 })
        yield* fill(6, "AB")
        const order = []
        for (let n = 0; n < 8; n++) order.push(yield* turns(1))
        assert.strictEqual(order.join(""), "ABAAABAA")
      }),
    )
    test(
      "stand beside records without one, which are as one key more and the first by name",
      Effect.gen(function* () {
        yield* fill(3, "A-")
        assert.strictEqual(yield* turns(4), "-A-A")
        yield* fill(2, "B")
        assert.strictEqual(yield* turns(9), "B-AB")
      }),
    )
    test(
      "count turns from the first record with a key on",
      Effect.gen(function* () {
        yield* fill(20, "-")
        assert.strictEqual(yield* turns(10), "-".repeat(10))
        yield* fill(2, "A")
        assert.strictEqual(yield* turns(4), "-A-A")
      }),
    )
    test(
      "have their records in the order of a queue: priority, then eta, then insertion",
      Effect.gen(function* () {
        yield* enqueue([
          { key: "A", payload: "3", eta: 10 },
          { key: "B", payload: "5", eta: 30, task: "Other" },
          { key: "A", payload: "1", eta: 20, priority: 1, task: "Other" },
          { key: "B", payload: "2", eta: 20 },
          { key: "A", payload: "4", eta: 10, task: "Other" },
          { key: "B", payload: "6", eta: 30 },
        ])
        const order = (yield* claim(50, known("Task", "Other"))).map(({ payload }) => payload)
        assert.deepStrictEqual(order, ["1", "2", "3", "5", "4", "6"])
      }),
    )
    test(
      "know nothing of ageing, which is for records without one",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* queue.configure({ queue: "default", limits: { ageing: 10 }, now: 0 })
        for (const key of ["A", undefined]) {
          yield* enqueue([
            { key, payload: `${key} old`, eta: 0 },
            { key, payload: `${key} high`, eta: 100, priority: 1 },
          ])
        }
        const order = (yield* claim(100)).map(({ payload }) => payload)
        assert.deepStrictEqual(order, ["undefined old", "A high", "undefined high", "A old"])
      }),
    )
    test(
      "hold records of several tasks, versions and targets, which have their turns together",
      Effect.gen(function* () {
        yield* enqueue([
          { key: "A", task: "Other", payload: "1" },
          { key: "A", version: 2, payload: "3" },
          { key: "A", target: "gpu", payload: "5" },
          { key: "A", target: "none", payload: "no" },
          { key: "A", version: 3, payload: "no" },
          { key: "A", task: "Unknown", payload: "no" },
          { key: "B", payload: "2" },
          { key: "B", task: "Other", target: "gpu", payload: "4" },
        ])
        const tasks = ["Task", "Other"].map((name) => ({ name, maxVersion: 2 }))
        const claimed = yield* claim(0, { tasks, targets: ["gpu"] })
        assert.deepStrictEqual(
          claimed.map(({ payload }) => payload),
          ["1", "2", "3", "4", "5"],
        )
      }),
    )
    test(
      "give their turn to others while nothing of theirs is due or known",
      Effect.gen(function* () {
        yield* fill(2, "A", { eta: 100 })
        yield* fill(2, "B", { task: "Unknown" })
        yield* fill(3, "C")
        assert.strictEqual(yield* turns(2), "CC")
        assert.strictEqual(yield* turns(9, 100), "AAC")
      }),
    )
    test(
      "are of their queue: the same one in another has its own turns",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* fill(4, "A")
        yield* fill(4, "A", { queue: "other" })
        yield* turns(4)
        yield* fill(4, "B")
        yield* fill(4, "B", { queue: "other" })
        const { records } = yield* queue.claim({
          queues: ["default", "other"].map((name) => ({ name, limit: 4 })),
          tasks: [{ name: "Task", maxVersion: 1 }],
          targets: [],
          lease: 1000,
          worker: "w",
          now: 0,
        })
        const order = (name: string) => records.filter((each) => each.queue === name).map(({ key }) => key)
        assert.deepStrictEqual(order("default"), ["B", "B", "B", "B"])
        assert.deepStrictEqual(order("other"), ["A", "B", "A", "B"])
      }),
    )
    test(
      "may be any text, and are told apart by it",
      Effect.gen(function* () {
        const odd = ["a", "A", " ", "a ", "'; --", "ä", "%", "é".repeat(255)]
        yield* enqueue([...odd, ...odd].map((key) => ({ key })))
        const first = (yield* claim(0, { limit: odd.length })).map(({ key }) => key)
        assert.deepStrictEqual(new Set(first), new Set(odd))
        // Those of plain letters are in their order.
        assert.deepStrictEqual(
          first.filter((key) => ["a", "A", " ", "%"].includes(key!)),
          [" ", "%", "A", "a"],
        )
      }),
    )
    test(
      "keep a record when it is tried again, redriven or replaced",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue([{ key: "A" }, { name: "n" }, { key: "C", name: "m" }])
        yield* enqueue([
          { key: "B", name: "n", onDuplicate: "replace" },
          { name: "m", onDuplicate: "replace" },
        ])
        assert.strictEqual(yield* turns(9, 0, { lease: 10 }), "-AB")
        assert.strictEqual(yield* turns(1, 10), "-")
        const [a, b] = yield* claim(10)
        yield* succeed(b!, 10)
        yield* queue.settle({
          settlements: [
            { id: a!.id, token: a!.token, _tag: "Bury", reason: "RetriesExhausted", result: undefined, failure: "{}" },
          ],
          now: 10,
        })
        yield* queue.redrive({ ids: [a!.id], now: 10 })
        assert.strictEqual((yield* claimOne(10)).key, "A")
      }),
    )
    test(
      "take turns when many claim at once",
      Effect.gen(function* () {
        yield* fill(30, "AB")
        const claimed = yield* Effect.all(
          Array.from({ length: 10 }, () => turns(3)),
          { concurrency: "unbounded" },
        )
        const order = claimed.join("")
        assert.strictEqual(order.length, 30)
        assert.strictEqual([...order].filter((key) => key === "A").length, 15)
      }),
    )
  },
}
