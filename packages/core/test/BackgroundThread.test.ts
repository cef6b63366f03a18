import { assert, describe, it } from "@effect/vitest"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Option,
  Ref,
  References,
  Schedule,
  Scope,
  Tracer,
} from "effect"
import { TestClock, TestConsole } from "effect/testing"

const { BackgroundThreads } = BackgroundThread
const backend = (options?: Instance.Options) =>
  BackgroundThreads.layer.pipe(Layer.provideMerge(Instance.layerBackend({ id: "one", ...options })))
const available = Effect.flatMap(BackgroundThreads, (threads) => threads.available)
const logged = Effect.map(TestConsole.logLines, (lines) => lines.map(String).join("\n"))

describe("BackgroundThread.start", () => {
  it.effect("goes on when its creator has ended", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(false)
      const creator = yield* Effect.forkChild(BackgroundThread.start(Effect.as(gate.await, 42)))
      const thread = yield* Fiber.join(creator)
      assert.isTrue(yield* thread.isAlive)
      yield* gate.open
      assert.strictEqual(yield* thread.join(), 42)
      assert.isFalse(yield* thread.isAlive)
    }).pipe(Effect.provide(backend())),
  )

  it.effect("numbers its threads, names them, and lists those alive (B39, P4)", () =>
    Effect.gen(function* () {
      const first = yield* BackgroundThread.start(Effect.never)
      const second = yield* BackgroundThread.start(Effect.never, { name: "mails", daemon: true })
      const done = yield* BackgroundThread.start(Effect.void)
      yield* done.join()
      assert.deepStrictEqual([first.id, first.name, first.daemon], [1, "thread-1", false])
      assert.deepStrictEqual([second.id, second.name, second.daemon], [2, "mails", true])
      const threads = yield* BackgroundThreads
      assert.deepStrictEqual(
        (yield* threads.threads).map(({ id }) => id),
        [1, 2],
      )
    }).pipe(Effect.provide(backend())),
  )

  it.effect("refuses at the limit with what is alive, and starts again when one has ended (B8)", () =>
    Effect.gen(function* () {
      const first = yield* BackgroundThread.start(Effect.never)
      yield* BackgroundThread.start(Effect.never)
      const error = yield* Effect.flip(BackgroundThread.start(Effect.void))
      assert.deepInclude(error, { _tag: "LimitReached", limit: 2, active: 2 })
      yield* first.interrupt
      yield* BackgroundThread.start(Effect.never)
    }).pipe(Effect.provide(backend({ threadLimit: 2 }))),
  )

  it.effect("has ten permits by default (B16), none with 0, and no limit with Infinity", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Effect.provide(available, backend()), 10)
      const none = Effect.flip(BackgroundThread.start(Effect.void, { whenFull: "wait" }))
      assert.strictEqual((yield* Effect.provide(none, backend({ threadLimit: 0 })))._tag, "LimitReached")
      const many = Effect.forEach(Array.from({ length: 1000 }), () => BackgroundThread.start(Effect.never))
      const unlimited = backend({ threadLimit: Number.POSITIVE_INFINITY })
      assert.strictEqual((yield* Effect.provide(many, unlimited)).length, 1000)
    }),
  )

  it.effect("takes no permit on a frontend and names the way out (B15)", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(BackgroundThread.start(Effect.void))
      assert.strictEqual(error._tag, "FrontendsNotSupported")
      assert.include(error.message, "waitUntil")
      assert.strictEqual(yield* available, 10)
    }).pipe(
      Effect.provide(
        BackgroundThreads.layer.pipe(
          Layer.provideMerge(Instance.layerFrontend({ host: { name: "Vercel", hint: "Use waitUntil." } })),
        ),
      ),
    ),
  )

  it.effect("gives the permit back on success, failure, defect, interruption, and before the first step", () =>
    Effect.gen(function* () {
      const succeeded = yield* BackgroundThread.start(Effect.void)
      const failed = yield* BackgroundThread.start(Effect.fail("no"))
      const died = yield* BackgroundThread.start(Effect.die("no"))
      const interrupted = yield* BackgroundThread.start(Effect.never)
      const never = yield* BackgroundThread.start(Effect.andThen(Effect.yieldNow, Effect.never))
      yield* never.interrupt
      yield* interrupted.interrupt
      yield* Effect.all([succeeded.await, failed.await, died.await])
      assert.strictEqual(yield* available, 5)
    }).pipe(Effect.provide(backend({ threadLimit: 5 }))),
  )

  it.effect("waits in line for a permit when asked to, first come first served", () =>
    Effect.gen(function* () {
      const order = yield* Ref.make<ReadonlyArray<string>>([])
      const first = yield* BackgroundThread.start(Effect.never)
      const waiting = (name: string) =>
        Effect.forkChild(
          BackgroundThread.start(
            Ref.update(order, (all) => [...all, name]),
            { whenFull: "wait" },
          ),
          { startImmediately: true },
        )
      const fibers = yield* Effect.forEach(["a", "b", "c"], waiting)
      yield* Fiber.interrupt(fibers[1]!)
      yield* first.interrupt
      yield* Fiber.join(fibers[2]!)
      assert.deepStrictEqual(yield* Ref.get(order), ["a", "c"])
      assert.strictEqual(yield* available, 1)
    }).pipe(Effect.provide(backend({ threadLimit: 1 }))),
  )

  it.effect("refuses once the instance ends, also those that wait in line", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const daemon = yield* BackgroundThread.start(Effect.never, { daemon: true })
      const waiting = yield* Effect.forkChild(Effect.flip(BackgroundThread.start(Effect.void, { whenFull: "wait" })), {
        startImmediately: true,
      })
      yield* instance.shutdown
      assert.isFalse(yield* daemon.isAlive)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "ShuttingDown")
      assert.strictEqual((yield* Effect.flip(BackgroundThread.start(Effect.void)))._tag, "ShuttingDown")
    }).pipe(Effect.provide(backend({ threadLimit: 1 }))),
  )
})

