/**
 * The handle on a record, over a queue and a task's codec.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import { explain } from "../Explanation.ts"
import { messageOf } from "../Outcome.ts"
import type * as Task from "../Task.ts"
import { PermanentTaskFailure, SingularTaskFailure, TaskTimeout } from "../TaskFailure.ts"
import type { TaskId } from "../TaskId.ts"
import type { TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { AttemptFailure, TaskRecord, TaskState } from "../TaskRecord.ts"
import { TaskCancelled, TaskDead, TaskNotFound, type TaskRef } from "../TaskRef.ts"
import { progressOf } from "./progressOf.ts"
import { readResult } from "./storedText.ts"
import { withoutInterrupts } from "./taskCodec.ts"

/** Made for every deferral and looked at by few: its effects are made when they are asked for. */
class Ref implements TaskRef<unknown, unknown, unknown> {
  readonly id: TaskId
  readonly outcome: Outcome
  private readonly queue: TaskQueue["Service"]
  private readonly definition: Task.Any

  constructor(queue: TaskQueue["Service"], definition: Task.Any, id: TaskId, outcome: Outcome) {
    this.id = id
    this.outcome = outcome
    this.queue = queue
    this.definition = definition
  }

  get task(): string {
    return this.definition.taskName
  }

  get record(): Effect.Effect<TaskRecord, TaskNotFound | TaskQueueError> {
    return Effect.clockWith((clock) =>
      Effect.flatMap(this.queue.get({ ids: [this.id], now: clock.currentTimeMillisUnsafe() }), ([found]) =>
        found === undefined ? this.notFound : Effect.succeed(found),
      ),
    )
  }

  get state(): Effect.Effect<TaskState, TaskNotFound | TaskQueueError> {
    return Effect.map(this.record, (found) => found.state)
  }

  get await(): TaskRef<unknown, unknown, unknown>["await"] {
    return Effect.flatMap(this.queue.awaitEnded(this.id), (found) =>
      found === undefined ? this.notFound : exitOf(this.queue, this.definition, found),
    ) as TaskRef<unknown, unknown, unknown>["await"]
  }

  get explain(): TaskRef<unknown, unknown, unknown>["explain"] {
    return Effect.clockWith((clock) =>
      Effect.flatMap(this.record, (record) => {
        const now = clock.currentTimeMillisUnsafe()
        const { key, queue } = record
        const { keyStatistics, limits, statistics, workers } = this.queue
        const known = {
          limits: limits({ queue }),
          statistics: statistics({ queue, now }),
          keyStatistics: key === undefined ? Effect.undefined : keyStatistics({ queue, key, now }),
          workers: workers({ now }),
        }
        return Effect.map(Effect.all(known), (known) => explain({ ...known, record, now }))
      }),
    )
  }

  get attempts(): TaskRef<unknown, unknown, unknown>["attempts"] {
    return Effect.flatMap(this.record, () =>
      Effect.map(this.queue.ledger({ ids: [this.id] }), ([attempts]) =>
        (attempts ?? []).map((attempt) => ({
          ...attempt,
          failure: attempt.failure === undefined ? undefined : (JSON.parse(attempt.failure) as AttemptFailure),
        })),
      ),
    )
  }

  get progress(): TaskRef<unknown, unknown, unknown>["progress"] {
    return progressOf(this.queue, this.id, this.record)
  }

  get cancel(): TaskRef<unknown, unknown, unknown>["cancel"] {
    return (options) =>
      Effect.clockWith((clock) =>
        Effect.map(
          this.queue.cancel({
            ids: [this.id],
            reason: options?.reason ?? "asked for",
            now: clock.currentTimeMillisUnsafe(),
          }),
          ([outcome]) => outcome ?? "NotFound",
        ),
      )
  }

  private get notFound(): Effect.Effect<never, TaskNotFound> {
    return Effect.fail(new TaskNotFound({ id: this.id, task: this.task }))
  }
}

type Outcome = "Inserted" | "Existing" | "Replaced" | undefined

/** The handle on a record; `outcome` is what its deferral came to, if it was deferred here. */
export const makeRef = (
  queue: TaskQueue["Service"],
  task: Task.Any,
  id: TaskId,
  outcome?: Outcome,
): TaskRef<unknown, unknown, unknown> & { readonly outcome: Outcome } => new Ref(queue, task, id, outcome)

/** The typed exit of a record that has ended. */
export const exitOf = (
  { codec }: TaskQueue["Service"],
  task: Task.Any,
  record: TaskRecord,
): Effect.Effect<unknown, unknown | TaskDead | TaskCancelled | Schema.SchemaError, unknown> => {
  if (record.state === "cancelled") {
    return Effect.fail(
      new TaskCancelled({ id: record.id, task: record.task, reason: record.cancelRequested ?? "not said" }),
    )
  }
  const stored =
    record.result === undefined
      ? Effect.succeed(Exit.void)
      : Effect.flatMap(readResult(codec, record.result, record), task.settings.codec.decodeExit)
  if (record.state === "succeeded") return Effect.flatten(stored)
  return Effect.flatMap(stored, (exit) => endOfDead(record, exit))
}

/** What waiting for a dead record fails with: the task's own error, or that it is dead of something else. */
export const endOfDead = (
  record: Pick<TaskRecord, "id" | "task" | "reason" | "failure">,
  exit: Exit.Exit<unknown, unknown>,
): Effect.Effect<never, unknown> => {
  const failure = Exit.isFailure(exit) ? withoutInterrupts(exit.cause)[0] : undefined
  if (failure?._tag === "Fail" && !isOurs(failure.error)) return Effect.fail(failure.error)
  const detail =
    failure === undefined ? lastFailure(record) : messageOf(failure._tag === "Fail" ? failure.error : failure.defect)
  return Effect.fail(new TaskDead({ id: record.id, task: record.task, reason: record.reason ?? "unknown", detail }))
}

const isOurs = (error: unknown): boolean =>
  error instanceof PermanentTaskFailure || error instanceof SingularTaskFailure || error instanceof TaskTimeout

const lastFailure = (record: Pick<TaskRecord, "failure">): string =>
  record.failure === undefined ? "no attempt failed" : (JSON.parse(record.failure) as AttemptFailure).message
