/**
 * Dead letters: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import type { InvalidDeadLetterFilter } from "@outlive/deferred/DeadLetterFilter"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import type { PayloadMissing, Undecodable } from "@outlive/deferred/Outcome"
import * as Task from "@outlive/deferred/Task"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import { Context, DateTime, Effect, Result, Schema, type Stream } from "effect"

class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
class Key extends Context.Service<Key, string>()("typetest/Key") {}
declare const Secret: Schema.Codec<string, string, Key, Key>
const Hidden = Task.make("Hidden", { payload: { secret: Secret } })
declare const ids: ReadonlyArray<TaskId>

// ---- times
DeadLetters.find({ endedAfter: "1 hour", endedBefore: DateTime.makeUnsafe("2026-01-01") })
// @ts-expect-error nobody who reads it can tell an age from a date
DeadLetters.find({ endedAfter: 1_700_000_000_000 })
// @ts-expect-error nor here
DeadLetters.prune({ olderThan: DateTime.makeUnsafe(0) })

// ---- payloads of one task
export const typed: Effect.Effect<
  ReadonlyArray<Result.Result<string, Undecodable | PayloadMissing>>,
  InvalidDeadLetterFilter | TaskQueueError,
  TaskQueue
> = Effect.map(DeadLetters.of(Mail), ({ letters }) => letters.map(({ payload }) => Result.map(payload, ({ to }) => to)))
Effect.map(DeadLetters.of(Mail), ({ letters }) =>
  // @ts-expect-error the payload has no width
  letters.map(({ payload }) => Result.map(payload, ({ width }) => width)),
)
Effect.map(DeadLetters.find({ task: Mail }), ({ letters }) =>
  // @ts-expect-error what was found by a filter has no typed payload
  letters.map(({ payload }) => payload),
)
// @ts-expect-error the task is given already
DeadLetters.of(Mail, { task: "Letter" })
export const hidden: Stream.Stream<unknown, unknown, TaskQueue | Key> = DeadLetters.streamOf(Hidden)
// @ts-expect-error decoding needs the key
export const keyless: Stream.Stream<unknown, unknown, TaskQueue> = DeadLetters.streamOf(Hidden)

// ---- what to do it to
export const byId: Effect.Effect<DeadLetters.Redriven, TaskQueueError, TaskQueue> = DeadLetters.redrive(ids)
// @ts-expect-error a filter can be invalid
export const byFilter: Effect.Effect<DeadLetters.Redriven, TaskQueueError, TaskQueue> = DeadLetters.redrive({
  tag: "X",
})
DeadLetters.remove("all", { limit: 10 })
// @ts-expect-error an id is a TaskId
DeadLetters.redrive("1")
// @ts-expect-error ids are not limited: give fewer
DeadLetters.redrive(ids, { limit: 1 })
// @ts-expect-error there is no such reason
DeadLetters.remove({ reason: "Tired" })
// @ts-expect-error a task is no filter
DeadLetters.remove(Mail)