describe("a thread's handle", () => {
  it.effect("joins any number of times, with the thread's own typed failure", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Effect.fail("no" as const))
      const first: "no" = yield* Effect.flip(thread.join())
      assert.strictEqual(first, "no")
      assert.strictEqual(yield* Effect.flip(thread.join()), "no")
      assert.deepStrictEqual(yield* thread.await, Exit.fail("no"))
    }).pipe(Effect.provide(backend())),
  )

  it.effect("looks with a timeout of zero or less, waits with one above, and never touches the thread (P1)", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Effect.delay(Effect.succeed(42), "10 seconds"))
      assert.deepStrictEqual(yield* thread.join({ timeout: 0 }), Option.none())
      assert.deepStrictEqual(yield* thread.exit, Option.none())
      assert.deepStrictEqual(yield* thread.join({ timeout: -5 }), Option.none())
      const waiting = yield* Effect.forkChild(thread.join({ timeout: "5 seconds" }))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(waiting), Option.none())
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* thread.join({ timeout: 0 }), Option.some(42))
      assert.deepStrictEqual(yield* thread.exit, Option.some(Exit.succeed(42)))
    }).pipe(Effect.provide(backend())),
  )

  it.effect("interrupts, waits for the finalizers, and gives the exit", () =>
    Effect.gen(function* () {
      const cleaned = yield* Ref.make(false)
      const thread = yield* BackgroundThread.start(Effect.ensuring(Effect.never, Ref.set(cleaned, true)))
      const exit = yield* thread.interrupt
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.isTrue(yield* Ref.get(cleaned))
    }).pipe(Effect.provide(backend())),
  )

  it.effect("is known inside the thread, and nowhere else; joining oneself dies (P2)", () =>
    Effect.gen(function* () {
      const inside = yield* BackgroundThread.start(BackgroundThread.current)
      assert.strictEqual(Option.getOrUndefined(yield* inside.join()), inside)
      assert.isTrue(Option.isNone(yield* BackgroundThread.current))
      const self = Effect.flatMap(BackgroundThread.current, (thread) => Option.getOrThrow(thread).join())
      const exit = yield* Effect.flatMap(BackgroundThread.start(self), (thread) => thread.await)
      assert.include(String(exit), "joins itself")
    }).pipe(Effect.provide(backend())),
  )

  it.effect("is joined with others, in their order", () =>
    Effect.gen(function* () {
      const start = (n: number) => BackgroundThread.start(Effect.delay(Effect.succeed(n), `${10 - n} seconds`))
      const threads = yield* Effect.forEach([1, 2, 3], start)
      const all = yield* Effect.forkChild(BackgroundThread.joinAll(threads))
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* Fiber.join(all), [1, 2, 3])
    }).pipe(Effect.provide(backend())),
  )

  it.effect("calls back once with the end, at once when it has ended", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(false)
      const thread = yield* BackgroundThread.start(Effect.as(gate.await, 1))
      const calls: Array<string> = []
      thread.onEnd(() => calls.push("early"))
      const takeBack = thread.onEnd(() => calls.push("taken back"))
      takeBack()
      yield* gate.open
      yield* thread.join()
      thread.onEnd(() => calls.push("late"))
      assert.deepStrictEqual(calls, ["early", "late"])
    }).pipe(Effect.provide(backend())),
  )
})

