/** What each key of a queue may do: slots, rate, and what is said for one of them alone. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { configureByKey, configureKey, fill, known, turns } from "./keyed.ts"
import { claim, claimOne, claimResult, enqueue, firstChange, insert, settle, succeed } from "./records.ts"

export const keyLimits: Chapter = {
  title: "limits by key",
  tests: (test) => {
    test(
      "maxConcurrent is for each key by itself, and none for records without one",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 2 })
        yield* fill(5, "AB-")
        assert.strictEqual(yield* turns(100), "-AB-AB---")
        assert.strictEqual(yield* turns(100), "")
      }),
    )
    test(
      "maxConcurrent counts live leases, and a slot comes free by every end, also by a crash",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 3 })
        yield* fill(20, "A", { maxCrashes: 0 })
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
      "maxConcurrent counts what a key had running before it was limited, of all its tasks",
      Effect.gen(function* () {
        yield* enqueue([{ key: "A" }, { key: "A", task: "Other" }, { key: "A" }])
        const [first] = yield* claim(0, known("Other"))
        const [second] = yield* claim(0, { limit: 1 })
        yield* configureByKey({ maxConcurrent: 1 })
        yield* insert({ key: "B" })
        assert.strictEqual(yield* turns(9), "B")
        yield* succeed(first!, 0)
        assert.strictEqual(yield* turns(9), "")
        yield* succeed(second!, 0)
        assert.strictEqual(yield* turns(9), "A")
      }),
    )
    test(
      "maxConcurrent holds when many claim at once",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 3 })
        yield* fill(20, "AB")
        const claimed = yield* Effect.all(
          Array.from({ length: 10 }, () => turns(2)),
          { concurrency: "unbounded" },
        )
        assert.strictEqual([...claimed.join("")].sort().join(""), "AAABBB")
      }),
    )
    test(
      "maxConcurrent lets others pass meanwhile, who wait for nobody then",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 1 })
        yield* fill(3, "A")
        const running = yield* claimOne(0, { lease: 1_000_000 })
        yield* fill(1, "BCDE")
        assert.strictEqual(yield* turns(9), "BCDE")
        yield* succeed(running, 0)
        assert.strictEqual(yield* turns(9), "A")
      }),
    )
    test(
      "maxConcurrent without a free slot names no time but the end of a lease",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 1 })
        yield* fill(2, "A")
        assert.strictEqual((yield* claimResult(0, { lease: 700 })).nextAt, 700)
        assert.deepStrictEqual(yield* claimResult(10), { records: [], nextAt: 700 })
        yield* fill(1, "B", { eta: 60 })
        assert.deepStrictEqual(yield* claimResult(10), { records: [], nextAt: 60 })
      }),
    )
    test(
      "maxConcurrent tells when a slot came free",
      Effect.scoped(
        Effect.gen(function* () {
          yield* configureByKey({ maxConcurrent: 1 })
          yield* fill(2, "A")
          const claimed = yield* claimOne(0)
          assert.deepStrictEqual((yield* firstChange("Waiting", succeed(claimed, 0)))?.queues, ["default"])
        }),
      ),
    )
    test(
      "rate lets a burst of each key through, then so many a second, and saves up no more than the burst",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 2, burst: 3 })
        yield* fill(50, "A")
        assert.strictEqual(yield* turns(100), "AAA")
        yield* fill(50, "B")
        assert.strictEqual(yield* turns(100, 499), "BBB")
        assert.strictEqual(yield* turns(100, 500), "A")
        assert.strictEqual(yield* turns(100, 999), "B")
        assert.strictEqual(yield* turns(100, 1500), "AAB")
        assert.strictEqual(yield* turns(100, 100_000), "ABABAB")
      }),
    )
    test(
      "rate is nothing to records without a key",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 1, burst: 1 })
        yield* fill(4, "A-")
        assert.strictEqual(yield* turns(100), "-A---")
      }),
    )
    test(
      "rate is not spent by a claim that starts nothing, nor filled ahead by its clock",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 100, burst: 1 })
        yield* fill(2, "A")
        assert.strictEqual(yield* turns(9), "A")
        assert.strictEqual(yield* turns(9, 1000, known("Unknown")), "")
        assert.strictEqual(yield* turns(9, 9), "")
        assert.strictEqual(yield* turns(9, 10), "A")
      }),
    )
    test(
      "rate that is changed leaves what each key has, up to the new burst",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 1, burst: 4 })
        yield* fill(50, "AB")
        assert.strictEqual(yield* turns(4), "ABAB")
        yield* configureByKey({ rate: 1, burst: 1 })
        assert.strictEqual(yield* turns(100), "AB")
        yield* configureByKey({ rate: 10, burst: 3 }, 0)
        assert.strictEqual(yield* turns(100, 99), "")
        assert.strictEqual(yield* turns(100, 100), "AB")
      }),
    )
    test(
      "rate says when its next token comes, the earliest of all keys",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 2, burst: 1 })
        yield* fill(2, "A")
        const { nextAt, records } = yield* claimResult(100, { lease: 1_000_000 })
        assert.strictEqual(records.length, 1)
        assert.strictEqual(nextAt, 600)
        yield* fill(2, "B", {}, 200)
        assert.strictEqual((yield* claimResult(200, { lease: 1_000_000 })).nextAt, 600)
        assert.strictEqual(yield* turns(9, 600), "A")
        // There is nothing more of A, which has the earlier token.
        assert.strictEqual((yield* claimResult(650)).nextAt, 700)
      }),
    )
    test(
      "rate 0 stops all keys, and names no time",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 0 })
        yield* fill(10, "AB")
        assert.deepStrictEqual(yield* claimResult(1_000_000_000), { records: [], nextAt: undefined })
      }),
    )
    test(
      "hold besides those of the queue, of which each start takes one",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* queue.configure({ queue: "default", limits: { rate: 1, burst: 5, maxConcurrent: 4 }, now: 0 })
        yield* configureByKey({ rate: 1, burst: 2, maxConcurrent: 3 })
        yield* fill(10, "ABC")
        const first = yield* claim(0)
        assert.strictEqual(first.map(({ key }) => key).join(""), "ABCA")
        yield* Effect.forEach(first, (claimed) => succeed(claimed, 0))
        assert.strictEqual(yield* turns(100), "B")
        assert.strictEqual(yield* turns(100), "")
      }),
    )
    test(
      "change as a whole, and from the next claim on",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const byKey = { maxConcurrent: 1, rate: 0.5, burst: 2, ordered: true }
        yield* configureByKey(byKey)
        yield* queue.configure({ queue: "default", limits: { maxConcurrent: 9 }, now: 0 })
        assert.deepInclude(yield* queue.limits({ queue: "default" }), { maxConcurrent: 9, byKey })
        yield* configureByKey({ maxConcurrent: 4 })
        const changed = { maxConcurrent: 4, rate: undefined, burst: 5, ordered: false }
        assert.deepStrictEqual({ ...(yield* queue.limits({ queue: "default" })).byKey }, changed)
        yield* fill(5, "A")
        assert.strictEqual(yield* turns(100), "AAAA")
      }),
    )
    test(
      "of one key are as was said for it, and else as those of all",
      Effect.gen(function* () {
        yield* configureByKey({ maxConcurrent: 1, rate: 1, burst: 2 })
        yield* configureKey("A", { maxConcurrent: 4 })
        yield* configureKey("B", { burst: 3, maxConcurrent: 9 })
        yield* configureKey("C", { rate: 0 })
        yield* configureKey("D", { rate: Number.POSITIVE_INFINITY, maxConcurrent: Number.POSITIVE_INFINITY })
        yield* fill(6, "ABCDE")
        assert.strictEqual(yield* turns(100), "ABDEABDBDDDD")
        assert.strictEqual(yield* turns(100, 1000), "AB")
      }),
    )
    test(
      "of one key are what was said last, and nothing but that",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const override = (key: string) =>
          Effect.map(queue.keyStatistics({ queue: "default", key, now: 0 }), ({ override }) => ({ ...override }))
        yield* configureByKey({ maxConcurrent: 1 })
        yield* configureKey("A", { maxConcurrent: Number.POSITIVE_INFINITY, weight: 2.5, rate: 0.25, burst: 2 })
        assert.deepStrictEqual(yield* override("A"), {
          maxConcurrent: Number.POSITIVE_INFINITY,
          weight: 2.5,
          rate: 0.25,
          burst: 2,
        })
        yield* configureKey("A", { maxConcurrent: 2 })
        yield* configureKey("B", { maxConcurrent: 3 })
        assert.deepStrictEqual(yield* override("A"), { maxConcurrent: 2 })
        yield* fill(9, "AB")
        assert.strictEqual(yield* turns(100), "ABABB")
        yield* configureKey("B", {})
        assert.deepStrictEqual(yield* override("B"), {})
        assert.deepStrictEqual(yield* override("C"), {})
        yield* Effect.forEach(yield* claim(2_000_000, { lease: 9 }), (claimed) => succeed(claimed, 2_000_000))
        assert.strictEqual(yield* turns(100, 2_000_000), "ABA")
      }),
    )
    test(
      "of one key tell of the queue when they change",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const call = queue.configureKey({ queue: "mail", key: "A", override: { maxConcurrent: 1 }, now: 0 })
          assert.deepStrictEqual((yield* firstChange("Waiting", call))?.queues, ["mail"])
        }),
      ),
    )
    test(
      "and how a key stands can be looked at",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const look = (now: number, key = "A") =>
          Effect.map(queue.keyStatistics({ queue: "default", key, now }), (found) => ({
            ...found,
            override: { ...found.override },
          }))
        const nothing = {
          waiting: 0,
          ready: 0,
          inFlight: 0,
          pausedUntil: undefined,
          nextTokenAt: undefined,
          override: {},
        }
        assert.deepStrictEqual(yield* look(0), nothing)
        yield* fill(3, "AB-")
        yield* fill(1, "A", { eta: 700 })
        yield* fill(1, "A", { queue: "other" })
        assert.deepStrictEqual(yield* look(0), { ...nothing, waiting: 4, ready: 3 })
        yield* configureByKey({ rate: 2, burst: 1 })
        assert.deepInclude(yield* look(0), { nextTokenAt: 0 })
        assert.strictEqual(yield* turns(9, 0, { limit: 5 }), "-AB--")
        assert.deepStrictEqual(yield* look(0), { ...nothing, waiting: 3, ready: 2, inFlight: 1, nextTokenAt: 500 })
        assert.deepInclude(yield* look(800), { waiting: 3, ready: 3, nextTokenAt: 800 })
        assert.deepInclude(yield* look(0, "C"), { inFlight: 0, nextTokenAt: 0 })
        yield* configureKey("A", { rate: 0 })
        assert.deepInclude(yield* look(0), { nextTokenAt: undefined, override: { rate: 0 } })
      }),
    )
  },
}
