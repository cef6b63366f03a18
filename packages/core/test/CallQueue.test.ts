import { assert, describe, it } from "@effect/vitest"
import * as CallQueue from "@outlive/core/CallQueue"
import { Cause, Context, Effect, Exit, Fiber, Latch, Option, Ref, Scope } from "effect"
import { TestClock } from "effect/testing"

const now = { startImmediately: true } as const
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, now)

describe("CallQueue.call", () => {
  it.effect("runs calls of many fibers one after the other, in the order they were posted, with one consumer", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 1 })
      const order: Array<number> = []
      let inside = 0
      const one = (n: number) =>
        Effect.gen(function* () {
          assert.strictEqual(++inside, 1)
          yield* Effect.yieldNow
          order.push(n)
          inside--
          return n
        })
      const numbers = Array.from({ length: 100 }, (_, n) => n)
      const values = yield* Effect.forEach(numbers, (n) => queue.call(one(n)), { concurrency: "unbounded" })
      assert.deepStrictEqual(values, numbers)
      assert.deepStrictEqual(order, numbers)
    }),
  )

  it.effect("gives the call's own typed failure to its caller, and the consumer goes on", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 1 })
      const error: "no" | CallQueue.CallQueueFull | CallQueue.CallQueueClosed = yield* Effect.flip(
        queue.call(Effect.fail("no" as const)),
      )
      assert.strictEqual(error, "no")
      assert.isTrue(Exit.hasDies(yield* Effect.exit(queue.call(Effect.die("bad")))))
      assert.strictEqual(yield* queue.call(Effect.succeed(1)), 1)
    }),
  )

  it.effect("runs in the receiver's fiber with the caller's services (R21)", () =>
    Effect.gen(function* () {
      class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
      const queue = yield* CallQueue.make()
      const who = Effect.withFiber((fiber) => Effect.map(Tenant, (tenant) => [fiber.id, tenant] as const))
      const caller = yield* fork(queue.call(who).pipe(Effect.provideService(Tenant, "acme")))
      const receiver = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.id))
      assert.strictEqual(yield* queue.receive, 1)
      assert.deepStrictEqual(yield* Fiber.join(caller), [receiver, "acme"])
    }),
  )

  it.effect(
    "withdraws a call that has not begun when its timeout passes or its caller is interrupted (R26 repaired)",
    () =>
      Effect.gen(function* () {
        const queue = yield* CallQueue.make()
        const ran = yield* Ref.make(0)
        const effect = Ref.update(ran, (n) => n + 1)
        const late = yield* fork(Effect.flip(queue.call(effect, { timeout: "1 second" })))
        const interrupted = yield* fork(queue.call(effect))
        const elsewhere = yield* fork(
          queue.call(Effect.as(effect, "value"), { timeout: "1 second", orElse: () => "else" }),
        )
        assert.strictEqual(yield* queue.size, 3)
        yield* Fiber.interrupt(interrupted)
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(late))._tag, "ResultTimeout")
        assert.strictEqual(yield* Fiber.join(elsewhere), "else")
        assert.strictEqual(yield* queue.size, 0)
        assert.strictEqual(yield* queue.receive, 0)
        assert.strictEqual(yield* Ref.get(ran), 0)
      }),
  )

  it.effect("lets a call that has begun go on when its caller's timeout passes", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 1 })
      const ended = yield* Ref.make(false)
      const slow = Effect.andThen(Effect.sleep("10 seconds"), Ref.set(ended, true))
      const caller = yield* fork(Effect.flip(queue.call(slow, { timeout: "1 second" })))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(caller))._tag, "ResultTimeout")
      yield* TestClock.adjust("9 seconds")
      assert.isTrue(yield* Ref.get(ended))
    }),
  )

  it.effect("gives the fallback for a failure too (R30 repaired)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 1 })
      assert.strictEqual(yield* queue.call(Effect.fail("no"), { orElse: () => "else" }), "else")
      assert.strictEqual(yield* queue.call(Effect.succeed("value"), { orElse: () => "else" }), "value")
    }),
  )

  it.effect("keeps ten thousand callers waiting without a timer, and answers them all", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const numbers = Array.from({ length: 10_000 }, (_, n) => n)
      const callers = yield* fork(
        Effect.forEach(numbers, (n) => queue.call(Effect.succeed(n)), { concurrency: "unbounded" }),
      )
      assert.strictEqual(yield* queue.size, 10_000)
      // Time does not matter: nobody polls.
      assert.strictEqual(yield* queue.receive, 10_000)
      assert.deepStrictEqual(yield* Fiber.join(callers), numbers)
    }),
  )
})

