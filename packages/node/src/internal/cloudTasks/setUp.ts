/**
 * Making the queues of a program in Cloud Tasks, or bringing them to what its configuration says.
 */
import type { protos } from "@google-cloud/tasks"
import type { Queue, QueueConfig } from "@outlive/deferred/QueueConfig"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import type { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type Call, failure, Status } from "./grpc.ts"
import { highestRate, mostConcurrent, problemOf } from "./manage.ts"
import { type Place, queuePath } from "./names.ts"
import { notSupported } from "./notSupported.ts"
import { toProtoRetry } from "./retryConfig.ts"
import { toProto } from "./times.ts"

type IQueue = protos.google.cloud.tasks.v2beta3.IQueue

const operation = "setUp"

export const setUpQueues = Effect.fnUntraced(function* (
  call: Call,
  place: Place,
  config: QueueConfig,
  /** Milliseconds; `undefined` leaves it. */
  tombstone: number | undefined,
): Effect.fn.Return<ReadonlyArray<string>, TaskQueueError> {
  const wanted = yield* wantedOf(place, config)
  const made: Array<string> = []
  for (const [path, queue] of wanted) {
    const send = (run: Parameters<Call>[0]) =>
      Effect.mapError(Effect.asVoid(call(run)), (error) => failure(operation, path, error))
    const isThere = yield* call((client, options) => client.getQueue({ name: path }, options)).pipe(
      Effect.as(true),
      Effect.catchIf(
        ({ status }) => status === Status.notFound,
        () => Effect.succeed(false),
      ),
      Effect.mapError((error) => failure(operation, path, error)),
    )
    const settings: IQueue = {
      name: path,
      ...queue.settings,
      ...(tombstone === undefined ? {} : { tombstoneTtl: toProto(tombstone) }),
    }
    const paths = [
      ...(queue.settings === undefined ? [] : ["rate_limits", "retry_config"]),
      ...(tombstone === undefined ? [] : ["tombstone_ttl"]),
    ]
    // An empty mask would be all fields.
    if (!isThere || paths.length > 0) {
      yield* send((client, options) =>
        client.updateQueue({ queue: settings, ...(isThere ? { updateMask: { paths } } : {}) }, options),
      )
    }
    if (queue.paused === true) yield* send((client, options) => client.pauseQueue({ name: path }, options))
    if (queue.paused === false && isThere) {
      yield* send((client, options) => client.resumeQueue({ name: path }, options))
    }
    if (!isThere) made.push(path)
  }
  return made
})

interface Wanted {
  readonly settings: Pick<IQueue, "rateLimits" | "retryConfig"> | undefined
  readonly paused: boolean | undefined
}

/** By path, and only if all of it can be said in Cloud Tasks' words. */
const wantedOf = Effect.fnUntraced(function* (
  place: Place,
  config: QueueConfig,
): Effect.fn.Return<ReadonlyMap<string, Wanted>, TaskQueueError> {
  const wanted = new Map<string, Wanted>(
    Object.values(place.queues).map((id) => [queuePath(place, id), { settings: undefined, paused: undefined }]),
  )
  const named = new Map<string, string>()
  for (const queue of config.queues) {
    const refuse = (why: string) => Effect.fail(notSupported(operation, `queue ${queue.name}: ${why}`))
    if (!Object.hasOwn(place.queues, queue.name)) {
      return yield* refuse("it has no Cloud Tasks queue: name one in queues")
    }
    const path = queuePath(place, place.queues[queue.name]!)
    const other = named.get(path)
    if (other !== undefined) {
      return yield* refuse(`it has a configuration and so has ${other}, and both are ${path}`)
    }
    named.set(path, queue.name)
    const problem = problemOf(queue)
    if (problem !== undefined) return yield* refuse(problem)
    const settings = settingsOf(queue)
    if (Result.isFailure(settings)) return yield* refuse(`retry.${settings.failure.field} ${settings.failure.reason}`)
    const resume = config.resumePausedQueues ? false : undefined
    wanted.set(path, { settings: settings.success, paused: queue.paused ?? resume })
  }
  return wanted
})

/** Cloud Tasks must not give up before `PushHandler` does, which keeps a dead letter: it never does. */
const patient = RetryPolicy.appEngine()

const settingsOf = (queue: Queue) =>
  Result.map(toProtoRetry(queue.retry ?? patient), (retryConfig) => ({
    rateLimits: {
      maxDispatchesPerSecond: queue.rate ?? highestRate,
      maxBurstSize: queue.burst,
      maxConcurrentDispatches: queue.maxConcurrent ?? mostConcurrent,
    },
    retryConfig,
  }))
