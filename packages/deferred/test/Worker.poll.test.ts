import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const Work = Task.make("Work")

/** A queue that tells nothing of what happens in it, and notes when it is claimed from. */
const silent = (looks: Array<number>) =>
  Layer.effect(
    TaskQueue,
    Effect.map(TaskQueue, (queue) =>
      TaskQueue.of({
        ...queue,
        capabilities: { ...queue.capabilities, listens: false },
        changes: Effect.succeed(Stream.never),
        claim: (params) =>
          Effect.flatMap(Clock.currentTimeMillis, (at) => {
            looks.push(at)
            return queue.claim(params)
          }),
      }),
    ),
  ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))

const withWorker = <A, E>(
  looks: Array<number>,
  options: { readonly pollInterval?: "100 millis" },
  body: Effect.Effect<A, E, TaskQueue>,
) =>
  Effect.andThen(Worker.make({ tasks: [Work], ...options }), body).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.provideMerge(
        Work.toLayer(() => Effect.void),
        Layer.mergeAll(silent(looks), Instance.layerBackend()),
      ),
    ),
  )

/** Millisecond by millisecond, so that each look is made at its own time. */
const pass = (millis: number) =>
  Effect.forEach(
    Array.from({ length: millis }),
    () => Effect.andThen(TestClock.adjust(1), Effect.andThen(Effect.yieldNow, Effect.yieldNow)),
    { discard: true },
  )

const gaps = (looks: ReadonlyArray<number>) => looks.slice(1).map((at, index) => at - looks[index]!)

describe("Worker on a queue that tells of nothing", () => {
  it.effect("looks less and less often while there is nothing, down to once a second", () => {
    const looks: Array<number> = []
    return withWorker(
      looks,
      {},
      Effect.map(pass(4000), () =>
        assert.deepStrictEqual(gaps(looks).slice(0, 7), [50, 100, 200, 400, 800, 1000, 1000]),
      ),
    )
  })

  it.effect("looks soon again after it found something", () => {
    const looks: Array<number> = []
    return withWorker(
      looks,
      {},
      Effect.gen(function* () {
        yield* pass(3000)
        yield* Work.defer()
        const before = looks.length
        yield* pass(1500)
        const found = gaps(looks.slice(before))
        // The slot that came free again is no reason to look; the time is.
        assert.deepStrictEqual(found.slice(0, 4), [25, 50, 100, 200])
      }),
    )
  })

  it.effect("never waits longer than it was told", () => {
    const looks: Array<number> = []
    return withWorker(
      looks,
      { pollInterval: "100 millis" },
      Effect.map(pass(1000), () => assert.strictEqual(Math.max(...gaps(looks)), 100)),
    )
  })
})