describe("a failing thread", () => {
  it.effect("is reported once, with its cause, when nobody waits for it (B13, B35)", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Effect.fail(new Error("lost mail")), { name: "mails" })
      assert.isFalse(yield* thread.isAlive)
      yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      const lines = yield* logged
      assert.include(lines, "mails failed and nobody waited")
      assert.include(lines, "lost mail")
      assert.strictEqual(lines.split("nobody waited").length, 2)
    }).pipe(Effect.provide(backend())),
  )

  it.effect("is not reported when somebody waits, nor when it was interrupted", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Effect.andThen(Effect.yieldNow, Effect.fail("no")))
      yield* Effect.exit(thread.join())
      const other = yield* BackgroundThread.start(Effect.never)
      yield* other.interrupt
      yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      assert.notInclude(yield* logged, "nobody waited")
    }).pipe(Effect.provide(backend())),
  )

  it.effect("runs again by its schedule after failures and defects, and keeps the last failure", () =>
    Effect.gen(function* () {
      const runs = yield* Ref.make(0)
      const effect = Effect.flatMap(
        Ref.updateAndGet(runs, (n) => n + 1),
        (n) => (n === 1 ? Effect.fail("no" as const) : n === 2 ? Effect.die("bad") : Effect.succeed(n)),
      )
      const thread = yield* BackgroundThread.start(effect, { restart: Schedule.spaced("1 second") })
      assert.strictEqual(yield* available, 9)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* thread.join(), 3)
      assert.include(String(Option.map(yield* thread.lastFailure, Cause.squash)), "bad")
    }).pipe(Effect.provide(backend())),
  )

  it.effect("ends with its failure when the schedule has ended", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Effect.fail("no" as const), { restart: Schedule.recurs(3) })
      assert.strictEqual(yield* Effect.flip(thread.join()), "no")
    }).pipe(Effect.provide(backend())),
  )
})

describe("BackgroundThread.make", () => {
  it.effect("starts at most once (B33), and again after it was refused (B34)", () =>
    Effect.gen(function* () {
      const blocker = yield* BackgroundThread.start(Effect.never)
      const made = yield* BackgroundThread.make(Effect.succeed(1), { name: "made" })
      assert.strictEqual((yield* Effect.flip(made.start))._tag, "LimitReached")
      yield* blocker.interrupt
      const thread = yield* made.start
      assert.strictEqual(yield* thread.join(), 1)
      const again = yield* Effect.flip(made.start)
      assert.deepInclude(again, { _tag: "AlreadyStarted", thread: "made" })
    }).pipe(Effect.provide(backend({ threadLimit: 1 }))),
  )
})

