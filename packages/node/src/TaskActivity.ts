/**
 * Deferred tasks as activities of Effect's workflows: the workflow waits for the record, wherever the workers are, and goes on
 * with the task's typed result.
 *
 * A record is named by the execution and the activity, so however often the workflow is replayed or its engine restarted, it
 * is deferred once, and the one that is there is waited for. A record that is dead is a typed failure of the workflow, which
 * decides what to do: it is not parked, as a workflow is whose `DurableQueue` item has used up its attempts.
 *
 * The wait is a running activity: it costs the engine a fiber, and all waits of a process together one look a second at the
 * queue. Effect's cluster runs activities uninterruptibly, so a process that shuts down while some wait takes the whole
 * `entityTerminationTimeout` of its `ShardingConfig` (15 seconds by default); they are waited for again by the next one.
 *
 * The record must still be there when a workflow comes back to it: the task's `keep` (a day by default) is how long an engine
 * may be away, the name's tombstone (30 days here) how long it is known that there was a record.
 *
 * Effect's workflow modules are unstable: a minor release of `effect` may change them, and then this.
 *
 * @since 0.1.0
 */
import { type DeferOptions, InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import type * as Task from "@outlive/deferred/Task"
import { type TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import { TaskCancelled, TaskDead, TaskNotFound } from "@outlive/deferred/TaskRef"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import { WorkflowInstance } from "effect/workflow/WorkflowEngine"

/**
 * How the record is deferred. Its name is the activity's, and a unique key of the task is not used: it could be another
 * execution's record by then.
 *
 * @since 0.1.0
 */
export interface Options<Payload>
  extends Pick<DeferOptions, "delay" | "queue" | "priority" | "headers" | "target" | "retry" | "timeout" | "expires"> {
  /**
   * The activity's name. Within one execution, the same name is the same activity, and the same record, whatever its payload:
   * name those that are called more than once. Default: the task's name.
   */
  readonly name?: string | ((payload: Payload) => string) | undefined
}

/**
 * What an activity fails with: the task's own error, or how else its record ended. `TaskNotFound`: it was removed, or its
 * `keep` was over before its workflow asked for it. `TaskQueueError`: of those that trying again does not mend.
 *
 * @since 0.1.0
 */
export type Errors<Error extends Schema.Top> = Schema.Union<
  readonly [Error, typeof TaskDead, typeof TaskCancelled, typeof TaskNotFound, typeof TaskQueueError]
>

/** An activity that waits for a record. @since 0.1.0 */
export type TaskActivity<
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
> = Activity.Activity<
  Success,
  Errors<Error>,
  TaskQueue | Payload["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"]
>

/**
 * A task as a maker of activities.
 *
 * - `Activity.retry` of one defers another record for each of its attempts, and so after the task's own retries.
 * - What the queue cannot store (an invalid option or payload, one too large) is a defect of the workflow.
 * - While the queue does not answer, it is asked again, for ever.
 * - An interruption leaves the record alone: a workflow that is interrupted waits for it like one that is not. To take it
 *   back, cancel it: the activity fails with `TaskCancelled` then. Its headers
 *   `workflow`, `workflow-execution` and `workflow-activity` tell which it is.
 * - A dead letter that is redriven after its workflow went on runs again, and nobody waits for it.
 *
 * Throws `InvalidTaskOptions` for a task whose `keep` is `none`: nobody could know what it came to.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskActivity from "@outlive/node/TaskActivity"
 * import { Effect, Schema } from "effect"
 * import { Workflow } from "effect/workflow"
 *
 * class Charge extends Task.make("Charge", { payload: { cents: Schema.Int }, success: Schema.String }) {}
 * const charge = TaskActivity.make(Charge)
 *
 * const Order = Workflow.make("Order", { payload: { id: Schema.String }, idempotencyKey: ({ id }) => id })
 * const OrderLayer = Order.toLayer(() =>
 *   charge({ cents: 4200 }).pipe(
 *     Effect.catchTag("TaskDead", ({ reason }) => Effect.succeed(reason)),
 *     Effect.orDie,
 *     Effect.asVoid,
 *   ),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const make = <
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
>(
  task: Task.Task<Name, Payload, Success, Error>,
  options?: Options<Payload["~type.make.in"]>,
): ((
  payload: Payload["~type.make.in"],
  own?: Options<Payload["~type.make.in"]>,
) => TaskActivity<Payload, Success, Error>) => {
  const { taskName } = task
  if (task.settings.keep === 0) {
    const reason = 'must not be "none" for an activity: its workflow could not know what the record came to'
    throw new InvalidTaskOptions({ task: taskName, field: "keep", reason })
  }
  const error = Schema.Union([task.error, TaskDead, TaskCancelled, TaskNotFound, TaskQueueError])
  return (payload, own) => {
    const { name: named = taskName, ...rest } = { ...options, ...own }
    const name = typeof named === "string" ? named : named(payload)
    const execute = Effect.gen(function* () {
      const { executionId, workflow } = yield* WorkflowInstance
      const key = yield* Activity.idempotencyKey(name, { includeAttempt: true })
      const origin = { workflow: workflow._tag, "workflow-execution": executionId, "workflow-activity": name }
      const ref = yield* task
        .defer(payload, {
          ...rest,
          headers: { ...rest.headers, ...origin },
          name: `workflow-${key}`,
          onDuplicate: "ignore",
          tombstone: "30 days",
          unique: false,
        })
        .pipe(
          Effect.retry({ while: isPassing, schedule: patiently }),
          Effect.catchTag(["InvalidTaskOptions", "PayloadTooLarge", "SchemaError"], Effect.die),
        )
      return yield* ref.await.pipe(
        Effect.retry({ while: isPassing, schedule: patiently }),
        Effect.catchIf((error) => error instanceof Schema.SchemaError, Effect.die),
      )
    })
    return Activity.make({ name, success: task.success, error, execute }) as TaskActivity<Payload, Success, Error>
  }
}

const isPassing = (error: unknown): boolean => error instanceof TaskQueueError && error.isRetryable

const patiently = Schedule.min([Schedule.exponential("500 millis", 1.5), Schedule.spaced("10 seconds")])
