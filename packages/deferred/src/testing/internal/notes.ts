/** What is noted of attempts: how far they have come, and how they ended. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { TaskId } from "../../TaskId.ts"
import { type Change, TaskQueue } from "../../TaskQueue.ts"
import { ledgerLength } from "../../TaskRecord.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claimOne, enqueue, insert, mustGet, settle, succeed } from "./records.ts"

const ledger = (id: TaskId) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    const [attempts] = yield* queue.ledger({ ids: [id] })
    return attempts ?? []
  })

export const notes: Chapter = {
  title: "progress and ledger",
  tests: (test) => {
    test(
      "keeps the last word of a running record's progress, also when it has ended",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        assert.isUndefined((yield* mustGet(id)).progress)
        const { token } = yield* claimOne(0)
        const updates = ["1", "2"].map((progress) => ({ id, token, progress }))
        assert.deepStrictEqual(yield* queue.progress({ updates, now: 0 }), ["Recorded", "Recorded"])
        assert.strictEqual((yield* mustGet(id)).progress, "2")
        yield* queue.settle({ settlements: [{ id, token, _tag: "Succeed", result: undefined }], now: 0 })
        assert.strictEqual((yield* mustGet(id)).progress, "2")
      }),
    )
    test(
      "takes progress from the holder of the lease only, each update on its own",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const first = yield* claimOne(0, { lease: 10 })
        const second = yield* claimOne(10)
        const update = ({ token }: { readonly token: number }, progress: string) => ({ id, token, progress })
        const outcomes = yield* queue.progress({ updates: [update(first, "1"), update(second, "2")], now: 10 })
        assert.deepStrictEqual(outcomes, ["LeaseLost", "Recorded"])
        yield* succeed(second, 10)
        assert.deepStrictEqual(yield* queue.progress({ updates: [update(second, "3")], now: 10 }), ["LeaseLost"])
        assert.strictEqual((yield* mustGet(id)).progress, "2")
      }),
    )
    test(
      "takes a last word on progress with a settlement, if the lease holds",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const first = yield* claimOne(0, { lease: 10 })
        const second = yield* claimOne(10)
        const settleWith = ({ token }: { readonly token: number }, progress: string) =>
          queue.settle({ settlements: [{ id, token, _tag: "Retry", eta: 20, failure: "{}", progress }], now: 10 })
        assert.deepStrictEqual(yield* settleWith(first, "1"), ["LeaseLost"])
        assert.isUndefined((yield* mustGet(id)).progress)
        assert.deepStrictEqual(yield* settleWith(second, "2"), ["Settled"])
        assert.strictEqual((yield* mustGet(id)).progress, "2")
        yield* settle(yield* claimOne(20), { _tag: "Release" }, 20)
        assert.strictEqual((yield* mustGet(id)).progress, "2")
      }),
    )
    test(
      "forgets the progress of a record that is redriven or replaced",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n" })
        for (const again of ["redrive", "replace"]) {
          const claimed = yield* claimOne(0)
          yield* queue.progress({ updates: [{ id, token: claimed.token, progress: "1" }], now: 0 })
          if (again === "redrive") {
            yield* bury(claimed, 0)
            yield* queue.redrive({ ids: [id], now: 0 })
          } else {
            yield* settle(claimed, { _tag: "Release" }, 0)
            yield* enqueue([{ name: "n", onDuplicate: "replace" }])
          }
          assert.isUndefined((yield* mustGet(id)).progress, again)
        }
      }),
    )
    test(
      "changes tell of progress",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const changes = yield* queue.changes
        const id = yield* insert()
        const { token } = yield* claimOne(0)
        yield* queue.progress({ updates: [{ id, token, progress: "1" }], now: 0 })
        const isIt = (change: Change) => change._tag === "Elsewhere" || change._tag === "Progress"
        const told = yield* Stream.runHead(Stream.filter(changes, isIt))
        assert.strictEqual(told._tag, "Some")
      }),
    )
    test(
      "has every ended attempt with its worker, times, outcome and failure, the oldest first",
      Effect.gen(function* () {
        const id = yield* insert()
        const by = (worker: string, startedAt: number) => claimOne(startedAt, { worker, lease: 50 })
        yield* settle(yield* by("a", 0), { _tag: "Retry", eta: 10, failure: '{"tag":"No"}' }, 5)
        yield* settle(yield* by("b", 10), { _tag: "Snooze", eta: 20 }, 15)
        yield* settle(yield* by("c", 20), { _tag: "Release" }, 25)
        yield* by("d", 30)
        yield* succeed(yield* by("e", 80), 85)
        const attempts = yield* ledger(id)
        const shown = attempts.map(({ attempt, endedAt, outcome, startedAt, worker }) => [
          worker,
          attempt,
          startedAt,
          endedAt,
          outcome,
        ])
        assert.deepStrictEqual(shown, [
          ["a", 1, 0, 5, "Retry"],
          ["b", 2, 10, 15, "Snooze"],
          ["c", 2, 20, 25, "Release"],
          ["d", 2, 30, 80, "Crash"],
          ["e", 3, 80, 85, "Succeed"],
        ])
        assert.deepStrictEqual(
          attempts.map(({ failure }) => (failure === undefined ? undefined : JSON.parse(failure).tag)),
          ["No", undefined, undefined, "Crashed", undefined],
        )
      }),
    )
    test(
      "has attempts that were cancelled or buried, and none of what never ran",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const [cancelled, buried, waiting] = [
          yield* insert({ priority: 2 }),
          yield* insert({ priority: 1 }),
          yield* insert(),
        ]
        yield* settle(yield* claimOne(0), { _tag: "Cancel" }, 1)
        yield* bury(yield* claimOne(0), 2)
        const unknown = queue.nextId(0, () => 0)
        const ledgers = yield* queue.ledger({ ids: [cancelled, unknown, buried, waiting] })
        assert.deepStrictEqual(
          ledgers.map((attempts) => attempts.map(({ outcome }) => outcome)),
          [["Cancel"], [], ["Bury"], []],
        )
      }),
    )
    test(
      "keeps the ledger when a record is redriven, not when it is replaced",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ name: "n" })
        yield* bury(yield* claimOne(0), 1)
        yield* queue.redrive({ ids: [id], now: 2 })
        yield* settle(yield* claimOne(2), { _tag: "Retry", eta: 3, failure: "{}" }, 2)
        assert.deepStrictEqual(
          (yield* ledger(id)).map(({ attempt, outcome }) => [attempt, outcome]),
          [
            [1, "Bury"],
            [1, "Retry"],
          ],
        )
        yield* enqueue([{ name: "n", onDuplicate: "replace" }], 3)
        assert.deepStrictEqual(yield* ledger(id), [])
      }),
    )
    test(
      "keeps the newest attempts of a record that is tried very often",
      Effect.gen(function* () {
        const id = yield* insert()
        const last = 3 * ledgerLength
        for (let at = 1; at <= last; at++) yield* settle(yield* claimOne(at), { _tag: "Snooze", eta: 0 }, at)
        const attempts = yield* ledger(id)
        assert.isAtLeast(attempts.length, ledgerLength)
        assert.isBelow(attempts.length, last)
        assert.deepStrictEqual(
          attempts.slice(-ledgerLength).map(({ startedAt }) => startedAt),
          Array.from({ length: ledgerLength }, (_, index) => last - ledgerLength + index + 1),
        )
      }),
    )
  },
}
