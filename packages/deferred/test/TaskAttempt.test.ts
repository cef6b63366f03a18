import { assert, describe, it } from "@effect/vitest"
import { Undecodable } from "@outlive/deferred/Outcome"
import { fixed, never, toJson } from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskAttempt from "@outlive/deferred/TaskAttempt"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, type TaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { Deferred, Effect, Fiber, References, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Int }) {}
class Patient extends Schema.TaggedError<Patient>()("Patient", {}) {}
class Add extends Task.make("Add", {
  payload: { a: Schema.Int, b: Schema.Int },
  success: Schema.Int,
  error: Schema.Union([Odd, Patient]),
  retry: { Patient: fixed("4 seconds", { maxAttempts: 5 }) },
  timeout: "5 seconds",
  aliases: ["Sum"],
}) {}

const id = TaskId.make("018bcfe5-6800-7000-8000-000000000001")
const given = (options?: Partial<TaskAttempt.Given>): TaskAttempt.Given => ({
  id,
  task: "Add",
  version: 1,
  queue: "sums",
  name: undefined,
  payload: '{"a":1,"b":2}',
  headers: { tenant: "a" },
  enqueuedAt: 0,
  eta: 0,
  attempt: 3,
  crashes: 1,
  firstAttemptAt: 0,
  timeout: undefined,
  previousFailure: undefined,
  until: 10_000,
  ...options,
})

type Handler = (
  payload: { readonly a: number; readonly b: number },
  context: TaskContext["Service"],
) => Effect.Effect<number, Odd | Patient | TaskFailure>

const begin = (handler: Handler, options?: Partial<TaskAttempt.Given>) =>
  Effect.map(TaskAttempt.make({ tasks: [Add], worker: "push" }), (attempt) => attempt(given(options))).pipe(
    Effect.provide(Add.toLayer(handler)),
  )
const run = (handler: Handler, options?: Partial<TaskAttempt.Given>) =>
  Effect.flatMap(begin(handler, options), (running) => running.ended)

const sum: Handler = ({ a, b }) => Effect.succeed(a + b)

