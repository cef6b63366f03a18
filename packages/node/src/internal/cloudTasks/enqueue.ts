/**
 * Creating tasks: one call a record, as there is no call for many (C23).
 */
import type { protos } from "@google-cloud/tasks"
import type { TaskId } from "@outlive/deferred/TaskId"
import { type EnqueueOutcome, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type Call, type CallFailed, failure, Status } from "./grpc.ts"
import { type Delivery, headers, type NewTask, newTask } from "./newTask.ts"

/** Calls at once: one connection carries a hundred. */
const atOnce = 64

export const makeEnqueue = (call: Call, delivery: Delivery & { readonly tombstone: number }) => {
  const create = ({ path, queue, task }: NewTask) =>
    call((client, settings) => client.createTask({ parent: queue, task, responseView: "BASIC" }, settings)).pipe(
      Effect.mapError((error) => ({ error, where: error.status === Status.alreadyExists ? path : queue })),
    )

  /** Something has the id: a task that is there, or one that was (C7). */
  const taken = Effect.fnUntraced(function* (made: NewTask, error: CallFailed, now: number) {
    const { id, path, record } = made
    // Without a name, nobody else makes a task of this id.
    if (record.name === undefined) return error.mayHaveHappened ? inserted(id) : existing(id)
    const found = yield* call((client, settings) => client.getTask({ name: path }, settings)).pipe(
      Effect.catchIf(
        ({ status }) => status === Status.notFound,
        () => Effect.undefined,
      ),
      Effect.mapError((failed) => failure("enqueue", path, failed)),
    )
    if (found === undefined) {
      if (error.mayHaveHappened) return yield* Effect.fail(unclear(record.name))
      return record.onDuplicate === "ignore"
        ? existing(id)
        : ({ _tag: "Tombstoned", until: now + delivery.tombstone } satisfies EnqueueOutcome)
    }
    const holder = holderOf(found)
    if (holder === undefined) return yield* Effect.fail(foreign(path))
    if (holder.record === record.id) return error.mayHaveHappened ? inserted(holder.id) : existing(holder.id)
    return record.onDuplicate === "ignore" ? existing(holder.id) : duplicate(holder.id)
  })

  const enqueueOne = (made: NewTask, now: number): Effect.Effect<EnqueueOutcome, TaskQueueError> =>
    create(made).pipe(
      Effect.as(inserted(made.id)),
      Effect.catch(({ error, where }) =>
        error.status === Status.alreadyExists ? taken(made, error, now) : Effect.fail(failure("enqueue", where, error)),
      ),
    )

  return Effect.fnUntraced(function* (
    records: ReadonlyArray<NewRecord>,
    now: number,
  ): Effect.fn.Return<ReadonlyArray<EnqueueOutcome>, TaskQueueError> {
    const made: Array<NewTask> = []
    for (const record of records) made.push(yield* newTask(delivery, record, now))
    const results = yield* Effect.forEach(inRounds(made), (round) =>
      Effect.forEach(
        round,
        ({ index, each }) => Effect.map(Effect.result(enqueueOne(each, now)), (result) => ({ index, result })),
        {
          concurrency: atOnce,
        },
      ),
    )
    const outcomes: Array<EnqueueOutcome> = []
    let failed: TaskQueueError | undefined
    for (const { index, result } of results.flat()) {
      if (Result.isSuccess(result)) outcomes[index] = result.success
      else failed ??= result.failure
    }
    if (failed !== undefined) return yield* Effect.fail(withCount(failed, outcomes, records.length))
    return outcomes
  })
}

/** Names that come twice in one call meet in the order given: the second of them in a later round. */
const inRounds = (made: ReadonlyArray<NewTask>) => {
  const rounds: Array<Array<{ readonly index: number; readonly each: NewTask }>> = []
  const seen = new Map<string, number>()
  for (const [index, each] of made.entries()) {
    const round = each.record.name === undefined ? 0 : (seen.get(each.path) ?? 0)
    if (each.record.name !== undefined) seen.set(each.path, round + 1)
    rounds[round] ??= []
    rounds[round].push({ index, each })
  }
  return rounds
}

/** Which record has a task. */
const holderOf = ({ httpRequest }: protos.google.cloud.tasks.v2beta3.ITask) => {
  const found = new Map(Object.entries(httpRequest?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]))
  const id = found.get(headers.id)
  return id === undefined ? undefined : { id: id as TaskId, record: found.get(headers.record) }
}

const inserted = (id: TaskId): EnqueueOutcome => ({ _tag: "Inserted", id })
const existing = (id: TaskId): EnqueueOutcome => ({ _tag: "Existing", id })
const duplicate = (id: TaskId): EnqueueOutcome => ({ _tag: "Duplicate", id })

const unclear = (name: string): TaskQueueError =>
  new TaskQueueError({
    operation: "enqueue",
    message: `Cloud Tasks did not answer, and then said that the name ${name} was used: by this call, whose task has ended already, or by an earlier one`,
    isRetryable: false,
  })

const foreign = (path: string): TaskQueueError =>
  new TaskQueueError({
    operation: "enqueue",
    message: `${path} is a task that this toolkit did not make: give it a queue of its own`,
    isRetryable: false,
  })

/** A batch is not one call for Cloud Tasks: what was created stays, as App Engine left it (Q49). */
const withCount = (
  error: TaskQueueError,
  outcomes: ReadonlyArray<EnqueueOutcome | undefined>,
  all: number,
): TaskQueueError => {
  if (all === 1) return error
  const stored = outcomes.filter((outcome) => outcome?._tag === "Inserted").length
  const { cause, isRetryable, message, operation } = error
  const why = cause === undefined ? {} : { cause }
  return new TaskQueueError({
    operation,
    message: `${message}; ${stored} of the ${all} records of this call are stored`,
    isRetryable,
    ...why,
  })
}
