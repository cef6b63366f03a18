/**
 * Fan-out: many records stored in one call that are one group, and something that happens once when all of them have ended.
 * It is durable: who deferred the group may be gone long since.
 *
 * A member is a record like any other: its own attempts, retries, result, ledger. The group is one record more, which counts
 * how its members ended, in the same transaction in which each ends: no end is lost, and none counts twice. When all have
 * ended it runs (`onDone`), or has succeeded.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { DeferOptions, InvalidTaskOptions, OptionErrors, PayloadTooLarge } from "./DeferOptions.ts"
import * as internal from "./internal/fanOut.ts"
import * as handle from "./internal/fanOutRef.ts"
import type { FanOutSummary, TaskContext } from "./TaskContext.ts"
import type { TaskId } from "./TaskId.ts"
import type { Settings } from "./TaskOptions.ts"
import type { CancelOutcome, TaskQueue, TaskQueueError } from "./TaskQueue.ts"
import type { TaskCancelled, TaskDead, TaskNotFound, TaskRef } from "./TaskRef.ts"

export type { FanOutSummary }

/** A task of any types, as far as groups and chains know it: what `Task.make` gives. @since 0.1.0 */
export interface AnyTask {
  readonly taskName: string
  readonly payload: Schema.Top
  readonly success: Schema.Top
  readonly error: Schema.Top
  readonly settings: Settings
}

/**
 * What can be said about one record that belongs to others. It has no name and no unique key, since it must be there in any
 * case: of a task with `unique` or `latest` say `unique: false`.
 *
 * @since 0.1.0
 */
export type MemberOptions = DeferOptions & {
  readonly name?: undefined
  readonly onDuplicate?: undefined
  readonly tombstone?: undefined
  readonly unique?: false | undefined
  readonly latest?: false | undefined
}

/** The same of one of many: whether there must be a transaction is said for all of them. @since 0.1.0 */
export type ItemOptions = MemberOptions & { readonly requireTransaction?: undefined }

/** A payload with its task: see `item`. @since 0.1.0 */
export interface Item<out T extends AnyTask> {
  readonly task: T
  readonly payload: T["payload"]["~type.make.in"]
  readonly options?: ItemOptions | undefined
}

/**
 * A payload with its task, to be deferred together with others.
 *
 * @since 0.1.0
 */
export const item = <T extends AnyTask>(
  task: T,
  payload: T["payload"]["~type.make.in"],
  options?: ItemOptions,
): Item<T> => ({ task, payload, options })

/** What can be said about a group. @since 0.1.0 */
export interface Options<out Done extends AnyTask, out RequireTransaction> {
  /**
   * - `continue` (default): the others go on when one does not succeed
   * - `cancelSiblings`: the first that does not succeed cancels all others, as `TaskRef.cancel` does; the group is done when
   *   they have ended
   */
  readonly onFailure?: "continue" | "cancelSiblings" | undefined
  /**
   * What runs once when all members have ended, however they did (`item`). How is in its handler's `TaskContext.members`, and
   * what they gave is what `resultsOf` reads. A `delay` counts from now, and is over when the last member ends later.
   */
  readonly onDone?: Item<Done> | undefined
  /** Where the record of a group without `onDone` is, which is never claimed. Default: the queue of its first member. */
  readonly queue?: string | undefined
  /** How long that record stays after the end. Default 1 day. */
  readonly keep?: Duration.Input | undefined
  /** As in `DeferOptions`, for all of them. */
  readonly requireTransaction?: RequireTransaction
}

/** @since 0.1.0 */
export interface EachOptions<in Payload> {
  /** What holds for each member, or for each by its payload and its place, from 0. */
  readonly each?: ItemOptions | ((payload: Payload, index: number) => ItemOptions) | undefined
}

/** How a member of one of these tasks has ended: `task` tells which. @since 0.1.0 */
export type MemberEnd<Members extends AnyTask> = Members extends AnyTask
  ? {
      /** Its place among the items, from 0. */
      readonly index: number
      readonly id: TaskId
      /** The task's own name, also when the record has an alias of it. */
      readonly task: Members["taskName"]
      /** As of `TaskRef.await`; a result that does not decode is a `SchemaError`. */
      readonly exit: Exit.Exit<
        Members["success"]["Type"],
        Members["error"]["Type"] | TaskDead | TaskCancelled | Schema.SchemaError
      >
    }
  : never

/** What reading results of these tasks needs. @since 0.1.0 */
export type ResultServices<Tasks extends AnyTask> =
  | Tasks["success"]["DecodingServices"]
  | Tasks["error"]["DecodingServices"]

/** The handle on a record of a task. @since 0.1.0 */
export type RefOf<T extends AnyTask> = TaskRef<T["success"]["Type"], T["error"]["Type"], ResultServices<T>>

/**
 * The handle on a group whose members are of these tasks.
 *
 * @since 0.1.0
 */
