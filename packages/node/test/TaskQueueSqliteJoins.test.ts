/** Groups that are larger than what one call does, and chains that are longer than a stack is deep. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { Join, NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { idOf, newFile, record } from "./records.ts"

const now = 1000
const joinOf = (total: number, more?: Partial<Join>): Join => ({
  total,
  onFailure: "continue",
  afterwards: "run",
  ...more,
})

/** A record, number 0, with so many members. */
const group = (count: number, more?: Partial<Join>): ReadonlyArray<NewRecord> => [
  record(0, { join: joinOf(count, more) }),
  ...Array.from({ length: count }, (_, n) => record(n + 1, { memberOf: idOf(0) })),
]

const claim = (driver: TaskQueue.Driver, limit: number, at = now) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: [{ name: "task", maxVersion: 1 }],
    targets: [],
    lease: 1000,
    worker: "worker",
    now: at,
  })

const settle = (driver: TaskQueue.Driver, records: ReadonlyArray<TaskQueue.ClaimedRecord>, tag: "Succeed" | "Cancel") =>
  driver.settle({
    settlements: records.map(({ id, token }) => ({ id, token, _tag: tag, result: undefined })),
    now,
  })

const get = (driver: TaskQueue.Driver, id: TaskId, at = now) =>
  Effect.map(driver.get({ ids: [id], now: at }), ([record]) => ({ state: record?.state, join: record?.join }))

const statesOf = (driver: TaskQueue.Driver) =>
  Effect.map(driver.counts({ memberOf: idOf(0), now }), (counts) =>
    Object.fromEntries(counts.map(({ count, state }) => [state, count])),
  )

describe("a group of very many", () => {
  it.effect("is cancelled bit by bit, some thousand at once and the rest by the claims that follow", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: group(5000), now })
      assert.deepStrictEqual(yield* driver.cancel({ ids: [idOf(0)], reason: "enough", now }), ["Cancelled"])
      assert.deepStrictEqual(yield* statesOf(driver), { cancelled: 2000, ready: 3000 })
      assert.strictEqual((yield* claim(driver, 0)).nextAt, now)
      assert.deepStrictEqual(yield* statesOf(driver), { cancelled: 4000, ready: 1000 })
      assert.isUndefined((yield* claim(driver, 0)).nextAt)
      assert.deepStrictEqual(yield* statesOf(driver), { cancelled: 5000 })
      const { records } = yield* driver.find({ limit: 1, memberOf: idOf(0), now })
      assert.deepInclude(records[0], { id: idOf(1), cancelRequested: "enough" })
    }),
  )

  it.effect("is cancelled to its end by other processes, if the one that began it is gone", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = yield* TaskQueueSqlite.make({ filename })
      yield* claim(other, 0)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const driver = yield* TaskQueueSqlite.make({ filename })
          yield* driver.enqueue({ records: group(2500, { onFailure: "cancelSiblings" }), now })
          yield* settle(driver, (yield* claim(driver, 1)).records, "Cancel")
        }),
      )
      // It looks for what others left once a second.
      yield* claim(other, 0, now + 999)
      assert.strictEqual((yield* statesOf(other)).ready, 500)
      yield* claim(other, 0, now + 1000)
      assert.deepStrictEqual(yield* get(other, idOf(0), now + 1000), {
        state: "ready",
        join: { ...joinOf(2500, { onFailure: "cancelSiblings" }), succeeded: 0, cancelled: 2500, dead: 0 },
      })
    }),
  )

  it.effect("counts each end where it is counted, whatever there is", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: group(3000), now })
      for (let left = 3000; left > 0; left -= 500) yield* settle(driver, (yield* claim(driver, 500)).records, "Succeed")
      assert.deepStrictEqual(yield* get(driver, idOf(0)), {
        state: "ready",
        join: { ...joinOf(3000), succeeded: 3000, cancelled: 0, dead: 0 },
      })
    }),
  )
})

describe("a chain of very many", () => {
  const length = 3000
  /** Each waits for the one before it; the last in number is the first to run. */
  const chain = (more?: Partial<Join>) =>
    Array.from({ length }, (_, n) =>
      record(n, {
        ...(n === length - 1 ? {} : { join: joinOf(1, more) }),
        ...(n === 0 ? {} : { memberOf: idOf(n - 1) }),
      }),
    )

  it.effect("is cancelled from the one that failed to the last that waits", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: chain({ onFailure: "cancel" }), now })
      yield* settle(driver, (yield* claim(driver, 10)).records, "Cancel")
      const counts = yield* driver.counts({ now })
      assert.deepStrictEqual(
        counts.map(({ count, state }) => [state, count]),
        [["cancelled", length]],
      )
    }),
  )

  it.effect("ends as a whole where nothing runs in between", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      yield* driver.enqueue({ records: chain({ afterwards: "end" }), now })
      yield* settle(driver, (yield* claim(driver, 10)).records, "Succeed")
      const counts = yield* driver.counts({ now })
      assert.deepStrictEqual(
        counts.map(({ count, state }) => [state, count]),
        [["succeeded", length]],
      )
      yield* driver.remove({ ids: chain().map(({ id }) => id) })
      const db = new DatabaseSync(filename, { readOnly: true })
      assert.strictEqual(db.prepare("SELECT count(*) AS rows FROM outlive_joins").get()?.rows, 0)
      db.close()
    }),
  )
})
