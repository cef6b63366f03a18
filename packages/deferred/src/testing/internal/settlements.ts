/** The arrows out of running. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { claim, claimOne, enqueue, get, idsOf, insert, mustGet, settle, succeed } from "./records.ts"

export const settlements: Chapter = {
  title: "settle",
  tests: (test) => {
    test(
      "Succeed ends the record with its result",
      Effect.gen(function* () {
        const id = yield* insert()
        const claimed = yield* claimOne(10)
        assert.strictEqual(yield* settle(claimed, { _tag: "Succeed", result: '{"a":1}' }, 20), "Settled")
        assert.deepInclude(yield* mustGet(id), {
          state: "succeeded",
          result: '{"a":1}',
          endedAt: 20,
          attempt: 1,
          leaseUntil: undefined,
        })
        assert.deepStrictEqual(yield* claim(1_000_000), [])
      }),
    )
    test(
      "Succeed removes a record that is not to be kept",
      Effect.gen(function* () {
        const id = yield* insert({ keep: 0 })
        yield* succeed(yield* claimOne(0), 0)
        assert.isUndefined(yield* get(id))
      }),
    )
    test(
      "Retry schedules the record again, with the failure kept and the attempt counted",
      Effect.gen(function* () {
        const id = yield* insert()
        yield* settle(yield* claimOne(10), { _tag: "Retry", eta: 500, failure: '{"message":"no"}' }, 20)
        assert.deepInclude(yield* mustGet(id, 20), {
          state: "scheduled",
          eta: 500,
          attempt: 1,
          failure: '{"message":"no"}',
          firstAttemptAt: 10,
        })
        assert.deepStrictEqual(yield* claim(499), [])
        assert.deepInclude(yield* claimOne(500), { id, attempt: 2, firstAttemptAt: 10, crashes: 0 })
      }),
    )
    test(
      "Retry and Snooze take a time in the past for now",
      Effect.gen(function* () {
        const waiting = yield* insert({ eta: 15 })
        yield* enqueue([{}, {}])
        const [retried, snoozed] = yield* claim(10)
        yield* settle(retried!, { _tag: "Retry", eta: 1, failure: "{}" }, 20)
        yield* settle(snoozed!, { _tag: "Snooze", eta: 1 }, 20)
        for (const { id } of [retried!, snoozed!]) assert.strictEqual((yield* mustGet(id, 20)).eta, 20)
        assert.deepStrictEqual(idsOf(yield* claim(20)), [waiting, retried!.id, snoozed!.id])
      }),
    )
    test(
      "Snooze schedules it again and gives the attempt back",
      Effect.gen(function* () {
        const id = yield* insert()
        yield* settle(yield* claimOne(0), { _tag: "Snooze", eta: 500 }, 20)
        assert.deepInclude(yield* mustGet(id, 20), { state: "scheduled", eta: 500, attempt: 0 })
        assert.deepInclude(yield* claimOne(500), { attempt: 1 })
      }),
    )
    test(
      "Release makes it ready at once and gives the attempt back",
      Effect.gen(function* () {
        const id = yield* insert()
        yield* settle(yield* claimOne(0), { _tag: "Release" }, 20)
        assert.deepInclude(yield* mustGet(id, 20), { state: "ready", attempt: 0, crashes: 0 })
        assert.deepInclude(yield* claimOne(20), { id, attempt: 1 })
      }),
    )
    test(
      "Cancel ends it as cancelled",
      Effect.gen(function* () {
        const id = yield* insert()
        yield* settle(yield* claimOne(0), { _tag: "Cancel" }, 20)
        assert.deepInclude(yield* mustGet(id), { state: "cancelled", endedAt: 20 })
      }),
    )
    test(
      "Bury makes it a dead letter with its reason, result and failure",
      Effect.gen(function* () {
        const id = yield* insert({ keep: 0 })
        const claimed = yield* claimOne(0)
        yield* settle(claimed, { _tag: "Bury", reason: "RetriesExhausted", result: '"e"', failure: '"f"' }, 20)
        assert.deepInclude(yield* mustGet(id), {
          state: "dead",
          reason: "RetriesExhausted",
          result: '"e"',
          failure: '"f"',
          endedAt: 20,
        })
        assert.deepStrictEqual(yield* claim(1_000_000), [])
      }),
    )
    test(
      "is fenced: a second settlement of a lease changes nothing, in a later call or in the same",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const { token } = yield* claimOne(0)
        const outcomes = yield* queue.settle({
          settlements: [
            { id, token, _tag: "Succeed", result: "1" },
            { id, token, _tag: "Succeed", result: "2" },
            { id, token: token + 1, _tag: "Release" },
          ],
          now: 5,
        })
        assert.deepStrictEqual(outcomes, ["Settled", "LeaseLost", "LeaseLost"])
        const later = yield* queue.settle({ settlements: [{ id, token, _tag: "Release" }], now: 6 })
        assert.deepStrictEqual(later, ["LeaseLost"])
        assert.deepInclude(yield* mustGet(id), { state: "succeeded", result: "1" })
      }),
    )
    test(
      "is fenced against the token of a released and claimed again record",
      Effect.gen(function* () {
        yield* insert()
        const first = yield* claimOne(0)
        yield* settle(first, { _tag: "Release" }, 1)
        const second = yield* claimOne(2)
        assert.strictEqual(yield* succeed(first, 3), "LeaseLost")
        assert.strictEqual(yield* succeed(second, 3), "Settled")
      }),
    )
    test(
      "settles each of a batch on its own: one that is lost does not touch the others",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue([{}, {}, {}])
        const claimed = yield* claim(0)
        const outcomes = yield* queue.settle({
          settlements: claimed.map(({ id, token }, n) => ({
            id,
            token: n === 1 ? token + 7 : token,
            _tag: "Succeed",
            result: undefined,
          })),
          now: 5,
        })
        assert.deepStrictEqual(outcomes, ["Settled", "LeaseLost", "Settled"])
        const states = yield* Effect.forEach(idsOf(claimed), (id) => mustGet(id))
        assert.deepStrictEqual(
          states.map(({ state }) => state),
          ["succeeded", "running", "succeeded"],
        )
      }),
    )
    test(
      "knows nothing of a record that never was",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = queue.nextId(0, Math.random)
        const outcomes = yield* queue.settle({ settlements: [{ id, token: 1, _tag: "Release" }], now: 0 })
        assert.deepStrictEqual(outcomes, ["LeaseLost"])
      }),
    )
    test(
      "keeps the failure of the attempt before when a burial brings none",
      Effect.gen(function* () {
        const id = yield* insert()
        yield* settle(yield* claimOne(0), { _tag: "Retry", eta: 0, failure: '"first"' }, 0)
        const arrow = { _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: undefined } as const
        yield* settle(yield* claimOne(0), arrow, 1)
        assert.strictEqual((yield* mustGet(id)).failure, '"first"')
      }),
    )
  },
}
