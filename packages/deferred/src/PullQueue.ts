/**
 * Pull consumption: a program that wants task records themselves, instead of a worker that runs handlers, leases them:
 * a batch job that takes a thousand at once, a bridge to another system (App Engine's pull queues, Q60-Q64). Any queue
 * can be leased from, also beside workers.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { lease as leaseSome, leaseScoped as leaseSomeScoped } from "./internal/pullQueue.ts"
import type * as Task from "./Task.ts"
import type { TaskGroup } from "./TaskGroup.ts"
import type { TaskId } from "./TaskId.ts"
import type { InvalidLease, TaskLease } from "./TaskLease.ts"
import type { TaskQueue, TaskQueueError } from "./TaskQueue.ts"

/** The tasks in a list of tasks and groups. @since 0.1.0 */
export type TaskOf<Listed> =
  Listed extends TaskGroup<infer Members> ? Extract<Members[number], Task.Any> : Extract<Listed, Task.Any>

/** @since 0.1.0 */
export interface LeaseOptions<Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>> {
  /** What is leased, groups of tasks among them: records of other tasks, and of newer versions, stay where they are. */
  readonly tasks: Tasks
  readonly queue: string
  /** How long: 0 to 7 days (Q9). It goes before the task's own `lease`. With 0 it is over at once: a glance. */
  readonly duration: Duration.Input
  /** How many records at the most: 1 to 1,000 (Q9), default 1. */
  readonly max?: number | undefined
  /** Also records deferred with one of these targets. Default: only those without. */
  readonly targets?: ReadonlyArray<string> | undefined
  /** Who leases, for ledgers and for people. Default `pull`. */
  readonly worker?: string | undefined
}

/** @since 0.1.0 */
export interface Leased<out Lease> {
  /** In the order in which a worker would have claimed them. */
  readonly leases: ReadonlyArray<Lease>
  /** What this call leased and could not give: it is dead now, and counts as one of `max`. */
  readonly buried: ReadonlyArray<Buried>
  /**
   * When there will be something to lease, as far as is known now; none: nothing waits. Something deferred in between
   * may be there earlier (`TaskQueue.changes` tells).
   */
  readonly nextAt: Option.Option<DateTime.Utc>
}

/** @since 0.1.0 */
export interface Buried {
  readonly id: TaskId
  readonly task: string
  readonly reason: "Undecodable" | "PayloadMissing"
  readonly message: string
}

/** What `lease` fails with. @since 0.1.0 */
export type LeaseError = InvalidLease | TaskQueueError

/**
 * Leases what is ready, at most `max` records, and does not wait for more: none is an answer too. The limits of the
 * queue hold as for workers; while it is paused nothing is leased.
 *
 * A record whose payload does not decode, or is gone, is buried as a dead letter `Undecodable` or `PayloadMissing`,
 * with an error in the log, and told in `buried`. One whose payload could not be loaded just now is snoozed for 10
 * seconds.
 *
 * Fails with `InvalidLease` before anything is done, and with `TaskQueueError`: then, and when the caller is
 * interrupted meanwhile, what was leased is given back. Interrupting it waits for the answer of the queue.
 *
 * Delivery is at least once, as everywhere: settle before the lease ends, or be ready for another to do the same work.
 *
 * @example
 * ```ts
 * import * as PullQueue from "@outlive/deferred/PullQueue"
 * import * as Task from "@outlive/deferred/Task"
 * import { Console, Effect, Schema } from "effect"
 *
 * const Index = Task.make("Index", { payload: { page: Schema.String }, queue: "search" })
 * const Forget = Task.make("Forget", { payload: { url: Schema.String }, queue: "search" })
 * const pages = { tasks: [Index, Forget], queue: "search", max: 1000, duration: "1 minute" } as const
 *
 * // A thousand pages go to the search engine as one request.
 * const program = Effect.gen(function* () {
 *   const { leases } = yield* PullQueue.lease(pages)
 *   yield* Console.log(leases.map((lease) => (lease.task === "Index" ? lease.payload.page : `-${lease.payload.url}`)))
 *   yield* Effect.forEach(leases, (lease) => lease.succeed(), { concurrency: "unbounded" })
 * })
 * ```
 *
 * @since 0.1.0
 */
export const lease: <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(
  options: LeaseOptions<Tasks>,
) => Effect.Effect<
  Leased<TaskLease<TaskOf<Tasks[number]>>>,
  LeaseError,
  TaskQueue | TaskOf<Tasks[number]>["payload"]["DecodingServices"]
> = leaseSome as never

/**
 * As `lease`, and what has not been settled when the scope closes is given back, ready at once, the attempt not
 * counted: so a program that fails or is interrupted on the way leaves nothing to expire. When the queue cannot take it
 * back, that is logged, and the leases expire.
 *
 * @since 0.1.0
 */
export const leaseScoped: <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(
  options: LeaseOptions<Tasks>,
) => Effect.Effect<
  Leased<TaskLease<TaskOf<Tasks[number]>>>,
  LeaseError,
  TaskQueue | Scope.Scope | TaskOf<Tasks[number]>["payload"]["DecodingServices"]
> = leaseSomeScoped as never
