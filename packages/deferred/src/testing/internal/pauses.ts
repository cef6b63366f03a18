/** Pauses of queues and keys until a time. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { configureByKey, fill, turns } from "./keyed.ts"
import { claim, claimOne, claimResult, enqueue, firstChange, insert, mustGet, settle, succeed } from "./records.ts"

const pauseUntil = (until: number, key?: string, now = 0) =>
  Effect.flatMap(TaskQueue, (queue) => queue.pauseUntil({ queue: "default", key, until, now }))

const pausedUntil = Effect.fnUntraced(function* (now: number, key?: string) {
  const queue = yield* TaskQueue
  const params = { queue: "default", now }
  return key === undefined
    ? (yield* queue.statistics(params)).pausedUntil
    : (yield* queue.keyStatistics({ ...params, key })).pausedUntil
})

/** Claims the first record of a key (or without one) and snoozes it with a pause. */
const snooze = (key: string, eta: number, pause: "key" | "queue", now = 0) =>
  Effect.gen(function* () {
    yield* enqueue([{ priority: 100, key: key === "-" ? undefined : key, task: "Snoozing" }], now)
    const tasks = [{ name: "Snoozing", maxVersion: 1 }]
    return yield* settle(yield* claimOne(now, { tasks }), { _tag: "Snooze", eta, pause }, now)
  })

