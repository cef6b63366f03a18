import { assert, describe, it } from "@effect/vitest"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as ThreadEvent from "@outlive/core/ThreadEvent"
import { Effect, Layer, Metric, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"

const { BackgroundThreads } = BackgroundThread
const backend = BackgroundThreads.layer.pipe(Layer.provideMerge(Instance.layerBackend({ threadLimit: 2 })))

describe("events of threads", () => {
  it.effect("tell of starts, refusals, restarts and ends", () =>
    Effect.gen(function* () {
      const threads = yield* BackgroundThreads
      const events = yield* threads.events
      const good = yield* BackgroundThread.start(Effect.sleep("2 seconds"), { name: "good" })
      const bad = yield* BackgroundThread.start(Effect.fail("no"), {
        name: "bad",
        restart: Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(1)]),
      })
      yield* Effect.flip(BackgroundThread.start(Effect.void, { name: "refused" }))
      yield* TestClock.adjust("2 seconds")
      yield* Effect.all([good.await, bad.await])
      const told = yield* Stream.runCollect(Stream.take(events, 6))
      assert.deepStrictEqual(
        told.map((event) => `${event._tag} ${event.name}${event._tag === "Ended" ? ` ${event.outcome}` : ""}`),
        ["Started good", "Started bad", "Refused refused", "Restarted bad", "Ended bad failed", "Ended good succeeded"],
      )
    }).pipe(Effect.provide(backend)),
  )

  it.effect("never slow a thread for a reader that does not read: it loses the oldest", () =>
    Effect.gen(function* () {
      const threads = yield* BackgroundThreads
      const events = yield* threads.events
      for (let n = 0; n < 2000; n++) {
        const thread = yield* BackgroundThread.start(Effect.void)
        yield* thread.await
      }
      const [first] = yield* Stream.runCollect(Stream.take(events, 1))
      assert.isTrue(first !== undefined && "id" in first && first.id > 1400)
    }).pipe(Effect.provide(backend)),
  )

  it.effect("are counted: started, refused by reason, failed, alive, and how long they took", () =>
    Effect.gen(function* () {
      yield* BackgroundThread.start(Effect.never)
      const failed = yield* BackgroundThread.start(Effect.delay(Effect.fail("no"), "5 seconds"))
      yield* Effect.flip(BackgroundThread.start(Effect.void))
      yield* TestClock.adjust("5 seconds")
      yield* failed.await
      assert.strictEqual((yield* Metric.value(ThreadEvent.started)).count, 2)
      assert.strictEqual((yield* Metric.value(ThreadEvent.failed)).count, 1)
      assert.strictEqual((yield* Metric.value(ThreadEvent.active)).value, 1)
      const byLimit = Metric.withAttributes(ThreadEvent.refused, { reason: "LimitReached" })
      assert.strictEqual((yield* Metric.value(byLimit)).count, 1)
      const duration = yield* Metric.value(ThreadEvent.duration)
      assert.deepStrictEqual([duration.count, duration.max], [1, 5000])
    }).pipe(Effect.provide(backend), Effect.provideService(Metric.MetricRegistry, new Map())),
  )
})
