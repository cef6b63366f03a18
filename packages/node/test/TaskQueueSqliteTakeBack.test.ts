import { assert, describe, it } from "@effect/vitest"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { newFile, records as samples } from "./records.ts"

const now = 1000
const records = (count: number, more?: Partial<NewRecord>) => samples(count, () => ({ keep: 1000, ...more }))
const claimAt = (driver: TaskQueue.Driver, limit: number, now: number) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: [{ name: "task", maxVersion: 1 }],
    targets: [],
    lease: 1000,
    worker: "worker",
    now,
  })

describe("a claim with much to take back", () => {
  it.effect("takes back a part of it, and says that the rest is due now", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: records(1500), now })
      yield* claimAt(driver, 1500, now)
      const counted = Effect.map(driver.counts({ now: 5000 }), (counts) =>
        counts.map(({ count, state }) => `${state} ${count}`).sort(),
      )
      assert.strictEqual((yield* claimAt(driver, 0, 5000)).nextAt, 5000)
      assert.deepStrictEqual(yield* counted, ["ready 1000", "running 500"])
      assert.strictEqual((yield* claimAt(driver, 0, 5000)).nextAt, 5000)
      assert.deepStrictEqual(yield* counted, ["ready 1500"])
    }),
  )

  it.effect("buries a part of what expired, claims none of the rest and says that it is due now", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      yield* driver.enqueue({ records: records(1500, { expiresAt: 2000 }), now })
      assert.deepStrictEqual(yield* claimAt(driver, 5, 5000), { records: [], nextAt: 5000 })
      assert.deepStrictEqual(yield* claimAt(driver, 5, 5000), { records: [], nextAt: undefined })
    }),
  )
})
