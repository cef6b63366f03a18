/**
 * The handle on a group, over a queue and the tasks that its members are of.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as Task from "../Task.ts"
import { type FanOutSummary, TaskContext } from "../TaskContext.ts"
import type { FanOutRef, MemberEnd } from "../TaskFanOut.ts"
import type { TaskId } from "../TaskId.ts"
import type { Change, TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { Join, TaskRecord } from "../TaskRecord.ts"
import { TaskCancelled, TaskDead, TaskNotFound } from "../TaskRef.ts"
import { groupTask, indexHeader, nobody, summaryOf } from "./groups.ts"
import { queueHere } from "./storedText.ts"
import { exitOf } from "./taskRef.ts"

type Queue = TaskQueue["Service"]

const lookEvery = "1 second"
const page = 1_000

const isDone = ({ cancelled, dead, succeeded, total }: FanOutSummary): boolean => succeeded + cancelled + dead >= total

/** The handle on a group that was stored; `afterwards` is what comes after it. */
export const makeGroup = (
  queue: Queue,
  tasks: ReadonlyArray<Task.Any>,
  id: TaskId,
  total: number,
  afterwards: Join["afterwards"],
): FanOutRef<Task.Any> => {
  const record = recordOf(queue, id)
  const last =
    afterwards === "end" ? awaited(queue, id) : Effect.map(Stream.runLast(watch(queue, id, record)), Option.getOrThrow)
  return {
    id,
    total,
    await: Effect.flatMap(last, endOf),
    progress: Stream.changes(Stream.map(watch(queue, id, record), talliedIn)),
    results: endsOf(queue, tasks, id),
    cancel: (options) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.map(
          queue.cancel({ ids: [id], reason: options?.reason ?? "asked for", now }),
          ([outcome]) => outcome ?? "NotFound",
        ),
      ),
  }
}

/** A group that had no members, of which nothing but its last step is stored, if it has one. */
export const emptyGroup = (id: TaskId): FanOutRef<Task.Any> => ({
  id,
  total: 0,
  await: Effect.succeed(nobody),
  progress: Stream.make(nobody),
  results: Stream.empty,
  cancel: () => Effect.succeed("TooLate"),
})

/** The handle on a group of which only its id is known. */
export const ref = Effect.fnUntraced(function* (id: TaskId, ...tasks: ReadonlyArray<Task.Any>) {
  const queue = yield* queueHere
  const found = yield* recordOf(queue, id)
  const { join } = found
  if (join !== undefined) return makeGroup(queue, tasks, id, join.total, join.afterwards)
  return summaryOf(found) === undefined ? yield* notFound(id) : emptyGroup(id)
})

/** The ends of those that the record at hand waited for. */
export const resultsOf = (...tasks: ReadonlyArray<Task.Any>) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { id } = yield* TaskContext
      return endsOf(yield* queueHere, tasks, id)
    }),
  )

const notFound = (id: TaskId) => Effect.fail(new TaskNotFound({ id, task: groupTask }))

const recordOf = (queue: Queue, id: TaskId): Effect.Effect<TaskRecord, TaskNotFound | TaskQueueError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.flatMap(queue.get({ ids: [id], now }), ([found]) =>
      found === undefined ? notFound(id) : Effect.succeed(found),
    ),
  )

const awaited = (queue: Queue, id: TaskId): Effect.Effect<TaskRecord, TaskNotFound | TaskQueueError> =>
  Effect.flatMap(queue.awaitEnded(id), (found) => (found === undefined ? notFound(id) : Effect.succeed(found)))

const talliedIn = (record: TaskRecord): FanOutSummary => summaryOf(record) ?? nobody

/** The group's record now and each time that it may have changed, until all members have ended or it has. */
const watch = (
  queue: Queue,
  id: TaskId,
  record: Effect.Effect<TaskRecord, TaskNotFound | TaskQueueError>,
): Stream.Stream<TaskRecord, TaskNotFound | TaskQueueError> => {
  const concerns = (change: Change): boolean =>
    change._tag === "Elsewhere" || ((change._tag === "Progress" || change._tag === "Ended") && change.ids.includes(id))
  return Stream.unwrap(
    Effect.gen(function* () {
      // Subscribed before the first look, so that nothing falls between the two.
      const changes = yield* queue.changes
      const looks = Stream.merge(Stream.filter(changes, concerns), Stream.tick(lookEvery))
      // Members end many at once: what is told during a look is one more look.
      const few = Stream.buffer(looks, { capacity: 1, strategy: "sliding" })
      return Stream.concat(Stream.make(undefined), few).pipe(
        Stream.mapEffect(() => record),
        Stream.takeUntil((found) => found.endedAt !== undefined || isDone(talliedIn(found))),
      )
    }),
  )
}

/** What waiting for a group comes to. */
const endOf = (record: TaskRecord): Effect.Effect<FanOutSummary, TaskCancelled | TaskDead> => {
  const summary = talliedIn(record)
  const { cancelRequested, id, reason, task } = record
  if (isDone(summary)) return Effect.succeed(summary)
  return Effect.fail(
    record.state === "dead"
      ? new TaskDead({ id, task, reason: reason ?? "unknown", detail: "before its members had ended" })
      : new TaskCancelled({ id, task, reason: cancelRequested ?? "not said" }),
  )
}

/** How the members ended, page by page. Of tasks that are not among these, none. */
const endsOf = (
  queue: Queue,
  tasks: ReadonlyArray<Task.Any>,
  id: TaskId,
): Stream.Stream<MemberEnd<Task.Any>, TaskQueueError, unknown> => {
  const known = new Map(tasks.flatMap((task) => [task.taskName, ...task.settings.aliases].map((name) => [name, task])))
  const read = (cursor: string | undefined) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.map(queue.find({ memberOf: id, cursor, limit: page, now }), (found) => {
        const next = Option.fromUndefinedOr(found.cursor)
        return [found.records, Option.map(next, (at): string | undefined => at)] as const
      }),
    )
  return Stream.paginate(undefined, read).pipe(
    Stream.mapEffect((record) => {
      const task = known.get(record.task)
      return task === undefined ? Effect.undefined : memberEnd(queue, task, record)
    }),
    Stream.filter((end) => end !== undefined),
  )
}

/** How a member ended, when it has; `undefined` when it is not kept. */
const memberEnd = (
  queue: Queue,
  task: Task.Any,
  found: TaskRecord,
): Effect.Effect<MemberEnd<Task.Any> | undefined, TaskQueueError, unknown> =>
  Effect.flatMap(found.endedAt === undefined ? queue.awaitEnded(found.id) : Effect.succeed(found), (record) =>
    record === undefined
      ? Effect.undefined
      : Effect.map(Effect.exit(exitOf(queue, task, record)), (exit) => ({
          index: Number(record.headers[indexHeader]),
          id: record.id,
          task: task.taskName,
          exit: exit as MemberEnd<Task.Any>["exit"],
        })),
  )
