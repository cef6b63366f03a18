import { assert, describe, it } from "@effect/vitest"
import { explain, type Known } from "@outlive/deferred/Explanation"
import { unlimited } from "@outlive/deferred/QueueLimits"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { TaskRecord } from "@outlive/deferred/TaskRecord"
import { Effect } from "effect"

const worker = {
  id: "w1",
  startedAt: 0,
  at: 0,
  tasks: [{ name: "Plain", maxVersion: 1 }],
  targets: [],
  queues: [{ name: "default", concurrency: 1, running: 0, buffered: 0 }],
  finished: 0,
  unsettled: 0,
  failingSince: undefined,
  draining: false,
}
const statistics = {
  waiting: 1,
  ready: 1,
  oldestEta: 0,
  inFlight: 0,
  executedLastMinute: 0,
  nextTokenAt: undefined,
  pausedUntil: undefined,
}
const ofKey = { waiting: 1, ready: 1, inFlight: 0, pausedUntil: undefined, nextTokenAt: undefined, override: {} }

/** The reasons of a record that could run, but for what is given. */
const reasonsOf = (record: Partial<TaskRecord>, known?: Partial<Omit<Known, "record">>) =>
  Effect.gen(function* () {
    const ref = yield* Task.make("Plain").defer()
    const explained = explain({
      record: { ...(yield* ref.record), ...record },
      limits: unlimited,
      statistics,
      workers: [worker],
      now: 1_000,
      ...known,
    })
    return explained.reasons.map((reason) => [reason, explained.sentence.replace(/^.*?: /, "")] as const)
  }).pipe(Effect.provide(TaskQueueMemory.layer))

const held = { state: "scheduled", eta: Number.POSITIVE_INFINITY } as const

describe("explain", () => {
  it.effect("says how many of those have ended that a record waits for", () =>
    Effect.gen(function* () {
      const join = { total: 5, onFailure: "continue", afterwards: "run", succeeded: 2, cancelled: 0, dead: 1 } as const
      assert.deepStrictEqual(yield* reasonsOf({ ...held, join }), [
        [{ _tag: "Members", ended: 3, total: 5 }, "it waits for others, of which 3 of 5 have ended"],
      ])
      const released = yield* reasonsOf({ state: "ready", eta: 0, join: { ...join, succeeded: 4 } })
      assert.deepStrictEqual(released[0]?.[0], { _tag: "Behind", ready: 1 })
    }),
  )

  it.effect("says whom the latest of a key follows", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* reasonsOf({ ...held, uniqueKey: "doc 7" }), [
        [{ _tag: "Latest", uniqueKey: "doc 7" }, "it runs when what runs with the unique key doc 7 has ended"],
      ])
    }),
  )

  it.effect("goes by what was said of a key alone before what holds for all", () =>
    Effect.gen(function* () {
      const limits = { ...unlimited, byKey: { maxConcurrent: 1, rate: 0, burst: 5, ordered: false } }
      const record = { key: "acme" }
      const first = (override: object) =>
        Effect.map(
          reasonsOf(record, { limits, keyStatistics: { ...ofKey, inFlight: 1, override } }),
          ([first]) => first?.[0],
        )
      const never = { _tag: "Rate", queue: "default", key: "acme", rate: 0, until: undefined } as const
      assert.deepStrictEqual(yield* first({}), never)
      const full = { _tag: "Concurrency", queue: "default", key: "acme", running: 1, maxConcurrent: 1 } as const
      assert.deepStrictEqual(yield* first({ rate: 5 }), full)
      const free = { rate: Number.POSITIVE_INFINITY, maxConcurrent: Number.POSITIVE_INFINITY }
      assert.deepStrictEqual(yield* first(free), { _tag: "Behind", ready: 1 })
    }),
  )

  it.effect("says nothing of pauses and orders that do not keep it", () =>
    Effect.gen(function* () {
      const limits = { ...unlimited, byKey: { ...unlimited.byKey, ordered: true } }
      const reasons = yield* reasonsOf(
        { key: "acme" },
        {
          limits,
          statistics: { ...statistics, pausedUntil: 1_000 },
          keyStatistics: { ...ofKey, pausedUntil: 999 },
        },
      )
      assert.deepStrictEqual(
        reasons.map(([{ _tag }]) => _tag),
        ["Behind"],
      )
    }),
  )
})
