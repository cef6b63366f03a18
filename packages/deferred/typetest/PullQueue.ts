/**
 * Leases: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure } from "@outlive/deferred/TaskFailure"
import type { InvalidLease, LeaseExpired, TaskLease } from "@outlive/deferred/TaskLease"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import { Context, Effect, Schema, type Scope } from "effect"

class Moved extends Schema.TaggedError<Moved>()("Moved", { to: Schema.String }) {}
class Index extends Task.make("Index", {
  payload: { page: Schema.String },
  success: Schema.Struct({ words: Schema.Int }),
  error: Moved,
}) {}
const Forget = Task.make("Forget", { payload: { why: Schema.String } })
class Key extends Context.Service<Key, string>()("typetest/Key") {}
declare const Secret: Schema.Codec<string, string, Key, Key>
const Hidden = Task.make("Hidden", { payload: { secret: Secret }, success: Secret })
const pull = { queue: "search", duration: "1 minute" } as const

// ---- the task's name tells the types
declare const lease: TaskLease<typeof Index | typeof Forget>
export const name: "Index" | "Forget" = lease.task
// @ts-expect-error which of them?
lease.payload.page
if (lease.task === "Index") {
  lease.payload.page
  // @ts-expect-error that is of Forget
  lease.payload.why
  lease.succeed({ words: 7 })
  // @ts-expect-error it has a result
  lease.succeed()
  // @ts-expect-error words are a number
  lease.succeed({ words: "7" })
  lease.fail(new Moved({ to: "b" }))
  lease.fail(new PermanentTaskFailure({ message: "no" }))
  // @ts-expect-error not an error of the task
  lease.fail(new Error("no"))
} else {
  lease.succeed()
  // @ts-expect-error it has no result
  lease.succeed(7)
  // @ts-expect-error it has no errors of its own
  lease.fail(new Moved({ to: "b" }))
}
// @ts-expect-error there is no such task
lease.task === "Other"

// ---- what can go wrong
export const released: Effect.Effect<void, LeaseExpired | TaskQueueError> = lease.release
// @ts-expect-error it may be over
export const sure: Effect.Effect<void, TaskQueueError> = lease.release
// @ts-expect-error a duration can be out of its bounds
export const longer: Effect.Effect<unknown, LeaseExpired | TaskQueueError> = lease.extend("8 days")

// ---- what is said, what is needed
export const leased: Effect.Effect<
  PullQueue.Leased<TaskLease<typeof Index | typeof Forget>>,
  InvalidLease | TaskQueueError,
  TaskQueue
> = PullQueue.lease({ ...pull, tasks: [Index, Forget], max: 10 })
export const grouped: typeof leased = PullQueue.lease({ ...pull, tasks: [Task.group(Index, Forget)] })
// @ts-expect-error Forget is leased, too
export const half: Effect.Effect<PullQueue.Leased<TaskLease<typeof Index>>, unknown, TaskQueue> = leased
// @ts-expect-error which queue?
PullQueue.lease({ tasks: [Index], duration: 1 })
// @ts-expect-error for how long?
PullQueue.lease({ tasks: [Index], queue: "search" })
// @ts-expect-error a name is no task
PullQueue.lease({ ...pull, tasks: ["Index"] })
export const keyed: Effect.Effect<unknown, unknown, TaskQueue | Key> = PullQueue.lease({ ...pull, tasks: [Hidden] })
// @ts-expect-error decoding needs the key
export const keyless: Effect.Effect<unknown, unknown, TaskQueue> = PullQueue.lease({ ...pull, tasks: [Hidden] })
export const hidden = Effect.map(PullQueue.lease({ ...pull, tasks: [Hidden] }), ({ leases }) =>
  leases.map((one): Effect.Effect<void, unknown, Key> => one.succeed("x")),
)
export const careless = Effect.map(PullQueue.lease({ ...pull, tasks: [Hidden] }), ({ leases }) =>
  // @ts-expect-error encoding needs it, too
  leases.map((one): Effect.Effect<void, unknown> => one.succeed("x")),
)
export const scoped: Effect.Effect<unknown, InvalidLease | TaskQueueError, TaskQueue | Scope.Scope> =
  PullQueue.leaseScoped({ ...pull, tasks: [Index] })
// @ts-expect-error it is given back when the scope closes
export const unscoped: Effect.Effect<unknown, unknown, TaskQueue> = PullQueue.leaseScoped({ ...pull, tasks: [Index] })
