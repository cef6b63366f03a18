import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskSchedule from "@outlive/deferred/TaskSchedule"
import { DateTime, Effect, Schema } from "effect"
import { ticksOf } from "../src/internal/schedules.ts"

const Report = Task.make("Report", { payload: { at: Schema.Int } })
const schedule = (when: TaskSchedule.When) =>
  TaskSchedule.make("reports", Report, { ...when, payload: (tick) => ({ at: tick.epochMilliseconds }) })
const ticks = (when: TaskSchedule.When, from: string, count: number): ReadonlyArray<string> => {
  const { next } = schedule(when)
  const found: Array<string> = []
  for (let at = next(Date.parse(from)); at !== undefined && found.length < count; at = next(at)) {
    found.push(new Date(at).toISOString())
  }
  return found
}

describe("TaskSchedule", () => {
  it("ticks by five fields, and by six with seconds first", () => {
    assert.deepStrictEqual(ticks({ cron: "30 4 * * MON" }, "2026-11-21T00:00:00Z", 2), [
      "2026-11-23T04:30:00.000Z",
      "2026-11-30T04:30:00.000Z",
    ])
    assert.deepStrictEqual(ticks({ cron: "*/20 * * * * *" }, "2026-11-21T00:00:00Z", 3), [
      "2026-11-21T00:00:20.000Z",
      "2026-11-21T00:00:40.000Z",
      "2026-11-21T00:01:00.000Z",
    ])
  })

  it("ticks by an interval at its multiples, the same for everybody", () => {
    assert.deepStrictEqual(ticks({ every: "15 minutes" }, "2026-11-21T00:07:00Z", 2), [
      "2026-11-21T00:15:00.000Z",
      "2026-11-21T00:30:00.000Z",
    ])
    assert.deepStrictEqual(ticks({ every: "15 minutes" }, "2026-11-21T00:15:00Z", 1), ["2026-11-21T00:30:00.000Z"])
  })

  it("makes a local time that does not come right after the gap", () => {
    // Europe/Oslo goes from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC.
    assert.deepStrictEqual(ticks({ cron: "30 2 * * *", timeZone: "Europe/Oslo" }, "2026-03-28T00:00:00Z", 3), [
      "2026-03-28T01:30:00.000Z",
      "2026-03-29T01:30:00.000Z",
      "2026-03-30T00:30:00.000Z",
    ])
  })

  it("makes a local time that comes twice once, or as said", () => {
    // And from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
    const when: TaskSchedule.When & { readonly cron: string } = { cron: "30 2 * * *", timeZone: "Europe/Oslo" }
    const [from, count] = ["2026-10-24T12:00:00Z", 2] as const
    const first = "2026-10-25T00:30:00.000Z"
    const second = "2026-10-25T01:30:00.000Z"
    const after = "2026-10-26T01:30:00.000Z"
    assert.deepStrictEqual(ticks(when, from, count), [first, after])
    assert.deepStrictEqual(ticks({ ...when, onDstOverlap: "later" as const }, from, count), [second, after])
    assert.deepStrictEqual(ticks({ ...when, onDstOverlap: "both" as const }, from, count), [first, second])
  })

  it.effect.prop(
    "has a tick once for each local day in whichever zone, and time goes forward",
    {
      zone: Schema.Literals([
        "Europe/Oslo",
        "America/New_York",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Chatham",
        "Africa/Casablanca",
        "America/Santiago",
      ]),
      hour: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 23 })),
      minute: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 59 })),
      year: Schema.Int.check(Schema.isBetween({ minimum: 2000, maximum: 2030 })),
    },
    ({ hour, minute, year, zone }) =>
      Effect.sync(() => {
        const { next } = schedule({ cron: `${minute} ${hour} * * *`, timeZone: zone })
        const dayOf = (at: number) => DateTime.formatIsoDate(DateTime.makeZonedUnsafe(at, { timeZone: zone }))
        let at = Date.UTC(year, 0, 1)
        const days = new Set<string>()
        let count = 0
        const end = Date.UTC(year, 11, 30)
        while (true) {
          const after = next(at)
          assert.isDefined(after)
          if (after > end) break
          assert.isAbove(after, at)
          at = after
          count++
          days.add(dayOf(at))
        }
        assert.strictEqual(days.size, count, "no day has two")
        // From the second of January, in every zone, to the end of December.
        assert.isAtLeast(count, (end - Date.UTC(year, 0, 1)) / 86_400_000 - 1, "and no day has none")
      }),
    { arbitrary: { runs: 40 } },
  )

  it.each([
    ["name", "a b", { every: "1 minute" }],
    ["cron", "a", { cron: "* * *" }],
    ["cron", "a", { cron: "61 * * * *" }],
    ["cron", "a", { cron: "0 0 30 2 *" }],
    ["timeZone", "a", { cron: "* * * * *", timeZone: "Europe/Atlantis" }],
    ["every", "a", { every: 999 }],
    ["every", "a", { every: Number.NaN }],
    ["jitter", "a", { every: "1 hour", jitter: "2 days" }],
  ] as const)("refuses an invalid %s", (field, name, options) => {
    try {
      TaskSchedule.make(name, Report, { ...(options as TaskSchedule.When), payload: () => ({ at: 0 }) })
    } catch (error) {
      assert.instanceOf(error, TaskSchedule.InvalidSchedule)
      assert.strictEqual(error.field, field)
      return
    }
    assert.fail("it was taken")
  })
})

describe("catching up", () => {
  const next = (after: number) => (Math.floor(after / 60_000) + 1) * 60_000
  const due = (catchUp: "none" | "last" | "all", last: number, now: number) => ticksOf({ catchUp, next }, last, now)

  it("makes a prompt tick in every way", () => {
    for (const catchUp of ["none", "last", "all"] as const) {
      assert.deepStrictEqual(due(catchUp, 60_000, 121_000), { due: [120_000], upTo: 120_000 })
    }
  })

  it("makes up for none, the last, or all of those that nobody made", () => {
    assert.deepStrictEqual(due("none", 60_000, 500_000), { due: [480_000], upTo: 480_000 })
    assert.deepStrictEqual(due("last", 60_000, 300_000), { due: [300_000], upTo: 300_000 })
    assert.deepStrictEqual(due("all", 60_000, 300_000).due, [120_000, 180_000, 240_000, 300_000])
  })

  it("leaves out what is late, and knows that it did", () => {
    const hourly = (after: number) => (Math.floor(after / 3_600_000) + 1) * 3_600_000
    const late = ticksOf({ catchUp: "none", next: hourly }, 0, 3_700_000)
    assert.deepStrictEqual(late, { due: [], upTo: 3_600_000 })
  })

  it("has nothing to make before the next tick", () => {
    assert.deepStrictEqual(due("all", 60_000, 119_999), { due: [], upTo: 60_000 })
  })
})
