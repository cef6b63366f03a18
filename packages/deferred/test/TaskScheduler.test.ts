import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskSchedule from "@outlive/deferred/TaskSchedule"
import * as TaskScheduler from "@outlive/deferred/TaskScheduler"
import { Clock, type Duration, Effect, Exit, Layer, Option, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"

const Report = Task.make("Report", { payload: { minute: Schema.Int }, queue: "reports" })
const every = (
  options?: Partial<
    Pick<TaskSchedule.Options<{ readonly minute: number }>, "catchUp" | "overlap" | "jitter" | "options">
  >,
  interval: Duration.Input = "1 minute",
) =>
  TaskSchedule.make("reports", Report, {
    every: interval,
    payload: (tick) => ({ minute: tick.epochMilliseconds / 60_000 }),
    ...options,
  })

const base = Layer.mergeAll(Layer.fresh(TaskQueueMemory.layer), Instance.layerBackend())
const rest = Effect.repeat(Effect.yieldNow, { times: 200 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
/** The minutes for which there are records. */
const made = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const { records } = yield* queue.find({ task: "Report", limit: 1000, now })
  return records.map(({ payload }) => (JSON.parse(payload) as { readonly minute: number }).minute)
})
/** A process with these schedules; gives what ends it. */
const start = Effect.fnUntraced(function* (
  schedules: ReadonlyArray<TaskSchedule.TaskSchedule>,
  others?: "keep" | "remove",
) {
  const scope = yield* Scope.make()
  yield* Layer.buildWithScope(TaskScheduler.layer({ schedules, others }), scope)
  return Scope.close(scope, Exit.void)
})
const allow = { overlap: "allow" } as const

describe("TaskScheduler", () => {
  it.effect("makes one record for each tick, at the tick, of the task's own payload and queue", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* start([every(allow)])
      yield* pass("59 seconds")
      assert.deepStrictEqual(yield* made, [])
      yield* pass("1 seconds")
      assert.deepStrictEqual(yield* made, [1])
      yield* pass("1 minute")
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [1, 2, 3])
      const { records } = yield* queue.find({ task: "Report", limit: 1, now: 0 })
      assert.deepInclude(records[0], { queue: "reports", name: "reports-60000", eta: 60_000 })
    }).pipe(Effect.provide(base)),
  )

  it.effect("makes each tick once, however many processes have the schedule", () =>
    Effect.gen(function* () {
      yield* Effect.all(
        Array.from({ length: 4 }, () => start([every(allow)])),
        { concurrency: "unbounded" },
      )
      for (let minute = 0; minute < 5; minute++) yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [1, 2, 3, 4, 5])
      assert.lengthOf(yield* TaskScheduler.list, 1)
    }).pipe(Effect.provide(base)),
  )

  it.effect("goes on where it was when all processes were away: the last tick, none, or all", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly ["last" | "none" | "all", ReadonlyArray<number>]> = [
        ["last", [1, 6]],
        ["none", [1]],
        ["all", [1, 2, 3, 4, 5, 6]],
      ]
      for (const [catchUp, expected] of cases) {
        yield* Effect.gen(function* () {
          const stop = yield* start([every({ ...allow, catchUp })])
          yield* pass("1 minute")
          yield* stop
          yield* TestClock.adjust("5 minutes")
          // Half a minute after the next tick but one: late, but by less than that of `none`.
          if (catchUp === "none") yield* TestClock.adjust("59 seconds")
          yield* start([every({ ...allow, catchUp })])
          yield* rest
          const minutes = yield* made
          assert.deepStrictEqual(catchUp === "none" ? minutes.filter((minute) => minute < 6) : minutes, [...expected])
        }).pipe(Effect.provide(Layer.fresh(base)), Effect.provide(TestClock.layer()))
      }
    }),
  )

  it.effect("leaves a tick out while the record of one before is not done, and makes the next", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* start([every()])
      yield* pass("1 minute")
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [1])
      yield* queue.purge({ queue: "reports" })
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [3])
    }).pipe(Effect.provide(base)),
  )

  it.effect("spreads records by the jitter, the same way for the same tick", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* start([every({ ...allow, jitter: "30 seconds" })])
      for (let minute = 0; minute < 5; minute++) yield* pass("1 minute")
      const { records } = yield* queue.find({ task: "Report", limit: 10, now: 0 })
      const delays = records.map(({ eta }, index) => eta - (index + 1) * 60_000)
      for (const delay of delays) assert.isTrue(delay >= 0 && delay < 30_000)
      assert.isAbove(new Set(delays).size, 1)
    }).pipe(Effect.provide(base)),
  )

  it.effect(
    "makes a tick once more when a process died between the tick and its note of it, and that changes nothing",
    () =>
      Effect.gen(function* () {
        let dies = true
        const dying = Layer.effect(
          TaskQueue,
          Effect.map(TaskQueue, (queue) =>
            TaskQueue.of({
              ...queue,
              settle: (params) =>
                dies && params.settlements.some(({ _tag }) => _tag === "Snooze")
                  ? Effect.fail(new TaskQueueError({ operation: "settle", message: "died", isRetryable: true }))
                  : queue.settle(params),
            }),
          ),
        )
        const stop = yield* Effect.provide(start([every({ ...allow, catchUp: "all" })]), dying)
        yield* pass("1 minute")
        assert.deepStrictEqual(yield* made, [1])
        // As after SIGKILL: what it would settle never comes.
        yield* Effect.forkChild(stop)
        yield* pass("2 minutes")
        dies = false
        yield* start([every({ ...allow, catchUp: "all" })])
        yield* pass("1 minute")
        assert.deepStrictEqual(yield* made, [1, 2, 3, 4])
      }).pipe(Effect.provide(base)),
  )

  it.effect("is listed, paused over deploys, resumed from then on, and removed", () =>
    Effect.gen(function* () {
      const stop = yield* start([every(allow)])
      yield* pass("1 minute")
      const [listed] = yield* TaskScheduler.list
      assert.deepInclude(listed, { name: "reports", task: "Report", paused: false })
      assert.strictEqual(Option.getOrThrow(listed!.next).epochMilliseconds, 120_000)
      assert.strictEqual(Option.getOrThrow(listed!.last).epochMilliseconds, 60_000)
      yield* TaskScheduler.pause("reports")
      yield* TaskScheduler.pause("reports")
      yield* pass("1 minute")
      yield* stop
      yield* start([every(allow)])
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [1])
      assert.deepInclude((yield* TaskScheduler.list)[0], { paused: true, next: Option.none() })
      yield* TaskScheduler.resume("reports")
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [1, 4])
      yield* TaskScheduler.remove("reports")
      yield* pass("1 minute")
      assert.deepStrictEqual([yield* made, yield* TaskScheduler.list], [[1, 4], []])
      for (const change of [TaskScheduler.pause, TaskScheduler.resume, TaskScheduler.remove]) {
        assert.strictEqual((yield* Effect.flip(change("reports")))._tag, "NoSuchSchedule")
      }
    }).pipe(Effect.provide(base)),
  )

  it.effect("goes on with a new definition from its deploy on, also when an old process is still there", () =>
    Effect.gen(function* () {
      yield* start([every(allow)])
      yield* pass("2 minutes")
      yield* start([every(allow, "3 minutes")])
      for (let minute = 0; minute < 8; minute++) yield* pass("1 minute")
      assert.deepStrictEqual((yield* made).slice(-3), [3, 6, 9])
      assert.lengthOf(yield* TaskScheduler.list, 1)
    }).pipe(Effect.provide(base)),
  )

  it.effect("removes what is not defined any more, when told to", () =>
    Effect.gen(function* () {
      const stop = yield* start([every(allow)])
      yield* stop
      const other = TaskSchedule.make("other", Report, { every: "1 hour", payload: () => ({ minute: 0 }) })
      yield* Effect.flatMap(start([other]), (stop) => stop)
      assert.lengthOf(yield* TaskScheduler.list, 2)
      yield* start([other], "remove")
      assert.deepStrictEqual(
        (yield* TaskScheduler.list).map(({ name }) => name),
        ["other"],
      )
    }).pipe(Effect.provide(base)),
  )

  it.effect("waits with a schedule that only others know, and tries one that fails again", () =>
    Effect.gen(function* () {
      let broken = true
      const failing = TaskSchedule.make("reports", Report, {
        every: "1 minute",
        ...allow,
        payload: (tick) => {
          if (broken) throw new Error("no payload yet")
          return { minute: tick.epochMilliseconds / 60_000 }
        },
      })
      yield* start([failing])
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* made, [])
      broken = false
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* made, [1])
      yield* start([])
      for (let minute = 0; minute < 4; minute++) yield* pass("1 minute")
      const minutes = yield* made
      assert.strictEqual(minutes.at(-1), minutes.length === 0 ? 0 : Math.max(...minutes))
      assert.include(minutes, 4)
    }).pipe(Effect.provide(base)),
  )
})
