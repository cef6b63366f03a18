/**
 * Schedules over a driver: their records are claimed, snoozed and replaced by several schedulers, whose ticks are told apart by
 * name.
 *
 * These are the only tests of the suite with a clock. It is the test's: it is moved while no call of the driver is under way, and
 * then the test waits until the tick is done, however long the driver's I/O takes.
 */
import { assert } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Task from "../../Task.ts"
import { TaskQueue, type TaskQueueError } from "../../TaskQueue.ts"
import * as TaskSchedule from "../../TaskSchedule.ts"
import * as TaskScheduler from "../../TaskScheduler.ts"
import type { Chapter } from "./chapter.ts"
import { claim, succeed } from "./records.ts"

const Report = Task.make("Report", { payload: { minute: Schema.Int }, queue: "reports" })

const aMinute = 60_000

/** Every minute, or every few; whoever comes late makes all that was left undone, so that nothing depends on who is fast. */
const every = (
  minutes: number,
  { name = "reports", overlap = "allow" }: { readonly name?: string; readonly overlap?: "skip" | "allow" } = {},
) =>
  TaskSchedule.make(name, Report, {
    every: minutes * aMinute,
    payload: (tick) => ({ minute: tick.epochMilliseconds / aMinute }),
    catchUp: "all",
    overlap,
  })

/** A process that keeps these schedules until the test is over; gives what stops it before. */
const start = Effect.fnUntraced(function* (...schedules: ReadonlyArray<TaskSchedule.TaskSchedule>) {
  const scope = yield* Scope.fork(yield* Scope.Scope)
  const scheduler = TaskScheduler.layer({ schedules }).pipe(Layer.provide(Layer.fresh(Instance.layerBackend())))
  yield* Effect.orDie(Layer.buildWithScope(scheduler, scope))
  return Scope.close(scope, Exit.void)
})

/** The minutes for which a schedule has made records, in their order. */
const made = Effect.fnUntraced(function* (name = "reports") {
  const queue = yield* TaskQueue
  const { records } = yield* queue.find({
    task: "Report",
    namePrefix: `${name}-`,
    limit: 1000,
    now: yield* Clock.currentTimeMillis,
  })
  return records.map(({ payload }) => Number(JSON.parse(payload).minute)).sort((left, right) => left - right)
})

const listed = (name: string) =>
  Effect.map(TaskScheduler.list, (schedules) => schedules.find((schedule) => schedule.name === name))

/** How many calls of the driver have not been answered yet. */
class Calls extends Context.Service<Calls, { readonly underWay: () => number }>()(
  "@outlive/deferred/testing/internal/schedules/Calls",
) {}

/** The driver, and who counts its calls. */
const counted = Layer.effectContext(
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    let underWay = 0
    const counts = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.suspend(() => {
        underWay++
        return Effect.ensuring(
          call,
          Effect.sync(() => underWay--),
        )
      })
    const counting = TaskQueue.of({
      ...queue,
      enqueue: (params) => counts(queue.enqueue(params)),
      claim: (params) => counts(queue.claim(params)),
      extend: (params) => counts(queue.extend(params)),
      settle: (params) => counts(queue.settle(params)),
      find: (params) => counts(queue.find(params)),
    })
    return Context.make(TaskQueue, counting).pipe(Context.add(Calls, { underWay: () => underWay }))
  }),
)

const aMoment = TestClock.withLive(Effect.sleep(1))

/** Until everybody has his answer and sleeps: who waits for one while hours pass takes the driver for broken. */
const atRest = Effect.gen(function* () {
  const calls = yield* Calls
  for (let idle = 0; idle < 3; ) {
    yield* aMoment
    idle = calls.underWay() === 0 ? idle + 1 : 0
  }
})

/** Moves the clock to a time, by no more at once than a worker sleeps. */
const moveTo = Effect.fnUntraced(function* (time: number) {
  for (let now = yield* Clock.currentTimeMillis; now < time; ) {
    yield* atRest
    now = Math.min(now + 10_000, time)
    yield* TestClock.setTime(now)
  }
})

/** Until it holds. Some time passes now and then, for those who wait for nothing else. */
const until = <E, R>(holds: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    for (let looks = 1; !(yield* holds); looks++) {
      yield* aMoment
      if (looks % 50 === 0) yield* TestClock.adjust("5 seconds")
    }
  })

/** Lets the time of a minute come, and a schedule's tick at it be made or left out. */
const minute = Effect.fnUntraced(function* (at: number, name = "reports") {
  yield* moveTo(at * aMinute)
  const isDone = Effect.map(listed(name), (schedule) => {
    const last = schedule === undefined ? undefined : Option.getOrUndefined(schedule.last)
    return last !== undefined && last.epochMilliseconds >= at * aMinute
  })
  yield* until(isDone)
})

/** A body whose schedulers end before the driver does. What they do at their end may wait for the clock. */
const withSchedulers = (
  body: Effect.Effect<unknown, TaskQueueError, TaskQueue | Calls | Scope.Scope>,
): Effect.Effect<unknown, TaskQueueError, TaskQueue> =>
  Effect.acquireUseRelease(
    Scope.make(),
    (scope) => Scope.provide(body, scope),
    (scope, exit) =>
      Effect.gen(function* () {
        const closing = yield* Effect.forkChild(Scope.close(scope, exit))
        yield* until(Effect.sync(() => closing.pollUnsafe() !== undefined))
      }),
  ).pipe(Effect.provide(counted))

