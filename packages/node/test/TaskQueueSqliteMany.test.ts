/** Records that are written many at a time come out as if each were written alone. */
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Schema } from "effect"
import { randomBy } from "./random.ts"
import { idOf, newFile, record, records } from "./records.ts"

const now = 1000
const claimAt = (driver: TaskQueue.Driver, limit: number, now: number) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: [{ name: "task", maxVersion: 1 }],
    targets: [],
    lease: 1000,
    worker: "worker",
    now,
  })
const all = <A, E>(calls: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(calls, { concurrency: "unbounded" })
const numbers = (count: number) => Array.from({ length: count }, (_, number) => number)
const succeed = (number: number, result: string | undefined): TaskQueue.Settlement => ({
  id: idOf(number),
  token: 1,
  _tag: "Succeed",
  result,
})
/** The states and results of so many records. */
const read = (driver: TaskQueue.Driver, count: number) =>
  Effect.map(driver.get({ ids: numbers(count).map(idOf), now: 3000 }), (records) =>
    records.map((record) => `${record?.state} ${record?.result}`),
  )

describe("many deferrals of one turn", () => {
  const outcome = ([first]: ReadonlyArray<TaskQueue.EnqueueOutcome>): string | undefined => first?._tag
  /** All that there are, in the order of insertion. */
  const stored = (driver: TaskQueue.Driver) =>
    Effect.map(driver.find({ limit: 1000, now }), ({ records }) => records.map(({ id }) => id))

  it.effect("are stored in their order, those with something rare among them", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const given = numbers(157).map((number) =>
        number % 13 === 5
          ? record(number, { name: `name ${number}` })
          : number % 17 === 3
            ? record(number, { key: "key" })
            : record(number),
      )
      const outcomes = yield* all(given.map((each) => driver.enqueue({ records: [each], now })))
      assert.deepStrictEqual(new Set(outcomes.map(outcome)), new Set(["Inserted"]))
      assert.deepStrictEqual(
        yield* stored(driver),
        given.map(({ id }) => id),
      )
    }),
  )

  it.effect("say which was there before, by an earlier call, the same turn, or the same statement", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: [record(4), record(33)], now })
      const given = [...numbers(80), 79, 0, ...numbers(20).map((number) => 80 + number), 7]
      const outcomes = yield* all(given.map((number) => driver.enqueue({ records: [record(number)], now })))
      const isNew = (number: number, index: number) => number !== 4 && number !== 33 && given.indexOf(number) === index
      assert.deepStrictEqual(
        outcomes.map(outcome),
        given.map((number, index) => (isNew(number, index) ? "Inserted" : "Existing")),
      )
      assert.strictEqual((yield* stored(driver)).length, 100)
      const many = yield* driver.enqueue({ records: numbers(115).map((number) => record(number)), now })
      assert.deepStrictEqual(
        many.map(({ _tag }) => _tag),
        numbers(115).map((number) => (number < 100 ? "Existing" : "Inserted")),
      )
    }),
  )

  it.effect("are there for the calls after them", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const [, cancelled, , { records: claimed }, , removed] = yield* Effect.all(
        [
          driver.enqueue({ records: [record(0)], now }),
          driver.cancel({ ids: [idOf(0)], now, reason: "no" }),
          driver.enqueue({ records: records(15), now }),
          claimAt(driver, 20, now),
          driver.enqueue({ records: [record(20)], now }),
          driver.remove({ ids: [idOf(20)] }),
        ],
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(cancelled, ["Cancelled"])
      assert.strictEqual(claimed.length, 14)
      assert.deepStrictEqual(removed, ["Removed"])
    }),
  )

  it.effect("are stored once each when some of them are bad", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      // SQLite has no NaN, and refuses the NULL that comes of it.
      const isBad = (number: number) => number === 14 || number === 60
      const given = numbers(85).map((number) => record(number, isBad(number) ? { priority: Number.NaN } : {}))
      const exits = yield* all(given.map((each) => Effect.exit(driver.enqueue({ records: [each], now }))))
      assert.deepStrictEqual(
        exits.map(({ _tag }) => _tag),
        numbers(85).map((number) => (isBad(number) ? "Failure" : "Success")),
      )
      assert.deepStrictEqual(
        [...(yield* stored(driver))].sort(),
        numbers(85)
          .filter((number) => !isBad(number))
          .map(idOf),
      )
    }),
  )
})

