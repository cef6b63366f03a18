import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Import from "@outlive/node/Import"
import * as ImportPersistedQueue from "@outlive/node/ImportPersistedQueue"
import * as SqliteClient from "@outlive/node/SqliteClient"
import { DateTime, Deferred, Effect, Fiber, Layer, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { TestClock } from "effect/testing"
import { newFile } from "./records.ts"

class Mail extends Task.make("Mail", { payload: { to: Schema.String }, queue: "mail" }) {}
const Letter = Schema.Struct({ address: Schema.String, at: Schema.DateTimeUtc })

const letters = PersistedQueue.make({ name: "letters", schema: Letter })
const to = Import.to(Mail, {
  from: Letter,
  payload: ({ address }) => {
    if (address === "nowhere") throw new Error("nobody lives there")
    return { to: address }
  },
  options: (_, { attempts }) => ({ headers: { "failed-before": String(attempts) } }),
})
const at = DateTime.makeUnsafe(0)
const records = Effect.flatMap(TaskQueue.TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 1000, now: 0 }), ({ records }) => records),
)
const addresses = Effect.map(records, (found) => found.map(({ payload }) => JSON.parse(payload).to))
const memory = PersistedQueue.layer.pipe(Layer.provideMerge(PersistedQueue.layerStoreMemory))
const sqlite = Layer.unwrap(
  Effect.map(newFile, (filename) =>
    PersistedQueue.layer.pipe(
      Layer.provideMerge(PersistedQueue.layerStoreSql({ pollInterval: "20 millis" })),
      Layer.provide(SqliteClient.layer({ filename })),
      Layer.orDie,
    ),
  ),
)

for (const [where, store] of [
  ["in memory", memory],
  ["in SQL", sqlite],
] as const) {
  describe(`an import from a PersistedQueue ${where}`, () => {
    const app = Layer.fresh(Layer.merge(store, TaskQueueMemory.layer))

    it.live("moves what is due, in order, each once, whoever offers it again", () =>
      Effect.gen(function* () {
        const queue = yield* letters
        for (const address of ["a", "b", "c"]) yield* queue.offer({ address, at }, { id: `id of ${address}` })
        const drained = ImportPersistedQueue.run({ name: "letters", to, idle: "200 millis" })
        assert.deepStrictEqual(yield* drained, {
          dryRun: false,
          moved: 3,
          already: 0,
          movedByName: { letters: 3 },
          left: [],
        })
        assert.deepStrictEqual(yield* addresses, ["a", "b", "c"])
        assert.deepStrictEqual(
          (yield* records).map(({ headers }) => headers["failed-before"]),
          ["0", "0", "0"],
        )
        // The store knows ids that are done, and nothing is left to take.
        yield* queue.offer({ address: "a", at }, { id: "id of a" })
        yield* queue.offer({ address: "d", at })
        assert.deepInclude(yield* drained, { moved: 1, already: 0 })
        assert.strictEqual((yield* records).length, 4)
      }).pipe(Effect.provide(app)),
    )

    it.live("gives back what it cannot move, and counts no attempt", () =>
      Effect.gen(function* () {
        const queue = yield* letters
        const id = yield* queue.offer({ address: "nowhere", at })
        yield* queue.offer({ address: "a", at })
        const other = yield* PersistedQueue.make({ name: "letters", schema: Schema.Struct({ odd: Schema.Boolean }) })
        const odd = yield* other.offer({ odd: true })
        const report = yield* ImportPersistedQueue.run({ name: "letters", to, idle: "200 millis", concurrency: 2 })
        assert.strictEqual(report.moved, 1)
        const [left, ...more] = report.left
        assert.deepStrictEqual(more, [])
        assert.deepInclude(left, { name: "letters", why: "refused", count: 2 })
        assert.deepStrictEqual(left?.examples.map((example) => example.id).sort(), [id, odd].sort())
        const why = left?.examples.find((example) => example.id === id)?.detail
        assert.include(why, "its mapping threw Error: nobody lives there")
        const taken = yield* queue.take((letter, { attempts }) => Effect.succeed({ ...letter, attempts }))
        assert.deepInclude(taken, { address: "nowhere", attempts: 1 })
      }).pipe(Effect.provide(app)),
    )

    it.live("knows what it had stored when it was cut off before it could say so to the store", () =>
      Effect.gen(function* () {
        const queue = yield* letters
        yield* queue.offer({ address: "a", at })
        const { enqueue, ...driver } = yield* TaskQueueMemory.make
        const stored = yield* Deferred.make<void>()
        const drained = ImportPersistedQueue.run({ name: "letters", to, idle: "200 millis" })
        // A connection that breaks when the answer is due.
        const mute = TaskQueue.layer(
          Effect.succeed({
            ...driver,
            enqueue: (params) =>
              Effect.andThen(enqueue(params), Effect.andThen(Deferred.succeed(stored, undefined), Effect.never)),
          }),
        )
        const first = yield* Effect.forkChild(Effect.provide(drained, mute))
        yield* Deferred.await(stored)
        yield* Fiber.interrupt(first)
        const sound = TaskQueue.layer(Effect.succeed({ ...driver, enqueue }))
        const [second, third, found] = yield* Effect.provide(Effect.all([drained, drained, addresses]), sound)
        assert.deepInclude(second, { moved: 0, already: 1, left: [] })
        assert.deepInclude(third, { moved: 0, already: 0, left: [] })
        assert.deepStrictEqual(found, ["a"])
      }).pipe(Effect.provide(app)),
    )
  })
}

describe("an import from a PersistedQueue", () => {
  const app = Layer.fresh(Layer.merge(memory, TaskQueueMemory.layer))

  it.effect("goes on for ever as an adaptor, and moves what is delayed when it is due", () =>
    Effect.gen(function* () {
      const queue = yield* letters
      yield* queue.offer({ address: "later", at }, { delay: "1 hour" })
      const moving = yield* Effect.forkChild(ImportPersistedQueue.run({ name: "letters", to, idle: "forever" }))
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual(yield* addresses, [])
      yield* TestClock.adjust("1 minute")
      yield* queue.offer({ address: "now", at })
      yield* Effect.repeat(addresses, { until: (found) => found.length === 2 })
      assert.deepStrictEqual(yield* addresses, ["later", "now"])
      yield* Fiber.interrupt(moving)
      yield* queue.offer({ address: "after", at })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* addresses).length, 2)
    }).pipe(Effect.provide(app)),
  )

  it.effect("tells elements with one id in two queues apart", () =>
    Effect.gen(function* () {
      for (const [name, id] of [
        ["a-b", "1"],
        ["a", "b-1"],
        ["a", "1"],
      ] as const) {
        const queue = yield* PersistedQueue.make({ name, schema: Schema.Struct({ to: Schema.String }) })
        yield* queue.offer({ to: `${name} ${id}` }, { id })
        const drained = yield* Effect.forkChild(ImportPersistedQueue.run({ name, to: Import.to(Mail) }))
        yield* Effect.repeat(addresses, { until: (found) => found.includes(`${name} ${id}`) })
        yield* TestClock.adjust("5 seconds")
        assert.deepInclude(yield* Fiber.join(drained), { moved: 1, already: 0 })
      }
    }).pipe(Effect.provide(app)),
  )
})
