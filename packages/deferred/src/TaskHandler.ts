/**
 * Handlers: the functions that run tasks, as services in the context, one for each task name. `Task.toLayer` makes them,
 * whatever runs records asks for them: a worker, a push endpoint, `Task.run`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { successAtOnce } from "./internal/atOnce.ts"
import { isPlain, readPayload, storeResult } from "./internal/storedText.ts"
import type { TaskCodec } from "./internal/taskCodec.ts"
import type { Undecodable } from "./Outcome.ts"
import type { PayloadCodec } from "./PayloadCodec.ts"
import { TaskContext } from "./TaskContext.ts"
import { TaskTimeout } from "./TaskFailure.ts"
import type { TaskQueueError } from "./TaskQueue.ts"
import type { TaskRecord } from "./TaskRecord.ts"

/**
 * The requirement "somebody handles the task `Name`". A worker over a task without its handler does not compile.
 *
 * @since 0.1.0
 */
export interface Handler<Name extends string> {
  readonly "~outlive/deferred/Handler": Name
}

/**
 * A handler as a worker sees it.
 *
 * @since 0.1.0
 */
export interface TaskHandler {
  /**
   * What the handler and the schemas need. Whoever runs `execute` or `encodeExit` provides it, together with
   * `TaskContext`; its own clock, logger and span go over it.
   */
  readonly services: Context.Context<never>
  /** Decodes the payload of a version and runs the handler on it, in a scope of its own, within `timeout` milliseconds. */
  readonly execute: (options: {
    readonly version: number
    readonly payload: string
    readonly timeout: number | undefined
    readonly context: TaskContext["Service"]
    /** How the payload was stored: that of its queue. */
    readonly codec: PayloadCodec | undefined
  }) => Effect.Effect<unknown, unknown>
  /** Runs the handler on a payload that was never encoded. */
  readonly run: (payload: unknown, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown>
  /** The exit of an attempt of a record as it is stored, by the codec of its queue. */
  readonly encodeExit: (
    exit: Exit.Exit<unknown, unknown>,
    record: Pick<TaskRecord, "id" | "task" | "version">,
    codec: PayloadCodec | undefined,
  ) => Effect.Effect<string, Schema.SchemaError | TaskQueueError>
}

/** @since 0.1.0 */
export const key = <Name extends string>(name: Name): Context.Key<Handler<Name>, TaskHandler> =>
  Context.Service<Handler<Name>, TaskHandler>(`outlive/deferred/Handler/${name}`)

/**
 * Makes a handler from its function. The services it needs are those of the context in which this is called; the span
 * and the scope of that place do not go along, every attempt has its own.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  codec: TaskCodec,
  handle: (payload: unknown, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown, unknown>,
): Effect.fn.Return<TaskHandler, never, unknown> {
  const services = Context.omit(Scope.Scope, Tracer.ParentSpan)(yield* Effect.context<unknown>())
  const attempt = (payload: unknown, context: TaskContext["Service"]) =>
    Effect.scoped(Effect.suspend(() => handle(payload, context))) as Effect.Effect<unknown, unknown>
  return {
    services: services as Context.Context<never>,
    run: (payload, context) =>
      Effect.updateContext(attempt(payload, context), (runner: Context.Context<never>) =>
        Context.add(Context.merge(services, runner), TaskContext, context),
      ),
    execute: ({ version, payload, timeout, context, codec: stored }) => {
      const decode = (text: string): Effect.Effect<unknown, unknown> => {
        const decoding = codec.decodePayload(version, text) as Effect.Effect<unknown, Undecodable>
        const known = successAtOnce(decoding)
        return known === undefined
          ? Effect.flatMap(decoding, (decoded) => attempt(decoded, context))
          : attempt(known.value, context)
      }
      const work = isPlain(stored, payload)
        ? decode(payload)
        : Effect.flatMap(
            readPayload(stored, payload, {
              version,
              id: context.id,
              task: context.task,
              queue: context.queue,
              name: Option.getOrUndefined(context.name),
              headers: context.headers,
            }),
            decode,
          )
      if (timeout === undefined) return work
      return Effect.timeoutOrElse(work, {
        duration: timeout,
        orElse: () => Effect.fail(new TaskTimeout({ timeout })),
      })
    },
    encodeExit: (exit, record, stored) => {
      const encoding = codec.encodeExit(exit) as Effect.Effect<string, Schema.SchemaError>
      const known = successAtOnce(encoding)
      return known !== undefined && isPlain(stored, known.value)
        ? encoding
        : Effect.flatMap(encoding, (text) => storeResult(stored, text, record))
    },
  }
})
