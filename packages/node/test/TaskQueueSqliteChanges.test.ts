/** When other connections' commits are looked for. */
import { assert, describe, it } from "@effect/vitest"
import type { Change } from "@outlive/deferred/TaskQueue"
import { Effect, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { makeChanges } from "../src/internal/sqlite/changes.ts"

/** A file that others commit to, and whose system tells of it when the test says so. */
const setup = Effect.gen(function* () {
  let version = 1
  const watching = new Set<() => void>()
  let isLooking = false
  const changes = yield* makeChanges({
    version: () => version,
    whenWritten: (written) => {
      watching.add(written)
      return () => watching.delete(written)
    },
    isLooking: () => isLooking,
  })
  const heard = yield* Queue.unbounded<Change>()
  const hear = Effect.flatMap(
    changes.subscribe,
    Stream.runForEach((change) => Queue.offer(heard, change)),
  )
  return {
    watching,
    hear: Effect.scoped(hear),
    setLooking: (is: boolean) => {
      isLooking = is
    },
    commit: () => {
      version++
    },
    /** How many changes were told within so many milliseconds. */
    toldWithin: (millis: number) =>
      Effect.map(Effect.andThen(TestClock.adjust(millis), Queue.clear(heard)), (all) => all.length),
  }
})

describe("commits of other connections", () => {
  it.effect("are looked for four times as often for a second after one", () =>
    Effect.gen(function* () {
      const { commit, hear, toldWithin } = yield* setup
      yield* Effect.forkChild(hear, { startImmediately: true })
      commit()
      assert.strictEqual(yield* toldWithin(19), 0)
      assert.strictEqual(yield* toldWithin(1), 1)
      commit()
      assert.strictEqual(yield* toldWithin(5), 1)
      yield* TestClock.adjust("980 millis")
      commit()
      assert.strictEqual(yield* toldWithin(5), 1)
      yield* TestClock.adjust("1 second")
      commit()
      assert.strictEqual(yield* toldWithin(19), 0)
      assert.strictEqual(yield* toldWithin(1), 1)
    }),
  )

  it.effect("are looked for when the system says that somebody wrote, for as long as somebody listens", () =>
    Effect.gen(function* () {
      const { commit, hear, toldWithin, watching } = yield* setup
      const hearing = yield* Effect.forkChild(hear, { startImmediately: true })
      const written = () => watching.forEach((each) => each())
      written()
      assert.strictEqual(yield* toldWithin(0), 0)
      for (const expected of [1, 1, 0]) {
        commit()
        written()
        assert.strictEqual(yield* toldWithin(0), 1)
        assert.strictEqual(watching.size, expected)
      }
      // They come one upon the other and are looked for, until some looks have found nothing.
      yield* toldWithin(20)
      commit()
      assert.strictEqual(yield* toldWithin(5), 1)
      assert.strictEqual(yield* toldWithin(5), 0)
      assert.strictEqual(watching.size, 0)
      assert.strictEqual(yield* toldWithin(5), 0)
      assert.strictEqual(watching.size, 1)
      hearing.interruptUnsafe()
      yield* toldWithin(0)
      assert.strictEqual(watching.size, 0)
    }),
  )

  it.effect("wait for the clock while this process is about to look by itself", () =>
    Effect.gen(function* () {
      const { commit, hear, setLooking, toldWithin, watching } = yield* setup
      yield* Effect.forkChild(hear, { startImmediately: true })
      const written = () => watching.forEach((each) => each())
      yield* toldWithin(0)
      setLooking(true)
      commit()
      written()
      assert.strictEqual(yield* toldWithin(19), 0)
      assert.strictEqual(yield* toldWithin(1), 1)
      setLooking(false)
      commit()
      written()
      assert.strictEqual(yield* toldWithin(0), 1)
    }),
  )
})
