/**
 * Keeps schedules: makes their ticks, and lists, pauses, resumes and removes them at run time, from any process.
 *
 * @since 0.1.0
 */
import type { FrontendsNotSupported, Instance } from "@outlive/core/Instance"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  findSchedule,
  type Kept,
  keptSchedules,
  queueName,
  reconcile,
  replaceWith,
  ScheduleTask,
  targetOf,
  ticking,
} from "./internal/schedules.ts"
import { TaskQueue, type TaskQueueError } from "./TaskQueue.ts"
import type { TaskSchedule } from "./TaskSchedule.ts"
import * as Worker from "./Worker.ts"

/** @since 0.1.0 */
export interface Options {
  /** Those that this process knows. */
  readonly schedules: ReadonlyArray<TaskSchedule>
  /** What becomes of schedules that are in the queue and not among these: they are kept (default), or removed. */
  readonly others?: "keep" | "remove" | undefined
}

/** A schedule as it is in the queue. @since 0.1.0 */
export interface Scheduled {
  readonly name: string
  readonly task: string
  /** As `TaskSchedule.definition`. */
  readonly definition: string
  readonly paused: boolean
  /** None while it is paused. */
  readonly next: Option.Option<DateTime.Utc>
  /** The last tick that was looked at: made, or left out. */
  readonly last: Option.Option<DateTime.Utc>
}

/** The queue has no schedule of this name. @since 0.1.0 */
export class NoSuchSchedule extends Schema.TaggedError<NoSuchSchedule>()("NoSuchSchedule", {
  schedule: Schema.String,
}) {
  override get message() {
    return `there is no schedule ${this.schedule}`
  }
}

/**
 * Puts the schedules into the queue, or brings those that are there up to date, and makes their ticks for as long as the
 * layer lives: at the tick, by the `Clock` of the layer, in one of the processes that have it. A new schedule begins with the
 * first tick after now. One whose definition changed goes on from now with the new one, paused if it was.
 *
 * While processes with an old and a new definition run side by side, the one that started last decides.
 *
 * Fails with `FrontendsNotSupported` where background work may not run, and with `TaskQueueError` when the queue does not
 * answer at the start. Later failures are tried again every ten seconds, and told of as a worker's are.
 *
 * @since 0.1.0
 */
export const layer = (
  options: Options,
): Layer.Layer<never, FrontendsNotSupported | TaskQueueError, TaskQueue | Instance> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      yield* reconcile(options.schedules, options.others ?? "keep")
      yield* Worker.make({
        tasks: [ScheduleTask],
        queues: { [queueName]: { concurrency: 10 } },
        targets: options.schedules.map(targetOf),
        prefetch: 0,
      })
    }),
  ).pipe(Layer.provide(ScheduleTask.toLayer(ticking(options.schedules))))

/** All schedules in the queue, by name. @since 0.1.0 */
export const list: Effect.Effect<ReadonlyArray<Scheduled>, TaskQueueError, TaskQueue> = Effect.map(
  keptSchedules,
  (kept) => kept.map(toScheduled).sort((left, right) => (left.name < right.name ? -1 : 1)),
)

const toScheduled = ({ eta, last, schedule }: Kept): Scheduled => ({
  name: schedule.name,
  task: schedule.task,
  definition: schedule.definition,
  paused: schedule.paused,
  next: schedule.paused ? Option.none() : Option.some(DateTime.makeUnsafe(eta)),
  last: Option.map(Option.fromUndefinedOr(last), DateTime.makeUnsafe),
})

/** Makes no ticks until it is resumed, in whichever process, and over deploys. @since 0.1.0 */
export const pause = (name: string): Effect.Effect<void, NoSuchSchedule | TaskQueueError, TaskQueue> =>
  change(name, true)

/** Goes on with the next tick after now; those of the pause are not made up for. @since 0.1.0 */
export const resume = (name: string): Effect.Effect<void, NoSuchSchedule | TaskQueueError, TaskQueue> =>
  change(name, false)

const change = Effect.fnUntraced(function* (name: string, paused: boolean) {
  const kept = yield* found(name)
  if (kept.schedule.paused === paused) return
  const now = yield* Clock.currentTimeMillis
  // At once: whoever has it knows its next tick.
  yield* replaceWith({ ...kept.schedule, paused, since: now }, now)
})

/**
 * Takes a schedule out of the queue. Records of ticks that were made stay. A process that has it among its `schedules` puts
 * it back when it starts.
 *
 * @since 0.1.0
 */
export const remove = Effect.fnUntraced(function* (
  name: string,
): Effect.fn.Return<void, NoSuchSchedule | TaskQueueError, TaskQueue> {
  const { id } = yield* found(name)
  const queue = yield* TaskQueue
  yield* queue.cancel({ ids: [id], reason: "the schedule was removed", now: yield* Clock.currentTimeMillis })
})

const found = (name: string) =>
  Effect.flatMap(findSchedule(name), (kept) =>
    kept === undefined ? Effect.fail(new NoSuchSchedule({ schedule: name })) : Effect.succeed(kept),
  )
