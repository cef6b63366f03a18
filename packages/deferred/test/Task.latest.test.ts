import { assert, describe, it } from "@effect/vitest"
import { DeferLimits, InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord, TaskRecord } from "@outlive/deferred/TaskRecord"
import { DateTime, Duration, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"

const Index = Task.make("Index", { payload: { doc: Schema.String }, latest: { key: ({ doc }) => doc } })
const Save = Task.make("Save", {
  payload: { doc: Schema.String },
  latest: { key: ({ doc }) => doc, debounce: { within: "5 seconds", maxWait: "1 minute" } },
})
const Notify = Task.make("Notify", {
  payload: { doc: Schema.String },
  latest: { key: ({ doc }) => doc, throttle: { within: "1 minute" } },
})
const Plain = Task.make("Plain")
const Once = Task.make("Once", { unique: { key: () => "one" } })

/** What is enqueued, by a queue that takes everything. */
const seeing = () => {
  const seen: Array<NewRecord> = []
  const driver = Effect.map(
    TaskQueueMemory.make,
    (memory): TaskQueue.Driver => ({
      ...memory,
      enqueue: ({ records }) =>
        Effect.sync(() => {
          seen.push(...records)
          return records.map(({ id }): TaskQueue.EnqueueOutcome => ({ _tag: "Inserted", id }))
        }),
    }),
  )
  return { seen, layer: TaskQueue.layer(driver) }
}

const at = 1_000_000
const stored = <A, E>(deferring: Effect.Effect<A, E, TaskQueue.TaskQueue>) => {
  const { layer, seen } = seeing()
  return Effect.gen(function* () {
    yield* TestClock.setTime(at)
    yield* deferring
    return seen.map(({ eta, unique }) => ({ eta: eta - at, unique }))
  }).pipe(Effect.provide(layer))
}

describe("a record of the latest", () => {
  const untilEnd = ["waiting", "running"] as const
  it.effect.each([
    {
      says: "has the key of its payload, until its end",
      deferring: Index.defer({ doc: "a" }),
      record: { eta: 0, unique: { key: "a", while: untilEnd, latest: { dueBy: undefined, spacing: undefined } } },
    },
    {
      says: "is due when its deferral says",
      deferring: Index.defer({ doc: "a" }, { delay: "1 hour" }),
      record: {
        eta: 3_600_000,
        unique: { key: "a", while: untilEnd, latest: { dueBy: undefined, spacing: undefined } },
      },
    },
    {
      says: "waits for a pause, and not for longer than that",
      deferring: Save.defer({ doc: "a" }),
      record: { eta: 5_000, unique: { key: "a", while: untilEnd, latest: { dueBy: at + 60_000, spacing: undefined } } },
    },
    {
      says: "keeps its distance",
      deferring: Notify.defer({ doc: "a" }),
      record: { eta: 0, unique: { key: "a", while: untilEnd, latest: { dueBy: undefined, spacing: 60_000 } } },
    },
    {
      says: "has a key of its own and another pace, for one deferral",
      deferring: Save.defer({ doc: "a" }, { latest: { key: "b", throttle: { within: 10 } } }),
      record: { eta: 0, unique: { key: "b", while: untilEnd, latest: { dueBy: undefined, spacing: 10 } } },
    },
    {
      says: "keeps the task's key where only another pace is said",
      deferring: Save.defer({ doc: "a" }, { latest: { debounce: { within: 10 } } }),
      record: { eta: 10, unique: { key: "a", while: untilEnd, latest: { dueBy: undefined, spacing: undefined } } },
    },
    {
      says: "keeps the task's pace where only another key is said",
      deferring: Notify.defer({ doc: "a" }, { latest: { key: "b" } }),
      record: { eta: 0, unique: { key: "b", while: untilEnd, latest: { dueBy: undefined, spacing: 60_000 } } },
    },
    {
      says: "may be one of a task that has no such key",
      deferring: Plain.defer(undefined, { latest: { key: "b" } }),
      record: { eta: 0, unique: { key: "b", while: untilEnd, latest: { dueBy: undefined, spacing: undefined } } },
    },
    {
      says: "may be one of a task that has a unique key",
      deferring: Once.defer(undefined, { latest: { key: "b" } }),
      record: { eta: 0, unique: { key: "b", while: untilEnd, latest: { dueBy: undefined, spacing: undefined } } },
    },
    {
      says: "is none when its deferral says so",
      deferring: Save.defer({ doc: "a" }, { latest: false }),
      record: { eta: 0, unique: undefined },
    },
    {
      says: "is none without a unique key",
      deferring: Save.defer({ doc: "a" }, { unique: false }),
      record: { eta: 0, unique: undefined },
    },
    {
      says: "is none with a unique key of its deferral's own",
      deferring: Save.defer({ doc: "a" }, { unique: { key: "u" } }),
      record: { eta: 0, unique: { key: "u", while: untilEnd } },
    },
    {
      says: "is none of a task with a unique key, which it keeps",
      deferring: Once.defer(undefined, { latest: false }),
      record: { eta: 0, unique: { key: "one", while: untilEnd } },
    },
  ])("$says", ({ deferring, record }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual<unknown>(yield* stored(deferring), [record])
    }),
  )

  it.effect("is stored with others in one call", () =>
    Effect.gen(function* () {
      const records = yield* stored(Save.deferAll([{ doc: "a" }, { doc: "b" }]))
      assert.deepStrictEqual(
        records.map(({ unique }) => unique?.key),
        ["a", "b"],
      )
    }),
  )

  it.effect.each([
    { field: "latest", deferring: Index.defer({ doc: "" }) },
    { field: "latest", deferring: Index.defer({ doc: "x".repeat(1001) }) },
    { field: "latest", deferring: Plain.defer(undefined, { latest: { debounce: { within: 1 } } }) },
    { field: "latest", deferring: Plain.defer(undefined, { latest: { key: "a" }, unique: { key: "a" } } as never) },
    {
      field: "latest",
      deferring: Index.defer({ doc: "a" }, { latest: { debounce: { within: 1 }, throttle: { within: 1 } } } as never),
    },
    { field: "latest.debounce.within", deferring: Index.defer({ doc: "a" }, { latest: { debounce: { within: 0 } } }) },
    {
      field: "latest.debounce.within",
      deferring: Index.defer({ doc: "a" }, { latest: { debounce: { within: "31 days" } } }),
    },
    {
      field: "latest.debounce.maxWait",
      deferring: Index.defer({ doc: "a" }, { latest: { debounce: { within: 2, maxWait: 1 } } }),
    },
    {
      field: "latest.throttle.within",
      deferring: Index.defer({ doc: "a" }, { latest: { throttle: { within: Duration.infinity } } }),
    },
    { field: "delay", deferring: Save.defer({ doc: "a" }, { delay: "1 second" }) },
    { field: "eta", deferring: Save.defer({ doc: "a" }, { eta: DateTime.makeUnsafe(at) }) },
  ])("is refused: $field", ({ deferring, field }) =>
    Effect.gen(function* () {
      const { layer, seen } = seeing()
      const error = yield* Effect.flip(Effect.provide(deferring, layer))
      assert.instanceOf(error, InvalidTaskOptions)
      assert.strictEqual((error as InvalidTaskOptions).field, field)
      assert.deepStrictEqual(seen, [])
    }),
  )

  it.effect("may wait as long as DeferLimits allows", () => {
    const far = Index.defer({ doc: "a" }, { latest: { debounce: { within: "60 days" } } })
    const limits = { maxDelay: Duration.days(90), payloadLimit: 100 }
    return Effect.map(stored(Effect.provideService(far, DeferLimits, limits)), (records) => {
      assert.strictEqual(records[0]?.eta, 5_184_000_000)
    })
  })

  it.each([
    { field: "latest.debounce.within", latest: { key: () => "a", debounce: { within: Number.NaN } } },
    { field: "latest.debounce.maxWait", latest: { key: () => "a", debounce: { within: 10, maxWait: 9 } } },
    { field: "latest.throttle.within", latest: { key: () => "a", throttle: { within: -1 } } },
    { field: "latest", latest: { key: () => "a", debounce: { within: 1 }, throttle: { within: 1 } } as never },
  ])("is no task's when it cannot be: $field", ({ field, latest }) => {
    assert.throws(() => Task.make("Wrong", { latest }), `option ${field} `)
  })

  it("is no task's that has a unique key", () => {
    const both = { unique: { key: () => "a" }, latest: { key: () => "a" } } as never
    assert.throws(() => Task.make("Both", both), "latest and unique exclude each other")
  })
})

