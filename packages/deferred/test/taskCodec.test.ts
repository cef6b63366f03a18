/** The text of a payload, also where nothing has to be encoded for it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isJson } from "../src/internal/isJson.ts"
import { makeTaskCodec } from "../src/internal/taskCodec.ts"

class Point extends Schema.Class<Point>("Point")({ x: Schema.Finite, y: Schema.Finite }) {}

interface Tree {
  readonly value: string
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({
  value: Schema.String,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree)),
})

/** With whether their values are JSON as they are. */
const schemas = {
  text: [Schema.String, true],
  brand: [Schema.String.pipe(Schema.brand("Name")), true],
  integer: [Schema.Int, true],
  numbers: [Schema.Struct({ finite: Schema.Finite, any: Schema.Number }), false],
  struct: [
    Schema.Struct({
      b: Schema.Int,
      a: Schema.NullOr(Schema.String),
      c: Schema.optionalKey(Schema.Boolean),
      d: Schema.Struct({ e: Schema.Literals(["x", "y"]), f: Schema.Array(Schema.Struct({ g: Schema.Finite })) }),
    }),
    true,
  ],
  union: [
    Schema.Union([
      Schema.Struct({ _tag: Schema.tag("A"), a: Schema.Int }),
      Schema.Struct({ _tag: Schema.tag("B"), b: Schema.Tuple([Schema.Int, Schema.String]) }),
    ]),
    true,
  ],
  record: [Schema.Record(Schema.String, Schema.Array(Schema.Int)), true],
  tuple: [Schema.Tuple([Schema.Date, Schema.Int]), false],
  record_of_dates: [Schema.Record(Schema.String, Schema.Date), false],
  optional: [Schema.Struct({ a: Schema.optional(Schema.Int) }), false],
  date: [Schema.Struct({ at: Schema.Date }), false],
  bigint: [Schema.Struct({ n: Schema.BigInt }), false],
  option: [Schema.Struct({ o: Schema.Option(Schema.Int) }), false],
  renamed: [Schema.Struct({ a: Schema.Int }).pipe(Schema.encodeKeys({ a: "b" })), false],
  text_of_number: [Schema.Struct({ n: Schema.FiniteFromString }), false],
  class: [Point, false],
  tree: [Tree, false],
  nothing: [Schema.Void, false],
} as const

const codecOf = (payload: Schema.Top) =>
  makeTaskCodec({ payload, older: [], success: Schema.Void, error: Schema.Never })

/** None of these schemas needs a service. */
const alone = <A, E>(effect: Effect.Effect<A, E, unknown>) => effect as Effect.Effect<A, E>

describe("the text of a payload", () => {
  for (const [name, [schema, isPlain]] of Object.entries(schemas)) {
    it(`of ${name} ${isPlain ? "is that of the value itself" : "is encoded"}`, () => {
      assert.strictEqual(isJson(Schema.toCodecJson(schema as Schema.Top).ast), isPlain)
    })

    it.effect.prop(
      `of ${name} is what its JSON codec gives, and is read as the same value`,
      [schema as unknown as Schema.Schema<unknown>],
      ([value]) =>
        alone(
          Effect.gen(function* () {
            const codec = codecOf(schema)
            const made = yield* codec.makePayload(value)
            const text = yield* codec.encodeMade(made)
            const encoded = yield* Schema.encodeUnknownEffect(Schema.toCodecJson(schema as Schema.Top))(made)
            assert.strictEqual(text, JSON.stringify(encoded ?? null))
            assert.strictEqual(yield* codec.encodePayload(value), text)
            const read = yield* codec.decodePayload(1, text)
            assert.strictEqual(yield* codec.encodeMade(read), text)
          }),
        ),
    )
  }

  it.effect("has nothing that the schema does not know, in the order of the schema", () =>
    Effect.gen(function* () {
      const { encodePayload } = codecOf(Schema.Struct({ b: Schema.Int, a: Schema.Array(Schema.Int) }))
      class Given {
        readonly a = Object.assign([1], { toJSON: () => "not this" })
        readonly more = "unknown"
        readonly b = 2
        toJSON() {
          return "nor this"
        }
      }
      assert.strictEqual(yield* alone(encodePayload(new Given())), '{"b":2,"a":[1]}')
    }),
  )

  it.effect("is not made of what the schema refuses", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(alone(codecOf(Schema.Struct({ n: Schema.Int })).encodePayload({ n: 1.5 })))
      assert.include(String(error), "integer")
    }),
  )
})
