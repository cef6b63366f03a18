/** The latest of a unique key: debounces, throttles, and places taken only as expected. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Latest, NewRecord } from "../../TaskRecord.ts"
import type { Chapter } from "./chapter.ts"
import { claim, claimOne, enqueue, get, mustGet, settle, succeed } from "./records.ts"

const enqueueLatest = (options: Latest, fields?: Partial<NewRecord>, now = 0) => {
  const unique = { key: "k", while: ["waiting", "running"], latest: options } as const
  return Effect.map(enqueue([{ unique, ...fields }], now), ([outcome]) => outcome!)
}

/** The record that a call inserts or replaces has this eta. */
const etaOf = Effect.fnUntraced(function* (options: Latest, fields: Partial<NewRecord>, now: number) {
  const outcome = yield* enqueueLatest(options, fields, now)
  return outcome._tag === "Inserted" || outcome._tag === "Replaced" ? (yield* mustGet(outcome.id)).eta : outcome._tag
})

const replaced = (id: TaskId) => ({ _tag: "Replaced", id }) as const

export const latestTimes: Chapter = {
  title: "the latest of a unique key, in time",
  tests: (test) => {
    test(
      "dueBy of what was there first is the limit of all that take its place",
      Effect.gen(function* () {
        assert.strictEqual(yield* etaOf({ dueBy: 250 }, { eta: 100 }, 0), 100)
        assert.strictEqual(yield* etaOf({ dueBy: 350 }, { eta: 200 }, 100), 200)
        assert.strictEqual(yield* etaOf({ dueBy: 450 }, { eta: 300 }, 200), 250)
        assert.strictEqual(yield* etaOf({}, { eta: 400 }, 240), 250)
        assert.strictEqual(yield* etaOf({}, { eta: 400 }, 260), 260)
        yield* succeed(yield* claimOne(260), 260)
        assert.strictEqual(yield* etaOf({ dueBy: 510 }, { eta: 360 }, 260), 360)
      }),
    )
    test(
      "dueBy says nothing of the record that brings it, and begins with the first that does",
      Effect.gen(function* () {
        assert.strictEqual(yield* etaOf({ dueBy: 10 }, { eta: 100 }, 0), 100)
        yield* claim(100)
        assert.strictEqual(yield* etaOf({}, { eta: 300, task: "Other" }, 0), 300)
        assert.strictEqual(yield* etaOf({ dueBy: 200 }, { eta: 400, task: "Other" }, 0), 400)
        assert.strictEqual(yield* etaOf({ dueBy: 900 }, { eta: 500, task: "Other" }, 0), 200)
      }),
    )
    test(
      "dueBy goes with the place of one that follows as well",
      Effect.gen(function* () {
        yield* enqueueLatest({ dueBy: 50 })
        const holder = yield* claimOne(0)
        const follower = yield* enqueueLatest({ dueBy: 250 }, { eta: 100 }, 60)
        assert.strictEqual(follower._tag, "Inserted")
        yield* enqueueLatest({ dueBy: 900 }, { eta: 400 }, 70)
        yield* succeed(holder, 80)
        const [released] = yield* claim(250)
        assert.deepInclude(released, { eta: 250 })
      }),
    )
    test(
      "spacing leaves time between etas, and gives the later ones the place of the one that waits",
      Effect.gen(function* () {
        const spacing = { spacing: 100 }
        assert.strictEqual(yield* etaOf(spacing, {}, 1000), 1000)
        assert.strictEqual(yield* etaOf(spacing, { eta: 1050 }, 1010), 1000)
        yield* succeed(yield* claimOne(1020), 1020)
        assert.strictEqual(yield* etaOf(spacing, {}, 1030), 1100)
        assert.strictEqual(yield* etaOf(spacing, { payload: "last" }, 1090), 1100)
        const claimed = yield* claimOne(1150)
        assert.strictEqual(claimed.payload, "last")
        yield* succeed(claimed, 1150)
        // Not from its start, and not from those that had its place.
        assert.strictEqual(yield* etaOf(spacing, {}, 1160), 1200)
        yield* succeed(yield* claimOne(1200), 1200)
        assert.strictEqual(yield* etaOf(spacing, {}, 2000), 2000)
      }),
    )
    test(
      "spacing is for each key of each task by itself, and goes by the last one stored",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const spacing = { spacing: 100 }
        const other = { unique: { key: "l", while: ["waiting"], latest: spacing } } as const
        assert.strictEqual(yield* etaOf(spacing, { eta: 300 }, 0), 300)
        assert.strictEqual(yield* etaOf(spacing, other, 0), 0)
        assert.strictEqual(yield* etaOf(spacing, { task: "Other" }, 0), 0)
        yield* succeed(yield* claimOne(300, { tasks: [{ name: "Other", maxVersion: 1 }] }), 300)
        yield* queue.purge({ queue: "default" })
        // Also where nothing is left of those before.
        assert.strictEqual(yield* etaOf({ spacing: 50 }, {}, 310), 400)
        yield* queue.purge({ queue: "default" })
        assert.strictEqual(yield* etaOf(spacing, {}, 410), 450)
        // Who says nothing of it is not held up, and counts for nobody.
        yield* queue.purge({ queue: "default" })
        assert.strictEqual(yield* etaOf({}, {}, 420), 420)
        yield* queue.purge({ queue: "default" })
        assert.strictEqual(yield* etaOf(spacing, {}, 420), 550)
      }),
    )
    test(
      "spacing holds for one that follows, which keeps its time when another takes its place",
      Effect.gen(function* () {
        const spacing = { spacing: 500 }
        yield* enqueueLatest(spacing, {}, 1000)
        const holder = yield* claimOne(1000)
        const follower = yield* enqueueLatest(spacing, {}, 1100)
        assert.strictEqual(follower._tag, "Inserted")
        assert.strictEqual((yield* enqueueLatest(spacing, { eta: 1900 }, 1200))._tag, "Replaced")
        yield* succeed(holder, 1300)
        assert.deepStrictEqual(yield* claim(1499), [])
        yield* succeed(yield* claimOne(1500), 1500)
        assert.strictEqual(yield* etaOf(spacing, {}, 1600), 2000)
      }),
    )
    test(
      "spacing outlives pruning until it means nothing more",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const spacing = { spacing: 100 }
        yield* enqueueLatest(spacing, { keep: 0 }, 1000)
        yield* succeed(yield* claimOne(1000), 1000)
        yield* queue.prune({ now: 1099, deadBefore: 0, limit: 10 })
        assert.strictEqual(yield* etaOf(spacing, { keep: 0 }, 1099), 1100)
        yield* succeed(yield* claimOne(1100), 1100)
        yield* queue.prune({ now: 1200, deadBefore: 0, limit: 10 })
        assert.strictEqual(yield* etaOf(spacing, {}, 1200), 1200)
      }),
    )
    test(
      "spacing gives a place its exact eta, also one that has passed",
      Effect.gen(function* () {
        yield* enqueueLatest({ spacing: 100 }, {}, 1000)
        yield* enqueue([{ payload: "between", eta: 1001 }], 1001)
        assert.strictEqual(yield* etaOf({ spacing: 100 }, { payload: "first" }, 1090), 1000)
        const payloads = (yield* claim(1090)).map(({ payload }) => payload)
        assert.deepStrictEqual(payloads, ["first", "between"])
      }),
    )
    test(
      "expects a payload in the place that it takes, and leaves any other as it is",
      Effect.gen(function* () {
        const first = yield* enqueueLatest({ expects: "" }, { payload: "[1]" })
        if (first._tag !== "Inserted") return assert.fail(first._tag)
        const { id } = first
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "[1]" }, { payload: "[1,2]" }), replaced(id))
        const late = yield* enqueueLatest({ expects: "[1]" }, { payload: "[1,3]", eta: 900 })
        assert.deepStrictEqual(late, { _tag: "Existing", id })
        assert.deepInclude(yield* mustGet(id), { payload: "[1,2]", eta: 0 })
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "[1,2]" }, { payload: "[1,2,3]" }), replaced(id))
        assert.strictEqual((yield* mustGet(id)).payload, "[1,2,3]")
      }),
    )
    test(
      "is stored nowhere when what it expects is not there any more",
      Effect.gen(function* () {
        const gone = yield* enqueueLatest({ expects: "[1]" }, { payload: "[1,2]" })
        assert.strictEqual(gone._tag, "Existing")
        if (gone._tag === "Existing") assert.isUndefined(yield* get(gone.id))
        const first = yield* enqueueLatest({}, { payload: "[1]" })
        if (first._tag !== "Inserted") return assert.fail(first._tag)
        const { id } = first
        const holder = yield* claimOne(0)
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "[1]" }, { payload: "[1,2]" }), { _tag: "Existing", id })
        yield* settle(holder, { _tag: "Succeed", result: undefined }, 0)
        assert.deepStrictEqual(yield* claim(0), [])
      }),
    )
    test(
      "expects a reference where the payload is stored apart",
      Effect.gen(function* () {
        const first = yield* enqueueLatest({}, { payload: "", payloadRef: "a" })
        if (first._tag !== "Inserted") return assert.fail(first._tag)
        const { id } = first
        assert.strictEqual((yield* enqueueLatest({ expects: "" }))._tag, "Existing")
        assert.strictEqual((yield* enqueueLatest({ expects: "b" }))._tag, "Existing")
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "a" }, { payload: "2" }), replaced(id))
        assert.deepInclude(yield* mustGet(id), { payload: "2", payloadRef: undefined })
      }),
    )
    test(
      "expects the same of one that follows, and nothing of one that runs",
      Effect.gen(function* () {
        yield* enqueueLatest({}, { payload: "[1]" })
        const holder = yield* claimOne(0)
        const follower = yield* enqueueLatest({ expects: "" }, { payload: "[2]" })
        if (follower._tag !== "Inserted") return assert.fail(follower._tag)
        const { id } = follower
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "[1]" }), { _tag: "Existing", id })
        assert.deepStrictEqual(yield* enqueueLatest({ expects: "[2]" }, { payload: "[2,3]" }), replaced(id))
        yield* settle(holder, { _tag: "Succeed", result: undefined }, 0)
        assert.strictEqual((yield* claimOne(0)).payload, "[2,3]")
      }),
    )
    test(
      "expects one after the other when many add to the same at once",
      Effect.gen(function* () {
        const first = yield* enqueueLatest({}, { payload: "0" })
        if (first._tag !== "Inserted") return assert.fail(first._tag)
        const add = Effect.gen(function* () {
          for (let tries = 0; tries < 100; tries++) {
            const payload = (yield* get(first.id))?.payload
            const outcome = yield* enqueueLatest({ expects: payload }, { payload: `${Number(payload) + 1}` })
            if (outcome._tag === "Replaced") return
          }
        })
        yield* Effect.forEach(Array.from({ length: 20 }), () => add, { concurrency: "unbounded" })
        assert.strictEqual((yield* mustGet(first.id)).payload, "20")
      }),
    )
  },
}
