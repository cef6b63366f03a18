/**
 * Google Cloud Tasks as a task queue: `defer` puts tasks there, and Cloud Tasks delivers them to a `PushHandler`, with
 * retries, rates and schedules of its own. For hosts where no worker loop can live (Cloud Run, functions, App Engine), and
 * for who wants no storage of tasks of their own.
 *
 * It is a queue to put tasks into, to look at and to take tasks back from; nothing is claimed from it, and it forgets a
 * task when it has ended (`capabilities`). What it cannot do fails with `TaskQueueError`, `reason: "NotSupported"`, and a
 * sentence that says what to do instead: `docs/cloud-tasks.md` has the table.
 *
 * It speaks the API `v2beta3`, as Google's own App Engine libraries do (Q140): `v2` has no retry policy of a task, no
 * burst, no tombstones and no statistics.
 *
 * Every record has a task whose id follows from the record's own, so a call that was not answered is made again without
 * making two tasks (CreateTask too, which Google's client never repeats: C17), and an id is enough to find its task. The
 * id of a record with a name has part of the name's digest in it.
 *
 * @barrel none: needs the optional peer "@google-cloud/tasks"
 * @since 0.1.0
 */
import { v2beta3 } from "@google-cloud/tasks"
import type { QueueConfig } from "@outlive/deferred/QueueConfig"
import type { Problem, RetryPolicyData } from "@outlive/deferred/RetryPolicy"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { makeEnqueue } from "./internal/cloudTasks/enqueue.ts"
import { defaultDeadline, makeCall } from "./internal/cloudTasks/grpc.ts"
import { makeLook } from "./internal/cloudTasks/look.ts"
import { makeManage } from "./internal/cloudTasks/manage.ts"
import { queueIdPattern } from "./internal/cloudTasks/names.ts"
import { type Delivery, longestDeadline, shortestDeadline } from "./internal/cloudTasks/newTask.ts"
import { instead, refuse } from "./internal/cloudTasks/notSupported.ts"
import { type RetryConfig as Config, retryConfigOf } from "./internal/cloudTasks/retryConfig.ts"
import { setUpQueues } from "./internal/cloudTasks/setUp.ts"

/** Where the tasks of a queue, or of a target, are delivered. @since 0.1.0 */
export interface Destination {
  /** Of a `PushHandler`: `https://tasks.example.com/_ah/queue/deferred`. `http` is for emulators near by. */
  readonly url: string
  /** Whom the token is for, as `PushOidc` there expects it. Default: the layer's `audience`, else the url. */
  readonly audience?: string | undefined
}

/** @since 0.1.0 */
export interface Options {
  /** The project's id. */
  readonly project: string
  /** Such as `europe-west1`. */
  readonly location: string
  /**
   * The id of the Cloud Tasks queue of each queue: `{ default: "tasks", mail: "tasks-mail" }`. `[A-Za-z0-9-]{1,100}` (C2).
   * They must be there: `setUp` makes them. Give this toolkit queues of its own.
   */
  readonly queues: Readonly<Record<string, string>>
  /** Where tasks without a target are delivered: the url of a `PushHandler`. `http` is for emulators near by. */
  readonly url: string
  /** Where tasks with a target are delivered. Default: no targets. */
  readonly targets?: Readonly<Record<string, Destination>> | undefined
  /**
   * The e-mail of the service account in whose name tasks are delivered, and which `PushOidc` accepts. It must be of the
   * queue's project, and whoever defers must be allowed to act as it (`iam.serviceAccounts.actAs`).
   */
  readonly serviceAccount: string
  /** Whom tokens are for (C12). Default: the url. */
  readonly audience?: string | undefined
  /**
   * How long Cloud Tasks waits for the answer to a delivery of a task without a timeout: 15 seconds to 30 minutes (C9),
   * default 10 minutes. A task with a timeout is waited for five seconds longer than that.
   */
  readonly dispatchDeadline?: Duration.Input | undefined
  /**
   * The longest that the queues keep a name after its task has ended: for `TombstonedTask.until`. `setUp` can set it; of
   * queues that have no setting Google says an hour, or a day (C7). Default 1 day.
   */
  readonly tombstone?: Duration.Input | undefined
  /** Bytes of a task, its url, headers and payload together. Default 1,048,569, which the service was seen to take (C8). */
  readonly sizeLimit?: number | undefined
  /** How long one try of a call may take. Default 20 seconds (C17). It is tried again five times at the most. */
  readonly deadline?: Duration.Input | undefined
  /** The key of a service account. Default: Google's default credentials of the host. */
  readonly credentials?: Redacted.Redacted<{ readonly client_email: string; readonly private_key: string }> | undefined
  /** A client to use instead of making one; whoever made it closes it. `credentials` mean nothing then. */
  readonly client?: v2beta3.CloudTasksClient | undefined
}

