/**
 * Schedules as records: one for each, named after it, claimed at its next tick and snoozed to the one after. How far it has
 * come is its progress, which is written with the snooze: a crash in between makes the same ticks again, which have names.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as RetryPolicy from "../RetryPolicy.ts"
import * as Task from "../Task.ts"
import type { TaskContext } from "../TaskContext.ts"
import { Snooze } from "../TaskFailure.ts"
import type { TaskId } from "../TaskId.ts"
import { TaskQueue, type TaskQueueError } from "../TaskQueue.ts"
import type { TaskRecord } from "../TaskRecord.ts"
import type { TaskSchedule } from "../TaskSchedule.ts"
import { hashOf } from "./hash.ts"

export const queueName = "outlive.schedules"

const Stored = Schema.Struct({
  name: Schema.String,
  task: Schema.String,
  definition: Schema.String,
  paused: Schema.Boolean,
  /** Ticks after this are its own. */
  since: Schema.Finite,
})
type Stored = typeof Stored.Type

/** However often it fails or its worker dies, it must not end: it is tried again, and told of, every ten seconds. */
export const ScheduleTask = Task.make("outlive.Schedule", {
  payload: Stored,
  queue: queueName,
  retry: RetryPolicy.fixed("10 seconds"),
  error: Schema.Defect(),
  maxCrashes: Number.MAX_SAFE_INTEGER,
  keep: "none",
})

export interface Kept {
  readonly id: TaskId
  readonly schedule: Stored
  readonly eta: number
  readonly last: number | undefined
}

const keptOf = (record: TaskRecord): Effect.Effect<ReadonlyArray<Kept>, TaskQueueError, TaskQueue> =>
  ScheduleTask.loadPayload(record).pipe(
    Effect.map((schedule) => {
      const { eta, id, progress } = record
      const last = progress === undefined ? undefined : (JSON.parse(progress) as { readonly done: number }).done
      return [{ id, schedule, eta, last }]
    }),
    Effect.catchTag(["Undecodable", "PayloadMissing"], () => Effect.succeed([])),
  )

const findKept = Effect.fnUntraced(function* (namePrefix: string | undefined) {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const kept: Array<Kept> = []
  let cursor: string | undefined
  do {
    const page = yield* queue.find({ queue: queueName, namePrefix, cursor, limit: 500, now })
    for (const record of page.records) if (record.endedAt === undefined) kept.push(...(yield* keptOf(record)))
    cursor = page.cursor
  } while (cursor !== undefined)
  // A record that is being replaced while it runs is there beside the one that took its name: the newest counts.
  const newest = new Map<string, Kept>()
  for (const each of kept) newest.set(each.schedule.name, each)
  return [...newest.values()]
})

export const keptSchedules: Effect.Effect<ReadonlyArray<Kept>, TaskQueueError, TaskQueue> = findKept(undefined)

export const findSchedule = (name: string): Effect.Effect<Kept | undefined, TaskQueueError, TaskQueue> =>
  Effect.map(findKept(name), (kept) => kept.find(({ schedule }) => schedule.name === name))

/** Only processes that know this very definition claim the schedule's record: during a deploy there are others. */
export const targetOf = ({ definition, name }: Pick<Stored, "name" | "definition">): string =>
  `${name}-${hashOf(definition).toString(16)}`

/** Stores a schedule in place of what has its name. One that is running sees that it is not the newest and ends. */
export const replaceWith = (
  schedule: Stored,
  eta: number,
  onDuplicate: "replace" | "ignore" = "replace",
): Effect.Effect<void, TaskQueueError, TaskQueue> =>
  ScheduleTask.defer(schedule, {
    name: schedule.name,
    onDuplicate,
    tombstone: 0,
    target: targetOf(schedule),
    eta: DateTime.makeUnsafe(eta),
  }).pipe(
    Effect.asVoid,
    // Everything but the queue itself is as it was defined.
    Effect.catchTag(["InvalidTaskOptions", "PayloadTooLarge", "SchemaError"], Effect.die),
  )

export const reconcile = Effect.fnUntraced(function* (
  schedules: ReadonlyArray<TaskSchedule>,
  others: "keep" | "remove",
) {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const kept = yield* keptSchedules
  for (const { definition, name, next, task } of schedules) {
    const before = kept.find(({ schedule }) => schedule.name === name)?.schedule
    if (before?.definition === definition) continue
    const stored = { name, task, definition, paused: before?.paused ?? false, since: now }
    // Of many that start together one makes a new schedule.
    yield* replaceWith(stored, next(now) ?? now, before === undefined ? "ignore" : "replace")
  }
  if (others === "keep") return
  const names = new Set(schedules.map(({ name }) => name))
  const ids = kept.flatMap(({ id, schedule }) => (names.has(schedule.name) ? [] : [id]))
  if (ids.length > 0) yield* queue.cancel({ ids, reason: "the schedule is not defined any more", now })
})

/** How late a tick may be without being one that nobody made. */
const late = 60_000
const aDay = 86_400_000

/** The handler of schedules: makes what ticks are due and sleeps until the next. */
export const ticking =
  (schedules: ReadonlyArray<TaskSchedule>) =>
  (stored: Stored, context: TaskContext["Service"]): Effect.Effect<void, unknown, TaskQueue> =>
    Effect.gen(function* () {
      const newest = yield* findSchedule(stored.name)
      if (newest !== undefined && newest.id !== context.id) return
      const now = yield* Clock.currentTimeMillis
      if (stored.paused) return yield* Effect.fail(Snooze.until(DateTime.makeUnsafe(now + aDay)))
      const schedule = schedules.find(
        ({ definition, name }) => name === stored.name && definition === stored.definition,
      )
      // Two definitions with one hash: one that knows it will come by.
      if (schedule === undefined) return yield* Effect.fail(Snooze.until(DateTime.makeUnsafe(now + late)))
      const last = Math.max(newest?.last ?? stored.since, stored.since)
      const { due, upTo } = ticksOf(schedule, last, now)
      for (const at of due) yield* schedule.tick(at)
      const next = schedule.next(upTo)
      if (next === undefined) return
      yield* context.progress({ done: upTo })
      return yield* Effect.fail(Snooze.until(DateTime.makeUnsafe(next)))
    })

/** The ticks to make of those after `last` up to now, and the last of them all, made or not. */
export const ticksOf = (
  { catchUp, next }: Pick<TaskSchedule, "catchUp" | "next">,
  last: number,
  now: number,
): { readonly due: ReadonlyArray<number>; readonly upTo: number } => {
  const ticks: Array<number> = []
  for (let at = next(last); at !== undefined && at <= now; at = next(at)) {
    // Only the last one, or the prompt ones, are needed: a long absence must not fill the memory.
    if (catchUp === "last" || (catchUp === "none" && now - at >= late)) ticks.length = 0
    ticks.push(at)
  }
  const upTo = ticks.at(-1) ?? last
  return { due: catchUp === "none" ? ticks.filter((at) => now - at < late) : ticks, upTo }
}
