/**
 * Deferring from anywhere: an HTTP API with one endpoint a task, whose bodies are checked by the task's own schema, and an
 * OpenAPI document of it. For producers in other languages and for processes without the queue's database.
 *
 * @since 0.1.0
 */
import type * as Task from "@outlive/deferred/Task"
import { isTaskGroup, type TaskGroup } from "@outlive/deferred/TaskGroup"
import type { TaskQueue } from "@outlive/deferred/TaskQueue"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Layer from "effect/Layer"
import * as Admission from "./internal/push/admission.ts"
import * as Deferral from "./internal/push/deferral.ts"
import { count, millis } from "./internal/push/options.ts"
import { answer, authenticate } from "./internal/push/receive.ts"
import { makeRefusals } from "./internal/push/refusals.ts"
import { PushAuthenticator } from "./PushAuthenticator.ts"

export { InvalidPushOptions } from "./internal/push/options.ts"

/** Tasks, groups of tasks among them. @since 0.1.0 */
export type Tasks = ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>

type MembersOf<T extends Tasks> = T[number] extends infer Each
  ? Each extends TaskGroup<infer Members>
    ? Members[number]
    : Extract<Each, Task.Any>
  : never

/** @since 0.1.0 */
export interface Options<T extends Tasks> {
  /** The tasks that may be deferred. Their names must fit into a path: `[A-Za-z0-9._-]+`. */
  readonly tasks: T
  /** `POST /tasks/Resize` defers a `Resize`. Default `/tasks`. */
  readonly prefix?: `/${string}` | undefined
  /** Bytes a body may have. Default 2 MiB. */
  readonly bodyLimit?: number | undefined
  /** How long a body may take to arrive. Default 30 seconds. */
  readonly bodyTimeout?: Duration.Input | undefined
}

/**
 * Adds the endpoints to the router at hand:
 *
 * - `POST /tasks/<task>` with `{ "payload": ..., "name": ..., "delay": ... }` defers a task, and is answered with 201 and
 *   `{ "id": ..., "outcome": "Inserted" }`. With a `name` it can be repeated: the second time it is answered with 200 and
 *   the id of the record that is there (`Existing`).
 * - `GET /tasks/openapi.json` describes them, with the payload of each task.
 *
 * Requests must be authentic, as deliveries must (`PushAuthenticator`): all others are answered with 403 whatever they ask
 * for, and nothing of them is read. A signed request gives itself an id; any that its sender does not use twice will do.
 *
 * | | status |
 * | --- | --- |
 * | the body, its payload or an option is not what it should be; nothing was stored | 400 with a `message` |
 * | there is no such task | 404 |
 * | another method | 405 with `Allow` |
 * | the name is taken, with `"onDuplicate": "fail"` | 409 |
 * | the payload is larger than can be stored, or the body than `bodyLimit` | 413 |
 * | it is not JSON | 415 |
 * | the queue cannot store it now | 503 |
 *
 * Options out of their bounds, and names that do not fit, are a defect.
 *
 * Properties that are not known are refused, so that a misspelt `delay` does not run a task at once.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as DeferApi from "@outlive/node/DeferApi"
 * import * as PushKeys from "@outlive/node/PushKeys"
 * import * as PushSignature from "@outlive/node/PushSignature"
 * import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
 * import { Layer, Schema } from "effect"
 *
 * const Resize = Task.make("Resize", { payload: { path: Schema.String } })
 * const Routes = DeferApi.layer({ tasks: [Resize] }).pipe(
 *   Layer.provide(PushSignature.layer().pipe(Layer.provide(PushKeys.layerConfig()))),
 *   Layer.provide(TaskQueueSqlite.layer({ filename: "tasks.db" })),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const layer = <const T extends Tasks>(
  options: Options<T>,
): Layer.Layer<
  never,
  never,
  | HttpRouter.HttpRouter
  | PushAuthenticator
  | TaskQueue
  | MembersOf<T>["payload"]["DecodingServices"]
  | MembersOf<T>["payload"]["EncodingServices"]
> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const prefix = prefixOf(options)
      const tasks = membersOf(options.tasks)
      const api = apiOf(options)
      const refusals = yield* makeRefusals(prefix)
      // All are handled, and their types are those of schemas that are only known when it runs.
      const handlers = HttpApiBuilder.group(api, "tasks", (handlers) => {
        const handled = tasks.reduce(
          (all, task) =>
            all.handle(task.taskName, ({ payload }) =>
              Deferral.store(task, payload as Deferral.Deferral),
            ) as typeof all,
          handlers,
        )
        return handled as unknown as HttpApiBuilder.Handlers<TaskQueue>
      })
      const bounds = {
        bodyLimit: yield* count("bodyLimit", options.bodyLimit, 2 * 1024 * 1024),
        bodyTimeout: yield* millis("bodyTimeout", options.bodyTimeout, "30 seconds"),
      }
      const document = HttpServerResponse.jsonUnsafe(OpenApi.fromApi(api))
      const authenticator = yield* PushAuthenticator
      const known = new Set(tasks.map(({ taskName }) => `${prefix}/${taskName}`))
      // What is no endpoint is nothing either to who may not know which there are.
      const others = HttpRouter.add(
        "*",
        `${prefix}/*`,
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          yield* authenticate(authenticator, refusals, request)
          const path = request.url.replace(/[?#].*$/, "")
          if (path === `${prefix}/openapi.json` && request.method === "GET") return document
          return known.has(path)
            ? HttpServerResponse.empty({ status: 405, headers: { allow: "POST" } })
            : HttpServerResponse.empty({ status: 404 })
        }).pipe(Effect.catchTag("Refused", answer)),
      )
      return Layer.merge(
        others,
        HttpApiBuilder.layer(api).pipe(
          Layer.provide(handlers),
          Layer.provide(Admission.layer(refusals, bounds)),
          Layer.provide(HttpServer.layerServices),
        ),
      )
    }),
  ) as Layer.Layer<never, never, never>

/**
 * The OpenAPI document of the endpoints, for who writes it to a file.
 *
 * @since 0.1.0
 */