/**
 * The driver, for as long as the scope: closing it closes the client that it made. `layer` makes a task queue of it that
 * also refuses to wait for results.
 *
 * Fails with `TaskQueueError` (operation `open`) when an option cannot be right. It asks Cloud Tasks nothing: a queue that
 * is not there, or an account that may not use it, is told by the first call.
 *
 * `enqueue` checks all records before it sends the first one, and then makes a call for each: when some of them fail, the
 * others are stored, and the error says how many (Q49). Interrupting a call leaves it done or not done at the other end.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<TaskQueue.Driver, TaskQueue.TaskQueueError, Scope.Scope> {
  const { call, delivery } = yield* open(options)
  const enqueue = makeEnqueue(call, delivery)
  const look = makeLook(call, delivery)
  const manage = makeManage(call, look)

  return {
    name: "Google Cloud Tasks",
    capabilities: {
      durable: true,
      shared: true,
      transactional: false,
      listens: false,
      claims: false,
      results: false,
      priorities: false,
      uniqueKeys: false,
    },
    enqueue: ({ now, records }) => enqueue(records, now),
    get: ({ ids, now }) => look.get(ids, now),
    find: look.find,
    counts: look.counts,
    statistics: ({ now, queue }) => look.statistics(queue, now),
    cancel: ({ ids, now }) => manage.cancel(ids, now),
    remove: ({ ids, only }) => Effect.flatMap(Clock.currentTimeMillis, (now) => manage.remove(ids, now, only)),
    purge: ({ queue }) => manage.purge(queue),
    limits: ({ queue }) => manage.limits(queue),
    configure: ({ limits, queue }) => manage.configure(queue, limits),
    // Nothing of what these are for is ever there: to say so is the truth.
    prune: () => Effect.succeed(0),
    withdraw: () => Effect.void,
    changes: Effect.succeed(Stream.never),
    claim: refuse("claim", instead.claim),
    extend: refuse("extend", instead.extend),
    settle: refuse("settle", instead.settle),
    progress: refuse("progress", instead.progress),
    configureKey: refuse("configureKey", instead.byKey),
    keyStatistics: refuse("keyStatistics", instead.byKey),
    pauseUntil: refuse("pauseUntil", instead.pauseUntil),
    redrive: refuse("redrive", instead.redrive),
    ledger: refuse("ledger", instead.ledger),
    payloadRefs: refuse("payloadRefs", instead.payloadRefs),
    announce: refuse("announce", instead.announce),
    workers: refuse("workers", instead.workers),
  }
})

/**
 * Cloud Tasks as the task queue of a program. Fails as `make` does.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
 * import { Effect, Schema } from "effect"
 *
 * class SendWelcome extends Task.make("SendWelcome", { payload: { userId: Schema.String }, queue: "mail" }) {}
 *
 * const Queue = TaskQueueCloudTasks.layer({
 *   project: "my-project",
 *   location: "europe-west1",
 *   queues: { default: "tasks", mail: "tasks-mail" },
 *   url: "https://tasks.example.com/_ah/queue/deferred",
 *   serviceAccount: "invoker@my-project.iam.gserviceaccount.com",
 * })
 * const program = SendWelcome.defer({ userId: "42" }, { delay: "1 minute" }).pipe(Effect.provide(Queue))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<TaskQueue.TaskQueue, TaskQueue.TaskQueueError> =>
  Layer.effect(
    TaskQueue.TaskQueue,
    Effect.gen(function* () {
      const queue = yield* Effect.flatMap(make(options), TaskQueue.make)
      return TaskQueue.TaskQueue.of({
        ...queue,
        // A payload stored apart would not be delivered: it is refused as too large instead.
        payloads: undefined,
        // To look until the task is gone would say "not found" of one that succeeded.
        awaitEnded: refuse("await", instead.await),
      })
    }),
  )

/** A retry policy as Cloud Tasks has it: seconds. @since 0.1.0 */
export type RetryConfig = Config

