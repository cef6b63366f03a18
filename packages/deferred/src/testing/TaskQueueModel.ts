/**
 * Random histories of calls on a driver of the task queue, beside the contract as a plain model: after every call both
 * said the same and have the same records, and in the end whatever was enqueued can be run. A history that fails is made
 * as short as it can be before it is shown. Two lines in a test file of vitest:
 *
 * ```ts
 * import * as TaskQueueModel from "@outlive/deferred/testing/TaskQueueModel"
 *
 * TaskQueueModel.suite("mine", MyTaskQueue.layer)
 * ```
 *
 * `TaskQueueTest` says in a sentence what is wrong, this finds what no sentence thought of: run both. Calls are made one
 * after the other; many at once are in `TaskQueueTest`.
 *
 * @since 0.1.0
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { TaskQueue } from "../TaskQueue.ts"
import * as History from "./internal/history.ts"
import { sideBySide } from "./internal/sideBySide.ts"

/**
 * Runs random histories, as a `describe` of the given name. Every history builds the layer anew and expects empty queues.
 *
 * @since 0.1.0
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<TaskQueue, E>,
  options?: {
    /** How many histories. Default 100. */
    readonly runs?: number | undefined
    /** The longest history, in calls. Default 200. */
    readonly steps?: number | undefined
    /** Chooses the histories; a failure names its own. Default: others in every run. */
    readonly seed?: number | undefined
  },
): void => {
  const fresh = Layer.fresh(layer)
  describe(`TaskQueue ${name}, random histories`, () => {
    it.effect.prop(
      "says and keeps what the contract does, whatever was called before",
      { uses: History.Uses, history: Schema.Array(History.Step) },
      ({ history, uses }) =>
        Effect.gen(function* () {
          const both = sideBySide(yield* TaskQueue, uses)
          for (const [index, step] of history.entries()) {
            yield* both.step(step, `${index}`)
            yield* both.compare
          }
          yield* both.finish
        }).pipe(Effect.provide(fresh)),
      {
        arbitrary: { runs: options?.runs ?? 100, size: options?.steps ?? 200, seed: options?.seed, maxShrinks: 2000 },
        timeout: 60_000,
      },
    )
  })
}