describe("many records of one claim", () => {
  it.effect("start in the order of the contract, also where that is not the order of insertion", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const priorityOf = (number: number) => (number * 7) % 25
      const more = (number: number) => ({
        priority: priorityOf(number),
        payload: String(number),
        // Every third has something that most have not.
        ...(number % 3 === 0 ? { headers: { number: String(number) } } : {}),
      })
      yield* driver.enqueue({ records: records(25, more), now })
      const claimed = (yield* claimAt(driver, 23, now)).records
      const expected = numbers(25).sort((left, right) => priorityOf(right) - priorityOf(left))
      assert.deepStrictEqual(
        claimed.map(({ attempt, headers, id, leaseUntil, payload, token, worker }) => ({
          ...{ attempt, headers, id, leaseUntil, payload, token, worker },
        })),
        expected.slice(0, 23).map((number) => ({
          attempt: 1,
          headers: number % 3 === 0 ? { number: String(number) } : {},
          id: idOf(number),
          leaseUntil: now + 1000,
          payload: String(number),
          token: 1,
          worker: "worker",
        })),
      )
    }),
  )
})

describe("many successes of one call", () => {
  const claimed = (count: number, keepOf: (number: number) => number = () => 5000) =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: records(count, (number) => ({ keep: keepOf(number) })), now })
      assert.strictEqual((yield* claimAt(driver, count, now)).records.length, count)
      return driver
    })

  it.effect("have each its result", () =>
    Effect.gen(function* () {
      const driver = yield* claimed(35)
      // Ten that are the same, ten that are not, ten of which some have none, and five.
      const resultOf = (number: number) =>
        number < 10 ? "same" : number < 20 || number % 2 === 0 ? `"${number}"` : undefined
      const settlements = numbers(35).map((number) => succeed(number, resultOf(number)))
      const outcomes = yield* driver.settle({ settlements, now })
      assert.deepStrictEqual(new Set(outcomes), new Set(["Settled"]))
      assert.deepStrictEqual(
        yield* read(driver, 35),
        numbers(35).map((number) => `succeeded ${resultOf(number)}`),
      )
    }),
  )

  it.effect("change nothing of the records whose leases were lost, and of those settled before", () =>
    Effect.gen(function* () {
      const driver = yield* claimed(20)
      const isKept = (number: number) => number % 3 > 0
      const leases = numbers(20)
        .filter(isKept)
        .map((number) => ({ id: idOf(number), token: 1 }))
      yield* driver.extend({ leases, until: 10_000, now })
      // The others are taken back, and one of them starts anew.
      const [anew] = (yield* claimAt(driver, 1, 3000)).records
      assert.strictEqual(anew?.token, 2)
      yield* driver.settle({ settlements: [{ ...succeed(0, "anew"), id: anew?.id as TaskId, token: 2 }], now: 3000 })
      const settlements = [
        ...numbers(20).map((number) => succeed(number, "done")),
        ...numbers(20).map((number) => succeed(number, "twice")),
      ]
      const outcomes = yield* driver.settle({ settlements, now: 3000 })
      assert.deepStrictEqual<ReadonlyArray<string>>(outcomes, [
        ...numbers(20).map((number) => (isKept(number) ? "Settled" : "LeaseLost")),
        ...numbers(20).map(() => "LeaseLost"),
      ])
      assert.deepStrictEqual(
        yield* read(driver, 20),
        numbers(20).map((number) =>
          isKept(number) ? "succeeded done" : idOf(number) === anew?.id ? "succeeded anew" : "ready undefined",
        ),
      )
    }),
  )

  it.effect("of which some are the same settle each once", () =>
    Effect.gen(function* () {
      const driver = yield* claimed(9)
      const settlements = [0, ...numbers(9)].map((number) => succeed(number, "done"))
      assert.deepStrictEqual<ReadonlyArray<string>>(yield* driver.settle({ settlements, now }), [
        "Settled",
        "LeaseLost",
        ...numbers(8).map(() => "Settled"),
      ])
    }),
  )

  it.effect("lose those that somebody else settled with their leases, one alone as well", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const other = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: records(71), now })
      yield* claimAt(driver, 71, now)
      const taken = [7, 33, 62, 70]
      yield* other.settle({ settlements: taken.map((number) => succeed(number, "theirs")), now })
      const settlements = numbers(71).map((number) => succeed(number, "ours"))
      assert.deepStrictEqual(yield* driver.settle({ settlements: settlements.slice(70), now }), ["LeaseLost"])
      assert.deepStrictEqual<ReadonlyArray<string>>(
        yield* driver.settle({ settlements: settlements.slice(0, 70), now }),
        numbers(70).map((number) => (taken.includes(number) ? "LeaseLost" : "Settled")),
      )
      assert.deepStrictEqual(
        yield* read(driver, 71),
        numbers(71).map((number) => `succeeded ${taken.includes(number) ? "theirs" : "ours"}`),
      )
    }),
  )

  it.effect("are kept each for its time", () =>
    Effect.gen(function* () {
      const keepOf = (number: number) => (number < 10 ? 0 : number < 15 ? 1000 : 2000)
      const driver = yield* claimed(30, keepOf)
      const settlements = numbers(30).map((number) => succeed(number, undefined))
      yield* driver.settle({ settlements, now })
      const left = Effect.map(driver.find({ limit: 100, now }), ({ records }) => records.length)
      assert.strictEqual(yield* left, 20)
      yield* driver.prune({ now: now + 1000, deadBefore: 0, limit: 100 })
      assert.strictEqual(yield* left, 15)
      yield* driver.prune({ now: now + 2000, deadBefore: 0, limit: 100 })
      assert.strictEqual(yield* left, 0)
    }),
  )
})

