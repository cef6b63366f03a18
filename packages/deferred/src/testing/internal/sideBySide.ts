/**
 * A driver and the model, side by side: every step is made on both, and what both say and have is compared.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { unlimited as keysUnlimited } from "../../KeyLimits.ts"
import type { ClaimParams, Count, Lease, TaskQueue, TaskQueueError } from "../../TaskQueue.ts"
import type { Attempt, AttemptFailure, TaskRecord } from "../../TaskRecord.ts"
import * as History from "./history.ts"
import * as Model from "./model.ts"
import * as Look from "./modelLook.ts"
import { enqueue } from "./modelPlaces.ts"
import { empty, type ModelRecord, type Said } from "./modelState.ts"
import { configureKey, pauseUntil } from "./modelTurns.ts"

/** What is compared of a record: all that the contract has, and nothing that is a driver's own. */
const shown = (record: TaskRecord) => {
  const { attempts, follows, holdsKey, token, tombstone, unique, wanted, ...rest } = record as ModelRecord
  return { ...rest, headers: { ...rest.headers }, failure: shownFailure(rest.failure) }
}

const idsOf = (records: ReadonlyArray<TaskRecord>) => records.map(({ id }) => id)

/** What a page has to have, given in the order of insertion: in that, or in the order of ids if the page is in it. */
const asPage = (expected: ReadonlyArray<ModelRecord>, page: ReadonlyArray<TaskRecord>): ReadonlyArray<ModelRecord> =>
  page.every(({ id }, n) => n === 0 || page[n - 1]!.id < id)
    ? expected.toSorted((left, right) => (left.id < right.id ? -1 : 1))
    : expected

/** The fields in which two records are not alike, for people. */
const difference = (left: object | undefined, right: object | undefined): string => {
  if (left === undefined || right === undefined) return left === undefined ? "it is not there" : "it is there"
  const others = new Map<string, unknown>(Object.entries(right))
  return Object.entries(left)
    .map(([field, value]) => [field, JSON.stringify(value), JSON.stringify(others.get(field))] as const)
    .filter(([, is, was]) => is !== was)
    .map(([field, is, was]) => `${field} is ${is}, not ${was}`)
    .join("; ")
}

/** How a crash is worded is free. */
const shownFailure = (text: string | undefined): unknown => {
  const failure = text === undefined ? undefined : (JSON.parse(text) as AttemptFailure | string)
  if (typeof failure !== "object" || failure.kind !== "crash") return failure
  return { kind: failure.kind, attempt: failure.attempt, at: failure.at, tag: failure.tag }
}

const shownAttempts = (attempts: ReadonlyArray<Attempt>) =>
  attempts.map((attempt) => ({ ...attempt, failure: shownFailure(attempt.failure) }))

/** The order is promised within each queue. */
const byQueue = (records: ReadonlyArray<TaskRecord>) => ({
  a: records.filter(({ queue }) => queue === "a").map(shown),
  b: records.filter(({ queue }) => queue === "b").map(shown),
})

const lines = (counts: ReadonlyArray<Count>) =>
  counts
    .map(({ count, queue, reason, state, tag, task }) => `${queue} ${task} ${state} ${reason} ${tag} ${count}`)
    .sort()

const tally = (records: ReadonlyArray<TaskRecord>): ReadonlyArray<Count> => {
  const groups = records.map(({ failure, queue, reason, state, task }) => ({
    queue,
    task,
    state,
    reason,
    tag: state === "dead" ? Look.tagOf(failure) : undefined,
  }))
  const keys = groups.map((group) => JSON.stringify(group))
  return groups.map((group, index) => ({ ...group, count: keys.filter((key) => key === keys[index]).length }))
}

const filters = [
  { queue: "a" },
  { task: "u" },
  { state: "ready" },
  { state: "scheduled" },
  { state: "running" },
  { state: "dead", reason: "Crashed" },
  { state: "dead", tag: "Tag1" },
  { tag: "Crashed" },
  { endedAfter: 1_000_020, endedBefore: 1_000_400 },
  { namePrefix: "n" },
  { memberOf: History.idOf(0) },
  { memberOf: History.idOf(5), state: "succeeded" },
  { memberOf: History.idOf(9), queue: "b" },
] as const

const queues = ["a", "b"]
const keys = ["K", "L"]
const eachKey = queues.flatMap((queue) => keys.map((key) => ({ queue, key })))

