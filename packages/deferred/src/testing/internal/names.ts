/** Names: unique within a queue while their record lives, and for their tombstone after. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claim, claimOne, enqueue, get, idsOf, insert, mustGet, settle, succeed } from "./records.ts"

const day = 86_400_000

export const names: Chapter = {
  title: "names and tombstones",
  tests: (test) => {
    test(
      "refuses a name that a waiting or a running record of the queue has (Q47)",
      Effect.gen(function* () {
        const id = yield* insert({ name: "n" })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }]), [{ _tag: "Duplicate", id }])
        yield* claimOne(0)
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }]), [{ _tag: "Duplicate", id }])
        const [other] = yield* enqueue([{ name: "n", queue: "other" }])
        assert.strictEqual(other?._tag, "Inserted")
      }),
    )
    test(
      "tells names and queues apart, whatever is in them",
      Effect.gen(function* () {
        const outcomes = yield* enqueue([
          { queue: "a\nb", name: "c" },
          { queue: "a", name: "b\nc" },
          { queue: "a", name: "B\nC" },
          { queue: "a", name: "" },
          { queue: "a", name: " " },
        ])
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag),
          outcomes.map(() => "Inserted"),
        )
        assert.strictEqual((yield* enqueue([{ queue: "a", name: "" }]))[0]?._tag, "Duplicate")
      }),
    )
    test(
      "finds duplicates within one call, and stores the others of the call (Q43, Q49)",
      Effect.gen(function* () {
        const outcomes = yield* enqueue([{ name: "a" }, { name: "b" }, { name: "a" }, {}])
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag),
          ["Inserted", "Inserted", "Duplicate", "Inserted"],
        )
        assert.strictEqual((yield* claim(0)).length, 3)
      }),
    )
    test(
      "gives a name to one of many that want it at once",
      Effect.gen(function* () {
        const outcomes = yield* Effect.all(
          Array.from({ length: 50 }, () => enqueue([{ name: "n" }])),
          { concurrency: "unbounded" },
        )
        const tags = outcomes.flat().map(({ _tag }) => _tag)
        assert.strictEqual(tags.filter((tag) => tag === "Inserted").length, 1)
        assert.strictEqual(tags.filter((tag) => tag === "Duplicate").length, 49)
      }),
    )
    test(
      "keeps a name taken for its tombstone after the end, however it ended (Q14, Q48)",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const fields = { tombstone: day, keep: 0 }
        yield* insert({ ...fields, name: "succeeded", priority: 2 })
        yield* succeed(yield* claimOne(0), 10)
        yield* insert({ ...fields, name: "dead" })
        yield* bury(yield* claimOne(10), 10)
        const cancelled = yield* insert({ ...fields, name: "cancelled" })
        yield* queue.cancel({ ids: [cancelled], reason: "", now: 10 })
        for (const name of ["succeeded", "dead", "cancelled"]) {
          const until = 10 + day
          assert.deepStrictEqual(yield* enqueue([{ name }], until - 1), [{ _tag: "Tombstoned", until }], name)
          assert.strictEqual((yield* enqueue([{ name }], until))[0]?._tag, "Inserted", name)
        }
      }),
    )
    test(
      "frees a name at once without a tombstone",
      Effect.gen(function* () {
        yield* insert({ name: "n", tombstone: 0 })
        yield* succeed(yield* claimOne(0), 10)
        assert.strictEqual((yield* enqueue([{ name: "n" }], 10))[0]?._tag, "Inserted")
      }),
    )
    test(
      "keeps the tombstone when the record is pruned, until it is over",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n", tombstone: day, keep: 5 })
        yield* succeed(yield* claimOne(0), 0)
        yield* queue.prune({ now: 100, deadBefore: 0, limit: 10 })
        assert.isUndefined(yield* get(id))
        assert.strictEqual((yield* enqueue([{ name: "n" }], 100))[0]?._tag, "Tombstoned")
        yield* queue.prune({ now: day, deadBefore: 0, limit: 10 })
        // Deleted, not only over: a clock that is behind finds it free too.
        assert.strictEqual((yield* enqueue([{ name: "n" }], day - 1))[0]?._tag, "Inserted")
      }),
    )
    test(
      "ignore gives the record that has the name, also one that has ended",
      Effect.gen(function* () {
        const id = yield* insert({ name: "n", tombstone: day, payload: "1" })
        const again = { name: "n", onDuplicate: "ignore", payload: "2" } as const
        assert.deepStrictEqual(yield* enqueue([again]), [{ _tag: "Existing", id }])
        yield* succeed(yield* claimOne(0), 0)
        assert.deepStrictEqual(yield* enqueue([again]), [{ _tag: "Existing", id }])
        assert.strictEqual((yield* mustGet(id)).payload, "1")
        assert.deepStrictEqual(yield* claim(0), [])
      }),
    )
    test(
      "replace gives a waiting record the new content and keeps its id",
      Effect.gen(function* () {
        const id = yield* insert({ name: "n", payload: "1", eta: 500 })
        const outcomes = yield* enqueue(
          [{ name: "n", onDuplicate: "replace", payload: "2", priority: 3, eta: 100, headers: { a: "b" } }],
          50,
        )
        assert.deepStrictEqual(outcomes, [{ _tag: "Replaced", id }])
        const claimed = yield* claim(100)
        assert.deepStrictEqual(idsOf(claimed), [id])
        assert.deepInclude(claimed[0], { payload: "2", priority: 3, headers: { a: "b" }, attempt: 1 })
        assert.deepStrictEqual(yield* claim(600), [])
      }),
    )
    test(
      "replace makes a record that was tried before a new one",
      Effect.gen(function* () {
        const id = yield* insert({ name: "n" })
        const first = yield* claimOne(0, { lease: 10 })
        const second = yield* claimOne(10)
        yield* settle(second, { _tag: "Retry", eta: 500, failure: '"no"' }, 20)
        yield* enqueue([{ name: "n", onDuplicate: "replace", expiresAt: 900 }], 30)
        assert.deepInclude(yield* mustGet(id, 30), {
          state: "ready",
          enqueuedAt: 30,
          attempt: 0,
          crashes: 0,
          firstAttemptAt: undefined,
          startedAt: undefined,
          failure: undefined,
          expiresAt: 900,
        })
        // Its old leases stay lost.
        const third = yield* claimOne(30)
        assert.strictEqual(yield* succeed(first, 31), "LeaseLost")
        assert.strictEqual(yield* succeed(second, 31), "LeaseLost")
        assert.strictEqual(yield* succeed(third, 31), "Settled")
      }),
    )
    test(
      "replace takes the name over from a running or an ended record, which stays as it is",
      Effect.gen(function* () {
        const running = yield* insert({ name: "n", tombstone: day })
        const claimed = yield* claimOne(0)
        const [outcome] = yield* enqueue([{ name: "n", onDuplicate: "replace", tombstone: day }])
        assert.strictEqual(outcome?._tag, "Inserted")
        assert.strictEqual((yield* mustGet(running)).state, "running")
        yield* succeed(claimed, 5)
        // The end of the old one does not free the name of the new one.
        const [taken] = yield* enqueue([{ name: "n" }], 10)
        assert.strictEqual(taken?._tag, "Duplicate")
        yield* succeed(yield* claimOne(10), 20)
        assert.strictEqual((yield* enqueue([{ name: "n" }], 30))[0]?._tag, "Tombstoned")
        assert.strictEqual((yield* enqueue([{ name: "n", onDuplicate: "replace" }], 30))[0]?._tag, "Inserted")
      }),
    )
    test(
      "frees the name of a waiting record that is removed or purged",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n", tombstone: day })
        yield* queue.remove({ ids: [id] })
        yield* insert({ name: "n", tombstone: day })
        yield* queue.purge({ queue: "default" })
        yield* insert({ name: "n" })
      }),
    )
    test(
      "keeps the tombstone of a record that is removed after its end",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        for (const name of ["succeeded", "dead"]) {
          const id = yield* insert({ name, tombstone: day })
          const claimed = yield* claimOne(0)
          yield* name === "dead" ? bury(claimed, 0) : succeed(claimed, 0)
          assert.deepStrictEqual(yield* queue.remove({ ids: [id] }), ["Removed"])
          assert.deepStrictEqual(yield* enqueue([{ name }], 1), [{ _tag: "Tombstoned", until: day }])
        }
      }),
    )
    test(
      "leaves a name with the record that took it over, whatever becomes of the one that had it",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const first = yield* insert({ name: "n" })
        const claimed = yield* claimOne(0)
        const second = yield* insert({ name: "n", onDuplicate: "replace", eta: 500 })
        yield* settle(claimed, { _tag: "Release" }, 1)
        yield* queue.remove({ ids: [first] })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }], 2), [{ _tag: "Duplicate", id: second }])
      }),
    )
    test(
      "tells the record that left a name behind from one that came later with its id",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n", tombstone: day, keep: 0 })
        yield* succeed(yield* claimOne(0), 0)
        yield* insert({ id, queue: "other" }, 1)
        yield* queue.purge({ queue: "default" })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }], 1), [{ _tag: "Tombstoned", until: day }])
        assert.strictEqual((yield* enqueue([{ name: "n", onDuplicate: "replace" }], 1))[0]?._tag, "Inserted")
        assert.deepInclude(yield* mustGet(id, 1), { queue: "other", name: undefined, state: "ready" })
      }),
    )
    test(
      "gives a redriven record its name back",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n", tombstone: 100 })
        yield* bury(yield* claimOne(0), 0)
        yield* queue.redrive({ ids: [id], now: 10 })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }], 5000), [{ _tag: "Duplicate", id }])
      }),
    )
    test(
      "gives a redriven record its name back when another's tombstone is over, not while another has it",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const first = yield* insert({ name: "n" })
        yield* bury(yield* claimOne(0), 0)
        const second = yield* insert({ name: "n", tombstone: 100 })
        yield* queue.redrive({ ids: [first], now: 0 })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }]), [{ _tag: "Duplicate", id: second }])
        for (const claimed of yield* claim(0)) yield* bury(claimed, 0)
        yield* queue.redrive({ ids: [first], now: 100 })
        assert.deepStrictEqual(yield* enqueue([{ name: "n" }], 200), [{ _tag: "Duplicate", id: first }])
      }),
    )
  },
}
