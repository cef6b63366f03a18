/**
 * Calls to Cloud Tasks: each with a deadline, tried again a few times when Cloud Tasks cannot be reached, and failed with
 * what its status means.
 */

import type { v2beta3 } from "@google-cloud/tasks"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

/** gRPC's statuses, as far as they are told apart here. */
export const Status = {
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const

/** A call that failed. */
export class CallFailed extends Schema.TaggedError<CallFailed>()("CallFailed", {
  /** The gRPC status; -1: none, as when there are no credentials. */
  status: Schema.Int,
  message: Schema.String,
  /** An earlier try, or this one, may have done what was asked without our hearing of it. */
  mayHaveHappened: Schema.Boolean,
  cause: Schema.Defect(),
}) {}

export type Client = v2beta3.CloudTasksClient

/** What a call of the client is given besides its request. */
export interface CallOptions {
  readonly timeout: number
  readonly retry: null
  readonly autoPaginate: false
  readonly signal: AbortSignal
}

export type Call = <A>(
  run: (client: Client, options: CallOptions) => Promise<readonly [A, ...ReadonlyArray<unknown>]>,
) => Effect.Effect<A, CallFailed>

/** After these nobody knows what happened at the other end. */
const isUnclear = (status: number): boolean =>
  [Status.cancelled, Status.unknown, Status.deadlineExceeded, Status.internal, Status.unavailable].some(
    (each) => each === status,
  )

/**
 * As Cloud Tasks' own clients do for what can be repeated (C17): pauses of 100 ms growing by 1.3. Here everything can be
 * repeated, CreateTask too, because every task has an id; but not for ten minutes.
 */
const again = Schedule.max([Schedule.exponential("100 millis", 1.3), Schedule.recurs(5)]).pipe(Schedule.jittered)

/** `deadline` in milliseconds, of one try. */
export const makeCall =
  (client: Client, deadline: number): Call =>
  (run) =>
    Effect.suspend(() => {
      let unclear = false
      const once = Effect.tryPromise({
        try: (signal) => run(client, { timeout: deadline, retry: null, autoPaginate: false, signal }),
        catch: (cause) => {
          const status = statusOf(cause)
          unclear ||= isUnclear(status)
          return new CallFailed({ status, message: textOf(cause), mayHaveHappened: unclear, cause })
        },
      })
      return Effect.map(
        Effect.retry(once, {
          schedule: again,
          while: ({ status }) => status === Status.unavailable || status === Status.deadlineExceeded,
        }),
        ([answer]) => answer,
      )
    })

/** C17. */
export const defaultDeadline: Duration.Duration = Duration.seconds(20)

const statusOf = (cause: unknown): number =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "number" ? cause.code : -1

/** Without the number and name of the status that gRPC puts in front. */
const textOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message.replace(/^\d+ [A-Z_]+: /, "") : String(cause)

/** What a failed call means to whoever asked the task queue for something. `where`: the queue's or the task's path. */
export const failure = (operation: string, where: string, error: CallFailed): TaskQueueError =>
  new TaskQueueError({
    operation,
    message: sentence(where, error),
    isRetryable: isPassing(error.status),
    cause: error.cause,
  })

const isPassing = (status: number): boolean =>
  isUnclear(status) || status === Status.resourceExhausted || status === Status.aborted

const sentence = (where: string, { message, status }: CallFailed): string => {
  switch (status) {
    case Status.notFound:
      return `Cloud Tasks has no ${where} (${message}): create the queue with TaskQueueCloudTasks.setUp or gcloud. One that nobody used for 30 days may take some minutes to wake`
    case Status.permissionDenied:
      return `Cloud Tasks refuses this account at ${where} (${message}): docs/cloud-tasks.md has the roles it needs`
    case Status.unauthenticated:
    case -1:
      return `Cloud Tasks was not asked, or does not know who asks (${message}): give the layer credentials, or run it where Google's default credentials are`
    case Status.resourceExhausted:
      return `Cloud Tasks' quota is used up at ${where} (${message})`
    case Status.unavailable:
    case Status.deadlineExceeded:
      return `Cloud Tasks does not answer (${message}): what was asked of ${where} may have happened or not`
    default:
      return `Cloud Tasks refused a call on ${where}: ${message} (status ${status})`
  }
}
