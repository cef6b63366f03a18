/**
 * The receiving end of push delivery: an HTTP endpoint that runs the task in a request and answers with its outcome, for
 * hosts where no worker can live (App Engine's `deferred` handler, made safe: rows D30-D41, Q100-Q114).
 *
 * @since 0.1.0
 */
import * as Instance from "@outlive/core/Instance"
import * as Outcome from "@outlive/deferred/Outcome"
import type * as Task from "@outlive/deferred/Task"
import * as TaskAttempt from "@outlive/deferred/TaskAttempt"
import type { TaskGroup } from "@outlive/deferred/TaskGroup"
import { makeGenerator } from "@outlive/deferred/TaskId"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { givenOf, givenOfUnreadable } from "./internal/push/given.ts"
import { count, millis } from "./internal/push/options.ts"
import { authenticate, type Bounds, type Refused, readBody } from "./internal/push/receive.ts"
import { makeRefusals } from "./internal/push/refusals.ts"
import { makeRoom } from "./internal/push/room.ts"
import * as PushAnswer from "./PushAnswer.ts"
import { PushAuthenticator, type Sender } from "./PushAuthenticator.ts"
import { PushDeadLetters } from "./PushDeadLetters.ts"
import * as PushDelivery from "./PushDelivery.ts"

export { InvalidPushOptions } from "./internal/push/options.ts"

/** @since 0.1.0 */
export interface Options<Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>> {
  /** The tasks this endpoint runs, groups of tasks among them. A task without its handler does not compile. */
  readonly tasks: Tasks
  /** Default `/_ah/queue/deferred` (D3). */
  readonly path?: HttpRouter.PathInput | undefined
  /** Deliveries at once; more are answered with 503 and asked to come again. Default 100. */
  readonly concurrency?: number | undefined
  /** Bytes a body may have. Default 2 MiB. */
  readonly bodyLimit?: number | undefined
  /** How long a body may take to arrive. Default 30 seconds. */
  readonly bodyTimeout?: Duration.Input | undefined
  /** How long senders wait that do not say so: Cloud Tasks' dispatch deadline. Default 10 minutes (C9). */
  readonly deadline?: Duration.Input | undefined
  /** How long shutdown waits for deliveries under way before it interrupts them. Default 20 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
}

/**
 * Adds the endpoint to the router at hand. A delivery goes through these, and the first that refuses it answers:
 *
 * | | status |
 * | --- | --- |
 * | it is not authentic (`PushAuthenticator`) | 403, and nothing else is said or read |
 * | the instance is shutting down, or `concurrency` deliveries are under way | 503 with `Retry-After` |
 * | it is not a POST | 405 with `Allow` |
 * | its content type is not JSON, or it is compressed | 415 |
 * | its body is larger than `bodyLimit` | 413 |
 * | its body takes longer than `bodyTimeout` | 408 |
 * | its body breaks off | 400 |
 * | its body is not the signed one | 403 |
 *
 * Then the handler runs, and its outcome decides by the table of `PushAnswer.statusOf`. A dead letter is answered with 200;
 * unless its sender keeps it (`PushDispatcher` does), it goes to `PushDeadLetters` first. What cannot be read, and a task
 * that is not among `tasks`, are dead letters; a newer version of a task is tried again, for a newer instance.
 *
 * A sender that hangs up interrupts the handler, and so does the end of the time that it waits, if its connection broke
 * without a word: it has given the attempt up. Options out of their bounds are a defect, `InvalidPushOptions`. Shutdown, of the `Instance` or of the layer's
 * scope, takes no more deliveries, waits for those under way, and gives back what is left after `drainTimeout`.
 *
 * All times are by the `Clock` of the layer. Delivery is at least once: an answer can get lost.
 *
 * @example
 * ```ts
 * import { createServer } from "node:http"
 * import { NodeHttpServer } from "@effect/platform-node"
 * import * as Task from "@outlive/deferred/Task"
 * import * as NodeInstance from "@outlive/node/NodeInstance"
 * import * as PushHandler from "@outlive/node/PushHandler"
 * import * as PushKeys from "@outlive/node/PushKeys"
 * import * as PushSignature from "@outlive/node/PushSignature"
 * import { Effect, Layer, Schema } from "effect"
 * import { HttpRouter } from "effect/http"
 *
 * const Resize = Task.make("Resize", { payload: { path: Schema.String } })
 * const Routes = PushHandler.layer({ tasks: [Resize] }).pipe(
 *   Layer.provide(Resize.toLayer(({ path }) => Effect.log(`resizing ${path}`))),
 *   Layer.provide(PushSignature.layer().pipe(Layer.provide(PushKeys.layerConfig()))),
 *   Layer.provide(NodeInstance.layer()),
 * )
 * const Main = HttpRouter.serve(Routes).pipe(Layer.provide(NodeHttpServer.layer(createServer, { port: 8080 })))
 * ```
 *
 * @since 0.1.0
 */
export const layer = <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(
  options: Options<Tasks>,
): Layer.Layer<
  never,
  never,
  HttpRouter.HttpRouter | PushAuthenticator | Instance.Instance | Task.HandlersOf<Tasks[number]>
> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const router = yield* HttpRouter.HttpRouter
      yield* router.add("*", options.path ?? PushDelivery.defaultPath, yield* make(options))
    }),
  )

