/**
 * A task as an Effect `RequestResolver`: whoever asks gets the task's result, what is asked in one turn is deferred in one
 * call, and Effect's batching, caching and tracing of requests apply.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import type * as Schema from "effect/Schema"
import type { DeferOptions, TaskAlreadyExists, TombstonedTask } from "./DeferOptions.ts"
import type * as Task from "./Task.ts"
import type { TaskQueue, TaskQueueError } from "./TaskQueue.ts"
import type { TaskCancelled, TaskDead, TaskNotFound } from "./TaskRef.ts"

/** What a request for a task's result can fail with, its own errors aside. @since 0.1.0 */
export type ResolveError =
  | Task.DeferError
  | TaskAlreadyExists
  | TombstonedTask
  | TaskDead
  | TaskCancelled
  | TaskNotFound
  | TaskQueueError

/** A request for the result of a task on a payload. @since 0.1.0 */
export interface TaskRequest<Input, out A, out E, out R> extends Request.Request<A, E, R> {
  readonly payload: Input
}

/**
 * The function that asks: each call is a request, the requests of one turn are one `deferAll`. A caller that is interrupted
 * does not wait any longer; its record goes on.
 *
 * Requests with a unique key or a name (`options`) that is there already wait for the record that has it, with
 * `onDuplicate: "ignore"` in the case of a name.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskResolver from "@outlive/deferred/TaskResolver"
 * import { Effect, Schema } from "effect"
 *
 * const Thumbnail = Task.make("Thumbnail", { payload: { path: Schema.String }, success: Schema.String })
 * const thumbnail = TaskResolver.make(Thumbnail)
 * // One round trip to the queue; the results come in the order of the paths.
 * const all = Effect.forEach(["a.png", "b.png"], (path) => thumbnail({ path }), { concurrency: "unbounded" })
 * ```
 *
 * @since 0.1.0
 */
export const make = <
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
>(
  task: Task.Task<Name, Payload, Success, Error>,
  options?: DeferOptions | ((payload: Payload["~type.make.in"]) => DeferOptions),
): ((
  payload: Payload["~type.make.in"],
) => Effect.Effect<
  Success["Type"],
  Error["Type"] | ResolveError,
  TaskQueue | Payload["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"]
>) => {
  type Services = TaskQueue | Payload["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"]
  type Asked = TaskRequest<Payload["~type.make.in"], Success["Type"], Error["Type"] | ResolveError, Services>
  const request = Request.of<Asked>()
  const resolver = resolverOf(task, options)
  return (payload) => Effect.request(request({ payload } as never), resolver as RequestResolver.RequestResolver<Asked>)
}

type Anything = TaskRequest<unknown, unknown, unknown, unknown>

const resolverOf = <Input>(
  task: {
    readonly deferAll: (
      payloads: Iterable<Input>,
      options?: DeferOptions | ((payload: Input, index: number) => DeferOptions),
    ) => Effect.Effect<ReadonlyArray<Task.DeferOutcome<Schema.Top, Schema.Top>>, unknown, unknown>
  },
  options: DeferOptions | ((payload: Input) => DeferOptions) | undefined,
): RequestResolver.RequestResolver<Anything> => {
  const complete = (entry: Request.Entry<Anything>, result: Effect.Effect<unknown, unknown, unknown>) =>
    Request.completeEffect(entry, Effect.provideContext(result, entry.context))
  const wait = (outcome: Task.DeferOutcome<Schema.Top, Schema.Top> | undefined) =>
    outcome?._tag === "Deferred" ? outcome.ref.await : Effect.fail(outcome?.error)
  const deferOne = ({ request }: Request.Entry<Anything>) =>
    Effect.flatMap(task.deferAll([request.payload as Input], options), ([outcome]) => wait(outcome))
  const together = { concurrency: "unbounded", discard: true } as const

  return RequestResolver.make<Anything>((entries) => {
    const [first] = entries
    const payloads = entries.map(({ request }) => request.payload as Input)
    return Effect.matchEffect(Effect.provideContext(task.deferAll(payloads, options), first.context), {
      onSuccess: (outcomes) => Effect.forEach(entries, (entry, n) => complete(entry, wait(outcomes[n])), together),
      // Nothing was stored: what is wrong with one of them is no fault of the others.
      onFailure: (error) =>
        entries.length === 1
          ? complete(first, Effect.fail(error))
          : Effect.forEach(entries, (entry) => complete(entry, deferOne(entry)), together),
    })
  })
}
