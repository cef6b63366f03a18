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
import type {
  DeferOptions,
  InvalidTaskOptions,
  PayloadTooLarge,
  TaskAlreadyExists,
  TombstonedTask,
} from "./DeferOptions.ts"
import type { AnyTask } from "./TaskFanOut.ts"
import type { TaskQueue, TaskQueueError } from "./TaskQueue.ts"
import type { TaskCancelled, TaskDead, TaskNotFound } from "./TaskRef.ts"

/** What a request for a task's result can fail with, its own errors aside. @since 0.1.0 */
export type ResolveError =
  | InvalidTaskOptions
  | PayloadTooLarge
  | Schema.SchemaError
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
 * import { Effect, Schema } from "effect"
 *
 * const Thumbnail = Task.make("Thumbnail", { payload: { path: Schema.String }, success: Schema.String })
 * const thumbnail = Task.resolver(Thumbnail)
 * // One round trip to the queue; the results come in the order of the paths.
 * const all = Effect.forEach(["a.png", "b.png"], (path) => thumbnail({ path }), { concurrency: "unbounded" })
 * ```
 *
 * @since 0.1.0
 */
export const make = <T extends AnyTask>(
  task: T,
  options?: DeferOptions | ((payload: T["payload"]["~type.make.in"]) => DeferOptions),
): ((
  payload: T["payload"]["~type.make.in"],
) => Effect.Effect<
  T["success"]["Type"],
  T["error"]["Type"] | ResolveError,
  TaskQueue | T["payload"]["EncodingServices"] | T["success"]["DecodingServices"] | T["error"]["DecodingServices"]
>) => {
  type Services =
    | TaskQueue
    | T["payload"]["EncodingServices"]
    | T["success"]["DecodingServices"]
    | T["error"]["DecodingServices"]
  type Asked = TaskRequest<
    T["payload"]["~type.make.in"],
    T["success"]["Type"],
    T["error"]["Type"] | ResolveError,
    Services
  >
  const request = Request.of<Asked>()
  // A task defers; its own type would have this module and `Task` need one another.
  const resolver = resolverOf(task as unknown as Deferring, options)
  return (payload) => Effect.request(request({ payload } as never), resolver as RequestResolver.RequestResolver<Asked>)
}

type Anything = TaskRequest<unknown, unknown, unknown, unknown>

/** What it does with a task. */
interface Deferring {
  readonly deferAll: (
    payloads: Iterable<unknown>,
    options?: DeferOptions | ((payload: unknown, index: number) => DeferOptions),
  ) => Effect.Effect<ReadonlyArray<Outcome>, unknown, unknown>
}
type Outcome =
  | { readonly _tag: "Deferred"; readonly ref: { readonly await: Effect.Effect<unknown, unknown, unknown> } }
  | { readonly _tag: "Refused"; readonly error: TaskAlreadyExists | TombstonedTask }

const resolverOf = (
  task: Deferring,
  options: DeferOptions | ((payload: unknown) => DeferOptions) | undefined,
): RequestResolver.RequestResolver<Anything> => {
  const complete = (entry: Request.Entry<Anything>, result: Effect.Effect<unknown, unknown, unknown>) =>
    Request.completeEffect(entry, Effect.provideContext(result, entry.context))
  const wait = (outcome: Outcome | undefined) =>
    outcome?._tag === "Deferred" ? outcome.ref.await : Effect.fail(outcome?.error)
  const deferOne = ({ request }: Request.Entry<Anything>) =>
    Effect.flatMap(task.deferAll([request.payload], options), ([outcome]) => wait(outcome))
  const together = { concurrency: "unbounded", discard: true } as const

  return RequestResolver.make<Anything>((entries) => {
    const [first] = entries
    const payloads = entries.map(({ request }) => request.payload)
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
