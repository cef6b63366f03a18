/**
 * The handle on a record, over a queue and a task's codec.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import { messageOf } from "../Outcome.ts"
import type * as Task from "../Task.ts"
import { PermanentTaskFailure, SingularTaskFailure, TaskTimeout } from "../TaskFailure.ts"
import type { TaskId } from "../TaskId.ts"
import type { TaskQueue } from "../TaskQueue.ts"
import type { AttemptFailure, TaskRecord } from "../TaskRecord.ts"
import { TaskCancelled, TaskDead, TaskNotFound, type TaskRef } from "../TaskRef.ts"
import { withoutInterrupts } from "./taskCodec.ts"

export const makeRef = (
  queue: TaskQueue["Service"],
  task: Task.Any,
  id: TaskId,
): TaskRef<unknown, unknown, unknown> => {
  const notFound = Effect.suspend(() => Effect.fail(new TaskNotFound({ id, task: task.taskName })))
  const record = Effect.clockWith((clock) =>
    Effect.flatMap(queue.get({ ids: [id], now: clock.currentTimeMillisUnsafe() }), ([found]) =>
      found === undefined ? notFound : Effect.succeed(found),
    ),
  )
  return {
    id,
    task: task.taskName,
    record,
    state: Effect.map(record, (found) => found.state),
    cancel: (options) =>
      Effect.clockWith((clock) =>
        Effect.map(
          queue.cancel({ ids: [id], reason: options?.reason ?? "asked for", now: clock.currentTimeMillisUnsafe() }),
          ([outcome]) => outcome ?? "NotFound",
        ),
      ),
    await: Effect.flatMap(queue.awaitEnded(id), (found) => (found === undefined ? notFound : exitOf(task, found))),
  }
}

/** The typed exit of a record that has ended. */
const exitOf = (
  task: Task.Any,
  record: TaskRecord,
): Effect.Effect<unknown, unknown | TaskDead | TaskCancelled | Schema.SchemaError, unknown> => {
  if (record.state === "cancelled") {
    return Effect.fail(
      new TaskCancelled({ id: record.id, task: record.task, reason: record.cancelRequested ?? "not said" }),
    )
  }
  const stored = record.result === undefined ? Effect.succeed(Exit.void) : task.settings.codec.decodeExit(record.result)
  if (record.state === "succeeded") return Effect.flatten(stored)
  return Effect.flatMap(stored, (exit) => {
    const failure = Exit.isFailure(exit) ? withoutInterrupts(exit.cause)[0] : undefined
    if (failure?._tag === "Fail" && !isOurs(failure.error)) return Effect.fail(failure.error)
    const detail =
      failure === undefined ? lastFailure(record) : messageOf(failure._tag === "Fail" ? failure.error : failure.defect)
    return Effect.fail(new TaskDead({ id: record.id, task: record.task, reason: record.reason ?? "unknown", detail }))
  })
}

const isOurs = (error: unknown): boolean =>
  error instanceof PermanentTaskFailure || error instanceof SingularTaskFailure || error instanceof TaskTimeout

const lastFailure = (record: TaskRecord): string =>
  record.failure === undefined ? "no attempt failed" : (JSON.parse(record.failure) as AttemptFailure).message
