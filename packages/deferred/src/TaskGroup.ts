/**
 * A group of tasks: many passed as one (`Task.group`).
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { InvalidTaskOptions } from "./DeferOptions.ts"
import type { TaskCodec } from "./internal/taskCodec.ts"
import type { TaskContext } from "./TaskContext.ts"
import type { TaskFailure } from "./TaskFailure.ts"
import * as TaskHandler from "./TaskHandler.ts"

const TypeId = "~outlive/deferred/TaskGroup"

/** What a group knows of a task. @since 0.1.0 */
export interface Member {
  readonly taskName: string
  readonly payload: Schema.Top
  readonly success: Schema.Top
  readonly error: Schema.Top
  readonly settings: { readonly aliases: ReadonlyArray<string>; readonly codec: TaskCodec }
}

/** @since 0.1.0 */
export type HandlersOf<Tasks extends Member> = Tasks extends { readonly taskName: infer Name extends string }
  ? TaskHandler.Handler<Name>
  : never

/**
 * Many tasks passed as one, where tasks are listed: `Worker.layer({ tasks: [Mails, Resize] })`.
 *
 * @since 0.1.0
 */
export interface TaskGroup<out Members extends ReadonlyArray<Member> = ReadonlyArray<Member>> {
  readonly [TypeId]: typeof TypeId
  readonly members: Members
  /** The handlers of all its tasks, by the tasks' names; one that is missing does not compile. */
  readonly toLayer: <Handlers extends GroupHandlers<Members[number]>>(
    handlers: Handlers,
  ) => Layer.Layer<
    HandlersOf<Members[number]>,
    never,
    | Exclude<
        { [Name in keyof Handlers]: Handlers[Name] extends Handling<infer R> ? R : never }[keyof Handlers],
        Scope.Scope | TaskContext
      >
    | Members[number]["payload"]["DecodingServices"]
    | Members[number]["success"]["EncodingServices"]
    | Members[number]["error"]["EncodingServices"]
  >
}

type Handling<R> = (payload: never, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown, R>

/** A handler for each task, by its name. @since 0.1.0 */
export type GroupHandlers<Tasks extends Member> = {
  readonly [Each in Tasks as Each["taskName"]]: (
    payload: Each["payload"]["Type"],
    context: TaskContext["Service"],
  ) => Effect.Effect<Each["success"]["Type"], Each["error"]["Type"] | TaskFailure, unknown>
}

/**
 * Many tasks as one. Two of a name, or of an alias that is another's name, make it throw `InvalidTaskOptions`.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as Worker from "@outlive/deferred/Worker"
 * import { Effect, Layer, Schema } from "effect"
 *
 * const Welcome = Task.make("Welcome", { payload: { userId: Schema.String } })
 * const Goodbye = Task.make("Goodbye", { payload: { userId: Schema.String } })
 * const Mails = Task.group(Welcome, Goodbye)
 *
 * const Workers = Worker.layer({ tasks: [Mails] }).pipe(
 *   Layer.provide(
 *     Mails.toLayer({
 *       Welcome: ({ userId }) => Effect.log(`welcome, ${userId}`),
 *       Goodbye: ({ userId }) => Effect.log(`goodbye, ${userId}`),
 *     }),
 *   ),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const make = <const Members extends readonly [Member, ...ReadonlyArray<Member>]>(
  ...members: Members
): TaskGroup<Members> => {
  const names = new Set<string>()
  for (const { settings, taskName } of members) {
    for (const name of [taskName, ...settings.aliases]) {
      if (names.has(name)) {
        throw new InvalidTaskOptions({ task: taskName, field: "name", reason: `is in its group twice: ${name}` })
      }
      names.add(name)
    }
  }
  const toLayer = (handlers: Readonly<Record<string, Handler>>) =>
    members
      .map(
        ({ settings, taskName }): Layer.Layer<never, never, unknown> =>
          Layer.effect(TaskHandler.key(taskName), TaskHandler.make(settings.codec, handlers[taskName]!)),
      )
      .reduce((all, layer) => Layer.merge(all, layer))
  return { [TypeId]: TypeId, members, toLayer } as unknown as TaskGroup<Members>
}

type Handler = (payload: unknown, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown, unknown>

/** @since 0.1.0 */
export const isTaskGroup = <Members extends ReadonlyArray<Member>>(
  value: object | TaskGroup<Members>,
): value is TaskGroup<Members> => TypeId in value
