/**
 * A task: a named, schema-described unit of deferred work. Its stable name is its identity (Go's `MustRegister`, D55; not
 * a module path, D17), its schemas are the only way in and out.
 *
 * @since 0.1.0
 */
import type { BackgroundThreads, Refusal } from "@outlive/core/BackgroundThread"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type {
  DeferOptions,
  InvalidTaskOptions,
  NotInTransaction,
  OptionErrors,
  PayloadTooLarge,
  TaskAlreadyExists,
  TombstonedTask,
} from "./DeferOptions.ts"
import { defer, deferAll } from "./internal/defer.ts"
import { noOptions } from "./internal/newRecord.ts"
import { loadPayload } from "./internal/payloads.ts"
import { runBackground } from "./internal/runBackground.ts"
import { runInline } from "./internal/runInline.ts"
import { codecHere, queueHere, readPayload } from "./internal/storedText.ts"
import { makeTaskCodec } from "./internal/taskCodec.ts"
import { makeRef } from "./internal/taskRef.ts"
import { type AnyOptions, settingsOf } from "./internal/taskSettings.ts"
import type { PayloadMissing, Undecodable } from "./Outcome.ts"
import * as TaskChain from "./TaskChain.ts"
import type { TaskContext } from "./TaskContext.ts"
import type { TaskFailure } from "./TaskFailure.ts"
import * as TaskFanOut from "./TaskFanOut.ts"
import * as TaskGroup from "./TaskGroup.ts"
import * as TaskHandler from "./TaskHandler.ts"
import type { TaskId } from "./TaskId.ts"
import type { Options, Settings } from "./TaskOptions.ts"
import type { TaskQueue, TaskQueueError } from "./TaskQueue.ts"
import type { TaskRecord } from "./TaskRecord.ts"
import type { TaskRef } from "./TaskRef.ts"
import * as TaskResolver from "./TaskResolver.ts"
import type * as TaskThread from "./TaskThread.ts"
import * as TaskVersions from "./TaskVersions.ts"

export type { Options, RetryByTag, Settings } from "./TaskOptions.ts"

const TypeId = "~outlive/deferred/Task"

/**
 * The definition of a task. Extend it as a class to give it a name in types and stack traces, or use it as a value.
 *
 * @since 0.1.0
 */