export const pauses: Chapter = {
  title: "pauses until a time",
  tests: (test) => {
    test(
      "of a queue stop all its claims before then, and nothing else",
      Effect.gen(function* () {
        yield* fill(1, "A-")
        const running = yield* claimOne(0)
        yield* pauseUntil(500)
        yield* fill(1, "B")
        yield* enqueue([{ queue: "other" }])
        assert.deepStrictEqual(yield* claimResult(499, { lease: 1_000_000 }), { records: [], nextAt: 500 })
        assert.strictEqual(yield* succeed(running, 499), "Settled")
        assert.strictEqual((yield* claim(0, { queue: "other" })).length, 1)
        assert.strictEqual(yield* turns(9, 500), "AB")
      }),
    )
    test(
      "of a key stop this key before then",
      Effect.gen(function* () {
        yield* fill(2, "AB-")
        yield* pauseUntil(500, "A")
        assert.strictEqual(yield* turns(9), "-B-B")
        const { nextAt, records } = yield* claimResult(0)
        assert.deepStrictEqual([records, nextAt], [[], 500])
        assert.strictEqual(yield* turns(9, 499), "")
        assert.strictEqual(yield* turns(9, 500), "AA")
      }),
    )
    test(
      "are what was said last: longer, shorter, or over",
      Effect.gen(function* () {
        yield* fill(5, "A")
        yield* pauseUntil(500)
        yield* pauseUntil(300)
        assert.strictEqual(yield* turns(1, 300), "A")
        yield* pauseUntil(900, undefined, 300)
        assert.strictEqual(yield* turns(1, 500), "")
        yield* pauseUntil(0, undefined, 500)
        assert.strictEqual(yield* turns(1, 500), "A")
        yield* pauseUntil(900, "A", 500)
        yield* pauseUntil(800, "A", 500)
        assert.strictEqual(yield* turns(1, 799), "")
        yield* pauseUntil(700, "A", 800)
        assert.strictEqual(yield* turns(1, 800), "A")
      }),
    )
    test(
      "of a queue and of a key are two, and the later counts",
      Effect.gen(function* () {
        yield* fill(1, "AB")
        yield* pauseUntil(500)
        yield* pauseUntil(700, "A")
        yield* pauseUntil(300, "B")
        assert.strictEqual((yield* claimResult(0)).nextAt, 500)
        assert.strictEqual(yield* turns(9, 400), "")
        assert.strictEqual(yield* turns(9, 500), "B")
        assert.strictEqual((yield* claimResult(600)).nextAt, 700)
        assert.strictEqual(yield* turns(9, 700), "A")
      }),
    )
    test(
      "can be looked at while they last",
      Effect.gen(function* () {
        assert.isUndefined(yield* pausedUntil(0))
        assert.isUndefined(yield* pausedUntil(0, "A"))
        yield* pauseUntil(500)
        yield* pauseUntil(700, "A")
        assert.strictEqual(yield* pausedUntil(499), 500)
        assert.strictEqual(yield* pausedUntil(499, "A"), 700)
        assert.isUndefined(yield* pausedUntil(500))
        assert.strictEqual(yield* pausedUntil(699, "A"), 700)
        assert.isUndefined(yield* pausedUntil(700, "A"))
        assert.isUndefined(yield* pausedUntil(0, "B"))
      }),
    )
    test(
      "are not limits of the queue, and stay when those change",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* pauseUntil(500)
        assert.isFalse((yield* queue.limits({ queue: "default" })).paused)
        yield* queue.configure({ queue: "default", limits: { paused: true, burst: 3 }, now: 0 })
        yield* queue.configure({ queue: "default", limits: { paused: false }, now: 0 })
        assert.strictEqual(yield* pausedUntil(0), 500)
        yield* insert()
        assert.deepStrictEqual(yield* claim(499), [])
      }),
    )
    test(
      "tell of the queue when they are set",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const ofQueue = queue.pauseUntil({ queue: "mail", until: 0, now: 5 })
          assert.deepStrictEqual((yield* firstChange("Waiting", ofQueue))?.queues, ["mail"])
          const ofKey = queue.pauseUntil({ queue: "mail", key: "A", until: 0, now: 5 })
          assert.deepStrictEqual((yield* firstChange("Waiting", ofKey))?.queues, ["mail"])
        }),
      ),
    )
    test(
      "by a snooze stop the others of its key until its eta",
      Effect.gen(function* () {
        yield* fill(1, "AB-")
        assert.strictEqual(yield* snooze("A", 500, "key"), "Settled")
        assert.strictEqual(yield* pausedUntil(0, "A"), 500)
        assert.isUndefined(yield* pausedUntil(0))
        assert.strictEqual(yield* turns(9), "-B")
        assert.strictEqual(yield* turns(9, 499), "")
        assert.strictEqual(yield* turns(9, 500), "A")
      }),
    )
    test(
      "by a snooze stop the whole queue, when it says so or has no key",
      Effect.gen(function* () {
        const others = () => turns(9, 499)
        yield* fill(1, "AB-")
        yield* snooze("A", 500, "queue")
        assert.strictEqual(yield* others(), "")
        yield* pauseUntil(0)
        yield* snooze("-", 500, "key")
        assert.strictEqual(yield* others(), "")
        assert.strictEqual(yield* pausedUntil(0), 500)
        assert.isUndefined(yield* pausedUntil(0, "A"))
        assert.strictEqual((yield* turns(9, 500)).length, 3)
      }),
    )
    test(
      "by a snooze never become shorter",
      Effect.gen(function* () {
        yield* snooze("A", 500, "key")
        yield* pauseUntil(0, "A")
        yield* fill(2, "A")
        const [first, second] = yield* claim(0)
        yield* settle(first!, { _tag: "Snooze", eta: 800, pause: "key" }, 0)
        yield* settle(second!, { _tag: "Snooze", eta: 300, pause: "key" }, 0)
        assert.strictEqual(yield* pausedUntil(0, "A"), 800)
        yield* pauseUntil(600)
        yield* fill(1, "-")
        yield* pauseUntil(0)
        const plain = yield* claimOne(0)
        yield* pauseUntil(600)
        yield* settle(plain, { _tag: "Snooze", eta: 200, pause: "queue" }, 0)
        assert.strictEqual(yield* pausedUntil(0), 600)
      }),
    )
    test(
      "by a snooze come only with what it settles: not of a lost lease, nor of a record that is cancelled instead",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* fill(2, "A")
        const [lost, cancelled] = yield* claim(0)
        const late = { ...lost!, token: lost!.token + 1 }
        assert.strictEqual(yield* settle(late, { _tag: "Snooze", eta: 500, pause: "key" }, 0), "LeaseLost")
        yield* queue.cancel({ ids: [cancelled!.id], reason: "no", now: 0 })
        assert.strictEqual(yield* settle(cancelled!, { _tag: "Snooze", eta: 500, pause: "queue" }, 0), "Settled")
        assert.strictEqual((yield* mustGet(cancelled!.id)).state, "cancelled")
        assert.isUndefined(yield* pausedUntil(0, "A"))
        assert.isUndefined(yield* pausedUntil(0))
      }),
    )
    test(
      "of a key move its turns on to the present",
      Effect.gen(function* () {
        yield* fill(9, "AB")
        yield* pauseUntil(500, "A")
        assert.strictEqual(yield* turns(4), "BBBB")
        assert.strictEqual(yield* turns(4, 500), "AABA")
      }),
    )
    test(
      "and the other reasons to wait are one time together",
      Effect.gen(function* () {
        yield* configureByKey({ rate: 2, burst: 1 })
        yield* fill(2, "A")
        yield* fill(1, "B", { eta: 450 })
        yield* turns(1)
        assert.strictEqual((yield* claimResult(1)).nextAt, 450)
        yield* pauseUntil(600, "B")
        assert.deepStrictEqual(yield* claim(450), [])
        assert.strictEqual((yield* claimResult(451)).nextAt, 500)
        yield* pauseUntil(550)
        assert.strictEqual((yield* claimResult(500)).nextAt, 550)
        assert.strictEqual(yield* turns(9, 550), "A")
        assert.strictEqual((yield* claimResult(551)).nextAt, 600)
      }),
    )
  },
}