/**
 * A retry policy in Cloud Tasks' terms, or what of it cannot be said in them. `defer({ retry })` goes through it, and
 * `setUp` for what queues say.
 *
 * - Attempts count the first: `maxAttempts = retryLimit + 1` (Q87); -1 is no limit. `retryLimit` with `ageLimit` gives up
 *   when both are reached, as on App Engine (Q86, C4). `maxAttempts` and `maxAge` together cannot be said.
 * - Pauses are rounded up to whole seconds, below which Cloud Tasks cuts them off (C4).
 * - Only doubling: an `exponential` policy with another `factor` cannot be said, nor more than 16 doublings.
 * - Jitter has no place there. The pauses that `PushHandler` asks for in `Retry-After` have it.
 *
 * @since 0.1.0
 */
export const retryConfig: (policy: RetryPolicyData) => Result.Result<RetryConfig, Problem> = retryConfigOf

/**
 * Makes the Cloud Tasks queues of `options.queues` that are not there, and brings those that `config` names to what it says:
 * rate, burst, concurrency, pause, and retries (`retryConfig`; a queue that says nothing of them has no limit of its own, so
 * that it is the `PushHandler` that gives up, and keeps a dead letter). The paths of those it made. Run it when the program
 * is deployed, not when it starts: it needs the right to change queues, which the program does not.
 *
 * `tombstone` is how long their names stay taken: 1 hour to 9 days (C7). Default: as it is, an hour for new ones.
 *
 * Fails with `TaskQueueError` before it changes anything when something cannot be said in Cloud Tasks' terms; a failure of
 * Cloud Tasks leaves the queues before it changed, and to run it again does the rest.
 *
 * @since 0.1.0
 */
export const setUp = (
  options: Options,
  config: QueueConfig,
  settings?: { readonly tombstone?: Duration.Input | undefined },
): Effect.Effect<ReadonlyArray<string>, TaskQueue.TaskQueueError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { call, delivery } = yield* open(options)
      const tombstone = settings?.tombstone === undefined ? undefined : millis(settings.tombstone)
      if (tombstone !== undefined && !(tombstone >= 3_600_000 && tombstone <= nineDays)) {
        return yield* Effect.fail(notOpened(`setUp: tombstone must be 1 hour to 9 days (C7), and is ${tombstone} ms`))
      }
      return yield* setUpQueues(call, delivery, config, tombstone)
    }),
  )

const open = Effect.fnUntraced(function* (options: Options) {
  const delivery = yield* check(options)
  const client = options.client ?? (yield* acquireClient(options))
  return { delivery, call: makeCall(client, delivery.deadline) }
})

const millis = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

const acquireClient = ({ credentials, project }: Options) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const client = new v2beta3.CloudTasksClient({ projectId: project })
        // As its constructor does with `credentials`, which warns on the console of keys of unknown kinds: this is a known one.
        if (credentials !== undefined)
          client.auth.jsonContent = { ...Redacted.value(credentials), type: "service_account" }
        return client
      },
      catch: (cause) => notOpened(`Google's client cannot be made: ${String(cause)}`, cause),
    }),
    // One that never got a connection, for want of credentials say, fails to close it, too.
    (client) =>
      Effect.ignore(
        Effect.tryPromise(() => client.close()),
        { log: "Debug" },
      ),
  )

