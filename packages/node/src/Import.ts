/**
 * Jobs that wait in another queue, moved over: what they become, and the report of a move. The queues themselves are read by
 * `ImportPgBoss`, `ImportGraphileWorker`, `ImportBullMq` and `ImportPersistedQueue`.
 *
 * What every import keeps:
 *
 * - A job is moved at most once: its record is named by it, and the name is taken for 30 days after the record's end.
 * - No job is lost: it is taken out of the other queue when its record is stored, and not before. What cannot be moved stays
 *   where it is, and the report says why.
 * - A job that a worker of the other queue holds stays there; one that is being moved no such worker gets.
 * - An import that was killed goes on when it is run again. From a database into a queue elsewhere, what was stored here at that
 *   moment is still there, under the name by which the next run knows it: stop the other queue's workers for such a move, or one
 *   of them may run it before that.
 * - Order is kept where both queues have one: priority first, then the time it is due, then the other queue's order.
 *
 * Attempts that failed there are not counted here: a record begins with the task's own retry policy. A time more than 30 days
 * ahead is kept, as the other queue had accepted it. The task's `unique` key is not used, or of two
 * jobs with one key the second would be lost: `options` may give one.
 *
 * @since 0.1.0
 */
import type { DeferOptions } from "@outlive/deferred/DeferOptions"
import type * as Task from "@outlive/deferred/Task"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Item, orRefused, store } from "./internal/import/store.ts"

/** A job of another queue. Times are epoch milliseconds. @since 0.1.0 */
export interface Job {
  readonly id: string
  /** pg-boss's and `PersistedQueue`'s queue, graphile-worker's task identifier, BullMQ's name of the job. */
  readonly name: string
  /** Not decoded yet. */
  readonly data: unknown
  /** As here: higher first. */
  readonly priority: number
  /** Not before. */
  readonly eta: number
  readonly createdAt: number
  /** How often it was begun there. */
  readonly attempts: number
  /** What the other queue knows of it besides, as that calls it. */
  readonly source: Readonly<Record<string, unknown>>
}

/** What an import may set of a record; its name, its eta and its priority are the job's, unless `options` says otherwise. @since 0.1.0 */
export type MoveOptions = Pick<
  DeferOptions,
  "queue" | "priority" | "headers" | "unique" | "target" | "retry" | "timeout" | "expires"
>

/** A job that is to be a record, and the record's name. @since 0.1.0 */
export interface Move {
  readonly job: Job
  readonly name: string
}

/** What became of one job. @since 0.1.0 */
export type Moved = "Moved" | "Already" | { readonly refused: string }

/**
 * What jobs of one name become: made by `to`.
 *
 * @since 0.1.0
 */
export interface Target<out R> {
  readonly task: string
  /** Only looks whether it would do. */
  readonly check: (jobs: ReadonlyArray<Move>) => Effect.Effect<ReadonlyArray<Moved>, never, R>
  /** Stores their records. In the order given. */
  readonly move: (jobs: ReadonlyArray<Move>) => Effect.Effect<ReadonlyArray<Moved>, TaskQueueError, R | TaskQueue>
}

/** What the targets need. @since 0.1.0 */
export type TargetServices<Targets> = Targets[keyof Targets] extends Target<infer R> ? R : never

/**
 * Jobs of a name become records of this task.
 *
 * - Without `from`, their data is the JSON of the task's payload.
 * - With `from`, their data is the JSON of that schema, and `payload` makes the task's payload of it.
 *
 * Data that does not decode, and payloads and options that `defer` would refuse, leave the job where it is.
 *
 * @example
 * ```ts
 * import type * as Task from "@outlive/deferred/Task"
 * import * as Import from "@outlive/node/Import"
 * import { Schema } from "effect"
 *
 * class Mail extends Task.make("Mail", { payload: { to: Schema.String, subject: Schema.String } }) {}
 *
 * const target = Import.to(Mail, {
 *   from: Schema.Struct({ email: Schema.String }),
 *   payload: ({ email }, { name }) => ({ to: email, subject: name }),
 *   options: (_, { attempts }) => ({ headers: { "failed-before": String(attempts) } }),
 * })
 * ```
 *
 * @since 0.1.0
 */
