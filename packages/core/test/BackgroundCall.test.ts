import { assert, describe, it } from "@effect/vitest"
import * as BackgroundCall from "@outlive/core/BackgroundCall"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import { Cause, Clock, Effect, Exit, Fiber, Latch, Layer, Option, Ref } from "effect"
import { TestClock, TestConsole } from "effect/testing"

const backend = BackgroundThreads.layer.pipe(Layer.provideMerge(Instance.layerBackend({ threadLimit: 3 })))
const slow = Effect.delay(Effect.succeed(42), "10 seconds")

describe("BackgroundCall", () => {
  it.effect("starts at once and takes a permit of the instance (R1)", () =>
    Effect.gen(function* () {
      const ran = yield* Ref.make(false)
      yield* BackgroundCall.make(Ref.set(ran, true))
      assert.isTrue(yield* Ref.get(ran))
      yield* Effect.all([BackgroundCall.make(slow), BackgroundCall.make(slow), BackgroundCall.make(slow)])
      assert.strictEqual((yield* Effect.flip(BackgroundCall.make(slow)))._tag, "LimitReached")
    }).pipe(Effect.provide(backend)),
  )

  it.effect("tells whether it runs, and how it ended (R2)", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(false)
      const call = yield* BackgroundCall.make(gate.await)
      assert.deepStrictEqual([yield* call.isDone, yield* call.status], [false, "running"])
      yield* gate.open
      yield* call.result()
      assert.deepStrictEqual([yield* call.isDone, yield* call.status], [true, "succeeded"])
      const failed = yield* BackgroundCall.make(Effect.fail("no"))
      assert.strictEqual(yield* failed.status, "failed")
      const endless = yield* BackgroundCall.make(Effect.never)
      yield* endless.interrupt
      assert.strictEqual(yield* endless.status, "interrupted")
    }).pipe(Effect.provide(backend)),
  )

  it.effect("gives its value or its own typed failure, as often as it is asked (R8, R9 repaired)", () =>
    Effect.gen(function* () {
      const good = yield* BackgroundCall.make(Effect.succeed(1))
      assert.deepStrictEqual([yield* good.result(), yield* good.result()], [1, 1])
      const bad = yield* BackgroundCall.make(Effect.fail("no" as const))
      const first: "no" = yield* Effect.flip(bad.result())
      assert.deepStrictEqual([first, yield* Effect.flip(bad.result())], ["no", "no"])
    }).pipe(Effect.provide(backend)),
  )

  it.effect("says NotDone when asked without waiting (R5 repaired)", () =>
    Effect.gen(function* () {
      const call = yield* BackgroundCall.make(slow, { name: "slow" })
      const early = yield* Effect.flip(call.result({ wait: false }))
      assert.deepInclude(early, { _tag: "NotDone", call: "slow" })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* call.result({ wait: false }), 42)
    }).pipe(Effect.provide(backend)),
  )

  it.effect("looks with a timeout of zero, gives up after one above, and the call goes on (R6 repaired, R7)", () =>
    Effect.gen(function* () {
      const call = yield* BackgroundCall.make(slow)
      assert.deepInclude(yield* Effect.flip(call.result({ timeout: 0 })), { _tag: "ResultTimeout", timeout: 0 })
      const waiting = yield* Effect.forkChild(Effect.flip(call.result({ timeout: "4 seconds" })))
      yield* TestClock.adjust("4 seconds")
      assert.deepInclude(yield* Fiber.join(waiting), { _tag: "ResultTimeout", timeout: 4000 })
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* call.result({ timeout: 0 }), 42)
    }).pipe(Effect.provide(backend)),
  )

  it.effect("gives the alternative when it is late or has failed, never instead of a value (R7, R8)", () =>
    Effect.gen(function* () {
      const orElse = () => "else" as const
      const call = yield* BackgroundCall.make(slow)
      assert.strictEqual(yield* call.result({ wait: false, orElse }), "else")
      assert.strictEqual(yield* call.result({ timeout: 0, orElse }), "else")
      const failed = yield* BackgroundCall.make(Effect.fail("no"))
      assert.strictEqual(yield* failed.result({ orElse }), "else")
      const died = yield* BackgroundCall.make(Effect.die("no"))
      assert.strictEqual(yield* died.result({ orElse }), "else")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* call.result({ orElse }), 42)
    }).pipe(Effect.provide(backend)),
  )

  it.effect("keeps something else going while it waits: at once, then after 1 ms doubling to 50 ms (R4)", () =>
    Effect.gen(function* () {
      const times = yield* Ref.make<ReadonlyArray<number>>([])
      const pump = Effect.flatMap(Clock.currentTimeMillis, (now) => Ref.update(times, (all) => [...all, now]))
      const call = yield* BackgroundCall.make(Effect.delay(Effect.succeed(1), "200 millis"))
      const waiting = yield* Effect.forkChild(call.result({ whileWaiting: pump }))
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* Fiber.join(waiting), 1)
      assert.deepStrictEqual(yield* Ref.get(times), [0, 1, 3, 7, 15, 31, 63, 113, 163])
    }).pipe(Effect.provide(backend)),
  )

  it.effect("ends the waiting, not the call, when the pump fails, and stops pumping at the timeout", () =>
    Effect.gen(function* () {
      const call = yield* BackgroundCall.make(slow)
      assert.strictEqual(yield* Effect.flip(call.result({ whileWaiting: Effect.fail("pump" as const) })), "pump")
      const turns = yield* Ref.make(0)
      const whileWaiting = Ref.update(turns, (n) => n + 1)
      const waiting = yield* Effect.forkChild(Effect.flip(call.result({ timeout: 10, whileWaiting })))
      yield* TestClock.adjust(10)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "ResultTimeout")
      assert.strictEqual(yield* Ref.get(turns), 5)
      assert.strictEqual(yield* call.status, "running")
    }).pipe(Effect.provide(backend)),
  )

  it.effect("shows its failure as data, none while it runs or when it succeeded (R10)", () =>
    Effect.gen(function* () {
      const running = yield* BackgroundCall.make(slow)
      assert.isTrue(Option.isNone(yield* running.exception))
      const died = yield* BackgroundCall.make(Effect.die("bad"))
      const found = Option.map(yield* died.exception, Cause.squash)
      assert.deepStrictEqual(
        [found, yield* Effect.map(died.exception, Option.map(Cause.squash))],
        [Option.some("bad"), Option.some("bad")],
      )
      const good = yield* BackgroundCall.make(Effect.succeed(1))
      assert.isTrue(Option.isNone(yield* good.exception))
    }).pipe(Effect.provide(backend)),
  )

  it.effect("catches everything, a defect and an interruption too (R11), and reports nothing as unhandled", () =>
    Effect.gen(function* () {
      const call = yield* BackgroundCall.make(Effect.die("bad"))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(call.result())))
      const endless = yield* BackgroundCall.make(Effect.never)
      yield* endless.interrupt
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(endless.result())))
      yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      assert.notInclude((yield* TestConsole.logLines).map(String).join(), "nobody waited")
    }).pipe(Effect.provide(backend)),
  )

  it.effect("is not touched by the interruption of who waits for it", () =>
    Effect.gen(function* () {
      const call = yield* BackgroundCall.make(slow)
      const waiting = yield* Effect.forkChild(call.result())
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* call.result(), 42)
    }).pipe(Effect.provide(backend)),
  )
})
