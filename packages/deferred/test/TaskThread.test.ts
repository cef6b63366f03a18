import { assert, describe, it } from "@effect/vitest"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, Snooze, type TaskFailure } from "@outlive/deferred/TaskFailure"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Option,
  Ref,
  Schema,
  type Scope,
  Stream,
  Tracer,
} from "effect"
import { TestClock, TestConsole } from "effect/testing"

class Busy extends Schema.TaggedError<Busy>()("Busy", { times: Schema.Int }) {}
class Closed extends Schema.TaggedError<Closed>()("Closed", {}) {}

class Mail extends Task.make("Mail", {
  payload: { to: Schema.NonEmptyString },
  success: Schema.Int,
  error: Schema.Union([Busy, Closed]),
  retry: { Closed: "never", _: RetryPolicy.fixed("10 seconds", { maxAttempts: 3 }) },
  timeout: "1 minute",
}) {}

type Handler = (
  payload: { readonly to: string },
  context: TaskContext["Service"],
) => Effect.Effect<number, Busy | Closed | TaskFailure, Scope.Scope>
const app = (handler: Handler, options?: Instance.Options) => appOf(Mail.toLayer(handler), options)
const appOf = <R, E, RI>(handler: Layer.Layer<R, E, RI>, options?: Instance.Options) =>
  Layer.merge(handler, BackgroundThreads.layer).pipe(
    Layer.provideMerge(Instance.layerBackend({ id: "one", ...options })),
  )
const to = { to: "ada" }
const logged = Effect.map(TestConsole.logLines, (lines) => lines.map(String).join("\n"))