export const to: {
  <
    Name extends string,
    Payload extends Schema.Top,
    Success extends Schema.Top,
    Error extends Schema.Top,
    From extends Schema.Top,
  >(
    task: Task.Task<Name, Payload, Success, Error>,
    how: {
      readonly from: From
      readonly payload: (data: From["Type"], job: Job) => Payload["~type.make.in"]
      readonly options?: ((data: From["Type"], job: Job) => MoveOptions) | undefined
    },
  ): Target<From["DecodingServices"] | Payload["EncodingServices"]>
  <Name extends string, Payload extends Schema.Top, Success extends Schema.Top, Error extends Schema.Top>(
    task: Task.Task<Name, Payload, Success, Error>,
    how?: { readonly options?: ((data: Payload["Type"], job: Job) => MoveOptions) | undefined },
  ): Target<Payload["DecodingServices"] | Payload["EncodingServices"]>
} = (
  task: Task.Task<string, Schema.Top, Schema.Top, Schema.Top>,
  how?: {
    readonly from?: Schema.Top | undefined
    readonly payload?: ((data: never, job: Job) => unknown) | undefined
    readonly options?: ((data: never, job: Job) => MoveOptions) | undefined
  },
): Target<never> => {
  const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(how?.from ?? task.payload))
  const read = (move: Move) =>
    Effect.flatMap(decode(move.job.data), (data) =>
      Effect.try({
        try: (): Item => ({
          payload: how?.payload === undefined ? data : how.payload(data as never, move.job),
          options: { ...how?.options?.(data as never, move.job) },
          move,
        }),
        catch: (thrown) => new MappingThrew({ thrown: String(thrown) }),
      }),
    )
  // The typed surface is the signature; what is needed to decode and to encode is in the type of the target.
  const erased: Task.Any = task
  const check = (move: Move) =>
    Effect.flatMap(read(move), ({ payload }) => erased.settings.codec.encodePayload(payload))
  return {
    task: task.taskName,
    check: (jobs: ReadonlyArray<Move>) =>
      Effect.forEach(jobs, (move) =>
        Effect.map(orRefused(check(move)), (is): Moved => ("refused" in is ? is : "Moved")),
      ),
    move: (jobs: ReadonlyArray<Move>) =>
      Effect.flatMap(
        Effect.forEach(jobs, (move) => orRefused(read(move))),
        (read) => store(task, read),
      ),
  } as Target<unknown> as Target<never>
}

/** A mapping is the application's: what it throws is about one job. */
class MappingThrew extends Schema.TaggedError<MappingThrew>()("MappingThrew", { thrown: Schema.String }) {
  override get message() {
    return `its mapping threw ${this.thrown}`
  }
}

/**
 * What an import did, or with `dryRun` would have done.
 *
 * @since 0.1.0
 */
export interface Report {
  readonly dryRun: boolean
  readonly moved: number
  /** Were stored by an import that did not come to take them out of the other queue: that was done now. */
  readonly already: number
  /** `moved` by the job's name. */
  readonly movedByName: Readonly<Record<string, number>>
  /** What stayed where it is. */
  readonly left: ReadonlyArray<Left>
}

/**
 * Why jobs of one name stayed.
 *
 * - `unmapped`: no target is given for the name
 * - `refused`: it does not decode, or `defer` would not take it: see `examples`
 * - `running`: a worker of the other queue has it, or had it when it died, or it may not run beside one that runs
 * - `failed`: it has used up its attempts there
 * - `dependent`: it waits for other jobs there, or they for it
 *
 * @since 0.1.0
 */
export interface Left {
  readonly name: string
  readonly why: "unmapped" | "refused" | "running" | "failed" | "dependent"
  readonly count: number
  /** At most five. */
  readonly examples: ReadonlyArray<{ readonly id: string; readonly detail: string }>
}

/**
 * The other queue is not what this expects: its tables are not there, or are of a version that has others.
 *
 * @since 0.1.0
 */
export class UnknownSource extends Schema.TaggedError<UnknownSource>()("UnknownSource", {
  source: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `cannot import from ${this.source}: ${this.reason}`
  }
}