/**
 * The endpoint as an effect that answers the request at hand: for routers of another kind.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* <
  const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>,
>(options: Options<Tasks>) {
  const path = options.path ?? PushDelivery.defaultPath
  const { id: instance } = yield* Instance.Instance
  const authenticator = yield* PushAuthenticator
  const deadLetters = yield* PushDeadLetters
  const refusals = yield* makeRefusals(path)
  const room = yield* makeRoom({
    name: `push handler ${path}`,
    concurrency: yield* count("concurrency", options.concurrency, 100),
    drainTimeout: yield* millis("drainTimeout", options.drainTimeout, "20 seconds"),
  })
  const attempt = yield* TaskAttempt.make({ tasks: options.tasks, worker: instance })
  const clock = yield* Clock.clockWith(Effect.succeed)
  const random = yield* Random.Random
  const nextId = makeGenerator()
  const bounds: Bounds = {
    bodyLimit: yield* count("bodyLimit", options.bodyLimit, 2 * 1024 * 1024),
    bodyTimeout: yield* millis("bodyTimeout", options.bodyTimeout, "30 seconds"),
  }
  const deadline = yield* millis("deadline", options.deadline, "10 minutes")

  const read = (request: HttpServerRequest.HttpServerRequest, sender: Sender, body: Uint8Array) => {
    const now = clock.currentTimeMillisUnsafe()
    return Effect.match(PushDelivery.decode(body), {
      onSuccess: (delivery) => ({
        given: givenOf({ delivery, sender, header: (name) => request.headers[name], now, deadline }),
        keepsDead: delivery.keepsDead === true,
      }),
      onFailure: (error) => {
        const id = nextId(now, () => random.nextDoubleUnsafe())
        return { given: givenOfUnreadable({ body, error, sender, id, now }), keepsDead: false }
      },
    })
  }

  const deliver = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest, sender: Sender) {
    const body = yield* readBody(request, sender, refusals, bounds)
    const { given, keepsDead } = yield* read(request, sender, body)
    const ended = yield* room.run(() => attempt(given), given.until)
    const { failure, outcome, result } = ended
    if (outcome._tag === "Dead" && !keepsDead) {
      const { headers, id, name, payload, queue, task, timeout, version } = given
      const letter = { id, task, version, queue, name, payload, headers, timeout, reason: outcome.reason, result }
      const kept = yield* Effect.result(deadLetters.keep({ ...letter, failure: JSON.stringify(failure) }))
      if (kept._tag === "Failure") {
        yield* Effect.logError(`a dead letter could not be kept, its sender is asked to come again: ${kept.failure}`)
        return HttpServerResponse.empty({ status: 500, headers: { "retry-after": "10" } })
      }
    }
    return answer(ended, clock.currentTimeMillisUnsafe())
  })

  return Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const sender = yield* authenticate(authenticator, refusals, request)
    return yield* room.within(deliver(request, sender))
  }).pipe(
    Effect.catchTag("Refused", ({ response }: Refused) => Effect.succeed(response)),
    // Attempts have their own lines, and what was refused has one a minute.
    HttpMiddleware.withLoggerDisabled,
    // The fiber of a request may come with another one.
    Effect.provideService(Clock.Clock, clock),
  )
})

const answer = (ended: TaskAttempt.Ended, now: number): HttpServerResponse.HttpServerResponse => {
  const { failure, outcome, progress, result } = ended
  const { retryAfter, status } = PushAnswer.statusOf(outcome, now)
  const pause = outcome._tag === "Snoozed" ? Outcome.pauseOf(outcome.snooze) : undefined
  const body: PushAnswer.Answer = {
    outcome: outcome._tag === "Cancelled" || outcome._tag === "Abandoned" ? "Released" : outcome._tag,
    ...(result !== undefined && { result }),
    ...(outcome._tag === "Dead" && { reason: outcome.reason }),
    ...(pause !== undefined && { pause }),
    ...(failure !== undefined && { failure: { kind: failure.kind, tag: failure.tag, message: failure.message } }),
    ...(progress !== undefined && { progress }),
  }
  return HttpServerResponse.jsonUnsafe(body, {
    status,
    headers: {
      [PushAnswer.outcomeHeader]: body.outcome,
      ...(retryAfter !== undefined && { "retry-after": PushAnswer.retryAfterHeader(retryAfter) }),
    },
  })
}
