/** Unique keys: of the records of a task, one at the most holds a key. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { NewRecord, Unique } from "../../TaskRecord.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claim, claimOne, enqueue, get, insert, mustGet, settle, succeed } from "./records.ts"

const untilEnd: Unique = { key: "k", while: ["waiting", "running"] }
const untilStart: Unique = { key: "k", while: ["waiting"] }

const tags = (fields: ReadonlyArray<Partial<NewRecord>>, now = 0) =>
  Effect.map(enqueue(fields, now), (outcomes) => outcomes.map(({ _tag }) => _tag))

export const unique: Chapter = {
  title: "unique keys",
  tests: (test) => {
    test(
      "gives the record that holds the key instead of a second one, in whichever queue",
      Effect.gen(function* () {
        const id = yield* insert({ unique: untilEnd, payload: "1" })
        assert.strictEqual((yield* mustGet(id)).uniqueKey, "k")
        assert.deepStrictEqual(yield* enqueue([{ unique: untilEnd, payload: "2" }]), [{ _tag: "Existing", id }])
        assert.deepStrictEqual(yield* enqueue([{ unique: untilEnd, queue: "other" }]), [{ _tag: "Existing", id }])
        assert.strictEqual((yield* mustGet(id)).payload, "1")
        assert.strictEqual((yield* claim(0)).length, 1)
      }),
    )
    test(
      "tells tasks and keys apart, whatever is in them",
      Effect.gen(function* () {
        const key = (key: string): Unique => ({ key, while: ["waiting"] })
        const fields = [
          { task: "a\nb", unique: key("c") },
          { task: "a", unique: key("b\nc") },
          { task: "a", unique: key("B\nC") },
          { task: "a", unique: key("") },
          { task: "a", unique: key(" ") },
          { task: "a" },
          { task: "a" },
        ]
        assert.deepStrictEqual(
          yield* tags(fields),
          fields.map(() => "Inserted"),
        )
        assert.deepStrictEqual(yield* tags([{ task: "a", unique: key("") }]), ["Existing"])
      }),
    )
    test(
      "holds within one call, and stores the others of the call",
      Effect.gen(function* () {
        const [first, second, third] = yield* enqueue([{ unique: untilEnd }, { unique: untilEnd }, {}])
        assert.strictEqual(first?._tag, "Inserted")
        assert.deepStrictEqual(second, { ...first, _tag: "Existing" })
        assert.strictEqual(third?._tag, "Inserted")
        assert.strictEqual((yield* claim(0)).length, 2)
      }),
    )
    test(
      "holds when many want it at once",
      Effect.gen(function* () {
        const outcomes = yield* Effect.all(
          Array.from({ length: 50 }, () => tags([{ unique: untilEnd }])),
          { concurrency: "unbounded" },
        )
        assert.strictEqual(outcomes.flat().filter((tag) => tag === "Inserted").length, 1)
        assert.strictEqual(outcomes.flat().filter((tag) => tag === "Existing").length, 49)
      }),
    )
    test(
      "until its end: held while it waits, runs, is tried again; free when it has ended, however",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const again = () => tags([{ unique: untilEnd }], 100)
        yield* insert({ unique: untilEnd })
        const first = yield* claimOne(0)
        assert.deepStrictEqual(yield* again(), ["Existing"])
        yield* settle(first, { _tag: "Retry", eta: 50, failure: "{}" }, 10)
        assert.deepStrictEqual(yield* again(), ["Existing"])
        yield* succeed(yield* claimOne(60), 60)
        assert.deepStrictEqual(yield* again(), ["Inserted"])
        yield* bury(yield* claimOne(100), 100)
        assert.deepStrictEqual(yield* again(), ["Inserted"])
        const { id } = yield* claimOne(100)
        yield* queue.cancel({ ids: [id], reason: "", now: 100 })
        assert.deepStrictEqual(yield* again(), ["Existing"])
        yield* queue.settle({ settlements: [{ id, token: 1, _tag: "Cancel" }], now: 100 })
        assert.deepStrictEqual(yield* again(), ["Inserted"])
      }),
    )
    test(
      "until its start: free from the claim on, for good, also when the record is tried again",
      Effect.gen(function* () {
        const first = yield* insert({ unique: untilStart })
        assert.deepStrictEqual(yield* tags([{ unique: untilStart }]), ["Existing"])
        const claimed = yield* claimOne(0)
        const second = yield* insert({ unique: untilStart, eta: 500 })
        yield* settle(claimed, { _tag: "Retry", eta: 500, failure: "{}" }, 10)
        assert.deepStrictEqual(yield* enqueue([{ unique: untilStart }]), [{ _tag: "Existing", id: second }])
        assert.strictEqual((yield* mustGet(first, 10)).state, "scheduled")
        assert.strictEqual((yield* claim(500)).length, 2)
        assert.deepStrictEqual(yield* tags([{ unique: untilStart }]), ["Inserted"])
      }),
    )
    test(
      "as long as its result is kept, when it is held in ended states too",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const kept: Unique = { key: "k", while: ["waiting", "running", "succeeded"] }
        const id = yield* insert({ unique: kept, keep: 100 })
        yield* succeed(yield* claimOne(0), 10)
        assert.deepStrictEqual(yield* enqueue([{ unique: kept }], 50), [{ _tag: "Existing", id }])
        yield* queue.prune({ now: 110, deadBefore: 0, limit: 10 })
        assert.deepStrictEqual(yield* tags([{ unique: kept, keep: 0 }], 110), ["Inserted"])
        yield* succeed(yield* claimOne(110), 110)
        assert.deepStrictEqual(yield* tags([{ unique: kept }], 110), ["Inserted"])
      }),
    )
    test(
      "is free when the record is removed or purged",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ unique: untilEnd })
        yield* queue.remove({ ids: [id] })
        yield* insert({ unique: untilEnd })
        yield* queue.purge({ queue: "default" })
        yield* insert({ unique: untilEnd })
      }),
    )
    test(
      "is free when a lost lease or an expiry ends the record",
      Effect.gen(function* () {
        yield* insert({ unique: untilEnd, maxCrashes: 0 })
        yield* claim(0, { lease: 10 })
        yield* claim(10)
        yield* insert({ unique: untilEnd, expiresAt: 20 }, 10)
        yield* claim(20)
        yield* insert({ unique: untilEnd }, 20)
      }),
    )
    test(
      "is taken again by a dead letter that is redriven, if nobody holds it",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const first = yield* insert({ unique: untilEnd })
        yield* bury(yield* claimOne(0), 0)
        yield* queue.redrive({ ids: [first], now: 10 })
        assert.deepStrictEqual(yield* enqueue([{ unique: untilEnd }], 10), [{ _tag: "Existing", id: first }])
        yield* bury(yield* claimOne(10), 10)
        const second = yield* insert({ unique: untilEnd }, 20)
        assert.deepStrictEqual(yield* queue.redrive({ ids: [first], now: 20 }), ["Redriven"])
        assert.deepStrictEqual(yield* enqueue([{ unique: untilEnd }], 20), [{ _tag: "Existing", id: second }])
        yield* queue.remove({ ids: [second] })
        // It went on without the key, for good.
        assert.deepStrictEqual(yield* tags([{ unique: untilEnd }], 20), ["Inserted"])
      }),
    )
    test(
      "comes after the name: what is refused by its name holds no key, what replaces brings its own",
      Effect.gen(function* () {
        const key = (key: string): Unique => ({ key, while: ["waiting", "running"] })
        const id = yield* insert({ name: "n", unique: key("a") })
        assert.deepStrictEqual(yield* enqueue([{ name: "n", unique: key("b") }]), [{ _tag: "Duplicate", id }])
        assert.deepStrictEqual(yield* tags([{ unique: key("b") }]), ["Inserted"])
        const replacing = (unique: Unique) => enqueue([{ name: "n", onDuplicate: "replace", unique, payload: "2" }])
        const [other] = yield* replacing(key("b"))
        assert.strictEqual(other?._tag, "Existing")
        assert.strictEqual((yield* mustGet(id)).payload, "{}")
        assert.deepStrictEqual(yield* replacing(key("a")), [{ _tag: "Replaced", id }])
        assert.deepStrictEqual(yield* replacing(key("c")), [{ _tag: "Replaced", id }])
        assert.strictEqual((yield* mustGet(id)).uniqueKey, "c")
        assert.deepStrictEqual(yield* tags([{ unique: key("a") }, { unique: key("c") }]), ["Inserted", "Existing"])
      }),
    )
    test(
      "leaves no name behind for a record that was not stored",
      Effect.gen(function* () {
        yield* insert({ unique: untilEnd })
        assert.deepStrictEqual(yield* tags([{ name: "n", unique: untilEnd }]), ["Existing"])
        const id = yield* insert({ name: "n" })
        assert.isDefined(yield* get(id))
      }),
    )
  },
}