type Place = Partial<TaskRecord> | undefined

/** A queue with one place, in which a record waits, and what others have made of it before each call. */
const onePlace = (
  waiting: Place,
  others: { readonly beforeEnqueue?: Array<() => Place>; readonly beforeGet?: Array<() => Place> } = {},
) => {
  const enqueued: Array<NewRecord> = []
  let place = waiting
  const driver = Effect.map(
    TaskQueueMemory.make,
    (memory): TaskQueue.Driver => ({
      ...memory,
      enqueue: ({ records }) =>
        Effect.sync(() =>
          records.map((record): TaskQueue.EnqueueOutcome => {
            enqueued.push(record)
            const before = others.beforeEnqueue?.shift()
            if (before !== undefined) place = before()
            const { endedAt, id, join, memberOf, payload, payloadRef, state } = place ?? {}
            const isFree = id === undefined || (endedAt !== undefined && place?.uniqueKey === undefined)
            if (isFree || state === "running") {
              place = { ...record, state: "ready", eta: 0 } as unknown as TaskRecord
              return { _tag: "Inserted", id: record.id }
            }
            const isExpected = record.unique?.latest?.expects === (payloadRef ?? payload)
            if (!isExpected || endedAt !== undefined || memberOf !== undefined || join !== undefined) {
              return { _tag: "Existing", id }
            }
            place = { ...place, payload: record.payload }
            return { _tag: "Replaced", id }
          }),
        ),
      get: ({ ids }) =>
        Effect.sync(() => {
          const before = others.beforeGet?.shift()
          if (before !== undefined) place = before()
          return ids.map((id) => (place?.id === id ? (place as TaskRecord) : undefined))
        }),
    }),
  )
  return { enqueued, layer: TaskQueue.layer(driver), payload: () => place?.payload }
}

