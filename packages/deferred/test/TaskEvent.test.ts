import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskEvent from "@outlive/deferred/TaskEvent"
import { PermanentTaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Duration, Effect, Layer, Metric, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}
const Job = Task.make("Job", { payload: { fails: Schema.Boolean }, error: Busy, queue: "jobs" })
const App = Worker.layer({ tasks: [Job], id: "w1" }).pipe(
  Layer.provide(
    Job.toLayer(({ fails }, { attempt }) =>
      fails
        ? attempt === 1
          ? Effect.fail(new Busy())
          : Effect.fail(new PermanentTaskFailure({ message: "no use" }))
        : Effect.sleep("3 seconds"),
    ),
  ),
  Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
  Layer.provide(Instance.layerBackend()),
)
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })

describe("TaskEvent", () => {
  it.effect("tells of what is deferred, begins and ends, with its outcome", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const told = yield* Queue.unbounded<TaskEvent.TaskEvent>()
      const events = yield* queue.events.subscribe
      yield* Effect.forkScoped(Stream.runForEach(events, (event) => Queue.offer(told, event)))
      const { id } = yield* Job.defer({ fails: false }, { delay: "1 second", name: "n" })
      yield* Effect.flip(Job.defer({ fails: false }, { name: "n" }))
      yield* rest
      yield* TestClock.adjust("1 second")
      yield* rest
      yield* TestClock.adjust("3 seconds")
      yield* rest
      const [first, second, started, ended] = yield* Queue.takeAll(told)
      assert.deepStrictEqual(first, { _tag: "Deferred", id, task: "Job", queue: "jobs", outcome: "Inserted" })
      assert.deepInclude(second, { _tag: "Deferred", id, outcome: "Duplicate" })
      assert.deepInclude(started, { _tag: "Started", id, worker: "w1", attempt: 1, waited: Duration.millis(0) })
      assert.deepInclude(ended, {
        _tag: "Ended",
        id,
        outcome: "Succeed",
        took: Duration.seconds(3),
        failure: undefined,
      })
    }).pipe(Effect.scoped, Effect.provide(App)),
  )

  it.effect("tells how attempts failed", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const events = yield* queue.events.subscribe
      const ended = yield* Effect.forkChild(
        Stream.runCollect(
          events.pipe(
            Stream.filter((event) => event._tag === "Ended"),
            Stream.take(2),
          ),
        ),
      )
      yield* Job.defer({ fails: true })
      yield* rest
      yield* TestClock.adjust("1 second")
      yield* rest
      const [retry, bury] = yield* Effect.flatMap(
        Effect.sync(() => ended.pollUnsafe()),
        (exit) => exit ?? Effect.die("none"),
      )
      assert.deepInclude(retry, { outcome: "Retry", attempt: 1, reason: undefined })
      assert.deepInclude(retry?.failure, { tag: "Busy", kind: "failure" })
      assert.deepInclude(bury, { outcome: "Bury", attempt: 2, reason: "PermanentFailure" })
      assert.deepInclude(bury?.failure, { tag: "PermanentTaskFailure", message: "no use" })
    }).pipe(Effect.provide(App)),
  )

  it.effect("counts by queue, task, outcome and error", () =>
    Effect.gen(function* () {
      yield* Job.deferAll([{ fails: false }, { fails: true }])
      yield* rest
      assert.strictEqual((yield* valueOf(TaskEvent.active, {})).value, 1)
      for (let second = 0; second < 4; second++) yield* Effect.andThen(TestClock.adjust("1 second"), rest)
      assert.strictEqual((yield* valueOf(TaskEvent.active, {})).value, 0)
      const sent = yield* valueOf(TaskEvent.sent, { "outlive.outcome": "Inserted" })
      assert.strictEqual(sent.count, 2)
      const succeeded = yield* valueOf(TaskEvent.processDuration, { "outlive.outcome": "Succeed" })
      assert.deepInclude(succeeded, { count: 1, sum: 3 })
      const retried = yield* valueOf(TaskEvent.processDuration, { "outlive.outcome": "Retry", "error.type": "Busy" })
      assert.strictEqual(retried.count, 1)
      const dead = { "outlive.reason": "PermanentFailure", "error.type": "PermanentTaskFailure" }
      assert.strictEqual((yield* valueOf(TaskEvent.deadLetters, dead)).count, 1)
      assert.strictEqual((yield* valueOf(TaskEvent.waitDuration, {})).count, 3)
    }).pipe(Effect.provide(Layer.fresh(App)), Effect.provideService(Metric.MetricRegistry, new Map())),
  )

  it.effect("counts under the attributes of the program, too, where they are not its own", () =>
    Effect.gen(function* () {
      yield* Job.deferAll([{ fails: false }, { fails: false }])
      const sent = yield* valueOf(TaskEvent.sent, { "outlive.outcome": "Inserted", region: "here" })
      assert.strictEqual(sent.count, 2)
      const other = yield* valueOf(TaskEvent.sent, { "outlive.outcome": "Inserted", region: "there" })
      assert.strictEqual(other.count, 0)
    }).pipe(
      Effect.provide(Layer.fresh(App)),
      Effect.provideService(Metric.CurrentMetricAttributes, { region: "here", "outlive.task.name": "None" }),
      Effect.provideService(Metric.MetricRegistry, new Map()),
    ),
  )
})

const valueOf = <In, State>(metric: Metric.Metric<In, State>, attributes: Record<string, string>) =>
  Metric.value(
    Metric.withAttributes(metric, {
      "messaging.system": "outlive",
      "messaging.destination.name": "jobs",
      "outlive.task.name": "Job",
      ...attributes,
    }),
  )