describe("Task.background", () => {
  it.effect("gives the typed success, and goes on when its creator has ended", () => {
    const gate = Latch.makeUnsafe(false)
    return Effect.gen(function* () {
      const creator = yield* Effect.forkChild(Mail.background(to))
      const mail = yield* Fiber.join(creator)
      assert.strictEqual(yield* mail.state, "running")
      yield* gate.open
      assert.strictEqual(yield* mail.await, 3)
      assert.strictEqual(yield* mail.await, 3)
      assert.strictEqual(yield* mail.state, "succeeded")
      assert.strictEqual(yield* mail.cancel(), "TooLate")
    }).pipe(Effect.provide(app(({ to }) => Effect.as(gate.await, to.length))))
  })

  it.effect(
    "tries again by the task's policy, the thread holding its permit, and then fails with the typed error",
    () => {
      const attempts: Array<readonly [number, number, string | undefined]> = []
      return Effect.gen(function* () {
        const mail = yield* Mail.background(to)
        yield* TestClock.adjust(0)
        assert.strictEqual(yield* mail.state, "scheduled")
        assert.strictEqual(yield* (yield* BackgroundThreads).available, 9)
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(attempts.length, 1)
        yield* TestClock.adjust("11 seconds")
        const error = yield* Effect.flip(mail.await)
        assert.deepStrictEqual(error, new Busy({ times: 3 }))
        assert.strictEqual(yield* mail.state, "dead")
        assert.deepStrictEqual(attempts, [
          [1, 0, undefined],
          [2, 10_000, "Busy"],
          [3, 20_000, "Busy"],
        ])
        assert.strictEqual(yield* (yield* BackgroundThreads).available, 10)
        // Once as a warning for each attempt that is followed by another, once as an error, and not by the thread again.
        assert.strictEqual((yield* logged).match(/task failed, next attempt/g)?.length, 2)
        assert.strictEqual((yield* logged).match(/task is dead: RetriesExhausted/g)?.length, 1)
        assert.notInclude(yield* logged, "nobody waited")
      }).pipe(
        Effect.provide(
          app((_, { attempt, previousFailure }) =>
            Effect.gen(function* () {
              const tag = Option.getOrUndefined(Option.map(previousFailure, (failure) => failure.tag))
              attempts.push([attempt, yield* Effect.clockWith((clock) => clock.currentTimeMillis), tag])
              return yield* new Busy({ times: attempt })
            }),
          ),
        ),
      )
    },
  )

  it.effect.each([
    ["an error whose rule is never", Effect.fail(new Closed()), "Closed", undefined],
    ["a permanent failure", Effect.fail(new PermanentTaskFailure({ message: "no" })), "TaskDead", "PermanentFailure"],
  ] as const)("does not try again after %s", ([, outcome, tag, reason]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip((yield* Mail.background(to)).await)
      assert.strictEqual(error._tag, tag)
      if (error._tag === "TaskDead") assert.strictEqual(error.reason, reason)
    }).pipe(Effect.provide(app(() => outcome))),
  )

  it.effect("stops an attempt at the task's timeout, and is dead of it in the end", () => {
    const started = Ref.makeUnsafe(0)
    return Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      yield* TestClock.adjust("4 minutes")
      const error = yield* Effect.flip(mail.await)
      assert.strictEqual(error._tag, "TaskDead")
      assert.include(error.message, "the attempt was stopped after 60000 ms")
      assert.strictEqual(yield* Ref.get(started), 3)
    }).pipe(
      Effect.provide(
        app(() =>
          Effect.andThen(
            Ref.update(started, (n) => n + 1),
            Effect.never,
          ),
        ),
      ),
    )
  })

  it.effect("waits as long as the handler asks for, and gives the attempt back", () => {
    const attempts: Array<number> = []
    return Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* mail.await, 7)
      assert.deepStrictEqual(attempts, [1, 1])
    }).pipe(
      Effect.provide(
        app((_, { attempt }) =>
          Effect.suspend(() => (attempts.push(attempt) < 2 ? Effect.fail(Snooze.for("1 hour")) : Effect.succeed(7))),
        ),
      ),
    )
  })

  it.effect("tries a defect again, and a handler that interrupted itself", () => {
    const ends = [Effect.die(new Error("broken")), Effect.interrupt, Effect.succeed(1)]
    return Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* mail.await, 1)
    }).pipe(Effect.provide(app((_, { attempt }) => ends[attempt - 1] ?? Effect.succeed(0))))
  })

  it.effect("refuses an invalid payload without a thread", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(Mail.background({ to: "" })))._tag, "SchemaError")
      assert.strictEqual(yield* (yield* BackgroundThreads).available, 10)
    }).pipe(Effect.provide(app(() => Effect.never))),
  )

  it.effect("is refused at the instance's limit, on a frontend and during shutdown", () =>
    Effect.gen(function* () {
      yield* Mail.background(to)
      assert.strictEqual((yield* Effect.flip(Mail.background(to)))._tag, "LimitReached")
      const front = Layer.fresh(Layer.provide(BackgroundThreads.layer, Instance.layerFrontend()))
      assert.strictEqual((yield* Effect.flip(Effect.provide(Mail.background(to), front)))._tag, "FrontendsNotSupported")
      const { shutdown } = yield* Instance.Instance
      const ending = yield* Effect.forkChild(shutdown, { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(Mail.background(to)))._tag, "ShuttingDown")
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(ending)
    }).pipe(Effect.provide(app(() => Effect.never, { threadLimit: 1 }))),
  )

  it.effect("interrupts a running attempt, finalizers first, when it is cancelled", () => {
    const cleaned = Ref.makeUnsafe(false)
    return Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      assert.strictEqual(yield* mail.cancel({ reason: "changed my mind" }), "Requested")
      const error = yield* Effect.flip(mail.await)
      assert.deepInclude(error, { _tag: "TaskCancelled", reason: "changed my mind", task: "Mail", id: mail.id })
      assert.strictEqual(yield* mail.state, "cancelled")
      assert.isTrue(yield* Ref.get(cleaned))
    }).pipe(Effect.provide(app(() => Effect.onInterrupt(Effect.never, () => Ref.set(cleaned, true)))))
  })

  it.effect("is over at once when it is cancelled between two attempts", () =>
    Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* mail.cancel(), "Cancelled")
      assert.strictEqual(yield* mail.state, "cancelled")
      assert.deepInclude(yield* Effect.flip(mail.await), { _tag: "TaskCancelled", reason: "asked for" })
    }).pipe(Effect.provide(app(() => Effect.fail(new Busy({ times: 0 }))))),
  )

  it.effect("says that it is lost when the instance ends first", () =>
    Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      const { shutdown } = yield* Instance.Instance
      const ending = yield* Effect.forkChild(shutdown, { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(ending)
      assert.deepInclude(yield* Effect.flip(mail.await), {
        _tag: "TaskCancelled",
        reason: "its thread was interrupted",
      })
      assert.include(yield* logged, "interrupted and lost")
    }).pipe(Effect.provide(app(() => Effect.never))),
  )

  it.effect("is stopped by its thread's handle", () =>
    Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      assert.isTrue(Exit.isFailure(yield* mail.thread.interrupt))
      assert.strictEqual((yield* Effect.flip(mail.await))._tag, "TaskCancelled")
    }).pipe(Effect.provide(app(() => Effect.never))),
  )

  it.effect("tells its progress until its end, each attempt anew", () => {
    const gates = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
    return Effect.gen(function* () {
      const mail = yield* Mail.background(to)
      const first = yield* Deferred.make<void>()
      const seen = yield* mail.progress.pipe(
        Stream.tap(() => Deferred.succeed(first, undefined)),
        Stream.runCollect,
        Effect.forkChild,
      )
      yield* Deferred.await(first)
      yield* gates[0]!.open
      yield* TestClock.adjust("10 seconds")
      yield* gates[1]!.open
      yield* mail.await
      assert.deepStrictEqual([...(yield* Fiber.join(seen))], [{ done: 1 }, { done: 2 }])
      assert.deepStrictEqual([...(yield* Stream.runCollect(mail.progress))], [{ done: 2 }])
    }).pipe(
      Effect.provide(
        app((_, { attempt, progress }) =>
          Effect.gen(function* () {
            yield* progress({ done: attempt })
            yield* gates[attempt - 1]!.await
            return attempt === 1 ? yield* new Busy({ times: 1 }) : 0
          }),
        ),
      ),
    )
  })

  it.effect("gives the handler its own services, not its caller's, and a scope and a context of its own", () => {
    class Name extends Context.Service<Name, string>()("test/Name") {}
    const closed = Ref.makeUnsafe(false)
    const Ask = Task.make("Ask", { success: Schema.String, queue: "asks", timeout: "1 minute" })
    const handler = Ask.toLayer((_, { deadline, extend }) =>
      Effect.gen(function* () {
        yield* Effect.addFinalizer(() => Ref.set(closed, true))
        assert.strictEqual((yield* TaskContext).queue, "asks")
        assert.deepStrictEqual(
          Option.map(deadline, (at) => at.epochMilliseconds),
          Option.some(60_000),
        )
        assert.isTrue(yield* Effect.orDie(extend("1 hour")))
        return yield* Name
      }),
    )
    return Effect.gen(function* () {
      const asked = yield* Effect.provideService(Ask.background(), Name, "of the request")
      assert.strictEqual(yield* asked.await, "of the application")
      assert.isTrue(yield* Ref.get(closed))
    }).pipe(Effect.provide(appOf(Layer.provide(handler, Layer.succeed(Name, "of the application")))))
  })

  it.effect("is linked to its caller's span, not a part of it", () => {
    const seen: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        seen.push(span)
        return span
      },
    })
    return Effect.gen(function* () {
      const mail = yield* Effect.withSpan(Mail.background(to), "request")
      yield* mail.await
      const [request, thread] = seen
      assert.strictEqual(thread?.name, "thread Mail")
      assert.isTrue(Option.isNone(thread!.parent))
      assert.strictEqual(thread?.links[0]?.span.spanId, request?.spanId)
    }).pipe(Effect.provide(app(() => Effect.succeed(1)).pipe(Layer.provideMerge(Layer.succeed(Tracer.Tracer, tracer)))))
  })
})
