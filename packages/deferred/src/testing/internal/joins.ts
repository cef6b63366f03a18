/** Joins: records that wait for others. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { joined, tallyOf } from "./joined.ts"
import {
  bury,
  claim,
  claimOne,
  claimResult,
  enqueue,
  firstChange,
  get,
  idsOf,
  joinOf,
  mustGet,
  record,
  settle,
  succeed,
} from "./records.ts"

export const joins: Chapter = {
  title: "joins",
  tests: (test) => {
    test(
      "are held back until the last member has ended, and then as others",
      Effect.gen(function* () {
        const { join, members } = yield* joined(3, joinOf(3, "continue", "run"))
        assert.deepInclude(yield* mustGet(join), {
          state: "scheduled",
          eta: Number.POSITIVE_INFINITY,
          memberOf: undefined,
        })
        assert.strictEqual((yield* mustGet(members[0]!)).memberOf, join)
        const claimed = yield* claim(0)
        assert.deepStrictEqual(idsOf(claimed), members)
        assert.deepStrictEqual(yield* claimResult(0), { records: [], nextAt: 1000 })
        yield* succeed(claimed[1]!, 10)
        yield* settle(claimed[0]!, { _tag: "Retry", eta: 50, failure: "{}" }, 20)
        yield* settle(claimed[2]!, { _tag: "Snooze", eta: 50 }, 30)
        for (const each of yield* claim(50)) {
          assert.strictEqual((yield* mustGet(join, 50)).state, "scheduled")
          yield* succeed(each, 60)
        }
        assert.deepInclude(yield* mustGet(join, 60), { state: "ready", eta: 60 })
        const run = yield* claimOne(60)
        assert.deepInclude(run, { id: join, attempt: 1, join: tallyOf(joinOf(3, "continue", "run"), 3) })
        assert.strictEqual(yield* succeed(run, 70), "Settled")
      }),
    )
    test(
      "wait for the eta they were given too",
      Effect.gen(function* () {
        for (const [end, eta] of [
          [100, 500],
          [700, 700],
        ] as const) {
          const { join } = yield* joined(1, joinOf(1, "continue", "run"), { join: { eta: 500 } })
          yield* succeed(yield* claimOne(0, { lease: 10_000 }), end)
          assert.strictEqual((yield* mustGet(join, end)).eta, eta)
          yield* succeed(yield* claimOne(eta), eta)
        }
      }),
    )
    test(
      "come in one call with their members, in whichever order",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        for (const place of [0, 1, 2]) {
          const join = yield* record({ join: joinOf(2, "continue", "run") })
          const records = [yield* record({ memberOf: join.id }), yield* record({ memberOf: join.id })]
          records.splice(place, 0, join)
          const outcomes = yield* queue.enqueue({ records, now: 0 })
          assert.deepStrictEqual(new Set(outcomes.map(({ _tag }) => _tag)), new Set(["Inserted"]))
          for (const each of yield* claim(0)) yield* succeed(each, 0)
          const last = yield* claimOne(0)
          assert.strictEqual(last.id, join.id)
          yield* succeed(last, 0)
        }
      }),
    )
    test(
      "have members of other tasks and queues, and tell their own queue when they are ready",
      Effect.scoped(
        Effect.gen(function* () {
          const { join } = yield* joined(2, joinOf(2, "continue", "run"), {
            join: { queue: "results" },
            member: { queue: "mail", task: "Send" },
          })
          const claimed = yield* claim(0, { queue: "mail", tasks: [{ name: "Send", maxVersion: 1 }] })
          const progress = yield* firstChange("Progress", succeed(claimed[0]!, 0))
          assert.deepStrictEqual(progress?.ids, [join])
          const told = yield* firstChange("Waiting", succeed(claimed[1]!, 0))
          assert.include(told?.queues ?? [], "results")
          assert.strictEqual((yield* claimOne(0, { queue: "results" })).id, join)
        }),
      ),
    )
    test(
      "are nothing that is due: they count as scheduled, without an eta",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* joined(1, joinOf(1, "continue", "run"))
        yield* claimOne(0)
        const statistics = yield* queue.statistics({ queue: "default", now: 1_000_000_000 })
        assert.deepInclude(statistics, { waiting: 1, ready: 0, oldestEta: undefined })
        const counts = yield* queue.counts({ state: "scheduled", now: 1_000_000_000 })
        assert.deepStrictEqual(
          counts.map(({ count }) => count),
          [1],
        )
      }),
    )
    test(
      "count how members ended: succeeded, dead, cancelled, crashed or expired",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join, members } = yield* joined(4, joinOf(5, "continue", "run"), {
          member: { maxCrashes: 0 },
          more: [{ expiresAt: 50, target: "nobody" }],
        })
        const [a, b, _, d] = yield* claim(0, { lease: 20 })
        yield* succeed(a!, 0)
        yield* bury(b!, 0)
        yield* queue.cancel({ ids: [d!.id], reason: "", now: 0 })
        yield* settle(d!, { _tag: "Retry", eta: 0, failure: "{}" }, 0)
        const tally = () => Effect.map(mustGet(join), ({ join }) => join)
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(5, "continue", "run"), 1, 1, 1))
        // The third one's lease expires.
        yield* claim(20)
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(5, "continue", "run"), 1, 1, 2))
        assert.deepStrictEqual(idsOf(yield* claim(50)), [join])
        assert.strictEqual((yield* mustGet(members[4]!)).reason, "Expired")
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(5, "continue", "run"), 1, 1, 3))
      }),
    )
    test(
      "count members that are removed or purged before their end as cancelled, and none that had ended",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(4, "continue", "run")
        const { join, members } = yield* joined(3, given, { more: [{ queue: "other" }] })
        yield* succeed(yield* claimOne(0), 0)
        yield* queue.remove({ ids: [members[0]!, members[1]!] })
        assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 1, 1))
        yield* queue.purge({ queue: "other" })
        assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 1, 2))
        yield* queue.remove({ ids: [members[2]!] })
        assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 1, 3))
        assert.strictEqual((yield* claimOne(0)).id, join)
      }),
    )
    test(
      "keep their tally after their end",
      Effect.gen(function* () {
        const given = joinOf(2, "continue", "run")
        const { join } = yield* joined(2, given)
        const [a, b] = yield* claim(0)
        yield* succeed(a!, 0)
        yield* bury(b!, 0)
        yield* succeed(yield* claimOne(0), 0)
        assert.deepInclude(yield* mustGet(join), { state: "succeeded", join: tallyOf(given, 1, 0, 1) })
      }),
    )
    test(
      "cancelSiblings cancels the others when one did not succeed, and runs when all have ended",
      Effect.scoped(
        Effect.gen(function* () {
          const given = joinOf(4, "cancelSiblings", "run")
          const { join, members } = yield* joined(4, given)
          const [a, b, c] = yield* claim(0, { limit: 3 })
          yield* succeed(a!, 0)
          const told = yield* firstChange("CancelRequested", bury(b!, 10))
          assert.deepStrictEqual(told?.ids, [c!.id])
          const reason = "another of the group did not succeed"
          assert.deepInclude(yield* mustGet(members[2]!), { state: "running", cancelRequested: reason })
          assert.deepInclude(yield* mustGet(members[3]!), { state: "cancelled", cancelRequested: reason, endedAt: 10 })
          assert.deepInclude(yield* mustGet(join, 10), { state: "scheduled", join: tallyOf(given, 1, 1, 1) })
          assert.strictEqual((yield* mustGet(members[0]!)).state, "succeeded")
          yield* settle(c!, { _tag: "Release" }, 20)
          assert.deepInclude(yield* mustGet(members[2]!), { state: "cancelled" })
          assert.deepInclude(yield* claimOne(20), { id: join, join: tallyOf(given, 1, 2, 1) })
        }),
      ),
    )
    test(
      "cancelSiblings begins with a member that is cancelled, expired or removed as well",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(2, "cancelSiblings", "run")
        const cancelled = yield* joined(2, given)
        yield* queue.cancel({ ids: [cancelled.members[0]!], reason: "why", now: 5 })
        assert.strictEqual((yield* mustGet(cancelled.members[0]!)).cancelRequested, "why")
        const expired = yield* joined(1, given, { more: [{ expiresAt: 5, target: "nobody" }] })
        yield* claim(5, { queue: "other" })
        const removed = yield* joined(2, given)
        yield* queue.remove({ ids: [removed.members[1]!] })
        for (const { join, members } of [cancelled, expired, removed]) {
          assert.strictEqual((yield* get(join, 5))?.state, "ready")
          const states = yield* Effect.forEach(members, (id) => Effect.map(get(id), (found) => found?.state))
          assert.notInclude(states, "ready")
        }
      }),
    )
    test(
      "cancelSiblings lets a member be tried again, crash and snooze before",
      Effect.gen(function* () {
        const { members } = yield* joined(2, joinOf(2, "cancelSiblings", "run"))
        yield* settle(yield* claimOne(0), { _tag: "Retry", eta: 9, failure: "{}" }, 0)
        yield* claimOne(0, { lease: 9 })
        const claimed = yield* claim(9)
        assert.deepStrictEqual(idsOf(claimed), members)
        for (const each of claimed) assert.isUndefined(each.cancelRequested)
      }),
    )
    test(
      "cancel is for chains: what waits for one that did not succeed is cancelled, to the end of the chain",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const given = joinOf(1, "cancel", "run")
          const last = yield* record({ join: given })
          const middle = yield* record({ join: given, memberOf: last.id })
          const first = yield* record({ memberOf: middle.id })
          yield* queue.enqueue({ records: [first, middle, last], now: 0 })
          const ended = yield* firstChange(
            "Ended",
            Effect.flatMap(claimOne(0), (claimed) => bury(claimed, 10)),
          )
          assert.deepStrictEqual(new Set(ended?.ids), new Set(idsOf([first, middle, last])))
          const reason = "a task before it did not succeed"
          assert.deepInclude(yield* mustGet(first.id), { state: "dead", cancelRequested: undefined })
          const tally = tallyOf(given, 0, 0, 1)
          const cancelled = { state: "cancelled", cancelRequested: reason, endedAt: 10, attempt: 0 } as const
          assert.deepInclude(yield* mustGet(middle.id), { ...cancelled, join: tally })
          assert.deepInclude(yield* mustGet(last.id), { ...cancelled, join: tallyOf(given, 0, 1) })
          assert.deepStrictEqual(yield* claim(1_000_000), [])
        }),
      ),
    )
    test(
      "cancel lets a chain go on while all succeed",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(1, "cancel", "run")
        const last = yield* record({ join: given })
        const middle = yield* record({ join: given, memberOf: last.id })
        const first = yield* record({ memberOf: middle.id })
        yield* queue.enqueue({ records: [last, first, middle], now: 0 })
        for (const { id } of [first, middle, last]) {
          const claimed = yield* claim(0)
          assert.deepStrictEqual(idsOf(claimed), [id])
          yield* succeed(claimed[0]!, 0)
        }
      }),
    )
    test(
      "cancel leaves the other members alone, which count no more",
      Effect.gen(function* () {
        const given = joinOf(3, "cancel", "run")
        const { join, members } = yield* joined(3, given)
        const [a, b] = yield* claim(0, { limit: 2 })
        yield* bury(a!, 0)
        assert.strictEqual((yield* mustGet(join)).state, "cancelled")
        assert.deepInclude(yield* mustGet(members[1]!), { state: "running", cancelRequested: undefined })
        yield* succeed(b!, 0)
        yield* succeed(yield* claimOne(0), 0)
        assert.deepInclude(yield* mustGet(join), { state: "cancelled", join: tallyOf(given, 0, 0, 1) })
      }),
    )
    test(
      "that end then have succeeded with their last member, without an attempt or a result",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const given = joinOf(2, "continue", "end")
          const { join } = yield* joined(2, given, { join: { keep: 100 } })
          const [a, b] = yield* claim(0)
          yield* bury(a!, 0)
          const ended = yield* firstChange("Ended", succeed(b!, 10))
          assert.deepStrictEqual(new Set(ended?.ids), new Set([b!.id, join]))
          assert.deepInclude(yield* mustGet(join), {
            state: "succeeded",
            attempt: 0,
            result: undefined,
            endedAt: 10,
            join: tallyOf(given, 1, 0, 1),
          })
          assert.strictEqual((yield* queue.awaitEnded(join))?.state, "succeeded")
          assert.deepStrictEqual(yield* claim(1_000_000), [])
          yield* queue.prune({ now: 110, deadBefore: 0, limit: 10 })
          assert.isUndefined(yield* get(join))
        }),
      ),
    )
    test(
      "that end then and are not kept are gone at once, and what waits for them hears of it",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const outer = yield* record({ join: joinOf(1, "cancel", "run") })
        const inner = yield* record({ join: joinOf(1, "continue", "end"), memberOf: outer.id, keep: 0 })
        const member = yield* record({ memberOf: inner.id, keep: 0 })
        yield* queue.enqueue({ records: [outer, inner, member], now: 0 })
        yield* succeed(yield* claimOne(0), 0)
        assert.isUndefined(yield* get(inner.id))
        assert.strictEqual((yield* claimOne(0)).id, outer.id)
      }),
    )
    test(
      "are members of other joins, where their own end counts and not those of their members",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const outer = yield* record({ join: joinOf(2, "cancelSiblings", "run") })
        const groups = [1, 2].map(() => joinOf(2, "cancelSiblings", "end"))
        const inner = yield* Effect.forEach(groups, (join) => record({ join, memberOf: outer.id }))
        const members = yield* Effect.forEach([0, 0, 1, 1], (of) => record({ memberOf: inner[of]!.id }))
        yield* queue.enqueue({ records: [...members, outer, ...inner], now: 0 })
        const claimed = yield* claim(0)
        assert.deepStrictEqual(idsOf(claimed), idsOf(members))
        yield* succeed(claimed[0]!, 0)
        // Of the first inner group all have ended, and it has succeeded: nothing happens to the second.
        yield* bury(claimed[1]!, 0)
        assert.strictEqual((yield* mustGet(inner[0]!.id)).state, "succeeded")
        assert.isUndefined((yield* mustGet(claimed[2]!.id)).cancelRequested)
        yield* succeed(claimed[2]!, 0)
        yield* succeed(claimed[3]!, 0)
        assert.deepInclude(yield* claimOne(0), { id: outer.id, join: tallyOf(joinOf(2, "cancelSiblings", "run"), 2) })
      }),
    )
    test(
      "find out when members settle in one call, one after the other",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const all = yield* joined(3, joinOf(3, "continue", "run"))
        const claimed = yield* claim(0)
        yield* queue.settle({
          settlements: claimed.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
          now: 0,
        })
        const run = yield* claimOne(0)
        assert.strictEqual(run.id, all.join)
        yield* succeed(run, 0)
        const given = joinOf(3, "cancelSiblings", "run")
        const failing = yield* joined(3, given)
        const [a, b, c] = yield* claim(0)
        const lease = ({ id, token }: typeof run) => ({ id, token })
        yield* queue.settle({
          settlements: [
            { ...lease(a!), _tag: "Succeed", result: undefined },
            { ...lease(b!), _tag: "Bury", reason: "RetriesExhausted", result: undefined, failure: undefined },
            { ...lease(c!), _tag: "Retry", eta: 0, failure: "{}" },
          ],
          now: 0,
        })
        assert.strictEqual((yield* mustGet(c!.id)).state, "cancelled")
        assert.deepInclude(yield* claimOne(0), { id: failing.join, join: tallyOf(given, 1, 1, 1) })
      }),
    )
    test(
      "are ready once when their members end at the same time",
      Effect.gen(function* () {
        const { join } = yield* joined(40, joinOf(40, "continue", "run"))
        const claimed = yield* claim(0)
        yield* Effect.forEach(claimed, (each) => succeed(each, 0), { concurrency: "unbounded" })
        assert.deepStrictEqual(idsOf(yield* claim(0)), [join])
        assert.deepStrictEqual(yield* claim(0), [])
      }),
    )
    test(
      "wait for none but their members",
      Effect.gen(function* () {
        const { join } = yield* joined(1, joinOf(1, "continue", "run"))
        yield* enqueue([{ priority: 1 }])
        yield* succeed(yield* claimOne(0), 0)
        assert.strictEqual((yield* mustGet(join)).state, "scheduled")
      }),
    )
  },
}