/** Makes steps on both and fails where they differ; `mark` tells the steps of a history apart. */
export const sideBySide = (queue: TaskQueue["Service"], uses: typeof History.Uses.Type) => {
  let now = 1_000_000
  let model = empty
  /** The leases that the driver gave, with the number of the claim, by which the model knows them. */
  let leases: ReadonlyArray<Lease & { readonly claims: number }> = []

  /** Those that hold come first, the last one given before the others, so that most calls find something to do. */
  const recent = (back: number) => {
    const holds = ({ claims, id }: (typeof leases)[number]) =>
      model.records.some((record) => record.id === id && record.token === claims && record.leaseUntil !== undefined)
    const ordered = [...leases.filter((lease) => !holds(lease)), ...leases.filter(holds)]
    return ordered.at(-1 - back) ?? ordered[0] ?? { id: History.idOf(0), token: 0, claims: 0 }
  }
  const given = (back: number): Lease => ({ id: recent(back).id, token: recent(back).token })
  const counted = (back: number): Lease => ({ id: recent(back).id, token: recent(back).claims })

  const same = <A>(call: Effect.Effect<A, TaskQueueError>, [after, expected]: Said<A>) =>
    Effect.map(call, (actual) => {
      model = after
      assert.deepStrictEqual(actual, expected, `${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`)
      return actual
    })

  /** Removing has no time of its own: what it means for others happens by the clock. */
  const byClock = <A>(call: (now: number) => Effect.Effect<A, TaskQueueError>) =>
    Effect.flatMap(Clock.currentTimeMillis, call)

  const claim = Effect.fnUntraced(function* (params: ClaimParams) {
    const [after, expected] = Model.claim(model, params)
    const { nextAt, records } = yield* queue.claim(params)
    model = after
    assert.deepStrictEqual(byQueue(records), byQueue(expected))
    for (const { id, token } of records) {
      const before = leases.filter((lease) => lease.id === id)
      assert.isAbove(token, before.at(-1)?.token ?? Number.NEGATIVE_INFINITY, "the token rises")
      leases = [...leases, { id, token, claims: before.length + 1 }]
    }
    const next = Model.nextClaimable(model, params)
    // A time too early costs a claim, one too late makes records wait.
    if (next !== undefined) assert.isAtMost(nextAt ?? Number.POSITIVE_INFINITY, next, "nextAt is not too late")
    if (nextAt !== undefined && next !== params.now) assert.isAbove(nextAt, params.now, "nextAt is ahead")
    return records
  })

  const step = (step: History.Step, mark: string): Effect.Effect<unknown, TaskQueueError> => {
    switch (step._tag) {
      case "Wait":
        now += step.by
        return Effect.void
      case "Enqueue":
      case "Together": {
        const records = History.recordsOf(step, mark, uses, now)
        return Effect.map(same(queue.enqueue({ records, now }), enqueue(model, records, now)), (outcomes) => {
          // A new record, also when its id was that of one long gone: no lease on it was given yet.
          const inserted = outcomes.map((outcome) => (outcome._tag === "Inserted" ? outcome.id : undefined))
          leases = leases.filter(({ id }) => !inserted.includes(id))
        })
      }
      case "Claim":
        return claim(History.claimOf(step, now))
      case "Extend": {
        const until = now + step.by
        return same(
          queue.extend({ leases: step.leases.map(given), until, now }),
          Model.extend(model, { leases: step.leases.map(counted), until, now }),
        )
      }
      case "Settle":
        return same(
          queue.settle({ settlements: History.settlementsOf(step, given, mark, now), now }),
          Model.settle(model, History.settlementsOf(step, counted, mark, now), now),
        )
      case "Progress": {
        const update = (lease: Lease, n: number) => ({ ...lease, progress: JSON.stringify(`${mark}.${n}`) })
        return same(
          queue.progress({ updates: step.leases.map((back, n) => update(given(back), n)), now }),
          Model.progress(
            model,
            step.leases.map((back, n) => update(counted(back), n)),
          ),
        )
      }
      case "Cancel": {
        const ids = step.ids.map(History.idOf)
        return same(queue.cancel({ ids, reason: mark, now }), Model.cancel(model, ids, mark, now))
      }
      case "Redrive": {
        const ids = step.ids.map(History.idOf)
        return same(queue.redrive({ ids, now }), Model.redrive(model, ids, now))
      }
      case "Remove": {
        const ids = step.ids.map(History.idOf)
        const only = step.only === "dead" ? step.only : undefined
        return byClock((clock) => same(queue.remove({ ids, only }), Model.remove(model, ids, only, clock)))
      }
      case "Purge":
        return byClock((clock) => same(queue.purge(step), Model.purge(model, step.queue, clock)))
      case "Prune": {
        const deadBefore = now + step.deadBefore
        // Room for all: which of many go first is not promised.
        return same(queue.prune({ now, deadBefore, limit: 1000 }), Model.prune(model, now, deadBefore))
      }
      case "Configure": {
        const limits = History.limitsOf(step)
        const configured = Effect.andThen(
          queue.configure({ queue: step.queue, limits, now }),
          Effect.map(queue.limits(step), (limits) => ({ ...limits })),
        )
        return same(configured, Model.configure(model, step.queue, limits, now))
      }
      case "ConfigureKey": {
        const { key, queue: name } = step
        const override = History.overrideOf(step)
        return same(queue.configureKey({ queue: name, key, override, now }), configureKey(model, name, key, override))
      }
      case "PauseUntil": {
        const key = step.key === "" ? undefined : step.key
        const until = now + step.by
        return same(queue.pauseUntil({ queue: step.queue, key, until, now }), pauseUntil(model, step.queue, key, until))
      }
    }
  }

  const compare = Effect.gen(function* () {
    const records = Look.look(model, {}, now)
    const found = yield* queue.get({ ids: History.ids, now })
    for (const [n, id] of History.ids.entries()) {
      const expected = records.find((record) => record.id === id)
      const [left, right] = [found[n], expected].map((record) => record && shown(record))
      assert.deepStrictEqual(left, right, difference(left, right))
    }
    const { records: page } = yield* queue.find({ limit: 100, now })
    assert.deepStrictEqual(idsOf(page), idsOf(asPage(records, page)))
  })

  const compareApart = Effect.gen(function* () {
    const records = Look.look(model, {}, now)
    const ledgers = yield* queue.ledger({ ids: History.ids })
    assert.deepStrictEqual(
      ledgers.map(shownAttempts),
      History.ids.map((id) => shownAttempts(records.find((record) => record.id === id)?.attempts ?? [])),
    )
    const refs = ["p", "q", "r"]
    assert.deepStrictEqual(
      yield* queue.payloadRefs({ refs }),
      refs.map((ref) => records.some(({ payloadRef }) => payloadRef === ref)),
    )
    for (const name of queues) {
      const { executedLastMinute: _, ...statistics } = yield* queue.statistics({ queue: name, now })
      assert.deepStrictEqual(statistics, Look.statistics(model, name, now))
    }
    for (const { key, queue: name } of eachKey) {
      const { override, ...statistics } = yield* queue.keyStatistics({ queue: name, key, now })
      assert.deepStrictEqual({ ...statistics, override: { ...override } }, Look.keyStatistics(model, name, key, now))
    }
  })

  /** At the end: what has calls of its own, every filter, and then that whatever waits can be claimed and ends. */
  const finish = Effect.gen(function* () {
    yield* compareApart
    for (const filter of filters) {
      const { records } = yield* queue.find({ ...filter, limit: 100, now })
      const inserted = Look.look(model, filter, now)
      const expected = "memberOf" in filter ? inserted : asPage(inserted, records)
      assert.deepStrictEqual(records.map(shown), expected.map(shown), JSON.stringify(filter))
      assert.deepStrictEqual(
        lines(yield* queue.counts({ ...filter, now })),
        [...new Set(lines(tally(expected)))],
        JSON.stringify(filter),
      )
    }
    const limits = { paused: false, rate: undefined, maxConcurrent: undefined, byKey: keysUnlimited }
    for (const name of queues) {
      yield* queue.configure({ queue: name, limits, now })
      model = Model.configure(model, name, limits, now)[0]
      yield* same(queue.pauseUntil({ queue: name, until: now, now }), pauseUntil(model, name, undefined, now))
    }
    for (const { key, queue: name } of eachKey) {
      const override = {}
      yield* same(queue.configureKey({ queue: name, key, override, now }), configureKey(model, name, key, override))
      yield* same(queue.pauseUntil({ queue: name, key, until: now, now }), pauseUntil(model, name, key, now))
    }
    for (let left = true; left; ) {
      now += 1_000_000
      const records = yield* claim({
        queues: queues.map((name) => ({ name, limit: 5 })),
        tasks: ["t", "u"].map((name) => ({ name, maxVersion: 2 })),
        targets: ["x"],
        lease: 10,
        worker: "the last",
        now,
      })
      const succeed = (lease: Lease) => ({ ...lease, _tag: "Succeed", result: undefined }) as const
      const places = records.map((_, place) => place)
      yield* same(
        queue.settle({ settlements: places.map(given).map(succeed), now }),
        Model.settle(model, places.map(counted).map(succeed), now),
      )
      left = records.length > 0
    }
    const { records } = yield* queue.find({ limit: 100, now })
    for (const record of records) assert.isDefined(record.endedAt, `${record.id} is ${record.state}`)
    yield* compare
    yield* compareApart
  })

  return { step, compare, finish }
}
