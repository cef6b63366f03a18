/**
 * The sending end of push delivery: a worker whose handlers are requests. It claims from any driver and POSTs each record,
 * signed, to one URL, where a `PushHandler`, or a program in any language, runs it.
 *
 * @since 0.1.0
 */
import type * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { isTaskGroup, type TaskGroup } from "@outlive/deferred/TaskGroup"
import * as TaskHandler from "@outlive/deferred/TaskHandler"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type Delivered, post, type Target } from "./internal/push/post.ts"
import * as PushDelivery from "./PushDelivery.ts"
import { PushKeys } from "./PushKeys.ts"

/** A task by its definition, many of them, or just its name: nothing is decoded here. @since 0.1.0 */
export type Dispatched = string | Task.Any | TaskGroup<ReadonlyArray<Task.Any>>

/** @since 0.1.0 */
export interface Options extends Omit<Worker.Options<ReadonlyArray<Task.Any>>, "tasks"> {
  /** Where to: `https://tasks.example.com`. Without a path it is `/_ah/queue/deferred` (D3). */
  readonly url: string | URL
  /**
   * The tasks to deliver, all versions of them: the receiver says what it knows. Those given by their definition have its
   * retry policy and queue; those given by name the queue's policy, and `queues` says where they are.
   */
  readonly tasks: ReadonlyArray<Dispatched>
  /** How long an answer may take: 15 seconds to 30 minutes, default 10 minutes (C9). */
  readonly deadline?: Duration.Input | undefined
  /** What the receiver sees as path and query, when a proxy in between changes it: that is what is signed. */
  readonly signedPath?: string | undefined
  /** Bytes of an answer that are read: a longer one is judged by its status alone. Default 2 MiB. */
  readonly answerLimit?: number | undefined
}

/**
 * The dispatcher cannot work so.
 *
 * @since 0.1.0
 */
export class InvalidPushTarget extends Schema.TaggedError<InvalidPushTarget>()("InvalidPushTarget", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `PushDispatcher: ${this.field} ${this.reason}`
  }
}

/** Why a dispatcher does not start. @since 0.1.0 */
export type Refusal = InvalidPushTarget | Layer.Error<ReturnType<typeof Worker.layer>>

