/** The latest wins: records that take the place of the one with their unique key, or follow it. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Latest, NewRecord, UniqueWhile } from "../../TaskRecord.ts"
import type { Chapter } from "./chapter.ts"
import {
  bury,
  claim,
  claimOne,
  claimResult,
  enqueue,
  firstChange,
  get,
  idsOf,
  insert,
  joinOf,
  mustGet,
  record,
  settle,
  succeed,
} from "./records.ts"

const uniqueOf = (latest?: Latest, whileIn: ReadonlyArray<UniqueWhile> = ["waiting", "running"]) => ({
  key: "k",
  while: whileIn,
  latest,
})

/** Enqueues one record that is the latest with its key. */
const latest = (fields?: Partial<NewRecord>, now = 0, options: Latest = {}) =>
  Effect.map(enqueue([{ unique: uniqueOf(options), ...fields }], now), ([outcome]) => outcome!)

/** The holder of the key, running, with the record that follows it. */
const followed = Effect.fnUntraced(function* (
  fields?: { readonly holder?: Partial<NewRecord>; readonly follower?: Partial<NewRecord> },
  lease = 1000,
) {
  yield* insert({ unique: uniqueOf(), priority: 9, ...fields?.holder })
  const holder = yield* claimOne(0, { lease })
  const outcome = yield* latest(fields?.follower)
  if (outcome._tag !== "Inserted") return yield* Effect.die(new Error(`it does not follow: ${outcome._tag}`))
  return { holder, follower: outcome.id }
})

const replaced = (id: TaskId) => ({ _tag: "Replaced", id }) as const
const existing = (id: TaskId) => ({ _tag: "Existing", id }) as const

