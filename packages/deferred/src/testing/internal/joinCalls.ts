/** Joins: what is handed over, and what calls on joins and their members mean for both. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Chapter } from "./chapter.ts"
import { joined, tallyOf } from "./joined.ts"
import {
  bury,
  claim,
  claimOne,
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

const handing = (handOver: string) => ({ _tag: "Succeed", result: undefined, handOver }) as const

export const joinCalls: Chapter = {
  title: "calls on joins and members",
  tests: (test) => {
    test(
      "hand over a payload, the last one of all",
      Effect.gen(function* () {
        const { join } = yield* joined(3, joinOf(3, "continue", "run"), { join: { payload: '"old"' } })
        const [a, b, c] = yield* claim(0)
        yield* settle(b!, handing('"b"'), 0)
        assert.strictEqual((yield* mustGet(join)).payload, '"b"')
        yield* settle(a!, handing('"a"'), 0)
        yield* succeed(c!, 0)
        assert.deepInclude(yield* claimOne(0), { id: join, payload: '"a"', payloadRef: undefined })
      }),
    )
    test(
      "hand over instead of a payload that is stored apart, which is in use no more",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join } = yield* joined(1, joinOf(1, "cancel", "run"), { join: { payload: "", payloadRef: "a" } })
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs: ["a"] }), [true])
        yield* settle(yield* claimOne(0), handing(""), 0)
        assert.deepInclude(yield* mustGet(join), { payload: "", payloadRef: undefined })
        assert.deepStrictEqual(yield* queue.payloadRefs({ refs: ["a"] }), [false])
      }),
    )
    test(
      "hand nothing over to what waits no more, without a lease, or without anything that waits",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join } = yield* joined(2, joinOf(2, "continue", "run"), { join: { payload: "1" } })
        const [a, b] = yield* claim(0)
        assert.strictEqual(yield* settle({ ...a!, token: a!.token + 1 }, handing("2"), 0), "LeaseLost")
        assert.strictEqual((yield* mustGet(join)).payload, "1")
        yield* queue.cancel({ ids: [join], reason: "", now: 0 })
        assert.strictEqual(yield* settle(b!, handing("2"), 0), "Settled")
        assert.strictEqual((yield* mustGet(join)).payload, "1")
        yield* insert()
        assert.strictEqual(yield* settle(yield* claimOne(0), handing("2"), 0), "Settled")
      }),
    )
    test(
      "cancel a join with its members: those that wait, those that run when they are told",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const { join, members } = yield* joined(3, joinOf(3, "continue", "run"))
          const running = yield* claimOne(0)
          const cancel = queue.cancel({ ids: [join, members[1]!], reason: "why", now: 10 })
          const told = yield* firstChange("CancelRequested", cancel)
          assert.deepStrictEqual(told?.ids, [running.id])
          const cancelled = { state: "cancelled", cancelRequested: "why", endedAt: 10 } as const
          for (const id of [join, members[1]!, members[2]!]) assert.deepInclude(yield* mustGet(id), cancelled)
          assert.deepInclude(yield* mustGet(running.id), { state: "running", cancelRequested: "why" })
          yield* settle(running, { _tag: "Cancel" }, 20)
          assert.deepInclude(yield* mustGet(join), { ...cancelled, join: tallyOf(joinOf(3, "continue", "run"), 0) })
        }),
      ),
    )
    test(
      "cancel a join and its members one after the other, also when asked for each",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join, members } = yield* joined(2, joinOf(2, "continue", "run"))
        const ids = [members[0]!, join, members[1]!, join]
        const outcomes = yield* queue.cancel({ ids, reason: "", now: 0 })
        assert.deepStrictEqual(outcomes, ["Cancelled", "Cancelled", "TooLate", "TooLate"])
        const other = yield* joined(1, joinOf(1, "cancel", "run"))
        const all = [other.members[0]!, other.join]
        assert.deepStrictEqual(yield* queue.cancel({ ids: all, reason: "", now: 0 }), ["Cancelled", "TooLate"])
      }),
    )
    test(
      "cancel down to the members of members, and up to what waits",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const top = yield* record({ join: joinOf(1, "cancel", "run") })
        const middle = yield* record({ join: joinOf(2, "continue", "run"), memberOf: top.id })
        const inner = yield* record({ join: joinOf(1, "continue", "end"), memberOf: middle.id })
        const leaves = [yield* record({ memberOf: inner.id }), yield* record({ memberOf: middle.id })]
        const records = [top, middle, inner, ...leaves]
        yield* queue.enqueue({ records, now: 0 })
        yield* queue.cancel({ ids: [middle.id], reason: "why", now: 0 })
        const reasons = yield* Effect.forEach(records, ({ id }) => mustGet(id))
        assert.deepStrictEqual(
          reasons.map(({ cancelRequested, state }) => [state, cancelRequested]),
          [
            ["cancelled", "a task before it did not succeed"],
            ["cancelled", "why"],
            ["cancelled", "why"],
            ["cancelled", "why"],
            ["cancelled", "why"],
          ],
        )
      }),
    )
    test(
      "cancel very many members, at once or with the claims that follow",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join } = yield* joined(5000, joinOf(5000, "continue", "run"))
        yield* queue.cancel({ ids: [join], reason: "why", now: 0 })
        const waiting = Effect.map(queue.counts({ memberOf: join, now: 0 }), (counts) =>
          counts.filter(({ state }) => state !== "cancelled"),
        )
        for (let n = 0; n < 50 && (yield* waiting).length > 0; n++) yield* claim(0, { queue: "other" })
        assert.deepStrictEqual(yield* waiting, [])
      }),
    )
    test(
      "cancel a join that is ready or runs alone: its members have ended",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join, members } = yield* joined(1, joinOf(1, "continue", "run"))
        yield* succeed(yield* claimOne(0), 0)
        assert.deepStrictEqual(yield* queue.cancel({ ids: [join], reason: "", now: 0 }), ["Cancelled"])
        assert.strictEqual((yield* mustGet(members[0]!)).state, "succeeded")
      }),
    )
    test(
      "redrive a dead member, which counts anew while its join waits",
      Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const given = joinOf(2, "continue", "run")
          const { join } = yield* joined(2, given)
          const [a, b] = yield* claim(0)
          yield* bury(a!, 0)
          assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 0, 0, 1))
          yield* queue.redrive({ ids: [a!.id], now: 10 })
          assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 0))
          yield* succeed(b!, 10)
          assert.strictEqual((yield* mustGet(join, 10)).state, "scheduled")
          yield* succeed(yield* claimOne(10), 10)
          assert.deepInclude(yield* claimOne(10), { id: join, join: tallyOf(given, 2) })
        }),
      ),
    )
    test(
      "redrive a dead member too late: what waits no more is as it was",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(1, "continue", "run")
        const { join, members } = yield* joined(1, given)
        yield* bury(yield* claimOne(0), 0)
        yield* queue.redrive({ ids: members, now: 0 })
        assert.deepInclude(yield* mustGet(join), { state: "ready", join: tallyOf(given, 0, 0, 1) })
        const claimed = yield* claim(0)
        for (const each of claimed) yield* succeed(each, 0)
        assert.strictEqual(claimed.length, 2)
        assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 0, 0, 1))
      }),
    )
    test(
      "redrive a join: it is ready, whatever its members do",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(1, "continue", "run")
        const { join } = yield* joined(1, given, { join: { expiresAt: 50 } })
        const member = yield* claimOne(0)
        yield* claim(50)
        assert.deepInclude(yield* mustGet(join, 50), { state: "dead", reason: "Expired" })
        yield* queue.redrive({ ids: [join], now: 60 })
        assert.deepInclude(yield* mustGet(join, 60), { state: "ready", eta: 60 })
        yield* succeed(member, 60)
        assert.deepInclude(yield* claimOne(60), { id: join, join: tallyOf(given, 0) })
      }),
    )
    test(
      "redrive a join, which is a member itself, to be counted anew",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const outer = yield* record({ join: joinOf(2, "continue", "run") })
        const inner = yield* record({ join: joinOf(1, "continue", "run"), memberOf: outer.id, priority: 1 })
        const leaf = yield* record({ memberOf: inner.id, priority: 1 })
        const other = yield* record({ memberOf: outer.id })
        yield* queue.enqueue({ records: [outer, inner, leaf, other], now: 0 })
        yield* succeed(yield* claimOne(0), 0)
        yield* bury(yield* claimOne(0), 0)
        const tally = () => Effect.map(mustGet(outer.id), ({ join }) => join)
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(2, "continue", "run"), 0, 0, 1))
        yield* queue.redrive({ ids: [inner.id], now: 0 })
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(2, "continue", "run"), 0))
        yield* succeed(yield* claimOne(0), 0)
        assert.deepStrictEqual(yield* tally(), tallyOf(joinOf(2, "continue", "run"), 1))
      }),
    )
    test(
      "remove or purge a join: its members go on, and what waits for it takes it for cancelled",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        for (const remove of [
          (id: TaskId) => Effect.asVoid(queue.remove({ ids: [id] })),
          () => Effect.asVoid(queue.purge({ queue: "joins" })),
        ]) {
          const outer = yield* record({ join: joinOf(1, "continue", "run"), priority: -1 })
          const join = yield* record({ join: joinOf(1, "cancel", "run"), memberOf: outer.id, queue: "joins" })
          const member = yield* record({ memberOf: join.id })
          yield* queue.enqueue({ records: [outer, join, member], now: 0 })
          yield* remove(join.id)
          assert.isUndefined(yield* get(join.id))
          assert.deepStrictEqual((yield* mustGet(outer.id)).join, tallyOf(joinOf(1, "continue", "run"), 0, 1))
          for (const each of yield* claim(0)) yield* succeed(each, 0)
          assert.strictEqual((yield* mustGet(member.id)).state, "succeeded")
          assert.strictEqual((yield* mustGet(outer.id)).state, "succeeded")
        }
      }),
    )
    test(
      "purge a queue with joins and members: all of it goes",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join, members } = yield* joined(3, joinOf(3, "cancelSiblings", "run"))
        const other = yield* joined(2, joinOf(2, "cancelSiblings", "end"), { join: { queue: "other" } })
        assert.strictEqual(yield* queue.purge({ queue: "default" }), 6)
        for (const id of [join, ...members, ...other.members]) assert.isUndefined(yield* get(id))
        assert.deepInclude(yield* mustGet(other.join), {
          state: "succeeded",
          join: tallyOf(joinOf(2, "cancelSiblings", "end"), 0, 2),
        })
      }),
    )
    test(
      "purge a queue and tell what waits one after the other, each with all that it means",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(2, "cancel", "run")
        const outer = yield* record({ join: given, queue: "joins" })
        const inner = yield* record({ join: joinOf(1, "continue", "end"), memberOf: outer.id, queue: "joins" })
        const records = [outer, inner, yield* record({ memberOf: inner.id }), yield* record({ memberOf: outer.id })]
        yield* queue.enqueue({ records, now: 0 })
        yield* queue.purge({ queue: "default" })
        assert.strictEqual((yield* mustGet(inner.id)).state, "succeeded")
        assert.deepInclude(yield* mustGet(outer.id), { state: "cancelled", join: tallyOf(given, 1, 1) })
      }),
    )
    test(
      "find and count the members of a record, ended ones too",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { join, members } = yield* joined(3, joinOf(3, "continue", "run"))
        yield* joined(2, joinOf(2, "continue", "run"))
        yield* succeed(yield* claimOne(0), 0)
        const { records } = yield* queue.find({ memberOf: join, limit: 10, now: 0 })
        assert.deepStrictEqual(idsOf(records), members)
        const ready = yield* queue.find({ memberOf: join, state: "ready", limit: 1, now: 0 })
        assert.deepStrictEqual(idsOf(ready.records), [members[1]!])
        const next = yield* queue.find({ memberOf: join, state: "ready", limit: 9, now: 0, cursor: ready.cursor })
        assert.deepStrictEqual(idsOf(next.records), [members[2]!])
        const counts = yield* queue.counts({ memberOf: join, now: 0 })
        assert.deepStrictEqual(counts.map(({ count, state }) => `${state} ${count}`).sort(), ["ready 2", "succeeded 1"])
        assert.deepStrictEqual(yield* queue.counts({ memberOf: members[0], now: 0 }), [])
      }),
    )
    test(
      "enqueue once more what may have been enqueued: nothing counts twice",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const given = joinOf(2, "cancelSiblings", "run")
        const join = yield* record({ join: given })
        const records = [yield* record({ memberOf: join.id }), join, yield* record({ memberOf: join.id })]
        yield* queue.enqueue({ records, now: 0 })
        yield* succeed(yield* claimOne(0), 0)
        const again = yield* queue.enqueue({ records, now: 0 })
        assert.deepStrictEqual(
          again,
          records.map(({ id }) => ({ _tag: "Existing", id })),
        )
        assert.deepInclude(yield* mustGet(join.id), { state: "scheduled", join: tallyOf(given, 1) })
        yield* succeed(yield* claimOne(0), 0)
        assert.strictEqual((yield* claimOne(0)).id, join.id)
      }),
    )
    test(
      "enqueue a member that is not inserted: for its join it is cancelled",
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* enqueue([{ name: "n", task: "Other" }])
        const given = joinOf(3, "continue", "run")
        const { join, outcomes } = yield* joined(1, given, {
          more: [{ name: "n" }, { name: "n", onDuplicate: "ignore" }],
        })
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag),
          ["Inserted", "Duplicate", "Existing", "Inserted"],
        )
        assert.deepStrictEqual((yield* mustGet(join)).join, tallyOf(given, 0, 2))
        yield* succeed(yield* claimOne(0), 0)
        const run = yield* claimOne(0)
        assert.strictEqual(run.id, join)
        yield* succeed(run, 0)
        const chain = yield* joined(0, joinOf(1, "cancel", "run"), { more: [{ name: "n" }] })
        assert.strictEqual((yield* mustGet(chain.join)).state, "cancelled")
        const group = yield* joined(2, joinOf(3, "cancelSiblings", "end"), { more: [{ name: "n" }] })
        assert.strictEqual((yield* mustGet(group.join)).state, "succeeded")
        assert.deepStrictEqual(yield* claim(0), [])
        assert.deepStrictEqual(yield* queue.counts({ memberOf: group.join, state: "ready", now: 0 }), [])
      }),
    )
    test(
      "enqueue by name or key neither in the place of a join or a member, nor one of them in another's",
      Effect.gen(function* () {
        const latest = { key: "k", while: ["waiting", "running"], latest: {} } as const
        const { join, members } = yield* joined(0, joinOf(2, "continue", "run"), {
          join: { name: "join" },
          more: [{ name: "member" }, { unique: latest }],
        })
        const plain = yield* insert({ name: "plain", payload: "old" })
        const other = yield* record({ name: "plain", onDuplicate: "replace", join: joinOf(1, "cancel", "run") })
        const replacing = [
          { name: "join", onDuplicate: "replace" },
          { name: "member", onDuplicate: "replace" },
          { unique: latest },
          { name: "plain", onDuplicate: "replace", memberOf: join },
          other,
        ] as const
        assert.deepStrictEqual(
          yield* enqueue(replacing),
          [join, members[0]!, members[1]!, plain, plain].map((id) => ({ _tag: "Existing", id })),
        )
        assert.strictEqual((yield* mustGet(plain)).payload, "old")
      }),
    )
  },
}
