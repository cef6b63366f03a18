/** How queues and workers are. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { WorkerInfo } from "../../WorkerInfo.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claim, claimOne, enqueue, insert, settle, succeed } from "./records.ts"

const statisticsAt = (now: number, queue = "default") =>
  Effect.flatMap(TaskQueue, (tasks) => tasks.statistics({ queue, now }))

const info = (id: string): WorkerInfo => ({
  id,
  startedAt: 1,
  at: 2,
  tasks: [{ name: "Task", maxVersion: 3 }],
  targets: ["gpu"],
  queues: [{ name: "default", concurrency: 10, running: 2, buffered: 1 }],
  finished: 7,
  unsettled: 0,
  failingSince: undefined,
  draining: false,
})

export const statistics: Chapter = {
  title: "statistics and workers",
  tests: (test) => {
    test(
      "counts what waits, is ready and runs in one queue, with the oldest eta (Q66)",
      Effect.gen(function* () {
        const nothing = { waiting: 0, ready: 0, oldestEta: undefined, inFlight: 0 }
        assert.deepInclude(yield* statisticsAt(0), { ...nothing, executedLastMinute: 0, nextTokenAt: undefined })
        yield* enqueue([{ eta: 10 }, { eta: 30 }, { eta: 20 }, { queue: "other" }])
        assert.deepInclude(yield* statisticsAt(20), { waiting: 3, ready: 2, oldestEta: 10, inFlight: 0 })
        yield* claim(20, { limit: 1 })
        assert.deepInclude(yield* statisticsAt(20), { waiting: 2, ready: 1, oldestEta: 20, inFlight: 1 })
        // A lease that is over is in flight until somebody takes the record back.
        assert.deepInclude(yield* statisticsAt(1_000_000), { inFlight: 1 })
        yield* claim(1_000_000)
        assert.deepInclude(yield* statisticsAt(1_000_000), { waiting: 0, oldestEta: undefined, inFlight: 3 })
      }),
    )
    test(
      "counts the attempts of the last minute, however they ended, and not what was released",
      Effect.gen(function* () {
        const executed = (now: number, queue?: string) =>
          Effect.map(statisticsAt(now, queue), ({ executedLastMinute }) => executedLastMinute)
        yield* enqueue(Array.from({ length: 6 }, () => ({ keep: 0 })))
        const claimed = yield* claim(100_000, { limit: 5, lease: 10_000_000 })
        yield* succeed(claimed[0]!, 100_000)
        yield* settle(claimed[1]!, { _tag: "Retry", eta: 10_000_000, failure: "{}" }, 100_500)
        yield* bury(claimed[2]!, 120_000)
        yield* settle(claimed[3]!, { _tag: "Release" }, 120_000)
        assert.strictEqual(yield* executed(125_000), 3)
        assert.strictEqual(yield* executed(125_000, "other"), 0)
        assert.strictEqual(yield* executed(158_000), 3)
        assert.strictEqual(yield* executed(165_000), 1)
        yield* succeed(claimed[4]!, 165_000)
        assert.strictEqual(yield* executed(165_000), 2)
        assert.strictEqual(yield* executed(1_000_000), 0)
      }),
    )
    test(
      "says when the rate next allows a start",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const next = (now: number) => Effect.map(statisticsAt(now), ({ nextTokenAt }) => nextTokenAt)
        yield* queue.configure({ queue: "default", limits: { rate: 2, burst: 1 }, now: 1000 })
        yield* enqueue([{}, {}])
        assert.strictEqual(yield* next(1000), 1000)
        yield* claimOne(1000)
        assert.strictEqual(yield* next(1000), 1500)
        assert.strictEqual(yield* next(1700), 1700)
        yield* queue.configure({ queue: "default", limits: { rate: 0 }, now: 1700 })
        assert.isUndefined(yield* next(1700))
      }),
    )
    test(
      "knows the workers that said they are there, for as long as they said",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        assert.deepStrictEqual(yield* queue.workers({ now: 0 }), [])
        yield* queue.announce({ worker: info("b"), until: 100, now: 0 })
        yield* queue.announce({ worker: info("a"), until: 200, now: 0 })
        assert.deepStrictEqual(yield* queue.workers({ now: 99 }), [info("a"), info("b")])
        assert.deepStrictEqual(yield* queue.workers({ now: 100 }), [info("a")])
        yield* queue.announce({ worker: { ...info("b"), finished: 8, failingSince: 50 }, until: 300, now: 100 })
        assert.deepStrictEqual(yield* queue.workers({ now: 250 }), [{ ...info("b"), finished: 8, failingSince: 50 }])
        yield* queue.withdraw({ worker: "b" })
        yield* queue.withdraw({ worker: "nobody" })
        assert.deepStrictEqual(yield* queue.workers({ now: 0 }), [info("a")])
        yield* queue.prune({ now: 200, deadBefore: 0, limit: 1 })
        assert.deepStrictEqual(yield* queue.workers({ now: 0 }), [])
      }),
    )
    test(
      "finds and counts dead letters by the tag of their failure and the time of their end",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const dead = (tag: string | undefined, at: number) =>
          Effect.gen(function* () {
            const id = yield* insert()
            const failure = tag === undefined ? '"nothing"' : JSON.stringify({ tag })
            yield* settle(
              yield* claimOne(0),
              { _tag: "Bury", reason: "RetriesExhausted", result: undefined, failure },
              at,
            )
            return id
          })
        const [a, b, c] = [yield* dead("A", 10), yield* dead("B", 20), yield* dead("A", 30)]
        const none = yield* dead(undefined, 40)
        const found = (filter: object) =>
          Effect.map(queue.find({ ...filter, limit: 10, now: 50 }), ({ records }) => records.map(({ id }) => id))
        assert.deepStrictEqual(yield* found({ tag: "A" }), [a, c])
        assert.deepStrictEqual(yield* found({ tag: "A", endedAfter: 11 }), [c])
        assert.deepStrictEqual(yield* found({ endedAfter: 20, endedBefore: 30 }), [b])
        assert.deepStrictEqual(yield* found({ endedAfter: 40 }), [none])
        assert.deepStrictEqual(yield* found({ tag: "a" }), [])
        const counts = yield* queue.counts({ state: "dead", now: 50 })
        assert.deepStrictEqual(counts.map(({ count, tag }) => `${tag} ${count}`).sort(), ["A 2", "B 1", "undefined 1"])
        assert.deepInclude((yield* queue.counts({ tag: "B", now: 50 }))[0], { count: 1, reason: "RetriesExhausted" })
      }),
    )
  },
}
