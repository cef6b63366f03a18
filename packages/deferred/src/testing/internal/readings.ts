/** get, find, counts, changes, and the waiting for ends. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { bury, claim, claimOne, enqueue, firstChange, idsOf, insert, mustGet, succeed } from "./records.ts"

export const readings: Chapter = {
  title: "get, find, counts, changes",
  tests: (test) => {
    test(
      "get gives records in the order asked, nothing for those it does not know",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const a = yield* insert({ payload: "1" })
        const b = yield* insert({ payload: "2" })
        const unknown = queue.nextId(0, Math.random)
        const found = yield* queue.get({ ids: [b, unknown, a, b], now: 0 })
        assert.deepStrictEqual(
          found.map((record) => record?.payload),
          ["2", undefined, "1", "2"],
        )
      }),
    )
    test(
      "gives records as they are when asked: they do not change under the reader's eyes",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const { records } = yield* queue.find({ limit: 1, now: 0 })
        const seen = [records[0], yield* mustGet(id)]
        const claimed = yield* claimOne(0)
        yield* succeed(claimed, 5)
        assert.deepStrictEqual(
          [...seen, claimed].map((record) => `${record?.state} ${record?.attempt} ${record?.endedAt}`),
          ["ready 0 undefined", "ready 0 undefined", "running 1 undefined"],
        )
      }),
    )
    test(
      "find gives pages in the order of deferring, without gap or overlap",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue(Array.from({ length: 25 }, (_, n) => ({ payload: String(n), priority: n % 3 })))
        const payloads: Array<number> = []
        let cursor: string | undefined
        let pages = 0
        do {
          const page = yield* queue.find({ limit: 10, now: 0, cursor })
          payloads.push(...page.records.map(({ payload }) => Number(payload)))
          cursor = page.cursor
          pages++
        } while (cursor !== undefined)
        assert.deepStrictEqual(
          payloads,
          Array.from({ length: 25 }, (_, n) => n),
        )
        assert.strictEqual(pages, 3)
      }),
    )
    test(
      "find and counts go by queue, task, state, reason and the beginning of the name",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const dead = yield* insert({ task: "Task", name: "run-1_a" })
        yield* bury(yield* claimOne(0), 0)
        const running = yield* insert({ name: "run-1_b" })
        yield* claimOne(0)
        const ready = yield* insert({ task: "Other", name: "run-2" })
        const scheduled = yield* insert({ queue: "mail", eta: 100, name: "run%1" })
        const find = (filter: object) =>
          Effect.map(queue.find({ ...filter, limit: 10, now: 50 }), ({ records }) => idsOf(records))
        assert.deepStrictEqual(yield* find({}), [dead, running, ready, scheduled])
        assert.deepStrictEqual(yield* find({ queue: "mail" }), [scheduled])
        assert.deepStrictEqual(yield* find({ task: "Other" }), [ready])
        assert.deepStrictEqual(yield* find({ state: "running" }), [running])
        assert.deepStrictEqual(yield* find({ state: "ready" }), [ready])
        assert.deepStrictEqual(yield* find({ state: "scheduled" }), [scheduled])
        assert.deepStrictEqual(yield* find({ reason: "PermanentFailure" }), [dead])
        assert.deepStrictEqual(yield* find({ reason: "Crashed" }), [])
        assert.deepStrictEqual(yield* find({ namePrefix: "run-1" }), [dead, running])
        assert.deepStrictEqual(yield* find({ namePrefix: "run%" }), [scheduled])
        assert.deepStrictEqual(yield* find({ namePrefix: "run_" }), [])
        assert.deepStrictEqual(yield* find({ namePrefix: "un-1" }), [])
        assert.deepStrictEqual(yield* find({ namePrefix: "run-1_", state: "dead" }), [dead])
        const counts = yield* queue.counts({ namePrefix: "run-", now: 50 })
        const summary = counts.map((each) => `${each.task} ${each.state} ${each.reason} ${each.count}`).sort()
        assert.deepStrictEqual(summary, [
          "Other ready undefined 1",
          "Task dead PermanentFailure 1",
          "Task running undefined 1",
        ])
      }),
    )
    test(
      "counts add up",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue(Array.from({ length: 30 }, (_, n) => ({ eta: n < 10 ? 0 : 100 })))
        for (const claimed of yield* claim(0, { limit: 4 })) yield* succeed(claimed, 0)
        const counts = yield* queue.counts({ now: 50 })
        const byState = Object.fromEntries(counts.map(({ count, state }) => [state, count]))
        assert.deepStrictEqual(byState, { succeeded: 4, ready: 6, scheduled: 20 })
      }),
    )
    test(
      "changes tell of records that wait, end, or are to be cancelled",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const waiting = yield* firstChange("Waiting", insert({ queue: "mail" }))
          assert.deepStrictEqual(waiting?.queues, ["mail"])
          const claimed = yield* claimOne(0, { queue: "mail" })
          const cancel = queue.cancel({ ids: [claimed.id], reason: "", now: 0 })
          assert.deepStrictEqual((yield* firstChange("CancelRequested", cancel))?.ids, [claimed.id])
          assert.deepStrictEqual((yield* firstChange("Ended", succeed(claimed, 0)))?.ids, [claimed.id])
        }),
      ),
    )
    test(
      "changes tell of records that a claim finds crashed or expired",
      Effect.scoped(
        Effect.gen(function* () {
          const crashed = yield* insert({ maxCrashes: 0, priority: 1 })
          yield* claimOne(0, { lease: 10 })
          const expired = yield* insert({ expiresAt: 10 })
          const ended = yield* firstChange("Ended", claim(10))
          assert.deepStrictEqual(new Set(ended?.ids), new Set([crashed, expired]))
        }),
      ),
    )
    test(
      "changes tell of a queue whose limits were changed",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          yield* queue.configure({ queue: "mail", limits: { paused: true }, now: 0 })
          const resume = queue.configure({ queue: "mail", limits: { paused: false }, now: 0 })
          assert.deepStrictEqual((yield* firstChange("Waiting", resume))?.queues, ["mail"])
        }),
      ),
    )
    test(
      "changes tell of a queue whose concurrency had no slot when one comes free",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          yield* queue.configure({ queue: "default", limits: { maxConcurrent: 1 }, now: 0 })
          yield* enqueue([{}, {}])
          const claimed = yield* claimOne(0)
          assert.deepStrictEqual((yield* firstChange("Waiting", succeed(claimed, 0)))?.queues, ["default"])
        }),
      ),
    )
    test(
      "waits for the end of a record, any number of times and by any number at once",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const id = yield* insert()
        const waiting = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 100 }, () => queue.awaitEnded(id)),
            { concurrency: "unbounded" },
          ),
          { startImmediately: true },
        )
        yield* succeed(yield* claimOne(0), 0)
        const records = yield* Fiber.join(waiting)
        assert.deepStrictEqual([...new Set(records.map((record) => record?.state))], ["succeeded"])
        assert.strictEqual((yield* queue.awaitEnded(id))?.state, "succeeded")
        assert.strictEqual((yield* mustGet(id)).state, "succeeded")
      }),
    )
    test(
      "does not wait for a record that is not there",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        assert.isUndefined(yield* queue.awaitEnded(queue.nextId(0, Math.random)))
      }),
    )
  },
}
