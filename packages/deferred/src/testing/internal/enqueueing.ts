/** defer ──► scheduled | ready, and the ids of records. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { claim, enqueue, idsOf, insert, mustGet, record } from "./records.ts"

export const enqueueing: Chapter = {
  title: "enqueue",
  tests: (test) => {
    test(
      "keeps everything it was given",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = yield* record({
          task: "Other",
          version: 3,
          queue: "mail",
          payload: '{"text":"häß\\n\u2028 \\u0000"}',
          headers: { tenant: "acme", "x-odd": "ü" },
          priority: -2.5,
          eta: 1_763_700_000_123,
          name: "name_1",
          key: "acme \u2028 '%_ü",
          memberOf: queue.nextId(0, Math.random),
          target: "gpu",
          expiresAt: 1_763_800_000_000,
          retry: "{}",
          timeout: 1.5,
          lease: 77,
          maxCrashes: 0,
          keep: 9,
        })
        yield* queue.enqueue({ records: [given], now: 1_763_600_000_000 })
        const { onDuplicate, tombstone, unique, join, ...kept } = given
        assert.deepInclude(yield* mustGet(given.id), {
          ...kept,
          state: "scheduled",
          enqueuedAt: 1_763_600_000_000,
          attempt: 0,
          crashes: 0,
          worker: undefined,
          endedAt: undefined,
          reason: undefined,
          result: undefined,
        })
      }),
    )
    test(
      "is ready from its eta on, by the clock of whoever looks, and takes the past for now",
      Effect.gen(function* () {
        const later = yield* insert({ eta: 100 }, 50)
        assert.strictEqual((yield* mustGet(later, 99)).state, "scheduled")
        assert.strictEqual((yield* mustGet(later, 100)).state, "ready")
        const past = yield* insert({ eta: 10 }, 50)
        assert.strictEqual((yield* mustGet(past, 50)).eta, 50)
      }),
    )
    test(
      "takes a thousand records at once and keeps their order",
      Effect.gen(function* () {
        const outcomes = yield* enqueue(Array.from({ length: 1000 }, (_, n) => ({ payload: String(n) })))
        assert.deepStrictEqual(new Set(outcomes.map(({ _tag }) => _tag)), new Set(["Inserted"]))
        const claimed = yield* claim(0, { limit: 1000 })
        assert.deepStrictEqual(
          claimed.map(({ payload }) => Number(payload)),
          Array.from({ length: 1000 }, (_, n) => n),
        )
      }),
    )
    test(
      "takes many calls at once, each with its own outcome",
      Effect.gen(function* () {
        const ids = yield* Effect.all(
          Array.from({ length: 200 }, (_, n) => insert({ payload: String(n) })),
          { concurrency: "unbounded" },
        )
        const records = yield* Effect.forEach(ids, (id) => mustGet(id))
        assert.deepStrictEqual(
          records.map(({ payload }) => Number(payload)),
          Array.from({ length: 200 }, (_, n) => n),
        )
      }),
    )
    test(
      "takes nothing for nothing to do",
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* enqueue([]), [])
      }),
    )
    test(
      "gives the record that is there when the same id comes again, and changes nothing",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = yield* record({ payload: "1" })
        yield* queue.enqueue({ records: [given], now: 0 })
        const again = yield* queue.enqueue({ records: [{ ...given, payload: "2" }], now: 5 })
        assert.deepStrictEqual(again, [{ _tag: "Existing", id: given.id }])
        assert.strictEqual((yield* mustGet(given.id)).payload, "1")
        assert.strictEqual((yield* claim(5)).length, 1)
      }),
    )
    test(
      "gives ids that rise, also within a millisecond and when the clock moves back",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ids = [5, 5, 5, 9, 9, 3, 3, 10].map((now) => queue.nextId(now, Math.random))
        assert.deepStrictEqual([...ids].sort(), ids)
        assert.strictEqual(new Set(ids).size, ids.length)
        const stored = yield* Effect.forEach([1, 2, 3], () => insert())
        assert.deepStrictEqual(idsOf(yield* claim(0)), stored)
      }),
    )
  },
}