/**
 * Delivers for as long as the layer lives. It is a `Worker` in all else: concurrency, leases, heartbeats, drain, events.
 *
 * | answer | the record |
 * | --- | --- |
 * | 2xx (Q109) | succeeded, with the result that a `PushHandler` gave |
 * | 200 of a `PushHandler` that says it is dead | a dead letter, with the reason and the error from there |
 * | `Snoozed`, `Released`, `Refused` of a `PushHandler` | comes again as it asks, the attempt is given back; when its handler failed with `Throttled`, its key or queue is paused here until then |
 * | 408, 429, 503 | tried again by the policy, no sooner than `Retry-After` says |
 * | 3xx (Q110), all others | tried again by the policy |
 * | none within `deadline`, or no connection (Q112) | tried again by the policy |
 *
 * How long an answer took, its status and the attempt are in the ledger's failure. Of a task's retry rules, policies and
 * `"quiet"` hold for the tag of the error over there; the others have been applied there.
 *
 * Fails with `InvalidPushTarget`, and as a worker does: with `FrontendsNotSupported` where background work may not run. Interrupting or
 * cancelling an attempt cuts its connection, on which a `PushHandler` interrupts its handler. A target that is trusted with
 * tasks is trusted with its word about them: an answer is not signed, so use https.
 *
 * @example
 * ```ts
 * import { NodeHttpClient } from "@effect/platform-node"
 * import * as NodeInstance from "@outlive/node/NodeInstance"
 * import * as PushDispatcher from "@outlive/node/PushDispatcher"
 * import * as PushKeys from "@outlive/node/PushKeys"
 * import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
 * import { Layer } from "effect"
 *
 * const Dispatcher = PushDispatcher.layer({
 *   url: "https://tasks.example.com",
 *   tasks: ["Resize", "Welcome"],
 *   queues: { images: { concurrency: 4 }, mail: {} },
 * }).pipe(
 *   Layer.provide(PushKeys.layerConfig()),
 *   Layer.provide(NodeHttpClient.layerUndici),
 *   Layer.provide(TaskQueueSqlite.layer({ filename: "tasks.db" })),
 *   Layer.provide(NodeInstance.layer()),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options: Options,
): Layer.Layer<never, Refusal, TaskQueue | Instance.Instance | HttpClient.HttpClient | PushKeys> =>
  Layer.effectDiscard(make(options))

/**
 * As `layer`, in the scope at hand, with the worker as a value.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<
  Worker.Worker,
  Refusal,
  TaskQueue | Instance.Instance | HttpClient.HttpClient | PushKeys | Scope.Scope
> {
  const target = targetOf(options)
  if (target instanceof InvalidPushTarget) return yield* Effect.fail(target)
  const queue = yield* TaskQueue
  const keys = yield* PushKeys
  const client = HttpClient.withScope(yield* HttpClient.HttpClient)
  const init = Context.getOption(yield* Effect.context<never>(), FetchHttpClient.RequestInit)
  // A redirect is an answer like any other that is no success: who follows it hands the delivery to a stranger.
  const services = Context.make(FetchHttpClient.RequestInit, {
    ...(init._tag === "Some" && init.value),
    redirect: "manual",
  })
  const tasks = options.tasks.flatMap((task) =>
    typeof task === "string" ? [Task.make(task)] : isTaskGroup<ReadonlyArray<Task.Any>>(task) ? task.members : [task],
  )
  const handler: TaskHandler.TaskHandler = {
    services: Context.empty(),
    execute: (parcel) => Effect.provideContext(post(client, keys, queue, target, parcel), services),
    run: () => Effect.die(new Error("PushDispatcher: a delivery has a record")),
    encodeExit,
  }
  const handlers = tasks.reduce(
    (context, { taskName }) => Context.add(context, TaskHandler.key(taskName), handler),
    Context.empty() as Context.Context<TaskHandler.Handler<string>>,
  )
  return yield* Effect.provideContext(Worker.make({ ...options, tasks: tasks.map(forwarded) }), handlers)
})

const targetOf = (options: Options): Target | InvalidPushTarget => {
  const refuse = (field: string, reason: string) => new InvalidPushTarget({ field, reason })
  const url = URL.parse(String(options.url))
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return refuse("url", `must be an http or https URL, and is ${JSON.stringify(String(options.url))}`)
  }
  if (url.username !== "" || url.password !== "") return refuse("url", "must have no password in it")
  url.hash = ""
  if (url.pathname === "/" && !/^https?:\/\/[^/]+\/$/.test(String(options.url))) url.pathname = PushDelivery.defaultPath
  const deadline = Duration.toMillis(Duration.fromInputUnsafe(options.deadline ?? "10 minutes"))
  if (!(deadline >= 15_000 && deadline <= 1_800_000)) {
    return refuse("deadline", `must be 15 seconds to 30 minutes (C9), and is ${deadline} ms`)
  }
  const path = options.signedPath ?? url.pathname + url.search
  if (!/^\/[\x21-\x7e]*$/.test(path)) return refuse("signedPath", `must be a path, and is ${JSON.stringify(path)}`)
  const answerLimit = options.answerLimit ?? 2 * 1024 * 1024
  if (!(answerLimit >= 0)) return refuse("answerLimit", `must not be negative, and is ${answerLimit}`)
  return { url, path, deadline, answerLimit }
}

/** The task as a worker takes it that hands it on: all versions, and of its rules those that are not applied over there. */
const forwarded = (task: Task.Any): Task.Any => {
  const rules = Object.entries(task.settings.rules).filter(
    ([, rule]) => rule === "quiet" || RetryPolicy.isRetryPolicy(rule),
  )
  return Object.assign(Task.make(task.taskName), {
    settings: {
      ...task.settings,
      version: highestVersion,
      rules: { ...Object.fromEntries(rules), SingularTaskFailure: "quiet" as const },
      // What it writes is written elsewhere, and no transaction is held open for an answer.
      commit: "afterHandler" as const,
    },
  })
}

/** Drivers may store versions in 32 bits. */
const highestVersion = 2_147_483_647

/** Exits have been encoded over there. */
const encodeExit: TaskHandler.TaskHandler["encodeExit"] = (exit) => {
  if (exit._tag === "Success") {
    return Effect.succeed((exit.value as Delivered).result ?? '{"_tag":"Success","value":null}')
  }
  for (const reason of exit.cause.reasons) {
    if (reason._tag !== "Fail" || typeof reason.error !== "object" || reason.error === null) continue
    if ("result" in reason.error && typeof reason.error.result === "string") return Effect.succeed(reason.error.result)
  }
  return notEncoded
}

/** Nobody here knows the schema: the tag and the message are kept. */
const notEncoded = Effect.asVoid(
  Schema.decodeUnknownEffect(Schema.Never)("an exit that was not encoded"),
) as Effect.Effect<never, Schema.SchemaError>
