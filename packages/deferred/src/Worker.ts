/**
 * The worker: claims task records, runs their handlers, settles the outcomes.
 *
 * @since 0.1.0
 */
import type { FrontendsNotSupported } from "@outlive/core/Instance"
import * as Instance from "@outlive/core/Instance"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { toMillis } from "./internal/millis.ts"
import { queueHere } from "./internal/storedText.ts"
import { type Drained, makeCrew } from "./internal/worker/crew.ts"
import type * as Task from "./Task.ts"
import { isTaskGroup, type TaskGroup } from "./TaskGroup.ts"
import { type TaskQueue, TaskQueueError } from "./TaskQueue.ts"
import type { WorkerInfo } from "./WorkerInfo.ts"

/**
 * @since 0.1.0
 */
export interface Options<Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>> {
  /** The tasks this worker knows, groups of tasks among them: it claims only their records, of versions up to theirs. */
  readonly tasks: Tasks
  /** The queues it serves and how many records of each at once. Default: the queues of its tasks. */
  readonly queues?: Readonly<Record<string, { readonly concurrency?: number | undefined }>> | undefined
  /** Records of one queue at once, where `queues` does not say. Default 10. */
  readonly concurrency?: number | undefined
  /** It also claims records deferred with one of these targets. Default: none. */
  readonly targets?: ReadonlyArray<string> | undefined
  /** How long a crash of this process goes unnoticed; extended every third of it. Default 30 seconds. */
  readonly lease?: Duration.Input | undefined
  /**
   * The longest it waits before it looks again without a hint, or a time that the queue named. Default 10 seconds where
   * the driver tells of changes (`capabilities.listens`), else 1 second, which it comes to by doubling from 25 milliseconds
   * after each claim that found something.
   */
  readonly pollInterval?: Duration.Input | undefined
  /**
   * The most records of a queue it has claimed ahead of its slots, half of it with one claim. It claims ahead only as many
   * as its handlers have just shown to finish during one claim, so slow handlers hoard nothing; where they finish all of
   * them, it asks for the other half before it begins those. Default: twenty times the concurrency.
   */
  readonly prefetch?: number | undefined
  /** How long shutdown waits for running attempts before it interrupts and releases them. Default 20 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How often it prunes what need not be kept any longer, give or take half of it. Default 1 minute. */
  readonly pruneEvery?: Duration.Input | undefined
  /** How long dead letters stay. Default: for ever, until they are redriven or removed. */
  readonly keepDead?: Duration.Input | undefined
  /** For ledgers and logs. Default: the instance's id. */
  readonly id?: string | undefined
}

/**
 * An option of a worker is out of its bounds: `field` is its name. Thrown as a defect where the worker is made.
 *
 * @since 0.1.0
 */
export class InvalidWorkerOptions extends Schema.TaggedError<InvalidWorkerOptions>()("InvalidWorkerOptions", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `worker: option ${this.field} ${this.reason}`
  }
}

/**
 * A worker at work.
 *
 * @since 0.1.0
 */
export interface Worker {
  readonly id: string
  /**
   * How it is now: slots in use, what is buffered, whether the queue answers. It says the same to the queue every ten
   * seconds (`TaskQueue.workers`), where everybody can read it.
   */
  readonly health: Effect.Effect<WorkerInfo>
  /** Drains it, once, and waits until that is done; shutdown does so too. */
  readonly drain: Effect.Effect<void>
}

/**
 * A layer that works for as long as it lives. On shutdown, of the `Instance` or of its scope, it stops claiming, gives
 * back what it had claimed and not begun, waits for what runs, interrupts what is left after `drainTimeout` (finalizers
 * run, the attempt is given back), settles, and logs what happened.
 *
 * A task without its handler does not compile. Fails with `FrontendsNotSupported` where background work may not run:
 * there, deliver by push; and with `TaskQueueError` (`NotSupported`) over a queue that has nothing to claim
 * (`capabilities.claims`) because it delivers by push itself. When the queue's storage fails, the worker tries again with
 * growing pauses and says so once.
 *
 * All times are by the `Clock` of the layer. Delivery is at least once: a process that dies between a handler's end and
 * its settlement leaves the record to be run again when the lease has expired.
 *
 * @example
 * ```ts
 * import * as Instance from "@outlive/core/Instance"
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
 * import * as Worker from "@outlive/deferred/Worker"
 * import { Effect, Layer, Schema } from "effect"
 *
 * const Double = Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int })
 * const Workers = Worker.layer({ tasks: [Double], queues: { default: { concurrency: 4 } } }).pipe(
 *   Layer.provide(Double.toLayer(({ n }) => Effect.succeed(n * 2))),
 *   Layer.provideMerge(TaskQueueMemory.layer),
 *   Layer.provide(Instance.layerBackend()),
 * )
 * const program = Effect.gen(function* () {
 *   const ref = yield* Double.defer({ n: 21 })
 *   return yield* ref.await // 42
 * }).pipe(Effect.provide(Workers))
 * ```
 *
 * @since 0.1.0
 */