describe("a full queue", () => {
  it.effect("refuses at its capacity (R25), and has room again when a call begins or is withdrawn", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ capacity: 2 })
      const first = yield* queue.send(Effect.void)
      yield* queue.send(Effect.void)
      const error = yield* Effect.flip(queue.send(Effect.void))
      assert.deepInclude(error, { _tag: "CallQueueFull", capacity: 2 })
      assert.isTrue(yield* first.withdraw)
      yield* queue.send(Effect.void)
      yield* queue.receiveOne
      yield* queue.send(Effect.void)
    }),
  )

  it.effect("lets callers in who wait for room, first come first served, never beyond its capacity", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ capacity: 1 })
      const order: Array<string> = []
      const post = (name: string) =>
        fork(
          queue.call(
            Effect.sync(() => order.push(name)),
            { whenFull: "wait" },
          ),
        )
      const a = yield* post("a")
      const b = yield* post("b")
      const c = yield* post("c")
      const d = yield* post("d")
      assert.strictEqual(yield* queue.size, 1)
      yield* Fiber.interrupt(b)
      while ((yield* queue.receive) > 0) {
        yield* Effect.yieldNow
        assert.isAtMost(yield* queue.size, 1)
      }
      yield* Effect.forEach([a, c, d], (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(order, ["a", "c", "d"])
    }),
  )
})

describe("failIn", () => {
  const failing = Effect.fail("no" as const)

  it.effect("tells the receiver when asked to, ends its drain, and the rest stays queued (R27, R28)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const both = yield* queue.send(failing, { failIn: "both" })
      yield* queue.send(Effect.void)
      const error = yield* Effect.flip(queue.receive)
      assert.deepInclude(error, { _tag: "CallFailed", cause: "no" })
      assert.strictEqual(yield* Effect.flip(both.result()), "no")
      assert.strictEqual(yield* queue.size, 1)
    }),
  )

  it.effect("keeps the failure from a caller that is not to see it (R29)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const receiver = yield* queue.send(failing, { failIn: "receiver" })
      assert.strictEqual((yield* Effect.flip(queue.receive))._tag, "CallFailed")
      assert.isTrue(Option.isNone(yield* receiver.exception))
      const caller = yield* fork(queue.call(failing, { failIn: "neither", orElse: () => "else" }))
      assert.strictEqual(yield* queue.receive, 1)
      assert.strictEqual(yield* Fiber.join(caller), "else")
    }),
  )

  it.effect("replaces a consumer that a call has ended (R23 repaired)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 1 })
      for (let n = 0; n < 5; n++) {
        assert.strictEqual(yield* Effect.flip(queue.call(failing, { failIn: "both" })), "no")
      }
      assert.strictEqual(yield* queue.call(Effect.succeed(1)), 1)
    }),
  )
})

describe("an item", () => {
  it.effect("tells its state, and is read as often as wanted (R31 repaired)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const gate = yield* Latch.make(false)
      const item = yield* queue.send(Effect.andThen(gate.await, Effect.fail("no" as const)))
      assert.strictEqual(yield* item.status, "queued")
      assert.deepInclude(yield* Effect.flip(item.result({ wait: false })), { _tag: "NotDone" })
      const receiver = yield* fork(queue.receive)
      assert.strictEqual(yield* item.status, "running")
      assert.isFalse(yield* item.withdraw)
      yield* gate.open
      yield* Fiber.join(receiver)
      assert.deepStrictEqual([yield* item.isDone, yield* item.status], [true, "failed"])
      assert.deepStrictEqual([yield* Effect.flip(item.result()), yield* Effect.flip(item.result())], ["no", "no"])
      assert.deepStrictEqual(Option.map(yield* item.exception, Cause.squash), Option.some("no"))
      const withdrawn = yield* queue.send(Effect.void)
      assert.isTrue(yield* withdrawn.withdraw)
      assert.strictEqual(yield* withdrawn.status, "withdrawn")
    }),
  )
})