export interface Task<
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
> {
  new (_: never): {}
  readonly [TypeId]: typeof TypeId
  readonly taskName: Name
  readonly payload: Payload
  readonly success: Success
  readonly error: Error
  readonly settings: Settings
  /**
   * Stores a record of this task. The payload is checked and encoded here: what does not encode fails here, with the
   * schema's error. Interrupting it leaves the record stored or not stored.
   *
   * Fails with `InvalidTaskOptions`, `PayloadTooLarge`, `SchemaError`, `TaskQueueError`, and with a `name` also with
   * `TaskAlreadyExists` and `TombstonedTask`, with `requireTransaction` with `NotInTransaction`. Times are by the caller's `Clock`.
   */
  readonly defer: <
    const Name extends DeferOptions["name"] = undefined,
    const OnDuplicate extends DeferOptions["onDuplicate"] = undefined,
    const RequireTransaction extends DeferOptions["requireTransaction"] = undefined,
  >(
    payload: Payload["~type.make.in"],
    options?: DeferOptions & {
      readonly name?: Name
      readonly onDuplicate?: OnDuplicate
      readonly requireTransaction?: RequireTransaction
    },
  ) => Effect.Effect<
    DeferredRef<Success, Error>,
    DeferError | OptionErrors<Name, OnDuplicate, RequireTransaction>,
    TaskQueue | Payload["EncodingServices"]
  >
  /**
   * Stores many records in one round trip, in the order given. An invalid payload or option fails the whole call and
   * nothing is stored (Q50); a name that is taken concerns only its own item (Q49). Records that are merged (`latest.merge`)
   * are stored one after the other: where one fails on the way, those before it stay.
   */
  readonly deferAll: (
    payloads: Iterable<Payload["~type.make.in"]>,
    options?: DeferOptions | ((payload: Payload["~type.make.in"], index: number) => DeferOptions),
  ) => Effect.Effect<
    ReadonlyArray<DeferOutcome<Success, Error>>,
    DeferError | NotInTransaction,
    TaskQueue | Payload["EncodingServices"]
  >
  /** The handle on a record of this task that is known by its id. It does not ask the queue. */
  readonly ref: (
    id: TaskId,
  ) => Effect.Effect<
    TaskRef<Success["Type"], Error["Type"], Success["DecodingServices"] | Error["DecodingServices"]>,
    never,
    TaskQueue
  >
  /**
   * The payload of a stored record of this task, brought up to the newest version: for who found the record. What was
   * coded is read with the `PayloadCodec` of the context, else with that of a `TaskQueue` in it.
   */
  readonly payloadOf: (
    record: StoredPayload,
  ) => Effect.Effect<Payload["Type"], Undecodable, Payload["DecodingServices"]>
  /** As `payloadOf`, also of a record whose payload is stored apart, by the codec of the queue. */
  readonly loadPayload: (
    record: StoredPayload & Pick<TaskRecord, "payloadRef">,
  ) => Effect.Effect<
    Payload["Type"],
    Undecodable | PayloadMissing | TaskQueueError,
    TaskQueue | Payload["DecodingServices"]
  >
  /**
   * Gives the task its handler. What the handler needs is taken from the layer's context; `TaskContext` and a `Scope`
   * that ends with the attempt are there anyway.
   */
  readonly toLayer: <R>(
    handler: (
      payload: Payload["Type"],
      context: TaskContext["Service"],
    ) => Effect.Effect<Success["Type"], Error["Type"] | TaskFailure, R>,
  ) => Layer.Layer<
    TaskHandler.Handler<Name>,
    never,
    | Exclude<R, Scope.Scope | TaskContext>
    | Payload["DecodingServices"]
    | Success["EncodingServices"]
    | Error["EncodingServices"]
  >
  /** Runs the handler here and now, without a queue, a retry or a timeout. The payload is checked, not encoded. */
  readonly run: (
    payload: Payload["~type.make.in"],
  ) => Effect.Effect<Success["Type"], Error["Type"] | TaskFailure | Schema.SchemaError, TaskHandler.Handler<Name>>
  /**
   * Runs the handler as a background thread, detached from its caller, with the task's retry policy and timeout. It is
   * in memory only: no queue, no limits but the instance's, no unique key, no `withHandler` transaction. The thread holds
   * its permit between attempts, too. The payload is checked, not encoded.
   */
  readonly background: (
    payload: Payload["~type.make.in"],
    options?: TaskThread.Options,
  ) => Effect.Effect<
    TaskThread.TaskThread<Success["Type"], Error["Type"]>,
    Refusal | Schema.SchemaError,
    TaskHandler.Handler<Name> | BackgroundThreads
  >
}

/** A task of any types. @since 0.1.0 */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly taskName: string
  readonly payload: Schema.Top
  readonly success: Schema.Top
  readonly error: Schema.Top
  readonly settings: Settings
}

/** The handlers that running these tasks needs. @since 0.1.0 */
export type HandlersOf<Tasks extends Any | TaskGroup.TaskGroup> =
  Tasks extends TaskGroup.TaskGroup<infer Members>
    ? TaskGroup.HandlersOf<Members[number]>
    : Tasks extends { readonly taskName: infer Name extends string }
      ? TaskHandler.Handler<Name>
      : never

/** What of a record its payload is read with. One that was encrypted opens only together with all of it. @since 0.1.0 */
export interface StoredPayload
  extends Pick<TaskRecord, "version" | "payload">,
    Partial<Pick<TaskRecord, "id" | "task" | "queue" | "name" | "headers">> {}

/** What `defer` can fail with, names aside. @since 0.1.0 */
export type DeferError = InvalidTaskOptions | PayloadTooLarge | Schema.SchemaError | TaskQueueError

/** The handle that `defer` gives: whether the record is new, too. @since 0.1.0 */
export interface DeferredRef<Success extends Schema.Top, Error extends Schema.Top>
  extends TaskRef<Success["Type"], Error["Type"], Success["DecodingServices"] | Error["DecodingServices"]> {
  readonly outcome: "Inserted" | "Existing" | "Replaced"
}

/** What became of one item of `deferAll`. @since 0.1.0 */
export type DeferOutcome<Success extends Schema.Top, Error extends Schema.Top> =
  | { readonly _tag: "Deferred"; readonly ref: DeferredRef<Success, Error> }
  | { readonly _tag: "Refused"; readonly error: TaskAlreadyExists | TombstonedTask }