export const layer = <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(
  options: Options<Tasks>,
): Layer.Layer<
  never,
  FrontendsNotSupported | TaskQueueError,
  TaskQueue | Instance.Instance | Task.HandlersOf<Tasks[number]>
> => Layer.effectDiscard(make(options))

/**
 * As `layer`, in the scope at hand, with the worker as a value: for who wants its health, or to drain it at will.
 *
 * @since 0.1.0
 */
export const make = <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(
  options: Options<Tasks>,
): Effect.Effect<
  Worker,
  FrontendsNotSupported | TaskQueueError,
  TaskQueue | Instance.Instance | Task.HandlersOf<Tasks[number]> | Scope.Scope
> =>
  Effect.gen(function* () {
    const invalid = problemOf(options)
    if (invalid !== undefined) return yield* Effect.die(invalid)
    yield* Instance.requireBackend
    const instance = yield* Instance.Instance
    const queue = yield* queueHere
    if (!queue.capabilities.claims) return yield* Effect.fail(nothingToClaim(queue.name))
    const crew = yield* makeCrew(queue, {
      ...options,
      tasks: options.tasks.flatMap((task) => (isTaskGroup<ReadonlyArray<Task.Any>>(task) ? task.members : [task])),
      id: options.id ?? instance.id,
    })
    const drained = crew.drain.pipe(
      Effect.tap((report) => (isIdle(report) ? Effect.logDebug(sentence(report)) : Effect.logInfo(sentence(report)))),
      Effect.asVoid,
    )
    const drain = yield* Effect.cached(drained)
    yield* Effect.addFinalizer(() => drain)
    yield* instance.onShutdown(`worker ${crew.id}`, drain)
    return { id: crew.id, health: crew.health, drain }
  }) as Effect.Effect<
    Worker,
    FrontendsNotSupported | TaskQueueError,
    TaskQueue | Instance.Instance | Task.HandlersOf<Tasks[number]> | Scope.Scope
  >

const nothingToClaim = (driver: string): TaskQueueError =>
  new TaskQueueError({
    operation: "claim",
    message: `a worker cannot claim from ${driver}, which delivers its tasks itself: serve PushHandler of @outlive/node with the same tasks instead of a worker, and have them delivered there`,
    isRetryable: false,
    reason: "NotSupported",
  })

const problemOf = (
  options: Options<ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>,
): InvalidWorkerOptions | undefined => {
  const { concurrency, drainTimeout, keepDead, lease, pollInterval, prefetch, pruneEvery, queues } = options
  const refuse = (field: string, reason: string) => new InvalidWorkerOptions({ field, reason })
  const slots = { concurrency, ...Object.fromEntries(Object.entries(queues ?? {}).map(slotsOf)) }
  for (const [field, count] of Object.entries(slots)) {
    if (count !== undefined && !(Number.isInteger(count) && count >= 1))
      return refuse(field, `must be 1, 2, ..., and is ${count}`)
  }
  if (prefetch !== undefined && !(prefetch >= 0)) return refuse("prefetch", `must not be negative, and is ${prefetch}`)
  for (const [field, input] of Object.entries({ lease, pollInterval, pruneEvery })) {
    if (input === undefined) continue
    const millis = toMillis(input)
    if (!(millis > 0 && Number.isFinite(millis))) return refuse(field, "must be a finite time above 0")
  }
  for (const [field, input] of Object.entries({ drainTimeout, keepDead })) {
    if (input !== undefined && !(toMillis(input) >= 0)) return refuse(field, "must be a time, and not negative")
  }
  if (options.tasks.length === 0) return refuse("tasks", "must name at least one task")
  return undefined
}

const slotsOf = ([queue, { concurrency }]: readonly [string, { readonly concurrency?: number | undefined }]) =>
  [`queues.${queue}.concurrency`, concurrency] as const

const isIdle = ({ finished, interrupted, returned, unsettled }: Drained): boolean =>
  finished + interrupted + returned + unsettled === 0

const sentence = (report: Drained): string =>
  `worker ${report.worker} drained: ${report.finished} attempts finished, ${report.interrupted} interrupted and ` +
  `released, ${report.returned} returned unbegun` +
  (report.unsettled > 0 ? `, ${report.unsettled} not settled: they run again when their leases have expired` : "")
