import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskSamples from "@outlive/deferred/testing/TaskSamples"
import { DateTime, Effect, Schema } from "effect"

const Welcome = Task.make("Welcome", {
  payload: Task.versions({ user: Schema.NonEmptyString })
    .to({ userId: Schema.NonEmptyString }, (old) => ({ userId: old.user }))
    .to({ userId: Schema.NonEmptyString, at: Schema.DateTimeUtc }, (old) => ({
      ...old,
      at: DateTime.makeUnsafe(0),
    })),
})
const [v1, v2, v3] = [`{"user":"ada"}`, `{"userId":"ada"}`, `{"userId":"ada","at":"1970-01-01T00:00:00.000Z"}`]

describe("TaskSamples", () => {
  it.effect("gives what the present definition makes of samples of every version", () =>
    Effect.gen(function* () {
      const checked = yield* TaskSamples.check(Welcome, { 1: [v1], 2: [v2], 3: [v3] })
      assert.deepStrictEqual(
        checked.map(({ payload, version }) => [version, payload.userId, DateTime.toEpochMillis(payload.at)]),
        [
          [1, "ada", 0],
          [2, "ada", 0],
          [3, "ada", 0],
        ],
      )
    }),
  )

  it.effect("names every sample that does not decode, with its version, its text and why", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        TaskSamples.check(Welcome, { 1: [v1, `{"user":""}`], 2: [`{"user":"ada"}`], 3: [v3, "{"], 4: ["{}"] }),
      )
      assert.instanceOf(error, TaskSamples.SamplesFailed)
      assert.deepStrictEqual(
        error.problems.map(({ index, text, version }) => [version, index, text]),
        [
          [1, 2, `{"user":""}`],
          [2, 1, `{"user":"ada"}`],
          [3, 2, "{"],
          [4, 1, "{}"],
        ],
      )
      assert.include(error.message, `task Welcome, now at version 3: 4 problems`)
      assert.include(error.message, `version 2, sample 1: {"user":"ada"}`)
      assert.match(error.message, /Missing key[\s\S]*userId/)
      assert.include(error.message, "payload version 4 is not among 1 to 3")
    }),
  )

  it.effect("finds a step that throws on what is really stored", () =>
    Effect.gen(function* () {
      const Split = Task.make("Split", {
        payload: Task.versions({ name: Schema.String }).to({ last: Schema.String }, ({ name }) => {
          const [, last] = name.split(" ")
          if (last === undefined) throw new Error(`no last name in ${name}`)
          return { last }
        }),
      })
      const error = yield* Effect.flip(TaskSamples.check(Split, { 1: [`{"name":"Ada Lovelace"}`, `{"name":"Plato"}`] }))
      assert.include(error.message, "no last name in Plato")
    }),
  )

  it.effect("asks for a sample of every version below the present one, unless told otherwise", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(TaskSamples.check(Welcome, { 1: [v1], 2: [] }))
      assert.deepStrictEqual(
        error.problems.map(({ version }) => version),
        [2],
      )
      assert.include(error.message, "version 2: has no sample")
      assert.lengthOf(yield* TaskSamples.check(Welcome, { 1: [v1] }, { required: "none" }), 1)
      const mixed = yield* Effect.flip(TaskSamples.check(Welcome, { 1: ["{"], 3: ["{"] }))
      assert.deepStrictEqual(
        mixed.problems.map(({ index, version }) => [version, index]),
        [
          [1, 1],
          [2, undefined],
          [3, 1],
        ],
      )
      const all = yield* Effect.flip(TaskSamples.check(Welcome, { 1: [v1], 2: [v2] }, { required: "all" }))
      assert.deepStrictEqual(
        all.problems.map(({ version }) => version),
        [3],
      )
    }),
  )

  it.effect("makes the sample to store, which then passes", () =>
    Effect.gen(function* () {
      const sample = yield* TaskSamples.sample(Welcome, { userId: "ada", at: DateTime.makeUnsafe(0) })
      assert.deepStrictEqual(sample, { version: 3, text: v3 })
      const checked = yield* TaskSamples.check(Welcome, [
        sample,
        { version: 1, text: v1 },
        { version: 2, text: v2 },
        sample,
      ])
      assert.deepStrictEqual(
        checked.map(({ version }) => version),
        [1, 2, 3, 3],
      )
    }),
  )

  it.effect("makes no sample of a payload that the schema refuses", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(TaskSamples.sample(Welcome, { userId: "", at: DateTime.makeUnsafe(0) }))
      assert.strictEqual(error._tag, "SchemaError")
    }),
  )
})
