import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { Effect, Exit, Schema, SchemaGetter } from "effect"
import { flatMapAtOnce, mapAtOnce, mapErrorAtOnce, successAtOnce } from "../src/internal/atOnce.ts"

const later = <A, E>(exit: Exit.Exit<A, E>) => Effect.andThen(Effect.yieldNow, exit)
const bad = new Error("bad")
const bothWays = [Exit.succeed(1), later(Exit.succeed(1))]

describe("steps taken at once", () => {
  it("leave nothing to be run when what they wait for is there", () => {
    assert.deepStrictEqual(mapAtOnce(Exit.succeed(1), (n) => n + 1) as unknown, Exit.succeed(2))
    assert.deepStrictEqual(flatMapAtOnce(Exit.fail("no"), () => Effect.void) as unknown, Exit.fail("no"))
    assert.deepStrictEqual(mapErrorAtOnce(Exit.succeed(1), () => "no") as unknown, Exit.succeed(1))
    assert.strictEqual(successAtOnce(Exit.succeed(1))?.value, 1)
    assert.isUndefined(successAtOnce(Exit.fail("no")))
    assert.isUndefined(successAtOnce(later(Exit.succeed(1))))
  })

  it.effect("give the same as those that wait", () =>
    Effect.gen(function* () {
      for (const one of bothWays) {
        assert.deepStrictEqual(yield* Effect.exit(mapAtOnce(one, (n) => n + 1)), Exit.succeed(2))
        assert.deepStrictEqual(yield* Effect.exit(flatMapAtOnce(one, () => Effect.fail("no"))), Exit.fail("no"))
      }
      for (const no of [Exit.fail("no"), later(Exit.fail("no"))]) {
        assert.deepStrictEqual(yield* Effect.exit(mapErrorAtOnce(no, (error) => `${error}!`)), Exit.fail("no!"))
      }
    }),
  )

  it.effect("make a defect of what is thrown, and throw nothing themselves", () =>
    Effect.gen(function* () {
      const throws = (): Effect.Effect<never> => {
        throw bad
      }
      for (const one of bothWays) {
        assert.deepStrictEqual(yield* Effect.exit(mapAtOnce(one, throws)), Exit.die(bad))
        assert.deepStrictEqual(yield* Effect.exit(flatMapAtOnce(one, throws)), Exit.die(bad))
      }
    }),
  )

  it.effect("defer a payload whose schema takes its time as one whose schema does not", () =>
    Effect.gen(function* () {
      const slowly = SchemaGetter.transformEffect((text: string) => later(Exit.succeed(text)))
      const Slow = Schema.String.pipe(Schema.decodeTo(Schema.String, { decode: slowly, encode: slowly }))
      const Greet = Task.make("Greet", { payload: { quick: Schema.String, slow: Slow } })
      const one = yield* Greet.defer({ quick: "a", slow: "b" })
      const [two] = yield* Greet.deferAll([{ quick: "a", slow: "b" }])
      if (two?._tag !== "Deferred") return assert.fail("refused")
      const both = yield* Effect.all([one.record, two.ref.record])
      assert.deepStrictEqual(
        both.map(({ payload }) => payload),
        Array(2).fill(`{"quick":"a","slow":"b"}`),
      )
    }).pipe(Effect.provide(TaskQueueMemory.layer)),
  )
})
