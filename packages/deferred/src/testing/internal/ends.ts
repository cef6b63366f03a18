/** Cancel, redrive, remove, purge, prune. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claim, claimOne, enqueue, get, idsOf, insert, mustGet, settle, succeed } from "./records.ts"

const cancel = (ids: ReadonlyArray<TaskId>, now: number, reason = "not wanted") =>
  Effect.flatMap(TaskQueue, (queue) => queue.cancel({ ids, reason, now }))
const prune = (now: number, options?: { readonly deadBefore?: number; readonly limit?: number }) =>
  Effect.flatMap(TaskQueue, (queue) =>
    queue.prune({ now, deadBefore: options?.deadBefore ?? Number.NEGATIVE_INFINITY, limit: options?.limit ?? 100 }),
  )

export const ends: Chapter = {
  title: "cancel, redrive, remove, purge, prune",
  tests: (test) => {
    test(
      "cancels what waits, marks what runs, leaves what has ended, in the order asked",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ended = yield* insert()
        yield* succeed(yield* claimOne(0), 0)
        const running = yield* insert()
        const { token } = yield* claimOne(0)
        const ready = yield* insert()
        const scheduled = yield* insert({ eta: 50 })
        const unknown = queue.nextId(0, Math.random)
        assert.deepStrictEqual(yield* cancel([unknown, ended, running, ready, scheduled], 5), [
          "NotFound",
          "TooLate",
          "Requested",
          "Cancelled",
          "Cancelled",
        ])
        assert.deepInclude(yield* mustGet(ready), { state: "cancelled", endedAt: 5, cancelRequested: "not wanted" })
        assert.deepInclude(yield* mustGet(running), { state: "running", cancelRequested: "not wanted" })
        assert.strictEqual((yield* mustGet(ended)).state, "succeeded")
        assert.deepStrictEqual(yield* claim(100), [])
        const extended = yield* queue.extend({ leases: [{ id: running, token }], until: 9999, now: 100 })
        assert.deepStrictEqual(extended, ["CancelRequested"])
      }),
    )
    test(
      "lets a running record that was cancelled never wait again: not by retry, snooze, release, nor by a crash",
      Effect.gen(function* () {
        yield* enqueue([{}, {}, {}, {}])
        const [retried, snoozed, released, crashed] = yield* claim(0, { lease: 100 })
        const ids = idsOf([retried!, snoozed!, released!, crashed!])
        yield* cancel(ids, 1)
        yield* settle(retried!, { _tag: "Retry", eta: 5, failure: "{}" }, 2)
        yield* settle(snoozed!, { _tag: "Snooze", eta: 5 }, 2)
        yield* settle(released!, { _tag: "Release" }, 2)
        assert.deepStrictEqual(yield* claim(100), [])
        const records = yield* Effect.forEach(ids, (id) => mustGet(id))
        assert.deepStrictEqual(
          records.map(({ attempt, state }) => `${state} after ${attempt}`),
          // Snoozing and releasing give the attempt back all the same.
          ["cancelled after 1", "cancelled after 0", "cancelled after 0", "cancelled after 1"],
        )
      }),
    )
    test(
      "lets a running record that was cancelled succeed: the work is done",
      Effect.gen(function* () {
        const id = yield* insert()
        const claimed = yield* claimOne(0)
        yield* cancel([id], 1)
        assert.strictEqual(yield* succeed(claimed, 2), "Settled")
        assert.strictEqual((yield* mustGet(id)).state, "succeeded")
      }),
    )
    test(
      "redrives a dead letter: ready again, counts set back, the last failure still readable",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ expiresAt: 50, maxCrashes: 0 })
        const arrow = { _tag: "Bury", reason: "PermanentFailure", result: '"r"', failure: '"f"' } as const
        yield* settle(yield* claimOne(0), arrow, 10)
        const waiting = yield* insert({ eta: 9999 })
        const unknown = queue.nextId(0, Math.random)
        assert.deepStrictEqual(yield* queue.redrive({ ids: [id, waiting, unknown], now: 100 }), [
          "Redriven",
          "NotDead",
          "NotFound",
        ])
        assert.deepInclude(yield* mustGet(id, 100), {
          state: "ready",
          eta: 100,
          attempt: 0,
          crashes: 0,
          firstAttemptAt: undefined,
          endedAt: undefined,
          reason: undefined,
          result: undefined,
          expiresAt: undefined,
          failure: '"f"',
        })
        const again = yield* claimOne(100)
        assert.deepInclude(again, { id, attempt: 1 })
        assert.strictEqual(yield* succeed(again, 110), "Settled")
      }),
    )
    test(
      "redrives nothing but dead letters",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const succeeded = yield* insert()
        yield* succeed(yield* claimOne(0), 0)
        const cancelled = yield* insert()
        yield* cancel([cancelled], 0)
        const running = yield* insert()
        yield* claimOne(0)
        const outcomes = yield* queue.redrive({ ids: [succeeded, cancelled, running], now: 5 })
        assert.deepStrictEqual(outcomes, ["NotDead", "NotDead", "NotDead"])
        assert.deepStrictEqual(yield* claim(5), [])
      }),
    )
    test(
      "lets a redriven record crash and be retried as often as a new one, also when it was to be cancelled before",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ maxCrashes: 1 })
        yield* claimOne(0, { lease: 10 })
        const second = yield* claimOne(10, { lease: 10 })
        yield* cancel([id], 11)
        yield* bury(second, 12)
        yield* queue.redrive({ ids: [id], now: 20 })
        assert.deepInclude(yield* mustGet(id, 20), { crashes: 0, cancelRequested: undefined })
        const third = yield* claimOne(20, { lease: 10 })
        assert.isAbove(third.token, second.token)
        assert.strictEqual(yield* succeed(second, 21), "LeaseLost")
        const fourth = yield* claimOne(30, { lease: 10 })
        yield* settle(fourth, { _tag: "Retry", eta: 50, failure: "{}" }, 31)
        assert.deepInclude(yield* mustGet(id, 31), { state: "scheduled", crashes: 1, attempt: 2 })
      }),
    )
    test(
      "cancels a record that was to be cancelled when its worker dies, however often one did",
      Effect.gen(function* () {
        const id = yield* insert({ maxCrashes: 0 })
        yield* claimOne(0, { lease: 10 })
        yield* cancel([id], 5)
        assert.deepStrictEqual(yield* claim(10), [])
        assert.deepInclude(yield* mustGet(id), { state: "cancelled", reason: undefined, crashes: 1, endedAt: 10 })
      }),
    )
    test(
      "removes what is not running",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const running = yield* insert({ priority: 1 })
        yield* claimOne(0)
        const waiting = yield* insert()
        const unknown = queue.nextId(0, Math.random)
        const outcomes = yield* queue.remove({ ids: [running, waiting, unknown] })
        assert.deepStrictEqual(outcomes, ["Running", "Removed", "NotFound"])
        assert.isUndefined(yield* get(waiting))
        assert.deepStrictEqual(yield* claim(0), [])
      }),
    )
    test(
      "removes what is dead and nothing else, when told so",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const dead = yield* insert({ priority: 3 })
        yield* bury(yield* claimOne(0), 0)
        const ended = yield* insert({ priority: 2 })
        yield* succeed(yield* claimOne(0), 0)
        const running = yield* insert({ priority: 1 })
        yield* claimOne(0)
        const waiting = yield* insert()
        const unknown = queue.nextId(0, Math.random)
        const ids = [dead, ended, running, waiting, unknown]
        const outcomes = yield* queue.remove({ ids, only: "dead" })
        assert.deepStrictEqual(outcomes, ["Removed", "NotDead", "NotDead", "NotDead", "NotFound"])
        const left = yield* queue.get({ ids, now: 0 })
        assert.deepStrictEqual(
          left.map((record) => record?.state),
          [undefined, "succeeded", "running", "ready", undefined],
        )
      }),
    )
    test(
      "purges what waits in one queue, and nothing else",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const running = yield* insert({ priority: 1 })
        yield* claimOne(0)
        const ended = yield* insert({ priority: 1 })
        yield* succeed(yield* claimOne(0), 0)
        const other = yield* insert({ queue: "other" })
        yield* enqueue([{}, { eta: 500 }, { eta: 900 }])
        assert.strictEqual(yield* queue.purge({ queue: "default" }), 3)
        assert.strictEqual(yield* queue.purge({ queue: "default" }), 0)
        assert.strictEqual((yield* mustGet(running)).state, "running")
        assert.strictEqual((yield* mustGet(ended)).state, "succeeded")
        assert.strictEqual((yield* mustGet(other)).state, "ready")
        assert.deepStrictEqual(yield* claim(999), [])
      }),
    )
    test(
      "prunes ended records when their time to be kept is over, dead letters only when asked to",
      Effect.gen(function* () {
        const kept = yield* insert({ keep: 100 })
        yield* succeed(yield* claimOne(0), 10)
        const forever = yield* insert({ keep: Number.POSITIVE_INFINITY })
        yield* succeed(yield* claimOne(10), 10)
        const cancelled = yield* insert({ keep: 50 })
        yield* cancel([cancelled], 10)
        const dead = yield* insert({ keep: 1 })
        yield* bury(yield* claimOne(10), 10)
        const waiting = yield* insert({ keep: 0, eta: 99_999 })
        assert.strictEqual(yield* prune(59), 0)
        assert.strictEqual(yield* prune(60), 1)
        assert.isUndefined(yield* get(cancelled))
        assert.strictEqual(yield* prune(110), 1)
        assert.isUndefined(yield* get(kept))
        assert.strictEqual(yield* prune(10_000, { deadBefore: 10 }), 0)
        assert.strictEqual(yield* prune(10_000, { deadBefore: 11 }), 1)
        assert.isUndefined(yield* get(dead))
        assert.isDefined(yield* get(forever))
        assert.isDefined(yield* get(waiting))
      }),
    )
    test(
      "prunes no more at once than it is told to",
      Effect.gen(function* () {
        yield* enqueue([{ keep: 1 }, { keep: 1 }, { keep: 1 }])
        for (const claimed of yield* claim(0)) yield* succeed(claimed, 0)
        assert.strictEqual(yield* prune(100, { limit: 2 }), 2)
        assert.strictEqual(yield* prune(100, { limit: 2 }), 1)
      }),
    )
  },
}