/** The layer of a process that stops in the middle of its first tick, and of which the queue then hears nothing more. */
const dying = Layer.effect(
  TaskQueue,
  Effect.map(TaskQueue, (queue) => {
    let isDead = false
    const unlessDead = <A, E>(effect: Effect.Effect<A, E>, answer: A) =>
      Effect.suspend(() => (isDead ? Effect.succeed(answer) : effect))
    return TaskQueue.of({
      ...queue,
      enqueue: (params) => {
        if (params.records.some(({ task }) => task !== "Report")) return queue.enqueue(params)
        isDead = true
        return Effect.never
      },
      claim: (params) => unlessDead(queue.claim(params), { records: [], nextAt: undefined }),
      extend: (params) =>
        unlessDead(
          queue.extend(params),
          params.leases.map(() => "Extended"),
        ),
      settle: (params) =>
        unlessDead(
          queue.settle(params),
          params.settlements.map(() => "Settled"),
        ),
    })
  }),
)

export const schedules: Chapter = {
  title: "schedules",
  tests: (suite) => {
    const test = (sentence: string, body: Effect.Effect<unknown, TaskQueueError, TaskQueue | Calls | Scope.Scope>) =>
      suite(sentence, withSchedulers(body))
    test(
      "makes one record for each tick, however many schedulers there are",
      Effect.gen(function* () {
        yield* Effect.all(
          Array.from({ length: 4 }, () => start(every(1))),
          { concurrency: "unbounded" },
        )
        for (const at of [1, 2, 3, 4]) yield* minute(at)
        assert.deepStrictEqual(yield* made(), [1, 2, 3, 4])
        assert.lengthOf(yield* TaskScheduler.list, 1)
      }),
    )
    test(
      "makes a tick although the scheduler that saw the schedule was stopped, when another goes on",
      Effect.gen(function* () {
        const stop = yield* start(every(1))
        yield* minute(1)
        yield* start(every(1))
        yield* stop
        yield* minute(2)
        assert.deepStrictEqual(yield* made(), [1, 2])
      }),
    )
    test(
      "makes a tick in whose middle a scheduler died, when its lease is over",
      Effect.gen(function* () {
        yield* Effect.provide(start(every(1)), dying)
        yield* moveTo(aMinute)
        const queue = yield* TaskQueue
        const held = queue.find({ state: "running", limit: 1, now: aMinute })
        yield* until(Effect.map(held, ({ records }) => records.length === 1))
        yield* start(every(1))
        assert.deepStrictEqual(yield* made(), [])
        yield* moveTo(1.5 * aMinute)
        yield* until(Effect.map(made(), ({ length }) => length > 0))
        yield* minute(2)
        assert.deepStrictEqual(yield* made(), [1, 2])
      }),
    )
    test(
      "is paused, resumed and removed for all schedulers at once",
      Effect.gen(function* () {
        const clock = every(1, { name: "clock" })
        yield* start(every(1), clock)
        yield* start(clock, every(1))
        yield* minute(1)
        yield* Effect.orDie(TaskScheduler.pause("reports"))
        // A scheduler that comes later does not wake it.
        yield* start(every(1), clock)
        yield* minute(2, "clock")
        yield* minute(3, "clock")
        assert.deepInclude(yield* listed("reports"), { paused: true, next: Option.none() })
        yield* Effect.orDie(TaskScheduler.resume("reports"))
        yield* minute(4)
        assert.deepStrictEqual(yield* made(), [1, 4])
        yield* Effect.orDie(TaskScheduler.remove("reports"))
        yield* minute(5, "clock")
        yield* minute(6, "clock")
        assert.isUndefined(yield* listed("reports"))
        assert.deepStrictEqual(
          [yield* made(), yield* made("clock")],
          [
            [1, 4],
            [1, 2, 3, 4, 5, 6],
          ],
        )
      }),
    )
    test(
      "goes on by the definition that came last, while a scheduler with the old one is still there",
      Effect.gen(function* () {
        yield* start(every(1))
        yield* minute(1)
        yield* minute(2)
        yield* start(every(3))
        for (const at of [3, 6]) yield* minute(at)
        assert.deepStrictEqual(yield* made(), [1, 2, 3, 6])
        assert.lengthOf(yield* TaskScheduler.list, 1)
      }),
    )
    test(
      "leaves a tick out while the record of one before waits or runs, and makes the next",
      Effect.gen(function* () {
        for (let schedulers = 0; schedulers < 2; schedulers++) yield* start(every(1, { overlap: "skip" }))
        yield* minute(1)
        yield* minute(2)
        const tasks = [{ name: "Report", maxVersion: 1 }]
        const [running] = yield* claim(2 * aMinute, { queue: "reports", tasks, lease: 60 * aMinute })
        yield* minute(3)
        assert.deepStrictEqual(yield* made(), [1])
        if (running !== undefined) yield* succeed(running, 3 * aMinute)
        yield* minute(4)
        assert.deepStrictEqual(yield* made(), [1, 4])
      }),
    )
  },
}
