/**
 * Batch handlers: what is cheaper for many than for one (a bulk insert, a mail service that takes a hundred at once). Each
 * record stays a record of its own: with its attempt, its result or error, its retries.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { InvalidTaskOptions } from "./DeferOptions.ts"
import { type Gathered, makeGathering } from "./internal/gathering.ts"
import { toMillis } from "./internal/millis.ts"
import type * as Task from "./Task.ts"
import type { TaskContext } from "./TaskContext.ts"
import type { TaskFailure } from "./TaskFailure.ts"
import * as TaskHandler from "./TaskHandler.ts"

/** @since 0.1.0 */
export interface Options {
  /** Items in a batch at the most. Default 100. A worker gathers no more than its `concurrency`: give it as much. */
  readonly max?: number | undefined
  /**
   * How long the first item of a batch waits for others, by the `Clock` of the layer. Default 0: what comes in the same
   * turn, as the records of one claim do, is a batch.
   */
  readonly within?: Duration.Input | undefined
}

/** One record of a batch. @since 0.1.0 */
export interface Item<Payload> {
  readonly payload: Payload
  readonly context: TaskContext["Service"]
}

/**
 * Gives a task a handler that takes many records at once and gives an exit for each, in their order; `Exit.succeed` and
 * `Exit.fail` make them. What the whole fails with is the failure of each; as many exits as items are a must, else all of
 * them have died.
 *
 * A record that is cancelled, or whose lease is lost, before its batch began is left out of it. After that the batch goes on
 * for the others, and what it does for that record may be done again; a batch whose records are all gone is interrupted. The
 * task's `timeout` includes the gathering. A `Scope` is there that ends with the batch.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskBatch from "@outlive/deferred/TaskBatch"
 * import * as Worker from "@outlive/deferred/Worker"
 * import { Effect, Exit, Layer, Schema } from "effect"
 *
 * const Index = Task.make("Index", { payload: { text: Schema.String }, success: Schema.Int })
 * const IndexHandler = TaskBatch.toLayer(
 *   Index,
 *   (items) => Effect.succeed(items.map(({ payload }) => Exit.succeed(payload.text.length))),
 *   { max: 500, within: "50 millis" },
 * )
 * const Workers = Worker.layer({ tasks: [Index], concurrency: 500 }).pipe(Layer.provide(IndexHandler))
 * ```
 *
 * @since 0.1.0
 */
export const toLayer = <
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  R,
>(
  task: Task.Task<Name, Payload, Success, Error>,
  handler: (
    items: ReadonlyArray<Item<Payload["Type"]>>,
  ) => Effect.Effect<
    ReadonlyArray<Exit.Exit<Success["Type"], Error["Type"] | TaskFailure>>,
    Error["Type"] | TaskFailure,
    R
  >,
  options?: Options,
): Layer.Layer<
  TaskHandler.Handler<Name>,
  never,
  Exclude<R, Scope.Scope> | Payload["DecodingServices"] | Success["EncodingServices"] | Error["EncodingServices"]
> => {
  const max = options?.max ?? 100
  const within = options?.within === undefined ? 0 : toMillis(options.within)
  const refuse = (field: string, reason: string) => new InvalidTaskOptions({ task: task.taskName, field, reason })
  if (!Number.isInteger(max) || max < 1) throw refuse("max", `must be 1, 2, ..., and is ${max}`)
  if (!(within >= 0 && Number.isFinite(within))) throw refuse("within", "must be a finite time, and not negative")
  return Layer.effect(
    TaskHandler.key(task.taskName),
    Effect.gen(function* () {
      const run = handler as (items: ReadonlyArray<Gathered>) => ReturnType<typeof handler>
      const gathering = yield* makeGathering({ run, max, within })
      return yield* TaskHandler.make(task.settings.codec, gathering)
    }),
  ) as Layer.Layer<TaskHandler.Handler<Name>>
}