describe("receiving", () => {
  it.effect("runs what is queued and does not wait for more (R34)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      assert.strictEqual(yield* queue.receive, 0)
      yield* Effect.forEach([1, 2, 3], () => queue.send(Effect.void))
      assert.strictEqual(yield* queue.receive, 3)
    }),
  )

  it.effect("waits for one call, and hands it on when the receiver is interrupted at that moment", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const receiver = yield* fork(queue.receiveOne)
      const item = yield* queue.send(Effect.succeed(1))
      // The call has been handed over, and the receiver had no turn to begin it.
      yield* Fiber.interrupt(receiver)
      if (!(yield* item.isDone)) assert.strictEqual(yield* queue.receive, 1)
      assert.strictEqual(yield* item.result(), 1)
      const another = yield* fork(queue.receiveOne)
      yield* Fiber.interrupt(another)
      assert.strictEqual(yield* queue.send(Effect.void).pipe(Effect.andThen(queue.size)), 1)
    }),
  )

  it.effect("harvests collected calls that have ended, in the order they were posted (R32)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ consumers: 2 })
      const gate = yield* Latch.make(false)
      yield* queue.collect(Effect.as(gate.await, "slow"))
      yield* queue.collect(Effect.succeed("quick"))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      const values = Effect.flatMap(queue.nextCollected, (items) => Effect.forEach(items, (item) => item.result()))
      assert.deepStrictEqual(yield* values, ["quick"])
      assert.isFalse(yield* queue.isIdle)
      yield* gate.open
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.isFalse(yield* queue.isIdle)
      assert.deepStrictEqual(yield* values, ["slow"])
      assert.deepStrictEqual(yield* values, [])
      assert.isTrue(yield* queue.isIdle)
    }),
  )
})

describe("closing", () => {
  it.effect("fails those who wait, in line or for room or for a call, and refuses new calls (R24, R36 repaired)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make({ capacity: 1 })
      const waiting = yield* fork(Effect.flip(queue.call(Effect.void)))
      const fallback = yield* fork(Effect.flip(queue.call(Effect.void, { whenFull: "wait", orElse: () => "else" })))
      yield* queue.close
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "CallQueueClosed")
      assert.strictEqual((yield* Fiber.join(fallback))._tag, "CallQueueClosed")
      assert.strictEqual((yield* Effect.flip(queue.send(Effect.void)))._tag, "CallQueueClosed")
      const other = yield* CallQueue.make()
      const receiver = yield* fork(Effect.flip(other.receiveOne))
      yield* other.close
      assert.strictEqual((yield* Fiber.join(receiver))._tag, "CallQueueClosed")
    }),
  )

  it.effect("lets a fallback not hide that the call was never run", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const caller = yield* fork(Effect.flip(queue.call(Effect.void, { orElse: () => "else" })))
      yield* queue.close
      assert.strictEqual((yield* Fiber.join(caller))._tag, "CallQueueClosed")
    }),
  )

  it.effect("runs what is queued, if so asked, and then is closed (R35)", () =>
    Effect.gen(function* () {
      const queue = yield* CallQueue.make()
      const items = yield* Effect.forEach([1, 2], (n) => queue.send(Effect.succeed(n)))
      assert.strictEqual(yield* queue.closeAndReceive, 2)
      assert.deepStrictEqual(yield* Effect.forEach(items, (item) => item.result()), [1, 2])
      assert.strictEqual((yield* Effect.flip(queue.send(Effect.void)))._tag, "CallQueueClosed")
    }),
  )

  it.effect("stops the consumers with their scope and lets nobody wait (R35)", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const queue = yield* Scope.provide(CallQueue.make({ consumers: 1 }), scope)
      const began = yield* Latch.make(false)
      const running = yield* queue.send(Effect.andThen(began.open, Effect.never))
      yield* began.await
      const waiting = yield* fork(Effect.flip(queue.call(Effect.void)))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "CallQueueClosed")
      assert.strictEqual(yield* running.status, "interrupted")
    }),
  )
})
