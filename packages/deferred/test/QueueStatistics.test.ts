import { assert, describe, it } from "@effect/vitest"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as QueueStatistics from "@outlive/deferred/QueueStatistics"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"

const Index = Task.make("Index", { payload: { page: Schema.String }, queue: "search" })
const memory = Layer.fresh(TaskQueueMemory.layer)

describe("QueueStatistics", () => {
  it.effect("tells what waits since when, what is in flight, and what ended in the last minute (Q66)", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      yield* Index.deferAll([1, 2, 3].map((page) => ({ page: `${page}` })))
      yield* Index.defer({ page: "later" }, { delay: "1 hour" })
      const { leases } = yield* PullQueue.lease({ tasks: [Index], queue: "search", max: 2, duration: "10 minutes" })
      yield* leases[0]!.succeed()
      const expected = {
        queue: "search",
        waiting: 2,
        ready: 1,
        oldestEta: Option.some(DateTime.makeUnsafe(1_000_000)),
        inFlight: 1,
        executedLastMinute: 1,
        enforcedRate: Option.none(),
        paused: false,
        pausedUntil: Option.none(),
      }
      assert.deepStrictEqual(yield* QueueStatistics.statistics("search"), expected)
      yield* TestClock.adjust("61 seconds")
      assert.deepStrictEqual(yield* QueueStatistics.statistics("search"), { ...expected, executedLastMinute: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("tells the rate and the pause that the queue is configured with, 0 too", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* queue.configure({ queue: "search", limits: { rate: 0, paused: true }, now: 0 })
      const found = yield* QueueStatistics.statistics("search")
      assert.deepInclude(found, { enforcedRate: Option.some(0), paused: true })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("tells of many queues in the order they are asked for, of unused ones nothing, and of none none", () =>
    Effect.gen(function* () {
      yield* Index.defer({ page: "a" })
      const all = yield* QueueStatistics.statisticsAll(["unused", "search"])
      assert.deepStrictEqual(
        all.map(({ queue, waiting }) => [queue, waiting]),
        [
          ["unused", 0],
          ["search", 1],
        ],
      )
      assert.isTrue(Option.isNone(all[0]!.oldestEta))
      assert.deepStrictEqual(yield* QueueStatistics.statisticsAll([]), [])
    }).pipe(Effect.provide(memory)),
  )
})
