/**
 * A schedule under a test clock: a week of nights in no time, with a process that is away for two of them.
 */
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskSchedule from "@outlive/deferred/TaskSchedule"
import * as TaskScheduler from "@outlive/deferred/TaskScheduler"
import * as Worker from "@outlive/deferred/Worker"
import { Console, DateTime, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

const Report = Task.make("Report", { payload: { day: Schema.String } })

const Nightly = TaskSchedule.make("nightly-report", Report, {
  cron: "0 3 * * *",
  timeZone: "Europe/Oslo",
  payload: (tick) => ({ day: DateTime.formatIso(tick) }),
})

/** A process with a worker and the schedule. */
const Process = Layer.mergeAll(
  Worker.layer({ tasks: [Report] }).pipe(Layer.provide(Report.toLayer(({ day }) => Console.log(`report of ${day}`)))),
  TaskScheduler.layer({ schedules: [Nightly] }),
)

/** Lets days pass while the processes' fibers come to rest after each hour. */
const days = (count: number) =>
  Effect.repeat(Effect.andThen(TestClock.adjust("1 hour"), Effect.repeat(Effect.yieldNow, { times: 100 })), {
    times: count * 24 - 1,
  })

export const program = Effect.gen(function* () {
  // Europe/Oslo sets its clocks back in the night to the 25th.
  yield* TestClock.setTime(Date.UTC(2026, 9, 23, 12))
  yield* Effect.scoped(Effect.andThen(Layer.build(Process), days(2)))
  yield* Console.log("nobody is there for two nights")
  yield* TestClock.adjust("2 days")
  yield* Effect.scoped(Effect.andThen(Layer.build(Process), days(1)))
}).pipe(Effect.provide([TaskQueueMemory.layer, Instance.layerBackend()]), Effect.provide(TestClock.layer()))

if (import.meta.main) await Effect.runPromise(program)
