import { assert, describe, it } from "@effect/vitest"
import * as PayloadKeys from "@outlive/deferred/PayloadKeys"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"

const bytes = new Uint8Array(32).map((_, index) => 255 - index * 7)
const base64 = Buffer.from(bytes).toString("base64")
const parse = (text: string) => PayloadKeys.parse(Redacted.make(text))
const refusal = (text: string) => Effect.map(Effect.flip(parse(text)), ({ message }) => message)
const values = (keys: ReadonlyArray<PayloadKeys.PayloadKey>) =>
  keys.map(({ id, key }) => [id, Buffer.from(Redacted.value(key)).toString("hex")])
const hex = Buffer.from(bytes).toString("hex")

describe("PayloadKeys", () => {
  it.effect("reads keys in either base64, padded or not, with space around them", () =>
    Effect.gen(function* () {
      const url = Buffer.from(bytes).toString("base64url")
      assert.notStrictEqual(url, base64.replace(/=+$/, ""))
      const keys = yield* parse(` a:${base64}, b:${url} ,c:${base64.replace(/=+$/, "")},`)
      assert.deepStrictEqual(values(keys), [
        ["a", hex],
        ["b", hex],
        ["c", hex],
      ])
    }),
  )

  it.effect("says which of them is wrong, and never what it is", () =>
    Effect.gen(function* () {
      const cases: Record<string, string> = {
        "": "there is none",
        [base64]: "number 1 of 1 must be written id:key",
        [`a:${base64},b:?${base64}`]: "the key of number 2 of 2 must be base64",
        "a:QUJD": "a has 3 bytes, and must have exactly 32",
        [`a:${base64},a:${base64}`]: "there are two with the id a",
        [`a b:${base64}`]: 'the id "a b" must be',
      }
      for (const [text, reason] of Object.entries(cases)) {
        const message = yield* refusal(text)
        assert.include(message, `the keys that payloads are encrypted with: ${reason}`)
        assert.notInclude(message, base64.slice(0, 6))
      }
    }),
  )

  it.effect("comes from the configuration, and a program without it does not start", () =>
    Effect.gen(function* () {
      const from = (environment: Record<string, string>, name?: string) =>
        Effect.provide(
          PayloadKeys.fromConfig(name),
          Layer.succeed(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(environment)),
        )
      assert.deepStrictEqual(values(yield* from({ OUTLIVE_PAYLOAD_KEYS: `a:${base64}` })), [["a", hex]])
      assert.deepStrictEqual(values(yield* from({ OTHER: `b:${base64}` }, "OTHER")), [["b", hex]])
      const missing = yield* Effect.flip(from({}))
      assert.include(missing.message, "OUTLIVE_PAYLOAD_KEYS is not set. Set it to id:key")
    }),
  )
})
