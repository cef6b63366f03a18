import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"

const Work = Task.make("Work", { payload: Schema.Int })

/** What happened, one after the other, and how many records the worker has at that moment. */
interface Story {
  readonly events: Array<"asked" | "answered" | "begun">
  /** Claimed, and not ended. */
  held: number
  most: number
}

/** A queue far away: an answer to a claim takes ten milliseconds. */
const faraway = (story: Story) =>
  Layer.effect(
    TaskQueue,
    Effect.map(TaskQueue, (queue) =>
      TaskQueue.of({
        ...queue,
        claim: Effect.fnUntraced(function* (params) {
          story.events.push("asked")
          const result = yield* queue.claim(params)
          story.held += result.records.length
          story.most = Math.max(story.most, story.held)
          yield* Effect.sleep("10 millis")
          story.events.push("answered")
          return result
        }),
      }),
    ),
  ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))

/** Runs so many, each of which takes that long, and tells the story. */
const run = Effect.fnUntraced(function* (options: {
  readonly count: number
  readonly takes: Duration.Input
  readonly concurrency: number
  readonly prefetch?: number
}) {
  const { concurrency, count, prefetch, takes } = options
  const story: Story = { events: [], held: 0, most: 0 }
  const all = yield* Deferred.make<void>()
  let left = count
  const handler = Work.toLayer(() =>
    Effect.gen(function* () {
      story.events.push("begun")
      if (Duration.toMillis(takes) > 0) yield* Effect.sleep(takes)
      story.held--
      if (--left === 0) yield* Deferred.succeed(all, undefined)
    }),
  )
  const working = yield* Effect.gen(function* () {
    yield* Work.deferAll(Array.from({ length: count }, (_, n) => n))
    yield* Worker.make({ tasks: [Work], concurrency, prefetch })
    yield* Deferred.await(all)
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(handler, Layer.mergeAll(faraway(story), Instance.layerBackend()))),
    Effect.forkChild,
  )
  while (working.pollUnsafe() === undefined) yield* TestClock.adjust(1)
  yield* Fiber.join(working)
  return story
})

/** How many handlers began while a claim was under way. */
const begunMeanwhile = ({ events }: Story): number => {
  let isAsked = false
  return events.filter((event) => {
    if (event !== "begun") isAsked = event === "asked"
    return event === "begun" && isAsked
  }).length
}

describe("Worker and a queue that takes its time", () => {
  it.effect("runs what came with one claim while the next is under way, where handlers are faster than claims", () =>
    Effect.gen(function* () {
      const story = yield* run({ count: 2000, takes: 0, concurrency: 5 })
      // All but the first few, from which it learned that they are.
      assert.isAbove(begunMeanwhile(story), 1700)
    }),
  )

  it.effect.each([0, 1, 2, 7, 40, 100])("has no more than its slots and a prefetch of %i at any time", (prefetch) =>
    Effect.forEach(
      [0, 1, 3, 25],
      Effect.fnUntraced(function* (takes) {
        const { most } = yield* run({ count: 500, takes, concurrency: 5, prefetch })
        assert.isAtMost(most, 5 + prefetch)
      }),
    ),
  )

  it.effect("makes full use of it for fast handlers, by the half", () =>
    Effect.gen(function* () {
      const story = yield* run({ count: 2000, takes: 0, concurrency: 5, prefetch: 40 })
      assert.isAtLeast(story.most, 40)
      assert.isAtMost(story.events.filter((event) => event === "asked").length, 120)
    }),
  )

  it.effect("hoards nothing for slow handlers", () =>
    Effect.gen(function* () {
      const { most } = yield* run({ count: 100, takes: "1 second", concurrency: 5 })
      assert.isAtMost(most, 15)
    }),
  )
})