export const theLatest: Chapter = {
  title: "the latest of a unique key",
  tests: (test) => {
    test(
      "takes the place of one that waits: the content is new, the id and the order stay",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ unique: uniqueOf(), payload: "1", eta: 50 })
        const other = yield* insert()
        const content = {
          payload: "2",
          priority: 3,
          headers: { a: "b" },
          key: "K",
          target: "gpu",
          queue: "mail",
          eta: 70,
        }
        assert.deepStrictEqual(yield* latest(content, 10), replaced(id))
        assert.deepInclude(yield* mustGet(id, 10), {
          ...content,
          id,
          enqueuedAt: 10,
          state: "scheduled",
          uniqueKey: "k",
        })
        const { records } = yield* queue.find({ limit: 9, now: 0 })
        assert.deepStrictEqual(idsOf(records), [id, other])
        assert.deepStrictEqual(idsOf(yield* claim(100)), [other])
        assert.deepStrictEqual(idsOf(yield* claim(100, { queue: "mail", targets: ["gpu"] })), [id])
      }),
    )
    test(
      "takes the place of one that does not say so itself, and not the other way round",
      Effect.gen(function* () {
        const plain = { key: "k", while: ["waiting", "running"] } as const
        const id = yield* insert({ unique: plain, payload: "1" })
        assert.deepStrictEqual(yield* latest({ payload: "2" }), replaced(id))
        assert.deepStrictEqual(yield* enqueue([{ unique: plain, payload: "3" }]), [existing(id)])
        assert.strictEqual((yield* mustGet(id)).payload, "2")
        assert.strictEqual((yield* latest({ task: "Other" }))._tag, "Inserted")
        assert.strictEqual((yield* latest({ unique: { ...uniqueOf({}), key: "l" } }))._tag, "Inserted")
      }),
    )
    test(
      "begins anew in the place of one that was tried already",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert({ unique: uniqueOf(), expiresAt: 90, payloadRef: "a" })
        yield* settle(
          yield* claimOne(0),
          { _tag: "Retry", eta: 50, failure: '{"tag":"Odd"}', progress: '"half"' } as const,
          0,
        )
        assert.deepStrictEqual(yield* latest({ expiresAt: 200 }, 10), replaced(id))
        assert.deepInclude(yield* mustGet(id, 10), {
          attempt: 0,
          failure: undefined,
          progress: undefined,
          worker: undefined,
          firstAttemptAt: undefined,
          eta: 10,
        })
        assert.deepStrictEqual(yield* queue.ledger({ ids: [id] }), [[]])
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs: ["a"] }), [false])
        yield* claim(200)
        assert.deepInclude(yield* mustGet(id), { state: "dead", reason: "Expired" })
      }),
    )
    test(
      "brings its name, and the one that was there is free",
      Effect.gen(function* () {
        const id = yield* insert({ unique: uniqueOf(), name: "old", tombstone: 1000 })
        assert.deepStrictEqual(yield* latest({ name: "new" }), replaced(id))
        assert.strictEqual((yield* mustGet(id)).name, "new")
        yield* insert({ name: "old", task: "Other" })
        assert.deepStrictEqual(yield* enqueue([{ name: "new", task: "Other" }]), [{ _tag: "Duplicate", id }])
        assert.deepStrictEqual(yield* latest({}), replaced(id))
        yield* insert({ name: "new", task: "Other" })
      }),
    )
    test(
      "is refused by its name first",
      Effect.gen(function* () {
        const holder = yield* insert({ unique: uniqueOf(), payload: "1" })
        const named = yield* insert({ name: "n", task: "Other" })
        assert.deepStrictEqual(yield* latest({ name: "n" }), { _tag: "Duplicate", id: named })
        assert.deepStrictEqual(yield* latest({ name: "n", onDuplicate: "ignore" }), existing(named))
        assert.deepStrictEqual(yield* latest({ name: "n", onDuplicate: "replace" }), existing(holder))
        assert.strictEqual((yield* mustGet(holder)).payload, "1")
      }),
    )
    test(
      "is the last one of a call, or of many at once",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const outcomes = yield* enqueue(["1", "2", "3"].map((payload) => ({ payload, unique: uniqueOf({}) })))
        const [first, ...others] = outcomes
        if (first?._tag !== "Inserted") return assert.fail(first?._tag)
        const { id } = first
        assert.deepStrictEqual(others, [replaced(id), replaced(id)])
        assert.strictEqual((yield* mustGet(id)).payload, "3")
        const all = yield* Effect.forEach(Array.from({ length: 50 }), () => latest({ task: "Other" }), {
          concurrency: "unbounded",
        })
        const tags = all.map(({ _tag }) => _tag).sort()
        assert.deepStrictEqual(tags, ["Inserted", ...Array.from({ length: 49 }, () => "Replaced")])
        assert.strictEqual((yield* queue.find({ task: "Other", limit: 9, now: 0 })).records.length, 1)
      }),
    )
    test(
      "follows one that runs: held back until that has ended, however",
      Effect.gen(function* () {
        for (const [arrow, state] of [
          [{ _tag: "Succeed", result: undefined }, "succeeded"],
          [{ _tag: "Cancel" }, "cancelled"],
          [{ _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: undefined }, "dead"],
        ] as const) {
          const { follower, holder } = yield* followed()
          assert.deepInclude(yield* mustGet(follower), {
            state: "scheduled",
            eta: Number.POSITIVE_INFINITY,
            uniqueKey: "k",
          })
          assert.deepStrictEqual(yield* claimResult(500), { records: [], nextAt: 1000 })
          yield* settle(holder, arrow, 600)
          assert.deepInclude(yield* mustGet(holder.id), { state, cancelRequested: undefined })
          assert.deepInclude(yield* mustGet(follower, 600), { state: "ready", eta: 600 })
          yield* succeed(yield* claimOne(600), 600)
        }
      }),
    )
    test(
      "follows one that runs until its worker has died too often",
      Effect.gen(function* () {
        const { follower, holder } = yield* followed({ holder: { maxCrashes: 0 } }, 50)
        assert.deepStrictEqual(idsOf(yield* claim(50)), [follower])
        assert.deepInclude(yield* mustGet(holder.id), { state: "dead", reason: "Crashed" })
      }),
    )
    test(
      "comes instead of another attempt: what it follows would wait again and is cancelled",
      Effect.scoped(
        Effect.gen(function* () {
          for (const arrow of [
            { _tag: "Retry", eta: 900, failure: "{}" },
            { _tag: "Snooze", eta: 900, pause: "queue" },
            { _tag: "Release" },
          ] as const) {
            const { follower, holder } = yield* followed()
            const ended = yield* firstChange("Ended", settle(holder, arrow, 600))
            assert.deepStrictEqual(ended?.ids, [holder.id])
            const superseded = { state: "cancelled", cancelRequested: "superseded", endedAt: 600 } as const
            assert.deepInclude(yield* mustGet(holder.id), superseded)
            const claimed = yield* claimOne(600)
            assert.strictEqual(claimed.id, follower)
            yield* succeed(claimed, 600)
          }
          const { follower, holder } = yield* followed({}, 50)
          assert.deepStrictEqual(idsOf(yield* claim(50)), [follower])
          assert.deepInclude(yield* mustGet(holder.id), {
            state: "cancelled",
            cancelRequested: "superseded",
            crashes: 1,
          })
        }),
      ),
    )
    test(
      "does not hide why what it follows was cancelled",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { holder } = yield* followed()
        yield* queue.cancel({ ids: [holder.id], reason: "why", now: 0 })
        yield* settle(holder, { _tag: "Release" }, 0)
        assert.deepInclude(yield* mustGet(holder.id), { state: "cancelled", cancelRequested: "why" })
      }),
    )
    test(
      "takes the place of one that follows already",
      Effect.gen(function* () {
        const { follower, holder } = yield* followed({ follower: { payload: "1" } })
        assert.deepStrictEqual(yield* latest({ payload: "2", priority: 2 }), replaced(follower))
        assert.deepInclude(yield* mustGet(follower), {
          payload: "2",
          state: "scheduled",
          eta: Number.POSITIVE_INFINITY,
        })
        assert.deepStrictEqual(yield* latest({ payload: "3" }), replaced(follower))
        yield* succeed(holder, 0)
        assert.deepInclude(yield* claimOne(0), { id: follower, payload: "3" })
      }),
    )
    test(
      "waits for its eta too, when it follows",
      Effect.gen(function* () {
        const early = yield* followed({ follower: { eta: 500 } })
        yield* succeed(early.holder, 100)
        assert.deepInclude(yield* mustGet(early.follower, 100), { state: "scheduled", eta: 500 })
        yield* succeed(yield* claimOne(500), 500)
        const late = yield* followed({ follower: { eta: 900 } })
        assert.deepStrictEqual(yield* latest({ eta: 300 }), replaced(late.follower))
        yield* succeed(late.holder, 200)
        assert.strictEqual((yield* mustGet(late.follower, 200)).eta, 300)
      }),
    )
    test(
      "holds the key once it waits for nothing more",
      Effect.gen(function* () {
        const { follower, holder } = yield* followed()
        const plain = { key: "k", while: ["waiting"] } as const
        assert.deepStrictEqual(yield* enqueue([{ unique: plain }]), [existing(holder.id)])
        yield* succeed(holder, 0)
        assert.deepStrictEqual(yield* enqueue([{ unique: plain }]), [existing(follower)])
        assert.deepStrictEqual(yield* latest({ payload: "2" }), replaced(follower))
        const claimed = yield* claimOne(0)
        assert.strictEqual((yield* latest())._tag, "Inserted")
        yield* succeed(claimed, 0)
        assert.strictEqual((yield* claim(0)).length, 1)
      }),
    )
    test(
      "goes on without the key where what it followed keeps it",
      Effect.gen(function* () {
        const kept = uniqueOf({}, ["waiting", "running", "succeeded"])
        const { follower, holder } = yield* followed({ holder: { unique: kept } })
        yield* succeed(holder, 0)
        assert.deepStrictEqual(yield* latest(), existing(holder.id))
        assert.deepStrictEqual(idsOf(yield* claim(0)), [follower])
      }),
    )
    test(
      "is stored beside one that gave up the key when it started",
      Effect.gen(function* () {
        yield* insert({ unique: uniqueOf({}, ["waiting"]) })
        const running = yield* claimOne(0)
        const next = yield* insert({ unique: uniqueOf({}, ["waiting"]) })
        yield* settle(running, { _tag: "Release" }, 0)
        assert.strictEqual((yield* mustGet(running.id)).state, "ready")
        assert.deepStrictEqual(new Set(idsOf(yield* claim(0))), new Set([running.id, next]))
      }),
    )
    test(
      "is not stored where the holder has ended and holds the key still, or belongs to others",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ended = yield* insert({ unique: uniqueOf({}, ["waiting", "running", "dead"]) })
        yield* bury(yield* claimOne(0), 0)
        assert.deepStrictEqual(yield* latest(), existing(ended))
        const unique = { ...uniqueOf(), key: "l" }
        const join = yield* record({ unique, join: joinOf(1, "continue", "run") })
        const member = yield* record({ memberOf: join.id, unique: { ...unique, key: "m" } })
        yield* queue.enqueue({ records: [join, member], now: 0 })
        assert.deepStrictEqual(yield* latest({ unique: { ...uniqueOf({}), key: "l" } }), existing(join.id))
        assert.deepStrictEqual(yield* latest({ unique: { ...uniqueOf({}), key: "m" } }), existing(member.id))
        const running = yield* claimOne(0)
        assert.deepStrictEqual(yield* latest({ unique: { ...uniqueOf({}), key: "m" } }), existing(member.id))
        yield* succeed(running, 0)
        assert.deepStrictEqual(yield* latest({ unique: { ...uniqueOf({}), key: "l" } }), existing(join.id))
      }),
    )
    test(
      "that followed and was cancelled, removed, purged or expired follows no more: another one may",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        for (const [n, leave] of [
          (id: TaskId) => Effect.asVoid(queue.cancel({ ids: [id], reason: "", now: 0 })),
          (id: TaskId) => Effect.asVoid(queue.remove({ ids: [id] })),
          () => Effect.asVoid(queue.purge({ queue: "default" })),
          () => Effect.asVoid(claim(50, { queue: "other" })),
        ].entries()) {
          const unique = { ...uniqueOf({}), key: `${n}` }
          const { follower, holder } = yield* followed({ holder: { unique }, follower: { unique, expiresAt: 50 } })
          yield* leave(follower)
          const left = yield* get(follower)
          if (left !== undefined) assert.isDefined(left.endedAt)
          const next = yield* latest({ unique, payload: "next" })
          assert.strictEqual(next._tag, "Inserted")
          yield* settle(holder, { _tag: "Release" }, 0)
          assert.deepInclude(yield* mustGet(holder.id), { state: "cancelled", cancelRequested: "superseded" })
          yield* succeed(yield* claimOne(0), 0)
        }
      }),
    )
    test(
      "that followed and was cancelled leaves what it followed to its own retries",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { follower, holder } = yield* followed()
        yield* queue.cancel({ ids: [follower], reason: "", now: 0 })
        yield* settle(holder, { _tag: "Release" }, 0)
        assert.deepInclude(yield* mustGet(holder.id), { state: "ready", cancelRequested: undefined })
        assert.deepStrictEqual(yield* latest({ payload: "2" }), replaced(holder.id))
      }),
    )
    test(
      "follows no more when it is replaced by its name and has another key",
      Effect.gen(function* () {
        const { follower, holder } = yield* followed({ follower: { name: "n" } })
        const by = { name: "n", onDuplicate: "replace", unique: { ...uniqueOf({}), key: "l" } } as const
        assert.deepStrictEqual(yield* enqueue([by]), [replaced(follower)])
        assert.deepInclude(yield* mustGet(follower), { state: "ready", eta: 0, uniqueKey: "l" })
        yield* settle(holder, { _tag: "Release" }, 0)
        assert.deepInclude(yield* mustGet(holder.id), { state: "ready", cancelRequested: undefined })
        assert.strictEqual((yield* claim(0)).length, 2)
      }),
    )
    test(
      "follows in another queue too, which is told when it is ready",
      Effect.scoped(
        Effect.gen(function* () {
          const { follower, holder } = yield* followed({ follower: { queue: "mail" } })
          const told = yield* firstChange("Waiting", succeed(holder, 0))
          assert.include(told?.queues ?? [], "mail")
          assert.deepStrictEqual(idsOf(yield* claim(0, { queue: "mail" })), [follower])
        }),
      ),
    )
    test(
      "follows a dead letter no more that is redriven",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { follower, holder } = yield* followed()
        yield* bury(holder, 0)
        yield* queue.redrive({ ids: [holder.id], now: 0 })
        assert.deepStrictEqual(yield* latest({ payload: "2" }), replaced(follower))
        assert.deepStrictEqual(new Set(idsOf(yield* claim(0))), new Set([holder.id, follower]))
      }),
    )
  },
}
