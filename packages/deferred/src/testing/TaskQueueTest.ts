/**
 * The suite that every driver of the task queue passes. With the driver's layer it is two lines in a test file of
 * vitest:
 *
 * ```ts
 * import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"
 *
 * TaskQueueTest.suite("mine", MyTaskQueue.layer)
 * ```
 *
 * Every test builds the layer anew and expects empty queues. All times are given to the driver as numbers; none is read
 * from a clock.
 *
 * @since 0.1.0
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import { claims } from "./internal/claims.ts"
import { ends } from "./internal/ends.ts"
import { enqueueing } from "./internal/enqueueing.ts"
import { joinCalls } from "./internal/joinCalls.ts"
import { joins } from "./internal/joins.ts"
import { keyLimits } from "./internal/keyLimits.ts"
import { keyOrder } from "./internal/keyOrder.ts"
import { keys } from "./internal/keys.ts"
import { theLatest } from "./internal/latest.ts"
import { latestTimes } from "./internal/latestTimes.ts"
import { limits } from "./internal/limits.ts"
import { names } from "./internal/names.ts"
import { notes } from "./internal/notes.ts"
import { pauses } from "./internal/pauses.ts"
import { payloads } from "./internal/payloads.ts"
import { readings } from "./internal/readings.ts"
import { schedules } from "./internal/schedules.ts"
import { settlements } from "./internal/settlements.ts"
import { statistics } from "./internal/statistics.ts"
import { unique } from "./internal/unique.ts"

/**
 * Runs the suite, as a `describe` of the given name.
 *
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<TaskQueue, E>): void => {
  // Real I/O may be behind it: the suite waits for what it asked for, never for time.
  const fresh = Layer.fresh(layer)
  const test = (sentence: string, body: Effect.Effect<unknown, TaskQueueError, TaskQueue | Scope.Scope>) => {
    it.effect(sentence, () => Effect.provide(body, fresh))
  }
  describe(`TaskQueue ${name}`, () => {
    const chapters = [
      enqueueing,
      claims,
      settlements,
      ends,
      names,
      unique,
      limits,
      keys,
      keyLimits,
      keyOrder,
      pauses,
      joins,
      joinCalls,
      theLatest,
      latestTimes,
      payloads,
      readings,
      notes,
      statistics,
      schedules,
    ]
    for (const chapter of chapters) {
      describe(chapter.title, () => chapter.tests(test))
    }
  })
}
