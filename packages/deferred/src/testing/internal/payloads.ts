/** Payloads that are stored apart: what a driver knows of them. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claimOne, enqueue, insert, mustGet, succeed } from "./records.ts"

const refs = ["a", "b", "c"]

export const payloads: Chapter = {
  title: "payloads stored apart",
  tests: (test) => {
    test(
      "keeps a record's reference and knows which are in use",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ payload: "", payloadRef: "a" })
        yield* enqueue([{ payloadRef: "b" }, {}])
        assert.deepInclude(yield* mustGet(id), { payload: "", payloadRef: "a" })
        assert.strictEqual((yield* claimOne(0)).payloadRef, "a")
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs }), [true, true, false])
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs: [] }), [])
      }),
    )
    test(
      "uses a reference as long as a record with it is there, in whatever state",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const used = () => Effect.map(queue.payloadRefs({ refs: ["a"] }), ([used]) => used)
        const id = yield* insert({ payloadRef: "a" })
        yield* bury(yield* claimOne(0), 0)
        assert.isTrue(yield* used())
        yield* queue.redrive({ ids: [id], now: 0 })
        yield* succeed(yield* claimOne(0), 0)
        assert.isTrue(yield* used())
        yield* queue.remove({ ids: [id] })
        assert.isFalse(yield* used())
        yield* insert({ payloadRef: "a", keep: 0 })
        yield* succeed(yield* claimOne(0), 0)
        assert.isFalse(yield* used())
        yield* insert({ payloadRef: "a" })
        yield* queue.purge({ queue: "default" })
        assert.isFalse(yield* used())
      }),
    )
    test(
      "uses a reference until the last record with it has gone",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const first = yield* insert({ payloadRef: "a" })
        yield* insert({ payloadRef: "a" })
        yield* queue.remove({ ids: [first] })
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs: ["a"] }), [true])
      }),
    )
    test(
      "lets go of the reference of a record that is replaced, and takes none of one that is refused",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* insert({ name: "n", payloadRef: "a" })
        yield* enqueue([{ name: "n", payloadRef: "c" }])
        yield* enqueue([{ name: "n", onDuplicate: "replace", payloadRef: "b" }])
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs }), [false, true, false])
      }),
    )
  },
}