describe("many of everything", () => {
  it.effect.prop(
    "is as in memory: deferred, claimed and settled in whatever order, with whatever among it",
    { count: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 170 })), seed: Schema.Int },
    ({ count, seed }) =>
      Effect.gen(function* () {
        const memory = yield* TaskQueueMemory.make
        const filename = yield* newFile
        const first = yield* TaskQueueSqlite.make({ filename })
        // Who has a lease may settle it by another connection, of which the one that claimed it does not hear.
        const second = yield* TaskQueueSqlite.make({ filename })
        const chance = randomBy(seed)
        const isOnce = (times: number) => Math.floor(chance() * times) === 0
        /** The same call of both, which answer the same. */
        const both = Effect.fnUntraced(function* <A, E>(call: (driver: TaskQueue.Driver) => Effect.Effect<A, E>) {
          const expected = yield* call(memory)
          assert.deepStrictEqual(yield* call(isOnce(5) ? second : first), expected)
          return expected
        })
        const given = numbers(count).map((number) =>
          record(isOnce(40) ? Math.floor(number / 2) : number, {
            payload: `"${number}"`,
            keep: isOnce(20) ? 0 : 5000,
            ...(isOnce(15) ? { headers: { number: String(number) } } : {}),
            ...(isOnce(30) ? { name: `name ${number % 7}`, onDuplicate: "ignore" } : {}),
            ...(isOnce(50) ? { priority: 1 } : {}),
            ...(isOnce(50) ? { lease: 10 } : {}),
          }),
        )
        yield* both((driver) => all(given.map((each) => driver.enqueue({ records: [each], now }))))
        const ids = [...new Set(given.map(({ id }) => id))]
        const seen: Array<{ readonly id: TaskId; readonly token: number }> = []
        for (const at of [now, now + 20, now + 40, now + 2000, now + 4000]) {
          const limit = Math.floor(chance() * 1.5 * count)
          seen.push(...(yield* both((driver) => claimAt(driver, limit, at))).records)
          const isMixed = isOnce(2)
          const chosen = seen.filter(() => !isOnce(8)).sort(isMixed ? () => chance() - 0.5 : () => 0)
          const settlements = chosen.map(
            ({ id, token }): TaskQueue.Settlement =>
              isMixed && isOnce(9)
                ? { id, token, _tag: "Retry", eta: at, failure: "{}" }
                : isMixed && isOnce(9)
                  ? { id, token, _tag: "Release" }
                  : { id, token, _tag: "Succeed", result: isOnce(12) ? undefined : isMixed && isOnce(4) ? "1" : "0" },
          )
          const few = settlements.filter(() => isOnce(15))
          yield* both((driver) => driver.settle({ settlements: few, now: at }))
          yield* both((driver) => driver.settle({ settlements, now: at }))
          yield* both((driver) => driver.get({ ids, now: at }))
        }
      }),
  )
})