/**
 * Defines a task.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import { Effect, Schema } from "effect"
 *
 * class Resize extends Task.make("Resize", {
 *   payload: { path: Schema.String, width: Schema.Int },
 *   success: Schema.Struct({ bytes: Schema.Int }),
 *   queue: "images",
 *   timeout: "30 seconds",
 * }) {}
 *
 * const ResizeHandler = Resize.toLayer(({ path, width }) => Effect.succeed({ bytes: path.length * width }))
 * const program = Effect.gen(function* () {
 *   const ref = yield* Resize.defer({ path: "cat.png", width: 200 }, { delay: "1 minute" })
 *   return yield* ref.await
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = <
  const Name extends string,
  const Payload extends TaskVersions.Source | TaskVersions.TaskVersions<Schema.Top> = typeof Schema.Void,
  Success extends Schema.Top = typeof Schema.Void,
  Error extends Schema.Top = typeof Schema.Never,
>(
  name: Name,
  options?: Options<Payload, Success, Error>,
): Task<Name, TaskVersions.ToSchema<Payload>, Success, Error> => {
  const source = options?.payload ?? Schema.Void
  const versions = TaskVersions.isTaskVersions(source) ? source : TaskVersions.make(source as TaskVersions.Source)
  const payload = versions.current
  const success: Schema.Top = options?.success ?? Schema.Void
  const error: Schema.Top = options?.error ?? Schema.Never
  const codec = makeTaskCodec({ payload, older: versions.older, success, error })
  const settings = settingsOf(name, options as AnyOptions | undefined, { version: versions.version, codec })
  const task: Any = { [TypeId]: TypeId, taskName: name, payload, success, error, settings }
  const handlerKey = TaskHandler.key(name)
  const members = {
    ...task,
    defer: (input: unknown, deferOptions?: DeferOptions) => defer(task, input, deferOptions ?? noOptions),
    deferAll: (
      inputs: Iterable<unknown>,
      deferOptions?: DeferOptions | ((payload: unknown, index: number) => DeferOptions),
    ) => deferAll(task, inputs, typeof deferOptions === "function" ? deferOptions : () => deferOptions ?? noOptions),
    ref: (id: TaskId) => Effect.map(queueHere, (queue) => makeRef(queue, task, id)),
    toLayer: (handler: Handler) => Layer.effect(handlerKey, TaskHandler.make(codec, handler)),
    payloadOf: (record: StoredPayload) =>
      codecHere.pipe(
        Effect.flatMap((stored) => readPayload(stored, record.payload, record)),
        Effect.flatMap((text) => codec.decodePayload(record.version, text)),
      ),
    loadPayload: (record: StoredPayload & Pick<TaskRecord, "payloadRef">) =>
      Effect.gen(function* () {
        const queue = yield* queueHere
        const text = yield* readPayload(queue.codec, yield* loadPayload(queue, record), record)
        return yield* codec.decodePayload(record.version, text)
      }),
    run: (input: unknown) => runInline(task, handlerKey, input),
    background: (input: unknown, options?: TaskThread.Options) => runBackground(task, handlerKey, input, options),
  }
  // The typed surface is `Task`; below it everything is schema-checked data.
  return Object.assign(class {}, members) as unknown as Task<Name, TaskVersions.ToSchema<Payload>, Success, Error>
}

type Handler = (payload: unknown, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown, unknown>

/** Many tasks as one: see `TaskGroup`. @since 0.1.0 */
export const group: typeof TaskGroup.make = TaskGroup.make

/** Defers many records that end as one: see `TaskFanOut`. @since 0.1.0 */
export const all: typeof TaskFanOut.all = TaskFanOut.all

/** One of many tasks for `all`: see `TaskFanOut`. @since 0.1.0 */
export const item: typeof TaskFanOut.item = TaskFanOut.item

/** Begins a chain of tasks, each with the success of the one before as its payload: see `TaskChain`. @since 0.1.0 */
export const chain: typeof TaskChain.make = TaskChain.make

/** The task as a function that asks for its result, what is asked in one turn in one call: see `TaskResolver`. @since 0.1.0 */
export const resolver: typeof TaskResolver.make = TaskResolver.make

/** Begins a chain of payload versions: see `TaskVersions`. @since 0.1.0 */
export const versions: typeof TaskVersions.make = TaskVersions.make

/** @since 0.1.0 */
export const isTask = (value: unknown): value is Any => typeof value === "function" && TypeId in value
