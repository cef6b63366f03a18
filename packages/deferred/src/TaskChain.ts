/**
 * Chains: tasks one after the other, each of which gets what the one before gave. All links are stored in one call when the
 * chain is deferred, each held back until the one before it has succeeded; its success is its successor's payload, handed over
 * in the same transaction in which it ends.
 *
 * A link is a record like any other: its own attempts, retries, result, ledger, in its own queue. When one ends otherwise than
 * by success, all that come after it are cancelled.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { DeferOptions, InvalidTaskOptions, OptionErrors, PayloadTooLarge } from "./DeferOptions.ts"
import * as internal from "./internal/chain.ts"
import type { AnyTask, ItemOptions, MemberOptions, RefOf } from "./TaskFanOut.ts"
import type { TaskId } from "./TaskId.ts"
import type { CancelOutcome, TaskQueue, TaskQueueError } from "./TaskQueue.ts"

/** @since 0.1.0 */
export type Tasks = readonly [AnyTask, ...ReadonlyArray<AnyTask>]

/** The task that a chain ends with. @since 0.1.0 */
export type LastOf<All extends Tasks> = All extends readonly [...ReadonlyArray<AnyTask>, infer Last extends AnyTask]
  ? Last
  : All[0]

/**
 * What a task must be to come next: its payload takes, in its encoded form, all that the task before it gives.
 *
 * @since 0.1.0
 */
export type Fits<Before extends AnyTask, Next extends AnyTask> = [Before["success"]["Encoded"]] extends [
  Next["payload"]["Encoded"],
]
  ? unknown
  : {
      readonly "the payload must take what the task before gives": {
        readonly gives: Before["success"]["Encoded"]
        readonly takes: Next["payload"]["Encoded"]
      }
    }

/**
 * What can be said about the first link, and for all of them. A `key` is also that of the links after it that have none of
 * their own.
 *
 * @since 0.1.0
 */
export type Options<RequireTransaction> = MemberOptions & { readonly requireTransaction?: RequireTransaction }

/**
 * The definition of a chain of these tasks.
 *
 * @since 0.1.0
 */
export interface TaskChain<All extends Tasks> {
  readonly tasks: All
  /**
   * The chain with one more task, which takes what the last one gives: its payload is that task's success, in its encoded
   * form, as JSON. A task whose payload does not take that does not compile.
   *
   * A `delay` counts from when the chain is deferred, and is over when the task before ends later. The `key` cannot be made of
   * a payload that is not there yet: it is the one given here, else that of the first link.
   */
  readonly to: <Next extends AnyTask>(
    task: Next & Fits<LastOf<All>, Next>,
    options?: ItemOptions,
  ) => TaskChain<readonly [...All, Next]>
  /**
   * Stores all links, in one call: all of them or none. The payload is that of the first.
   *
   * Fails as `defer` does, with `InvalidTaskOptions` also for a link that has a name or a unique key, and with `TaskQueueError`
   * (`NotSupported`) on a queue that delivers each task by itself. Interrupting it leaves all stored or nothing.
   */
  readonly defer: <const RequireTransaction extends DeferOptions["requireTransaction"] = undefined>(
    payload: All[0]["payload"]["~type.make.in"],
    options?: Options<RequireTransaction>,
  ) => Effect.Effect<
    ChainRef<All>,
    | InvalidTaskOptions
    | PayloadTooLarge
    | Schema.SchemaError
    | TaskQueueError
    | OptionErrors<undefined, undefined, RequireTransaction>,
    TaskQueue | All[0]["payload"]["EncodingServices"]
  >
}

/**
 * The handle on the links of a chain.
 *
 * @since 0.1.0
 */
export interface ChainRef<All extends Tasks> {
  /** That of the last link. */
  readonly id: TaskId
  /** The handle on each link. */
  readonly links: { readonly [Index in keyof All]: RefOf<All[Index]> }
  /**
   * Waits for the success of the last link. When a link before it did not succeed it fails with `TaskCancelled`, whose reason
   * says so: which link that was, and of what, its own handle tells. Interrupting the waiting does nothing to the chain.
   */
  readonly await: RefOf<LastOf<All>>["await"]
  /** Cancels all links that have not ended, one that runs as `TaskRef.cancel` does. `TooLate`: all have. */
  readonly cancel: (options?: { readonly reason?: string | undefined }) => Effect.Effect<CancelOutcome, TaskQueueError>
}

/**
 * Begins a chain with its first task.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskChain from "@outlive/deferred/TaskChain"
 * import { Effect, Schema } from "effect"
 *
 * const Download = Task.make("Download", { payload: { url: Schema.String }, success: Schema.Struct({ path: Schema.String }) })
 * const Resize = Task.make("Resize", { payload: { path: Schema.String }, success: Schema.Struct({ small: Schema.String }) })
 * const Publish = Task.make("Publish", { payload: { small: Schema.String }, success: Schema.String })
 *
 * const Thumbnail = TaskChain.make(Download).to(Resize, { queue: "images" }).to(Publish)
 *
 * const program = Effect.gen(function* () {
 *   const thumbnail = yield* Thumbnail.defer({ url: "https://example.com/cat.png" })
 *   return yield* thumbnail.await // what Publish gave
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make: <First extends AnyTask>(first: First) => TaskChain<readonly [First]> = internal.make as never
