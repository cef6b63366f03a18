/**
 * From a record to the task of Cloud Tasks that delivers it.
 */
import type { protos } from "@google-cloud/tasks"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import type { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as PushDelivery from "../../PushDelivery.ts"
import { namedId, namedTask, type Place, queuePath, taskPath, unnamedTask } from "./names.ts"
import { instead, notSupported } from "./notSupported.ts"
import { toProtoRetry } from "./retryConfig.ts"
import { toProto } from "./times.ts"

export interface Destination {
  readonly url: string
  readonly audience: string
}

/** Where tasks go, and how. Milliseconds. */
export interface Delivery extends Place {
  readonly to: Destination
  readonly targets: ReadonlyMap<string, Destination>
  readonly serviceAccount: string
  readonly dispatchDeadline: number
  /** Bytes of a task. */
  readonly sizeLimit: number
}

/** A task that is ready to be created. */
export interface NewTask {
  readonly record: NewRecord
  /** The id that the record has from now on. */
  readonly id: TaskId
  readonly queue: string
  readonly path: string
  readonly task: protos.google.cloud.tasks.v2beta3.ITask
}

/** What of a delivery stands in headers as well: Cloud Tasks lists them without the body, and logs show them. */
export const headers = {
  id: "x-outlive-id",
  task: "x-outlive-task",
  queue: "x-outlive-queue",
  name: "x-outlive-name",
  /** Tells two records of one name apart that were made in the same millisecond: the id before the name went into it. */
  record: "x-outlive-record",
} as const

/** C6, C9. */
const farthest = 30 * 86_400_000
export const shortestDeadline = 15_000
export const longestDeadline = 1_800_000
/** For what happens around a handler: Cloud Tasks should not hang up on one that is about to end by its own timeout. */
const around = 5_000

/** Everything that can be known to be wrong is, before anything is sent. */
export const newTask = (delivery: Delivery, record: NewRecord, now: number): Effect.Effect<NewTask, TaskQueueError> =>
  Effect.gen(function* () {
    const problem = problemOf(delivery, record, now)
    if (problem !== undefined) return yield* Effect.fail(problem)
    const retryConfig = record.retry === undefined ? undefined : yield* ownRetry(record.retry)
    const id = record.name === undefined ? record.id : namedId(record.id, record.queue, record.name)
    const queue = queuePath(delivery, delivery.queues[record.queue]!)
    const path = taskPath(
      delivery,
      delivery.queues[record.queue]!,
      record.name === undefined ? unnamedTask(id) : namedTask(id),
    )
    const { audience, url } = record.target === undefined ? delivery.to : delivery.targets.get(record.target)!
    const task: protos.google.cloud.tasks.v2beta3.ITask = {
      name: path,
      httpRequest: {
        url,
        httpMethod: "POST",
        headers: {
          "content-type": PushDelivery.contentType,
          [headers.id]: id,
          [headers.task]: encodeURIComponent(record.task),
          [headers.queue]: record.queue,
          ...(record.name === undefined ? {} : { [headers.name]: record.name, [headers.record]: record.id }),
        },
        body: Buffer.from(PushDelivery.encode(PushDelivery.fromRecord({ ...record, id }, now))),
        oidcToken: { serviceAccountEmail: delivery.serviceAccount, audience },
      },
      dispatchDeadline: toProto(deadlineOf(delivery, record)),
      // Left out, it is "now", by Cloud Tasks' own clock (C6).
      ...(record.eta > now ? { scheduleTime: toProto(record.eta) } : {}),
      ...(retryConfig === undefined ? {} : { retryConfig }),
    }
    const size = sizeOf(task)
    if (size > delivery.sizeLimit) {
      return yield* Effect.fail(
        new TaskQueueError({
          operation: "enqueue",
          message: `task ${record.task}: it has ${size} bytes as Cloud Tasks stores it, more than the limit of ${delivery.sizeLimit} (C8): make the payload smaller, or defer a reference to it`,
          isRetryable: false,
          reason: "TooLarge",
        }),
      )
    }
    return { record, id, queue, path, task }
  })

const problemOf = (delivery: Delivery, record: NewRecord, now: number): TaskQueueError | undefined => {
  const refuse = (message: string) => notSupported("enqueue", `task ${record.task}: ${message}`)
  if (!Object.hasOwn(delivery.queues, record.queue)) {
    const known = Object.keys(delivery.queues).join(", ")
    return refuse(
      `the queue ${record.queue} has no Cloud Tasks queue: name one in the layer's queues, which are ${known}`,
    )
  }
  if (record.target !== undefined && !delivery.targets.has(record.target)) {
    return refuse(`the target ${record.target} has no url: name one in the layer's targets`)
  }
  if (record.name !== undefined && record.onDuplicate === "replace") return refuse(instead.replace)
  if (record.unique !== undefined) return refuse(record.unique.latest === undefined ? instead.unique : instead.latest)
  if (record.key !== undefined) return refuse(instead.key)
  if (record.join !== undefined) return refuse(instead.join)
  if (record.memberOf !== undefined) return refuse(instead.memberOf)
  if (record.priority !== 0) return refuse(instead.priority)
  if (record.expiresAt !== undefined) return refuse(instead.expires)
  if (record.payloadRef !== undefined) return refuse(instead.payloadRef)
  if (record.eta - now > farthest) return refuse("Cloud Tasks schedules at most 30 days ahead (C6): defer it later")
  if (record.timeout !== undefined && record.timeout > longestDeadline) {
    return refuse(
      `its timeout is ${record.timeout} ms, and Cloud Tasks gives no attempt more than 30 minutes (C9): make it shorter`,
    )
  }
  return undefined
}

const deadlineOf = ({ dispatchDeadline }: Delivery, { timeout }: NewRecord): number =>
  timeout === undefined
    ? dispatchDeadline
    : Math.min(longestDeadline, Math.max(shortestDeadline, Math.ceil(timeout + around)))

const ownRetry = (json: string) =>
  RetryPolicy.fromJson(json).pipe(
    Effect.mapError(({ message }) => notSupported("enqueue", `its retry policy cannot be read: ${message}`)),
    Effect.flatMap((policy) =>
      Result.match(toProtoRetry(policy), {
        onSuccess: Effect.succeed,
        onFailure: ({ field, reason }) => Effect.fail(notSupported("enqueue", `its retry policy: ${field} ${reason}`)),
      }),
    ),
  )

/** What Cloud Tasks adds to a task that it stores: times, counts, attempts. */
const added = 128
/** Tags and lengths of a field. */
const framing = 8

/** The bytes of a task as a stored message, from above. */
const sizeOf = ({ httpRequest, name }: protos.google.cloud.tasks.v2beta3.ITask): number => {
  const { body, headers, oidcToken, url } = httpRequest ?? {}
  const texts = [
    name,
    url,
    oidcToken?.serviceAccountEmail,
    oidcToken?.audience,
    ...Object.entries(headers ?? {}).flat(),
  ]
  return texts.reduce(
    (sum, text) => sum + Buffer.byteLength(text ?? "") + framing,
    added + (body?.length ?? 0) + framing,
  )
}
