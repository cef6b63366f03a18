/** Limits of a queue, which hold over all its workers together. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { QueueLimits } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { claim, claimOne, claimResult, enqueue, idsOf, insert, settle, succeed } from "./records.ts"

const configure = (limits: Partial<QueueLimits>, now = 0, queue = "default") =>
  Effect.flatMap(TaskQueue, (taskQueue) => taskQueue.configure({ queue, limits, now }))
const count = (now: number, limit = 100) => Effect.map(claim(now, { limit, lease: 1_000_000 }), (all) => all.length)

export const limits: Chapter = {
  title: "limits",
  tests: (test) => {
    test(
      "are none until they are configured, and then what was said",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const none: QueueLimits = {
          paused: false,
          rate: undefined,
          burst: 5,
          maxConcurrent: undefined,
          ageing: undefined,
          byKey: { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false },
        }
        assert.deepStrictEqual({ ...(yield* queue.limits({ queue: "default" })) }, none)
        yield* configure({ rate: 2.5, burst: 7, ageing: 60_000 })
        yield* configure({ paused: true })
        const some: QueueLimits = { ...none, paused: true, rate: 2.5, burst: 7, ageing: 60_000 }
        assert.deepStrictEqual({ ...(yield* queue.limits({ queue: "default" })) }, some)
        yield* configure({ rate: undefined })
        assert.deepStrictEqual({ ...(yield* queue.limits({ queue: "default" })) }, { ...some, rate: undefined })
        assert.deepStrictEqual({ ...(yield* queue.limits({ queue: "other" })) }, none)
      }),
    )
    test(
      "paused stops claims, not enqueueing, settling or other queues",
      Effect.gen(function* () {
        yield* insert({ priority: 1 })
        const running = yield* claimOne(0)
        yield* configure({ paused: true })
        yield* enqueue([{}, { queue: "other" }])
        const paused = yield* claimResult(0)
        assert.deepStrictEqual(paused.records, [])
        assert.strictEqual(yield* succeed(running, 0), "Settled")
        assert.strictEqual((yield* claim(0, { queue: "other" })).length, 1)
        yield* configure({ paused: false })
        assert.strictEqual(yield* count(0), 1)
      }),
    )
    test(
      "maxConcurrent counts live leases, and a slot comes free by every end, also by a crash",
      Effect.gen(function* () {
        yield* configure({ maxConcurrent: 3 })
        yield* enqueue(Array.from({ length: 20 }, () => ({ maxCrashes: 0 })))
        const [a, b, c] = yield* claim(0, { lease: 100 })
        assert.deepStrictEqual(yield* claim(0), [])
        yield* succeed(a!, 1)
        yield* settle(b!, { _tag: "Retry", eta: 9999, failure: "{}" }, 1)
        assert.strictEqual((yield* claim(1, { lease: 1000 })).length, 2)
        assert.deepStrictEqual(yield* claim(1), [])
        // The worker of c has died: its slot heals at the end of its lease.
        assert.strictEqual((yield* claim(100, { lease: 1000 })).length, 1)
        assert.deepStrictEqual(yield* claim(100), [])
        assert.strictEqual(yield* succeed(c!, 101), "LeaseLost")
      }),
    )
    test(
      "maxConcurrent without a free slot names no time but the end of a lease",
      Effect.gen(function* () {
        yield* configure({ maxConcurrent: 1 })
        yield* enqueue([{}, {}, { eta: 50 }])
        assert.strictEqual((yield* claimResult(0, { lease: 700 })).nextAt, 700)
        assert.deepStrictEqual(yield* claimResult(10), { records: [], nextAt: 700 })
      }),
    )
    test(
      "maxConcurrent holds when many claim at once",
      Effect.gen(function* () {
        yield* configure({ maxConcurrent: 5 })
        yield* enqueue(Array.from({ length: 50 }, () => ({})))
        const claimed = yield* Effect.all(
          Array.from({ length: 10 }, () => count(0, 2)),
          { concurrency: "unbounded" },
        )
        assert.strictEqual(
          claimed.reduce((sum, n) => sum + n, 0),
          5,
        )
      }),
    )
    test(
      "rate lets a burst through, then so many a second, and saves up no more than the burst",
      Effect.gen(function* () {
        yield* configure({ rate: 2, burst: 3 })
        yield* enqueue(Array.from({ length: 50 }, () => ({})))
        assert.strictEqual(yield* count(0), 3)
        assert.strictEqual(yield* count(499), 0)
        assert.strictEqual(yield* count(500), 1)
        assert.strictEqual(yield* count(1500), 2)
        assert.strictEqual(yield* count(100_000), 3)
      }),
    )
    test(
      "rate that is changed keeps what was gathered under the one before",
      Effect.gen(function* () {
        yield* configure({ rate: 10, burst: 2 })
        yield* enqueue(Array.from({ length: 9 }, () => ({})))
        assert.strictEqual(yield* count(0), 2)
        yield* configure({ rate: 1 }, 100)
        assert.strictEqual(yield* count(100), 1)
        assert.strictEqual(yield* count(1099), 0)
        assert.strictEqual(yield* count(1100), 1)
      }),
    )
    test(
      "rate is not filled ahead by a claim that starts nothing, whatever its clock says",
      Effect.gen(function* () {
        yield* configure({ rate: 100, burst: 1 })
        yield* enqueue([{}, {}])
        assert.strictEqual(yield* count(0), 1)
        assert.deepStrictEqual(yield* claim(1000, { tasks: [{ name: "Unknown", maxVersion: 1 }] }), [])
        assert.strictEqual(yield* count(9), 0)
        assert.strictEqual(yield* count(10), 1)
      }),
    )
    test(
      "rate says when its next token comes",
      Effect.gen(function* () {
        yield* configure({ rate: 2, burst: 1 })
        yield* enqueue([{}, {}])
        const { nextAt, records } = yield* claimResult(100, { lease: 1_000_000 })
        assert.strictEqual(records.length, 1)
        assert.strictEqual(nextAt, 600)
        assert.strictEqual(yield* count(600), 1)
      }),
    )
    test(
      "rate 0 stops the queue (Q131)",
      Effect.gen(function* () {
        yield* configure({ rate: 0 })
        yield* enqueue(Array.from({ length: 10 }, () => ({})))
        assert.strictEqual(yield* count(0), 0)
        const { nextAt } = yield* claimResult(1_000_000_000)
        assert.isUndefined(nextAt)
      }),
    )
    test(
      "ageing weighs waiting against priority, so that nothing waits for ever",
      Effect.gen(function* () {
        yield* configure({ ageing: 100 })
        const low = yield* insert({ eta: 1000 })
        const high = yield* insert({ priority: 2, eta: 1100 })
        const later = yield* insert({ priority: 2, eta: 1250 })
        assert.deepStrictEqual(idsOf(yield* claim(1300, { limit: 1 })), [high])
        assert.deepStrictEqual(idsOf(yield* claim(1300)), [low, later])
      }),
    )
    test(
      "ageing counts for what waits already, and only for what is due",
      Effect.gen(function* () {
        const old = yield* insert({ eta: 1000 })
        const high = yield* insert({ priority: 1, eta: 1200 })
        const higher = yield* insert({ priority: 100, eta: 1400 })
        assert.deepStrictEqual(idsOf(yield* claim(1300, { limit: 1 })), [high])
        yield* configure({ ageing: 100 }, 1300)
        const next = yield* insert({ priority: 1, eta: 1250 })
        assert.deepStrictEqual(idsOf(yield* claim(1300)), [old, next])
        yield* configure({ ageing: undefined }, 1300)
        yield* insert({ eta: 1350 })
        assert.deepStrictEqual(idsOf(yield* claim(1400, { limit: 1 })), [higher])
      }),
    )
    test(
      "ageing keeps the order of insertion among equals, also among several tasks",
      Effect.gen(function* () {
        yield* configure({ ageing: 10 })
        const ids: Array<TaskId> = []
        for (const priority of [0, 1, 2, 3]) {
          ids.push(yield* insert({ task: priority % 2 === 0 ? "Task" : "Other", priority, eta: 100 + priority * 10 }))
        }
        const tasks = ["Other", "Task"].map((name) => ({ name, maxVersion: 1 }))
        assert.deepStrictEqual(idsOf(yield* claim(200, { tasks })), ids)
      }),
    )
    test(
      "change from the next claim on",
      Effect.gen(function* () {
        yield* enqueue(Array.from({ length: 10 }, () => ({})))
        yield* configure({ maxConcurrent: 1 })
        assert.strictEqual(yield* count(0), 1)
        yield* configure({ maxConcurrent: 4 })
        assert.strictEqual(yield* count(0), 3)
        yield* configure({ maxConcurrent: undefined })
        assert.strictEqual(yield* count(0), 6)
      }),
    )
  },
}