describe("TaskAttempt", () => {
  it.effect("gives the encoded success", () =>
    Effect.gen(function* () {
      const ended = yield* run(sum)
      assert.strictEqual(ended.outcome._tag, "Succeeded")
      assert.strictEqual(ended.result, '{"_tag":"Success","value":3}')
    }),
  )

  it.effect("knows a task by an alias, too", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* run(sum, { task: "Sum" })).outcome._tag, "Succeeded")
    }),
  )

  it.effect.each([
    ["the record's own policy", { own: toJson(fixed("9 seconds", { maxAttempts: 3 })) }, 3, undefined],
    ["the record's own policy, sooner", { own: toJson(fixed("9 seconds", { maxAttempts: 3 })) }, 2, 9_000],
    ["the task's rule for the error", { own: undefined }, 2, 4_000],
    ["the task's rule for the error, when it gives up", { own: undefined }, 5, undefined],
    ["the sender, when it knows policies", undefined, 50, "not said"],
  ] as const)("leaves it to %s whether a failed attempt is made again", ([, retries, attempt, delay]) =>
    Effect.gen(function* () {
      const failing = Effect.fail(new Patient())
      const { failure, outcome } = yield* run(() => failing, { retries, attempt, crashes: 0 })
      if (delay === undefined) {
        assert.deepInclude(outcome, { _tag: "Dead", reason: "RetriesExhausted" })
      } else {
        assert(outcome._tag === "Retry")
        assert.strictEqual(outcome.atLeast ?? "not said", delay)
      }
      assert.deepInclude(failure, { kind: "failure", tag: "Patient", attempt })
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
  )

  it.effect("never gives up a version that a newer process may know", () =>
    Effect.gen(function* () {
      const { outcome } = yield* run(sum, { version: 2, attempt: 1_000, retries: { own: toJson(never) } })
      assert.deepInclude(outcome, { _tag: "Retry", atLeast: 10_000 })
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
  )

  it.effect.each([
    ["a typed error", Effect.fail(new Odd({ n: 1 })), "Retry", "Odd"],
    ["SingularTaskFailure", Effect.fail(new SingularTaskFailure({ message: "x" })), "Retry", "SingularTaskFailure"],
    ["PermanentTaskFailure", Effect.fail(new PermanentTaskFailure({ message: "x" })), "Dead", "PermanentTaskFailure"],
    ["a defect", Effect.die(new Error("boom")), "Retry", "Error"],
    ["Snooze", Effect.fail(Snooze.for("1 minute")), "Snoozed", undefined],
  ] as const)("judges as a worker does: %s", ([, exit, tag, failure]) =>
    Effect.gen(function* () {
      const ended = yield* run(() => exit)
      assert.strictEqual(ended.outcome._tag, tag)
      assert.strictEqual(ended.failure?.tag, failure)
      if (failure !== undefined) assert.deepInclude(ended.failure, { attempt: 3 })
      assert.strictEqual(ended.result?.startsWith('{"_tag":"Failure"') ?? false, failure !== undefined)
    }),
  )

  it.effect("takes a success that does not encode for a defect", () =>
    Effect.gen(function* () {
      const ended = yield* run(() => Effect.succeed(0.5))
      assert.deepInclude(ended.outcome, { _tag: "Retry", kind: "defect" })
    }),
  )

  it.effect("buries what does not decode and what nobody knows, without calling the handler", () =>
    Effect.gen(function* () {
      let calls = 0
      const count: Handler = () => Effect.sync(() => ++calls)
      assert.deepInclude((yield* run(count, { payload: '{"a":"1"}' })).outcome, { _tag: "Dead", reason: "Undecodable" })
      assert.deepInclude((yield* run(count, { task: "Mul" })).outcome, { _tag: "Dead", reason: "UnknownTask" })
      assert.strictEqual(calls, 0)
    }),
  )

  it.effect("buries what could not even be read, under whatever name it came", () =>
    Effect.gen(function* () {
      let calls = 0
      const undecodable = new Undecodable({ message: "no JSON" })
      const ended = yield* run(() => Effect.sync(() => ++calls), { undecodable })
      assert.deepInclude(ended.outcome, { _tag: "Dead", reason: "Undecodable" })
      assert.deepInclude(ended.failure, { tag: "Undecodable", message: "no JSON" })
      assert.strictEqual(calls, 0)
    }),
  )

  it.effect("is told of by the events of the task queue in the context", () =>
    Effect.gen(function* () {
      const { events } = yield* TaskQueue
      const told = yield* events.subscribe
      const begin = yield* TaskAttempt.make({ tasks: [Add], worker: "push" })
      yield* begin(given()).ended
      yield* begin(given({ payload: "[]" })).ended
      const heard = yield* Stream.runCollect(Stream.take(told, 4))
      assert.deepStrictEqual(
        heard.map((event) => [event._tag, event._tag === "Ended" ? event.outcome : undefined]),
        [
          ["Started", undefined],
          ["Ended", "Succeed"],
          ["Started", undefined],
          ["Ended", "Bury"],
        ],
      )
      assert.deepInclude(heard[3], { worker: "push", task: "Add", queue: "sums", attempt: 3, reason: "Undecodable" })
    }).pipe(Effect.provide([Add.toLayer(sum), TaskQueueMemory.layer])),
  )

  it.effect("lets a newer version come again, for a newer process", () =>
    Effect.gen(function* () {
      const { failure, outcome } = yield* run(sum, { version: 2 })
      assert.deepInclude(outcome, { _tag: "Retry", atLeast: 10_000 })
      assert.strictEqual(failure?.message, "the payload of Add is of version 2, and 1 is the newest that is known here")
    }),
  )

  it.effect("tells the handler what is known of the attempt", () =>
    Effect.gen(function* () {
      let seen: unknown
      yield* run((_, context) =>
        Effect.gen(function* () {
          yield* context.progress({ done: 1 })
          const enough = yield* Effect.orDie(context.extend("10 seconds"))
          const tooMuch = yield* Effect.orDie(context.extend("11 seconds"))
          seen = [context.id, context.attempt, context.crashes, context.queue, context.headers, enough, tooMuch]
          return 1
        }),
      ).pipe(Effect.tap(({ progress }) => Effect.sync(() => assert.strictEqual(progress, '{"done":1}'))))
      assert.deepStrictEqual(seen, [id, 3, 1, "sums", { tenant: "a" }, true, false])
    }),
  )

  it.effect("ends a handler that takes longer than its task may", () =>
    Effect.gen(function* () {
      const running = yield* begin(() => Effect.never)
      yield* TestClock.adjust("5 seconds")
      assert.deepInclude((yield* running.ended).outcome, { _tag: "Retry", kind: "timeout" })
    }),
  )

  it.effect.each([
    ["shutdown", "Released"],
    ["leaseLost", "Abandoned"],
    ["cancel", "Cancelled"],
  ] as const)("interrupts the handler, finalizers first: %s", ([why, tag]) =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const may = yield* Deferred.make<void>()
      const running = yield* begin(() =>
        Deferred.succeed(begun, undefined).pipe(Effect.andThen(Effect.never), Effect.ensuring(Deferred.await(may))),
      )
      const ended = yield* Effect.forkChild(running.ended)
      yield* Deferred.await(begun)
      running.stop(why)
      running.stop("cancel")
      assert.strictEqual(ended.pollUnsafe(), undefined)
      yield* Deferred.succeed(may, undefined)
      assert.strictEqual((yield* Fiber.join(ended)).outcome._tag, tag)
    }),
  )

  it.effect("refuses a task that commits with its handler: there is no queue to commit to", () =>
    Effect.gen(function* () {
      const Tied = Task.make("Tied", { commit: "withHandler" })
      const exit = yield* TaskAttempt.make({ tasks: [Tied], worker: "push" }).pipe(
        Effect.provide(Tied.toLayer(() => Effect.void)),
        Effect.exit,
      )
      assert.match(String(exit), /Tied commits with its handler/)
    }),
  )
})