export interface FanOutRef<Members extends AnyTask> {
  /** The id of the group's own record: with `onDone` that of the record which runs. */
  readonly id: TaskId
  readonly total: number
  /**
   * Waits until all members have ended; `onDone` is not waited for. Fails with `TaskCancelled` when the group was cancelled
   * before, with `TaskDead` when its record died before (it expired), with `TaskNotFound` when it is not, or no longer, there.
   * Interrupting the waiting does nothing to the group.
   */
  readonly await: Effect.Effect<FanOutSummary, TaskCancelled | TaskDead | TaskNotFound | TaskQueueError>
  /** How many have ended: now, then each time that it is noticed to be more (not every one), until all have or the group has. */
  readonly progress: Stream.Stream<FanOutSummary, TaskNotFound | TaskQueueError>
  /**
   * How each member ended, in the order of the items. It is read in pages, and waits for each that has not ended. A member
   * that is not kept any more (its task's `keep`, or removed) is left out.
   */
  readonly results: Stream.Stream<MemberEnd<Members>, TaskQueueError, ResultServices<Members>>
  /**
   * Cancels what has not ended: all members that wait, those that run as `TaskRef.cancel` does, and `onDone`. Gives what
   * became of the group's own record.
   */
  readonly cancel: (options?: { readonly reason?: string | undefined }) => Effect.Effect<CancelOutcome, TaskQueueError>
}

/** As a call gives it: with the handle on what runs when all is done. @since 0.1.0 */
export type Deferred<Members extends AnyTask, Done extends AnyTask> = FanOutRef<Members> &
  ([Done] extends [never] ? unknown : { readonly done: RefOf<Done> })

/** What deferring a group gives. @since 0.1.0 */
export type Deferral<Members extends AnyTask, Done extends AnyTask, RequireTransaction> = Effect.Effect<
  Deferred<Members, Done>,
  | InvalidTaskOptions
  | PayloadTooLarge
  | Schema.SchemaError
  | TaskQueueError
  | OptionErrors<undefined, undefined, RequireTransaction>,
  TaskQueue | Members["payload"]["EncodingServices"] | Done["payload"]["EncodingServices"]
>

/**
 * Stores payloads of one task, or items of several, as one group, in one call: all of them or none. The order of insertion is
 * that of the items.
 *
 * A group without items is done at once: its `onDone` is deferred, and without one nothing is stored.
 *
 * Fails as `defer` does, with `InvalidTaskOptions` also for a member that has a name or a unique key, and with
 * `TaskQueueError` (`NotSupported`) on a queue that delivers each task by itself. Interrupting it leaves all stored or nothing.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskFanOut from "@outlive/deferred/TaskFanOut"
 * import { Effect, Schema } from "effect"
 *
 * const Resize = Task.make("Resize", { payload: { path: Schema.String }, success: Schema.Int })
 * const Publish = Task.make("Publish", { payload: { album: Schema.String } })
 *
 * const program = Effect.gen(function* () {
 *   const album = yield* TaskFanOut.all(Resize, [{ path: "a.png" }, { path: "b.png" }], {
 *     onDone: TaskFanOut.item(Publish, { album: "7" }),
 *   })
 *   return yield* album.await // { total: 2, succeeded: 2, cancelled: 0, dead: 0 }
 * })
 * ```
 *
 * @since 0.1.0
 */
export const all: {
  <
    T extends AnyTask,
    Done extends AnyTask = never,
    const RequireTransaction extends DeferOptions["requireTransaction"] = undefined,
  >(
    task: T,
    payloads: Iterable<T["payload"]["~type.make.in"]>,
    options?: Options<Done, RequireTransaction> & EachOptions<T["payload"]["~type.make.in"]>,
  ): Deferral<T, Done, RequireTransaction>
  <
    Each extends Item<AnyTask>,
    Done extends AnyTask = never,
    const RequireTransaction extends DeferOptions["requireTransaction"] = undefined,
  >(
    items: Iterable<Each>,
    options?: Options<Done, RequireTransaction>,
  ): Deferral<Each["task"], Done, RequireTransaction>
} = internal.all as never

/**
 * The handle on a group that is known by its id; `tasks` are those that its members may be of. Fails with `TaskNotFound` when
 * the queue has no such group.
 *
 * @since 0.1.0
 */
export const ref: <T extends AnyTask>(
  id: TaskId,
  ...tasks: ReadonlyArray<T>
) => Effect.Effect<FanOutRef<T>, TaskNotFound | TaskQueueError, TaskQueue> = handle.ref as never

/**
 * How the members of the group ended that the record at hand was waiting for (`onDone`), in the order of the items: of these
 * tasks, and those that are still kept. It is read in pages.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskFanOut from "@outlive/deferred/TaskFanOut"
 * import { Effect, Exit, Schema, Stream } from "effect"
 *
 * const Count = Task.make("Count", { payload: { page: Schema.Int }, success: Schema.Int })
 * const Sum = Task.make("Sum", { success: Schema.Int })
 *
 * const SumHandler = Sum.toLayer(() =>
 *   TaskFanOut.resultsOf(Count).pipe(
 *     Stream.runFold(
 *       () => 0,
 *       (sum, { exit }) => (Exit.isSuccess(exit) ? sum + exit.value : sum),
 *     ),
 *     Effect.orDie,
 *   ),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const resultsOf: <T extends AnyTask>(
  ...tasks: ReadonlyArray<T>
) => Stream.Stream<MemberEnd<T>, TaskQueueError, TaskContext | TaskQueue | ResultServices<T>> =
  handle.resultsOf as never
