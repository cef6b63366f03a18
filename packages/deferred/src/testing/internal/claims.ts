/** ready ──► running: order, leases, fencing, crashes. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { claim, claimOne, claimResult, enqueue, idsOf, insert, mustGet, settle, succeed } from "./records.ts"

export const claims: Chapter = {
  title: "claim and lease",
  tests: (test) => {
    test(
      "gives higher priority first, then the earlier eta, then the earlier insertion",
      Effect.gen(function* () {
        yield* enqueue([
          { payload: "4", eta: 20 },
          { payload: "2", priority: 1, eta: 30 },
          { payload: "5", eta: 20 },
          { payload: "3", eta: 10 },
          { payload: "6", priority: -1, eta: 1 },
          { payload: "1", priority: 1, eta: 29 },
        ])
        const first = yield* claim(40, { limit: 2 })
        const rest = yield* claim(40)
        assert.deepStrictEqual(
          [...first, ...rest].map(({ payload }) => payload),
          ["1", "2", "3", "4", "5", "6"],
        )
      }),
    )
    test(
      "keeps the order among several tasks and versions",
      Effect.gen(function* () {
        yield* enqueue([
          { payload: "2", task: "A", eta: 2 },
          { payload: "1", task: "B", eta: 1 },
          { payload: "4", task: "B", eta: 4, version: 2 },
          { payload: "3", task: "A", eta: 3, version: 2 },
        ])
        const tasks = ["A", "B"].map((name) => ({ name, maxVersion: 2 }))
        assert.deepStrictEqual(
          (yield* claim(9, { tasks })).map(({ payload }) => payload),
          ["1", "2", "3", "4"],
        )
      }),
    )
    test(
      "says who holds the record, until when, since when, and counts the attempt",
      Effect.gen(function* () {
        const id = yield* insert({ eta: 5 })
        const claimed = yield* claimOne(10, { lease: 1000, worker: "ada" })
        const holding = {
          state: "running",
          worker: "ada",
          leaseUntil: 1010,
          startedAt: 10,
          firstAttemptAt: 10,
          attempt: 1,
          crashes: 0,
        } as const
        assert.deepInclude(claimed, holding)
        assert.deepInclude(yield* mustGet(id, 10), holding)
      }),
    )
    test(
      "leaves what is not due, not of these tasks, too new a version, for another target, or in another queue",
      Effect.gen(function* () {
        yield* enqueue([
          { eta: 11 },
          { task: "Unknown" },
          { version: 2 },
          { target: "gpu" },
          { queue: "mail" },
          { target: "eu", payload: "mine" },
          { version: 0, payload: "old" },
        ])
        const claimed = yield* claim(10, { targets: ["eu", "us"] })
        assert.deepStrictEqual(
          claimed.map(({ payload }) => payload),
          ["mine", "old"],
        )
      }),
    )
    test(
      "claims from several queues at once, from each no more than its limit",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue(["a", "b", "a", "b", "a", "b"].map((name) => ({ queue: name })))
        const { records } = yield* queue.claim({
          queues: [
            { name: "a", limit: 1 },
            { name: "b", limit: 2 },
            { name: "none", limit: 5 },
          ],
          tasks: [{ name: "Task", maxVersion: 1 }],
          targets: [],
          lease: 1,
          worker: "w",
          now: 0,
        })
        assert.deepStrictEqual(records.map((each) => each.queue).sort(), ["a", "b", "b"])
      }),
    )
    test(
      "never gives a record to two, however many ask at once",
      Effect.gen(function* () {
        yield* enqueue(Array.from({ length: 100 }, () => ({})))
        const claimed = yield* Effect.all(
          Array.from({ length: 20 }, () => claim(0, { limit: 7 })),
          { concurrency: "unbounded" },
        )
        const ids = idsOf(claimed.flat())
        assert.strictEqual(new Set(ids).size, ids.length)
        assert.strictEqual(ids.length, 100)
      }),
    )
    test(
      "says when there will be something more to claim: the earliest eta or end of a lease",
      Effect.gen(function* () {
        assert.strictEqual((yield* claimResult(0)).nextAt, undefined)
        yield* enqueue([{ eta: 500 }, { eta: 300 }, { eta: 100, task: "Unknown" }])
        assert.strictEqual((yield* claimResult(0)).nextAt, 300)
        const { nextAt } = yield* claimResult(300, { lease: 50 })
        assert.strictEqual(nextAt, 350)
      }),
    )
    test(
      "says nothing of leases in queues that were not asked for",
      Effect.gen(function* () {
        yield* enqueue([{ queue: "other" }, { eta: 900 }])
        yield* claim(0, { queue: "other", lease: 50 })
        assert.strictEqual((yield* claimResult(0)).nextAt, 900)
      }),
    )
    test(
      "leaves what is not due by the clock of whoever claims, also after one whose clock is ahead",
      Effect.gen(function* () {
        yield* enqueue([{ eta: 105 }, { eta: 105, priority: 1 }, { eta: 101 }])
        yield* claimOne(110, { lease: 1000 })
        const behind = yield* claimResult(103, { lease: 1000 })
        assert.deepStrictEqual(
          behind.records.map(({ eta }) => eta),
          [101],
        )
        assert.strictEqual(behind.nextAt, 105)
        assert.strictEqual((yield* claim(105)).length, 1)
      }),
    )
    test(
      "prefers the record's own lease to the worker's",
      Effect.gen(function* () {
        yield* insert({ lease: 77 })
        assert.strictEqual((yield* claimOne(100, { lease: 1000 })).leaseUntil, 177)
      }),
    )
    test(
      "extends a lease from its holder, and from nobody else",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* insert()
        const { id, token } = yield* claimOne(0, { lease: 100 })
        const outcomes = yield* queue.extend({
          leases: [
            { id, token },
            { id, token: token + 1 },
            { id, token: token - 1 },
          ],
          until: 500,
          now: 50,
        })
        assert.deepStrictEqual(outcomes, ["Extended", "LeaseLost", "LeaseLost"])
        assert.strictEqual((yield* mustGet(id)).leaseUntil, 500)
        assert.deepStrictEqual(yield* claim(499), [])
        assert.strictEqual((yield* claim(500)).length, 1)
      }),
    )
    test(
      "extends a lease whose time has passed while nobody took the record",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* insert()
        const { id, token } = yield* claimOne(0, { lease: 100 })
        const outcomes = yield* queue.extend({ leases: [{ id, token }], until: 900, now: 800 })
        assert.deepStrictEqual(outcomes, ["Extended"])
        assert.deepStrictEqual(yield* claim(850), [])
      }),
    )
    test(
      "finds an expired lease beside one that was extended",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue([{}, {}])
        const [kept, lost] = yield* claim(0, { lease: 100 })
        yield* queue.extend({ leases: [{ id: kept!.id, token: kept!.token }], until: 1000, now: 50 })
        assert.deepStrictEqual(idsOf(yield* claim(100)), [lost!.id])
      }),
    )
    test(
      "gives a record whose lease expired to the next, with a higher token and one more crash and attempt",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const first = yield* claimOne(0, { lease: 100, worker: "first" })
        assert.deepStrictEqual(yield* claim(99), [])
        const second = yield* claimOne(100, { lease: 100, worker: "second" })
        assert.deepInclude(second, { id, worker: "second", crashes: 1, attempt: 2, firstAttemptAt: 0 })
        assert.isAbove(second.token, first.token)
        assert.include(second.failure ?? "", '"kind":"crash"')
        // The old holder comes too late with anything.
        assert.strictEqual(yield* succeed(first, 110), "LeaseLost")
        const extended = yield* queue.extend({ leases: [first], until: 999, now: 110 })
        assert.deepStrictEqual(extended, ["LeaseLost"])
        assert.deepInclude(yield* mustGet(id), { state: "running", worker: "second", leaseUntil: 200 })
        assert.strictEqual(yield* succeed(second, 120), "Settled")
      }),
    )
    test(
      "takes a settlement after the lease's time while nobody took the record: the work was done",
      Effect.gen(function* () {
        yield* insert()
        const claimed = yield* claimOne(0, { lease: 100 })
        assert.strictEqual(yield* succeed(claimed, 5000), "Settled")
        assert.deepInclude(yield* mustGet(claimed.id), { state: "succeeded", crashes: 0 })
      }),
    )
    test(
      "buries a record whose workers die more often than it allows",
      Effect.gen(function* () {
        const id = yield* insert({ maxCrashes: 2 })
        for (const now of [0, 10, 20]) yield* claimOne(now, { lease: 10 })
        assert.deepStrictEqual(yield* claim(30), [])
        assert.deepInclude(yield* mustGet(id), { state: "dead", reason: "Crashed", crashes: 3, endedAt: 30 })
      }),
    )
    test(
      "buries what was not claimed in time, and nothing that once was",
      Effect.gen(function* () {
        const late = yield* insert({ expiresAt: 100, payload: "late" })
        const started = yield* insert({ expiresAt: 100, priority: 1 })
        const claimed = yield* claimOne(50)
        yield* settle(claimed, { _tag: "Retry", eta: 200, failure: "{}" }, 60)
        assert.deepStrictEqual(yield* claim(100), [])
        assert.deepInclude(yield* mustGet(late), { state: "dead", reason: "Expired", endedAt: 100 })
        assert.deepStrictEqual(idsOf(yield* claim(200)), [started])
      }),
    )
  },
}
