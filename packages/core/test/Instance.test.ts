import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import { Duration, Effect, Exit, Fiber, Layer, Option, Ref, Scope } from "effect"
import { TestClock } from "effect/testing"

const backend = (options?: Instance.Options) => Effect.provide(Instance.layerBackend({ id: "one", ...options }))

describe("Instance", () => {
  it.effect("runs its hooks last-in first-out and says what became of each", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const order = yield* Ref.make<ReadonlyArray<string>>([])
      const hook = (name: string) => Ref.update(order, (names) => [...names, name])
      yield* instance.onShutdown("first", hook("first"))
      yield* instance.onShutdown("broken", Effect.die(new Error("boom")))
      yield* instance.onShutdown("last", hook("last"))
      const report = yield* instance.shutdown
      assert.deepStrictEqual(yield* Ref.get(order), ["last", "first"])
      assert.deepStrictEqual(report.hooks, [
        { name: "last", outcome: "done" },
        { name: "broken", outcome: "failed" },
        { name: "first", outcome: "done" },
      ])
    }).pipe(backend()),
  )

  it.effect("gives one report, however often and by however many it is asked", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const runs = yield* Ref.make(0)
      yield* instance.onShutdown(
        "count",
        Ref.update(runs, (n) => n + 1),
      )
      const reports = yield* Effect.all([instance.shutdown, instance.shutdown, instance.shutdown], { concurrency: 3 })
      assert.strictEqual(yield* Ref.get(runs), 1)
      assert.strictEqual(reports[0], reports[2])
    }).pipe(backend()),
  )

  it.effect("says that it is shutting down before the first hook runs, and how much time is left (B51, B56)", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const seen = yield* Ref.make<ReadonlyArray<unknown>>([])
      const look = Effect.all([instance.isShuttingDown, instance.remainingShutdownTime])
      const note = Effect.flatMap(look, (state) => Ref.update(seen, (all) => [...all, state]))
      yield* instance.onShutdown("look", note)
      yield* instance.onShutdown("slow", Effect.sleep("4 seconds"))
      assert.deepStrictEqual(yield* look, [false, Option.none()])
      const fiber = yield* Effect.forkChild(instance.shutdown)
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* Ref.get(seen), [[true, Option.some(Duration.seconds(6))]])
    }).pipe(backend({ grace: "10 seconds" })),
  )

  it.effect("interrupts a hook at the end of the grace period and still ends, even if it cannot be interrupted", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      yield* instance.onShutdown("starved", Effect.sleep("1 second"))
      yield* instance.onShutdown("stuck", Effect.uninterruptible(Effect.never))
      const fiber = yield* Effect.forkChild(instance.shutdown)
      yield* TestClock.adjust("10 seconds")
      const { hooks, took } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(hooks, [
        { name: "stuck", outcome: "timedOut" },
        { name: "starved", outcome: "timedOut" },
      ])
      assert.deepStrictEqual(took, Duration.seconds(10))
    }).pipe(backend({ grace: "10 seconds" })),
  )

  it.effect("gives a hook that needs no time its chance also when the time is over", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const ran = yield* Ref.make(false)
      yield* instance.onShutdown("quick", Ref.set(ran, true))
      yield* instance.onShutdown("stuck", Effect.never)
      const fiber = yield* Effect.forkChild(instance.shutdown)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      assert.isTrue(yield* Ref.get(ran))
    }).pipe(backend({ grace: "10 seconds" })),
  )

  it.effect("goes on to its end when who asked for it is interrupted", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const ended = yield* Ref.make(false)
      yield* instance.onShutdown("slow", Effect.andThen(Effect.sleep("5 seconds"), Ref.set(ended, true)))
      const fiber = yield* Effect.forkChild(instance.shutdown)
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("4 seconds")
      assert.isTrue(yield* Ref.get(ended))
    }).pipe(backend()),
  )

  it.effect("forgets a hook when the scope it was registered in closes", () =>
    Effect.gen(function* () {
      const instance = yield* Instance.Instance
      const scope = yield* Scope.make()
      yield* Scope.provide(instance.onShutdown("gone", Effect.die(new Error("ran"))), scope)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual((yield* instance.shutdown).hooks, [])
    }).pipe(backend()),
  )

  it.effect("refuses background work on a frontend, naming the host and its way out", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Instance.requireBackend)
      assert.deepInclude(error, { instance: "two", host: "AWS Lambda", hint: "Use waitUntil." })
      assert.include(error.message, "AWS Lambda")
    }).pipe(
      Effect.provide(Instance.layerFrontend({ id: "two", host: { name: "AWS Lambda", hint: "Use waitUntil." } })),
    ),
  )

  it.effect.each([-1, 1.5, Number.NaN])("does not take %d for a thread limit", (threadLimit) =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Layer.build(Instance.layerBackend({ threadLimit })))
      assert.include(String(exit), "threadLimit")
    }),
  )
})
