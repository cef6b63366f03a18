import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, type TaskFailure } from "@outlive/deferred/TaskFailure"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskActivity from "@outlive/node/TaskActivity"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Cause, Effect, Exit, Fiber, Latch, Layer, Ref, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Activity, Workflow, WorkflowEngine } from "effect/workflow"
import { newFile } from "./records.ts"

const program = fileURLToPath(new URL("programs/workflow.ts", import.meta.url))

class Declined extends Schema.TaggedError<Declined>()("Declined", { attempt: Schema.Int }) {}

class Charge extends Task.make("Charge", {
  payload: { cents: Schema.Int.check(Schema.isGreaterThan(0)) },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Declined,
  retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }),
  unique: { key: () => "one at a time" },
}) {}

const charge = TaskActivity.make(Charge)

const Order = Workflow.make("Order", {
  payload: { id: Schema.String, cents: Schema.Int },
  success: Schema.String,
  idempotencyKey: ({ id }) => id,
})
/** What it came to, typed errors included, is the order's success. */
const OrderLayer = Order.toLayer(({ cents }) =>
  charge({ cents }).pipe(
    Effect.map(({ receipt }) => receipt),
    Effect.catchTags({
      Declined: ({ attempt }) => Effect.succeed(`declined in attempt ${attempt}`),
      TaskDead: ({ reason }) => Effect.succeed(`dead: ${reason}`),
      TaskCancelled: ({ reason }) => Effect.succeed(`cancelled: ${reason}`),
      TaskNotFound: () => Effect.succeed("not found"),
    }),
    Effect.orDie,
  ),
)

type Handler = (payload: { readonly cents: number }) => Effect.Effect<{ receipt: string }, Declined | TaskFailure>
const workers = (handler: Handler) =>
  Worker.layer({ tasks: [Charge] }).pipe(Layer.provide(Charge.toLayer(handler)), Layer.provide(Instance.layerBackend()))
const engine = <R, E, RI>(workflows: Layer.Layer<R, E, RI>) =>
  Layer.provideMerge(workflows, Layer.fresh(WorkflowEngine.layerMemory))
const app = (handler: Handler, queue: Layer.Layer<TaskQueue.TaskQueue> = Layer.fresh(TaskQueueMemory.layer)) =>
  Layer.merge(engine(OrderLayer), workers(handler)).pipe(Layer.provideMerge(queue))
const records = Effect.flatMap(TaskQueue.TaskQueue, (queue) => queue.find({ limit: 10, now: 0 })).pipe(
  Effect.map(({ records }) => records),
)

/** Lets time pass until it ends: ids of executions come from WebCrypto, which no test clock knows. */
const joined = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() =>
    fiber.pollUnsafe() === undefined
      ? TestClock.adjust("1 second").pipe(
          Effect.andThen(TestClock.withLive(Effect.sleep(1))),
          Effect.andThen(joined(fiber)),
        )
      : Fiber.join(fiber),
  )