export const openApi = <const T extends Tasks>(options: Options<T>): OpenApi.OpenAPISpec =>
  OpenApi.fromApi(apiOf(options))

const prefixOf = ({ prefix = "/tasks" }: { readonly prefix?: `/${string}` | undefined }): `/${string}` => prefix

const membersOf = (tasks: Tasks): ReadonlyArray<Task.Any> =>
  tasks.flatMap((task) => (isTaskGroup<ReadonlyArray<Task.Any>>(task) ? task.members : [task]))

const apiOf = (options: Options<Tasks>) => {
  const endpoints = membersOf(options.tasks).map((task) => {
    if (!/^[A-Za-z0-9._-]+$/.test(task.taskName) || task.taskName === "openapi.json") {
      throw new Error(`DeferApi: the name of the task ${JSON.stringify(task.taskName)} does not fit into a path`)
    }
    return HttpApiEndpoint.post(task.taskName, `/${task.taskName}`, {
      payload: Deferral.bodyOf(task),
      success: [Deferral.Inserted.pipe(HttpApiSchema.status(201)), Deferral.Found],
      error: [Deferral.InvalidDeferral, Deferral.NameTaken, Deferral.TooLarge, Deferral.QueueUnavailable],
    })
  })
  const group = endpoints.reduce(
    (all, endpoint) => all.add(endpoint) as typeof all,
    HttpApiGroup.make("tasks") as unknown as HttpApiGroup.HttpApiGroup<"tasks", (typeof endpoints)[number]>,
  )
  return HttpApi.make("outlive")
    .add(group.middleware(Admission.Admission).prefix(prefixOf(options)))
    .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" })
    .annotateMerge(OpenApi.annotations({ title: "Deferred tasks", description }))
}

const description =
  "Defers tasks. Every request must be signed (headers X-Outlive-Timestamp, X-Outlive-Id, X-Outlive-Attempt, Content-Digest " +
  "and X-Outlive-Signature) or carry a bearer token of the identity provider, as the server is set up."
