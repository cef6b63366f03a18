/**
 * Tasks in workflows: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as Task from "@outlive/deferred/Task"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { TaskCancelled, TaskDead, TaskNotFound } from "@outlive/deferred/TaskRef"
import * as TaskActivity from "@outlive/node/TaskActivity"
import { Effect, Schema } from "effect"
import type { WorkflowEngine } from "effect/workflow"

class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
class Charge extends Task.make("Charge", {
  payload: { cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Declined,
}) {}
const charge = TaskActivity.make(Charge, { name: ({ cents }) => `charge ${cents}`, queue: "money" })

type Ends = Declined | TaskDead | TaskCancelled | TaskNotFound | TaskQueueError
type Needs = TaskQueue | WorkflowEngine.WorkflowEngine | WorkflowEngine.WorkflowInstance
export const typed: Effect.Effect<{ readonly receipt: string }, Ends, Needs> = charge({ cents: 1 })
// @ts-expect-error the task's own error is left out
export const untyped: Effect.Effect<unknown, Exclude<Ends, Declined>, Needs> = charge({ cents: 1 })
// @ts-expect-error it is only known inside a workflow
export const outside: Effect.Effect<unknown, unknown, TaskQueue> = charge({ cents: 1 })
// @ts-expect-error the wrong payload
charge({ euros: 1 })
// @ts-expect-error the record's name is made of the execution and the activity
TaskActivity.make(Charge, { onDuplicate: "replace" })
Effect.catchTag(charge({ cents: 1 }, { priority: 1 }), "Declined", ({ reason }) => Effect.succeed({ receipt: reason }))
