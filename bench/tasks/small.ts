/**
 * The task that is measured, and who defers it.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Task from "@outlive/deferred/Task"
import { Effect, Schema } from "effect"

export const Payload = { n: Schema.Int, text: Schema.String }
export const text = "x".repeat(100)
export const Small = Task.make("Small", { payload: Payload, success: Schema.Int })

/** Fibers that defer, and tasks that run, at once. */
export const concurrency = 50

/** Runs `each` for all numbers below `count` from 50 fibers. */
export const fromFibers = <E, R>(count: number, each: (n: number) => Effect.Effect<unknown, E, R>) =>
  Effect.forEach(
    Array.from({ length: concurrency }, (_, fiber) => fiber),
    Effect.fnUntraced(function* (fiber) {
      for (let n = fiber; n < count; n += concurrency) yield* each(n)
    }),
    { concurrency, discard: true },
  )

export const median = (numbers: ReadonlyArray<number>): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

setFlagsFromString("--expose-gc")
/** Collects garbage, all of it. */
export const collect = runInNewContext("gc") as () => void
