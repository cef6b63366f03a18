/** Calls of a worker that must be answered, and the one timer that watches over them. */
import { assert, describe, it } from "@effect/vitest"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { makeAlarm } from "../src/internal/worker/alarm.ts"
import { makeAnswers } from "../src/internal/worker/untilAnswered.ts"

describe("an alarm", () => {
  const setup = Effect.gen(function* () {
    let rings = 0
    const alarm = yield* makeAlarm(
      Effect.sync(() => {
        rings++
      }),
    )
    const ringsWithin = (millis: number) =>
      Effect.map(TestClock.adjust(millis), () => {
        const heard = rings
        rings = 0
        return heard
      })
    return { alarm, ringsWithin }
  })

  it.effect("rings once, at the earliest of the times that were asked for", () =>
    Effect.gen(function* () {
      const { alarm, ringsWithin } = yield* setup
      for (const at of [300, 100, 200, 100]) yield* alarm.by(at)
      assert.strictEqual(yield* ringsWithin(99), 0)
      assert.strictEqual(yield* ringsWithin(1), 1)
      assert.strictEqual(yield* ringsWithin(1000), 0)
      yield* alarm.by(1200)
      assert.strictEqual(yield* ringsWithin(100), 1)
    }),
  )

  it.effect("rings at once for a time that has passed", () =>
    Effect.gen(function* () {
      const { alarm, ringsWithin } = yield* setup
      yield* TestClock.adjust(50)
      yield* alarm.by(10)
      assert.strictEqual(yield* ringsWithin(0), 1)
    }),
  )

  it.effect("rings while its scope is closing, for what was put there later, and never after", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { alarm, ringsWithin } = yield* Scope.provide(scope)(setup)
      yield* Scope.addFinalizer(
        scope,
        Effect.gen(function* () {
          yield* alarm.by(100)
          assert.strictEqual(yield* ringsWithin(100), 1)
          yield* alarm.by(200)
        }),
      )
      yield* Scope.close(scope, Exit.void)
      yield* alarm.by(150)
      assert.strictEqual(yield* ringsWithin(1000), 0)
    }),
  )
})

describe("a call that must be answered", () => {
  const times: ReadonlyArray<number> = [40, 30, 20]

  it.effect("is interrupted when it takes too long, each after its own time, and asked again", () =>
    Effect.gen(function* () {
      const answers = yield* makeAnswers()
      const begun = new Map<number, number>()
      const stopped: Array<number> = []
      const call = (millis: number) =>
        answers.untilAnswered("claim", { withinMillis: millis })(
          Effect.suspend(() => {
            const before = begun.get(millis) ?? 0
            begun.set(millis, before + 1)
            return before === 0 ? Effect.never : Effect.succeed(millis)
          }).pipe(Effect.onInterrupt(() => Effect.map(Clock.currentTimeMillis, (now) => stopped.push(now - millis)))),
        )
      const all = yield* Effect.forkChild(Effect.forEach(times, call, { concurrency: "unbounded" }))
      yield* TestClock.adjust(19)
      assert.strictEqual(answers.failingSince(), undefined)
      yield* TestClock.adjust(1)
      assert.strictEqual(answers.failingSince(), 20)
      yield* TestClock.adjust(20)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(all), times)
      assert.deepStrictEqual([...begun.values()], [2, 2, 2])
      assert.deepStrictEqual(stopped, [0, 0, 0])
      assert.strictEqual(answers.failingSince(), undefined)
    }),
  )

  it.effect("ends before its caller does, who is interrupted", () =>
    Effect.gen(function* () {
      const answers = yield* makeAnswers()
      const events: Array<string> = []
      const call = Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => events.push("call"))))
      const caller = yield* Effect.forkChild(
        answers
          .untilAnswered("claim", { withinMillis: 1000 })(call)
          .pipe(Effect.onInterrupt(() => Effect.sync(() => events.push("caller")))),
        { startImmediately: true },
      )
      yield* Fiber.interrupt(caller)
      assert.deepStrictEqual(events, ["call", "caller"])
      yield* TestClock.adjust(2000)
      assert.strictEqual(answers.failingSince(), undefined)
    }),
  )

  it.effect("goes on being asked, with the error of the queue, until it is answered", () =>
    Effect.gen(function* () {
      const answers = yield* makeAnswers()
      let asked = 0
      const call = Effect.suspend(() =>
        ++asked < 4
          ? Effect.fail(new TaskQueueError({ operation: "claim", message: "no", isRetryable: true }))
          : Effect.succeed(asked),
      )
      const answer = yield* Effect.forkChild(answers.untilAnswered("claim", { withinMillis: 1000 })(call))
      yield* TestClock.adjust(0)
      assert.strictEqual(asked, 1)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(answer), 4)
    }),
  )
})