describe("a record that is merged", () => {
  const Tags = Task.make("Tags", {
    payload: { doc: Schema.String, tags: Schema.Array(Schema.NonEmptyString) },
    latest: {
      key: ({ doc }) => doc,
      merge: (waiting, given) => {
        if (given.tags.includes("throw")) throw new Error("not these")
        const tags = [...waiting.tags, ...given.tags].filter((tag) => tag !== "gone")
        return { doc: given.doc, tags: given.tags.includes("bad") ? [""] : tags }
      },
    },
  })
  const waits = (tags: ReadonlyArray<string>, more?: Partial<TaskRecord>): Partial<TaskRecord> => ({
    id: "018bcfe5-6800-7000-8000-000000000001" as TaskRecord["id"],
    task: "Tags",
    version: 1,
    queue: "default",
    state: "ready",
    uniqueKey: "a",
    payload: JSON.stringify({ doc: "a", tags }),
    ...more,
  })
  const deferred = Tags.defer({ doc: "a", tags: ["new"] })
  const tagsIn = (text: string | undefined) => (JSON.parse(text ?? "null") as { tags: ReadonlyArray<string> }).tags

  it.effect("is stored as it is given where nothing waits, in one call", () => {
    const { enqueued, layer, payload } = onePlace(undefined)
    return Effect.gen(function* () {
      assert.strictEqual((yield* deferred).outcome, "Inserted")
      assert.deepStrictEqual(tagsIn(payload()), ["new"])
      assert.lengthOf(enqueued, 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is made of what waits and what is given", () => {
    const { enqueued, layer, payload } = onePlace(waits(["old"]))
    return Effect.gen(function* () {
      const ref = yield* deferred
      assert.strictEqual(ref.outcome, "Replaced")
      assert.strictEqual(ref.id, waits([]).id)
      assert.deepStrictEqual(tagsIn(payload()), ["old", "new"])
      // Each try is a record of its own.
      assert.strictEqual(new Set(enqueued.map(({ id }) => id)).size, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is made anew when others came first", () => {
    const same = () => waits(["old"])
    const { enqueued, layer, payload } = onePlace(waits(["old"]), {
      beforeEnqueue: [same, () => waits(["old", "b"]), same],
    })
    return Effect.gen(function* () {
      assert.strictEqual((yield* deferred).outcome, "Replaced")
      assert.deepStrictEqual(tagsIn(payload()), ["old", "new"])
      assert.lengthOf(enqueued, 4)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is what is given when the other one has begun, ended or gone meanwhile", () =>
    Effect.gen(function* () {
      const gone = () => undefined
      const running = () => waits(["old"], { state: "running" })
      const ended = () => waits(["old"], { state: "succeeded", endedAt: 1, uniqueKey: undefined })
      for (const other of [gone, running, ended]) {
        const { layer, payload } = onePlace(waits(["old"]), { beforeGet: [other] })
        assert.strictEqual((yield* Effect.provide(deferred, layer)).outcome, "Inserted")
        assert.deepStrictEqual(tagsIn(payload()), ["new"])
      }
    }),
  )

  it.effect("is not stored where a record has the key whose place nobody takes", () =>
    Effect.gen(function* () {
      const other = waits([]).id
      const tally = { succeeded: 0, cancelled: 0, dead: 0 }
      const kept = [
        waits(["old"], { memberOf: other }),
        waits(["old"], { join: { total: 1, onFailure: "continue", afterwards: "run", ...tally } }),
        waits(["old"], { state: "succeeded", endedAt: 1 }),
      ] as const
      for (const record of kept) {
        const { layer, payload } = onePlace(record)
        assert.strictEqual((yield* Effect.provide(deferred, layer)).outcome, "Existing")
        assert.deepStrictEqual(tagsIn(payload()), ["old"])
      }
    }),
  )

  it.effect("takes the place of what has lost its payload", () => {
    const { layer, payload } = onePlace(waits([], { payload: "", payloadRef: "gone" }))
    return Effect.gen(function* () {
      assert.strictEqual((yield* deferred).outcome, "Replaced")
      assert.deepStrictEqual(tagsIn(payload()), ["new"])
    }).pipe(Effect.provide(layer))
  })

  it.effect.each([
    { says: "what waits cannot be read", waiting: waits([], { version: 2 }), tags: ["new"], reason: "cannot be given" },
    { says: "the function throws", waiting: waits(["old"]), tags: ["throw"], reason: "threw Error: not these" },
  ])("is refused when $says, and what waits stays", ({ reason, tags, waiting }) => {
    const { layer, payload } = onePlace(waiting)
    return Effect.gen(function* () {
      const before = payload()
      const error = yield* Effect.flip(Tags.defer({ doc: "a", tags }))
      assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "latest.merge" })
      assert.include(error.message, reason)
      assert.strictEqual(payload(), before)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is checked by the schema as any payload", () => {
    const { layer, payload } = onePlace(waits(["old"]))
    return Effect.gen(function* () {
      const error = yield* Effect.flip(Tags.defer({ doc: "a", tags: ["bad"] }))
      assert.strictEqual(error._tag, "SchemaError")
      assert.deepStrictEqual(tagsIn(payload()), ["old"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("goes one by one in bulk, and is refused as a whole when one of them cannot be", () => {
    const { enqueued, layer, payload } = onePlace(undefined)
    const of = (tag: string) => ({ doc: "a", tags: [tag] })
    return Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(Tags.deferAll([of("x"), of("")])))._tag, "SchemaError")
      assert.lengthOf(enqueued, 0)
      const items = yield* Tags.deferAll([of("a"), of("b"), of("c")])
      assert.deepStrictEqual(
        items.map((item) => item._tag === "Deferred" && item.ref.outcome),
        ["Inserted", "Replaced", "Replaced"],
      )
      assert.deepStrictEqual(tagsIn(payload()), ["a", "b", "c"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("is not merged when its deferral is none of the latest", () => {
    const { enqueued, layer } = onePlace(undefined)
    return Effect.gen(function* () {
      yield* Tags.defer({ doc: "a", tags: [] }, { latest: false })
      assert.isUndefined(enqueued[0]?.unique)
    }).pipe(Effect.provide(layer))
  })
})
