import { assert, describe, it } from "@effect/vitest"
import * as Broadcast from "@outlive/core/Broadcast"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"

describe("Broadcast", () => {
  it.effect("tells every subscriber what comes after it subscribed", () =>
    Effect.gen(function* () {
      const broadcast = Broadcast.make<number>()
      broadcast.tell(() => 0)
      const first = yield* broadcast.subscribe
      broadcast.tell(() => 1)
      const second = yield* broadcast.subscribe
      broadcast.tell(() => 2)
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(first, 2)), [1, 2])
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(second, 1)), [2])
    }),
  )

  it.effect("loses the oldest for a subscriber that is behind, and only for that one", () =>
    Effect.gen(function* () {
      const broadcast = Broadcast.make<number>({ capacity: 3 })
      const slow = yield* broadcast.subscribe
      const quick = yield* broadcast.subscribe
      const all = yield* Effect.forkChild(Stream.runCollect(Stream.take(quick, 10)), { startImmediately: true })
      for (let n = 0; n < 10; n++) {
        broadcast.tell(() => n)
        yield* Effect.yieldNow
        yield* Effect.yieldNow
      }
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(slow, 3)), [7, 8, 9])
      assert.strictEqual((yield* Fiber.join(all)).length, 10)
    }),
  )

  it.effect("makes no message when there is nobody to tell, and forgets a subscriber whose scope has ended", () =>
    Effect.gen(function* () {
      const broadcast = Broadcast.make<number>()
      const scope = yield* Scope.make()
      const stream = yield* Scope.provide(broadcast.subscribe, scope)
      const reading = yield* Effect.forkChild(Effect.exit(Stream.runDrain(stream)), { startImmediately: true })
      assert.strictEqual(broadcast.subscribers(), 1)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(reading)
      assert.strictEqual(broadcast.subscribers(), 0)
      broadcast.tell(() => assert.fail("made for nobody"))
    }),
  )
})