describe("a thread's context", () => {
  class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}

  it.effect("has the creator's services", () =>
    Effect.gen(function* () {
      const thread = yield* BackgroundThread.start(Tenant).pipe(Effect.provideService(Tenant, "acme"))
      assert.strictEqual(yield* thread.join(), "acme")
    }).pipe(Effect.provide(backend())),
  )

  it.effect("has neither the creator's span, log annotations nor log level", () =>
    Effect.gen(function* () {
      const look = Effect.all({
        annotations: References.CurrentLogAnnotations,
        level: References.MinimumLogLevel,
        spans: References.CurrentLogSpans,
        span: Effect.serviceOption(Tracer.ParentSpan),
      })
      const thread = yield* BackgroundThread.start(look).pipe(
        Effect.annotateLogs({ request: "7" }),
        Effect.withLogSpan("request"),
        Effect.provideService(References.MinimumLogLevel, "Debug"),
        Effect.withSpan("request"),
      )
      const { annotations, level, span, spans } = yield* thread.join()
      assert.deepStrictEqual({ annotations, level, spans }, { annotations: {}, level: "Info", spans: [] })
      // The thread has a span of its own, which is linked to the request's.
      const own = Option.getOrThrow(span) as Tracer.Span
      assert.strictEqual(own.name, "thread thread-1")
      assert.isTrue(Option.isNone(own.parent))
      assert.deepStrictEqual(
        own.links.map(({ span }) => (span as Tracer.Span).name),
        ["request"],
      )
    }).pipe(Effect.provide(backend())),
  )

  it.effect("has a scope of its own, open until its end and not a moment longer", () =>
    Effect.gen(function* () {
      const events = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (event: string) => Ref.update(events, (all) => [...all, event])
      const gate = yield* Latch.make(false)
      const work = Effect.acquireRelease(note("open"), () => note("close")).pipe(
        Effect.andThen(gate.await),
        Effect.andThen(note("work")),
      )
      const request = yield* Scope.make()
      const thread = yield* Scope.provide(BackgroundThread.start(work), request)
      yield* Scope.close(request, Exit.void)
      yield* gate.open
      yield* thread.join()
      assert.deepStrictEqual(yield* Ref.get(events), ["open", "work", "close"])
    }).pipe(Effect.provide(backend())),
  )

  it.effect("can be interrupted although its creator could not", () =>
    Effect.gen(function* () {
      const thread = yield* Effect.uninterruptible(BackgroundThread.start(Effect.never))
      assert.isTrue(Exit.isFailure(yield* thread.interrupt))
    }).pipe(Effect.provide(backend())),
  )
})

describe("shutdown", () => {
  it.effect("waits for threads, interrupts daemons at once, and what is left before the grace period ends", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const ends = yield* Ref.make<ReadonlyArray<string>>([])
      const run = (name: string, effect: Effect.Effect<void>, daemon = false) =>
        BackgroundThread.start(
          Effect.onExit(effect, (exit) =>
            Ref.update(ends, (all) => [...all, `${name} ${Exit.isSuccess(exit) ? "ended" : "interrupted"}`]),
          ),
          { name, daemon },
        )
      const quick = yield* Deferred.make<void>()
      yield* run("quick", Deferred.await(quick))
      yield* run("stuck", Effect.never)
      yield* run("daemon", Effect.never, true)
      const shutdown = yield* Effect.forkChild(instance.shutdown)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Ref.get(ends), ["daemon interrupted"])
      yield* Deferred.succeed(quick, undefined)
      yield* TestClock.adjust("8 seconds")
      const report = yield* Fiber.join(shutdown)
      assert.deepStrictEqual(yield* Ref.get(ends), ["daemon interrupted", "quick ended", "stuck interrupted"])
      assert.deepStrictEqual(report.hooks, [{ name: "background threads", outcome: "done" }])
    }).pipe(Effect.provide(backend({ grace: "10 seconds" }))),
  )

  it.effect("interrupts what is alive when the layer closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(backend(), scope)
      const thread = yield* Effect.provideContext(BackgroundThread.start(Effect.never), context)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* thread.isAlive)
    }),
  )
})