describe("TaskActivity", () => {
  it.effect("defers the task and goes on with its typed success", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Order.execute({ id: "a", cents: 5 }), "paid 5")
      // A replay, or another caller: the same execution, the same record.
      assert.strictEqual(yield* Order.execute({ id: "a", cents: 5 }), "paid 5")
      const [record, ...more] = yield* records
      assert.deepStrictEqual(more, [])
      assert.match(record?.name ?? "", /^workflow-[0-9a-f]{32}$/)
      assert.deepInclude(record?.headers, { workflow: "Order", "workflow-activity": "Charge" })
      assert.strictEqual(record?.headers["workflow-execution"], yield* Order.executionId({ id: "a", cents: 5 }))
    }).pipe(Effect.provide(app(({ cents }) => Effect.succeed({ receipt: `paid ${cents}` })))),
  )

  it.effect("gives each execution a record of its own, whatever the task's unique key", () =>
    Effect.gen(function* () {
      const both = [Order.execute({ id: "a", cents: 5 }), Order.execute({ id: "b", cents: 6 })]
      assert.deepStrictEqual(yield* Effect.all(both, { concurrency: 2 }), ["paid 5", "paid 6"])
      assert.strictEqual((yield* records).length, 2)
    }).pipe(Effect.provide(app(({ cents }) => Effect.succeed({ receipt: `paid ${cents}` })))),
  )

  it.effect("fails with the task's own error when its retries are exhausted, instead of parking the workflow", () => {
    const attempts = Ref.makeUnsafe(0)
    return Effect.gen(function* () {
      const order = yield* Effect.forkChild(Order.execute({ id: "a", cents: 5 }))
      assert.strictEqual(yield* joined(order), "declined in attempt 2")
    }).pipe(
      Effect.provide(
        app(() =>
          Effect.flatMap(
            Ref.updateAndGet(attempts, (n) => n + 1),
            (attempt) => Effect.fail(new Declined({ attempt })),
          ),
        ),
      ),
    )
  })

  it.effect("fails with TaskDead when the record is dead of something else", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Order.execute({ id: "a", cents: 5 }), "dead: PermanentFailure")
    }).pipe(Effect.provide(app(() => Effect.fail(new PermanentTaskFailure({ message: "no such card" }))))),
  )

  it.effect("fails with TaskCancelled when its record is cancelled", () => {
    const started = Latch.makeUnsafe(false)
    return Effect.gen(function* () {
      const order = yield* Effect.forkChild(Order.execute({ id: "a", cents: 5 }))
      yield* started.await
      const [record] = yield* records
      const ref = yield* Charge.ref(record!.id)
      yield* ref.cancel({ reason: "changed my mind" })
      assert.strictEqual(yield* joined(order), "cancelled: changed my mind")
    }).pipe(Effect.provide(app(() => Effect.andThen(started.open, Effect.never))))
  })

  it.effect("is a defect of the workflow when the payload is invalid", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Order.execute({ id: "a", cents: -1 }))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.deepStrictEqual(yield* records, [])
    }).pipe(Effect.provide(app(() => Effect.succeed({ receipt: "" })))),
  )

  it("refuses a task whose results are not kept", () => {
    const Forgotten = Task.make("Forgotten", { keep: "none" })
    assert.throws(() => TaskActivity.make(Forgotten), /keep must not be "none"/)
  })

  it.effect("is one record a name in one execution, and another one for each attempt of Activity.retry", () => {
    const each = TaskActivity.make(Charge, { name: ({ cents }) => `charge ${cents}`, queue: "money" })
    const Many = Workflow.make("Many", { payload: {}, success: Schema.String, idempotencyKey: () => "one" })
    const ManyLayer = Many.toLayer(() =>
      Effect.gen(function* () {
        yield* each({ cents: 1 })
        yield* each({ cents: 2 }, { priority: 3 })
        const same = yield* each({ cents: 1 })
        const retried = yield* Activity.retry(each({ cents: 13 }), { times: 1 }).pipe(
          Effect.catchTag("Declined", () => Effect.succeed({ receipt: "declined" })),
        )
        return `${same.receipt}, ${retried.receipt}`
      }).pipe(Effect.orDie),
    )
    const handler: Handler = ({ cents }) =>
      cents === 13 ? Effect.fail(new Declined({ attempt: 0 })) : Effect.succeed({ receipt: `paid ${cents}` })
    const money = Worker.layer({ tasks: [Charge], queues: { money: { concurrency: 1 } } }).pipe(
      Layer.provide(Charge.toLayer(handler)),
      Layer.provide(Instance.layerBackend()),
    )
    return Effect.gen(function* () {
      const many = yield* Effect.forkChild(Many.execute({}))
      assert.strictEqual(yield* joined(many), "paid 1, declined")
      assert.deepStrictEqual(
        (yield* records).map(({ payload, priority, queue }) => [payload, priority, queue]),
        [
          [`{"cents":1}`, 0, "money"],
          [`{"cents":2}`, 3, "money"],
          [`{"cents":13}`, 0, "money"],
          [`{"cents":13}`, 0, "money"],
        ],
      )
    }).pipe(
      Effect.provide(
        Layer.merge(engine(ManyLayer), money).pipe(Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer))),
      ),
    )
  })

  it.live("waits for the same record after its engine was restarted, which came to its end meanwhile", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const sqlite = () => Layer.fresh(Layer.orDie(TaskQueueSqlite.layer({ filename })))
      const started = yield* Latch.make(false)
      const charges = yield* Ref.make(0)
      // Before: an engine without workers, which is gone before the record has run.
      yield* Effect.gen(function* () {
        const order = yield* Effect.forkChild(Order.execute({ id: "a", cents: 5 }))
        yield* Effect.repeat(records, { until: (found) => found.length === 1 })
        yield* Fiber.interrupt(order)
      }).pipe(Effect.provide(engine(OrderLayer).pipe(Layer.provideMerge(sqlite()))))
      // Meanwhile: a worker of another process.
      yield* Effect.gen(function* () {
        const [record] = yield* records
        const ref = yield* Charge.ref(record!.id)
        assert.deepStrictEqual(yield* ref.await, { receipt: "paid 1" })
      }).pipe(
        Effect.provide(
          workers(() =>
            Effect.map(
              Ref.updateAndGet(charges, (n) => n + 1),
              (n) => ({ receipt: `paid ${n}` }),
            ),
          ).pipe(Layer.provideMerge(sqlite())),
        ),
      )
      // After: another engine, which has never heard of the execution, with workers that would charge again.
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* Order.execute({ id: "a", cents: 5 }), "paid 1")
        assert.strictEqual((yield* records).length, 1)
        assert.isFalse(started.isOpen())
      }).pipe(Effect.provide(app(() => Effect.andThen(started.open, Effect.never), sqlite())))
    }),
  )

  it.effect("asks again while the queue does not answer", () => {
    const calls = { enqueue: 0, get: 0 }
    const flaky = Effect.gen(function* () {
      const driver = yield* TaskQueueMemory.make
      const failing =
        (name: keyof typeof calls) =>
        <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | TaskQueue.TaskQueueError> =>
          Effect.suspend((): Effect.Effect<A, E | TaskQueue.TaskQueueError> => {
            calls[name]++
            const error = { operation: name, message: "no answer", isRetryable: true }
            return calls[name] < 3 ? Effect.fail(new TaskQueue.TaskQueueError(error)) : effect
          })
      return {
        ...driver,
        enqueue: (params: Parameters<TaskQueue.Driver["enqueue"]>[0]) => failing("enqueue")(driver.enqueue(params)),
        get: (params: Parameters<TaskQueue.Driver["get"]>[0]) => failing("get")(driver.get(params)),
      }
    })
    return Effect.gen(function* () {
      const order = yield* Effect.forkChild(Order.execute({ id: "a", cents: 5 }))
      assert.strictEqual(yield* joined(order), "paid")
      assert.deepInclude(calls, { enqueue: 3 })
    }).pipe(Effect.provide(app(() => Effect.succeed({ receipt: "paid" }), Layer.fresh(TaskQueue.layer(flaky)))))
  })

  it.live("is found again by a durable engine whose process was killed while it waited", () =>
    Effect.gen(function* () {
      const file = yield* newFile
      const first = spawn(process.execPath, [program, file, "first"], { stdio: ["ignore", "pipe", "inherit"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => first.kill("SIGKILL")))
      assert.strictEqual(yield* Effect.promise(() => once(first.stdout, "data").then(String)), "deferred\n")
      const ended = once(first, "exit")
      first.kill("SIGKILL")
      yield* Effect.promise(() => ended)
      const second = yield* Effect.promise(() => promisify(execFile)(process.execPath, [program, file, "second"]))
      assert.strictEqual(second.stdout, "declined 42\n1 record\n")
    }),
  )
})