const notOpened = (message: string, cause?: unknown): TaskQueue.TaskQueueError =>
  new TaskQueue.TaskQueueError({
    operation: "open",
    message,
    isRetryable: false,
    ...(cause === undefined ? {} : { cause }),
  })

interface Checked extends Delivery {
  readonly deadline: number
  readonly tombstone: number
}

const check = (options: Options): Effect.Effect<Checked, TaskQueue.TaskQueueError> =>
  Effect.suspend(() => {
    const { audience, location, project, queues, serviceAccount, url } = options
    const refused = (message: string) => Effect.fail(notOpened(`TaskQueueCloudTasks: ${message}`))
    for (const [field, value] of Object.entries({ project, location })) {
      if (!/^[A-Za-z0-9:.-]+$/.test(value))
        return refused(`${field} must be an id of Google's, and is ${JSON.stringify(value)}`)
    }
    if (Object.keys(queues).length === 0)
      return refused("queues must name a Cloud Tasks queue for each queue, and is empty")
    for (const [queue, id] of Object.entries(queues)) {
      if (!queueIdPattern.test(id)) {
        return refused(`queues.${queue} must match ${queueIdPattern.source} (C2), and is ${JSON.stringify(id)}`)
      }
    }
    if (!serviceAccount.includes("@")) {
      return refused(
        `serviceAccount must be the e-mail of one, and is ${JSON.stringify(serviceAccount)}: without it nobody could tell a delivery from a forgery`,
      )
    }
    const dispatchDeadline = millis(options.dispatchDeadline ?? "10 minutes")
    if (!(dispatchDeadline >= shortestDeadline && dispatchDeadline <= longestDeadline)) {
      return refused(`dispatchDeadline must be 15 seconds to 30 minutes (C9), and is ${dispatchDeadline} ms`)
    }
    const sizeLimit = options.sizeLimit ?? mostBytes
    if (!(Number.isInteger(sizeLimit) && sizeLimit > 0)) {
      return refused(`sizeLimit must be a whole number of bytes above 0, and is ${sizeLimit}`)
    }
    const deadline = millis(options.deadline ?? defaultDeadline)
    if (!(deadline > 0 && deadline <= longestCall)) {
      return refused(`deadline must be a time above 0 and at most 10 minutes, and is ${deadline} ms`)
    }
    const tombstone = millis(options.tombstone ?? "1 day")
    if (!(tombstone >= 0 && tombstone <= nineDays)) {
      return refused(`tombstone must be at most 9 days (C7), and is ${tombstone} ms`)
    }
    const wrong = problemOfUrl(url)
    if (wrong !== undefined) return refused(`url ${wrong}`)
    const to = (each: Destination) => ({ url: each.url, audience: each.audience ?? audience ?? each.url })
    const targets = new Map<string, ReturnType<typeof to>>()
    for (const [target, each] of Object.entries(options.targets ?? {})) {
      const problem = problemOfUrl(each.url)
      if (problem !== undefined) return refused(`targets.${target}.url ${problem}`)
      targets.set(target, to(each))
    }
    return Effect.succeed({
      project,
      location,
      queues,
      to: to({ url }),
      targets,
      serviceAccount,
      dispatchDeadline,
      sizeLimit,
      deadline,
      tombstone,
    })
  })

/** An emulator's: on this machine, or in a network whose names have no dots. */
const isNear = ({ hostname }: URL): boolean => /^(127\.[\d.]+|\[::1\]|[^.]+)$/.test(hostname)

const problemOfUrl = (text: string): string | undefined => {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol)) return `must be an https url, and is ${JSON.stringify(text)}`
  if (url.protocol === "https:" || isNear(url)) return undefined
  return `must be https, and is ${JSON.stringify(text)}: with a delivery goes the token that proves it, for all on its way to read`
}

/** C8. */
const mostBytes = 1_048_569
const longestCall = 600_000
/** C7, and App Engine's own (Q14). */
const nineDays = 777_600_000
