import { assert, describe, it } from "@effect/vitest"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import type { PayloadKey } from "@outlive/deferred/PayloadKeys"
import { type Stage, StageError } from "@outlive/deferred/PayloadStage"
import { Effect, Exit, Redacted, Result, Schema } from "effect"

const keyOf = (id: string, fill = id.length): PayloadKey => ({ id, key: Redacted.make(new Uint8Array(32).fill(fill)) })
const old = keyOf("old", 1)
const newer = keyOf("newer", 2)
const place: PayloadCodec.Place = { part: "payload", task: "Send", version: 1, owner: "id 1" }

const codecOf = (...stages: ReadonlyArray<Stage | Effect.Effect<Stage, unknown>>) =>
  Effect.forEach(stages, (stage) => (Effect.isEffect(stage) ? stage : Effect.succeed(stage))).pipe(
    Effect.flatMap(PayloadCodec.make),
    Effect.orDie,
  )
const packing = PayloadCodec.compression({ above: 20 })
const sealing = (keys: ReadonlyArray<PayloadKey>, options?: Partial<PayloadCodec.EncryptionOptions>) =>
  PayloadCodec.encryption({ keys, ...options })
const reasonOf = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.result(effect), (result) =>
    Result.isFailure(result) && result.failure instanceof StageError ? result.failure.reason : "was read",
  )

/** A stage of an application: bytes the other way round. */
const turning: Stage = {
  name: "turned",
  encode: (body) => Effect.succeed({ body: body.toReversed() }),
  decode: (body) => Effect.succeed(body.toReversed()),
}

const said = (stored: string): string => JSON.parse(stored)["~outlive/coded"] as string
const marked = (text: string) => JSON.stringify({ "~outlive/coded": text })
const bodyOf = (stored: string) => Buffer.from(said(stored).split(" ")[2] ?? "", "base64")
const withBody = (stored: string, body: Uint8Array) => {
  const [form, steps] = said(stored).split(" ")
  return marked(`${form} ${steps} ${Buffer.from(body).toString("base64")}`)
}

/** JSON texts as tasks write them, short and long, and those that look like what a codec writes. */
const Text = Schema.Union([Schema.String, Schema.Array(Schema.String), Schema.Json])
const texts = {
  value: Text,
  times: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 })),
  shape: Schema.Literals(["as it is", "marked", "marked twice"]),
}
type Texts = { readonly [K in keyof typeof texts]: (typeof texts)[K]["Type"] }
const textOf = ({ shape, times, value }: Texts): string => {
  const text = JSON.stringify(Array.from({ length: times }, () => value))
  if (shape === "as it is") return text
  return shape === "marked" ? marked(text) : marked(marked(text))
}

describe("a PayloadCodec", () => {
  const orders: Record<string, ReadonlyArray<Stage | Effect.Effect<Stage, unknown>>> = {
    none: [],
    packed: [packing],
    sealed: [sealing([newer])],
    "packed and sealed": [packing, sealing([newer])],
    "sealed and packed": [sealing([newer]), packing],
    "turned, packed and sealed": [turning, packing, sealing([newer])],
    "sealed, turned and packed": [sealing([newer]), turning, packing],
  }

  it.effect.prop(
    "gives any text back, in whatever order its stages are, as JSON text that says what it is",
    { ...texts, order: Schema.Literals(Object.keys(orders)) },
    ({ order, ...rest }) =>
      Effect.gen(function* () {
        const codec = yield* codecOf(...orders[order]!)
        const text = textOf(rest)
        const stored = yield* codec.encode(text, place)
        assert.doesNotThrow(() => JSON.parse(stored))
        assert.strictEqual(yield* codec.decode(stored, place), text)
        // As deliveries and columns of JSON have it.
        assert.strictEqual(yield* codec.decode(JSON.stringify(JSON.parse(stored)), place), text)
      }),
    { arbitrary: { runs: 400 } },
  )

  it.effect.prop(
    "reads what any other order of its stages and any of its keys has written",
    { ...texts, order: Schema.Literals(Object.keys(orders)), write: Schema.Literals(["old", "newer"]) },
    ({ order, write, ...rest }) =>
      Effect.gen(function* () {
        const text = textOf(rest)
        const stages = orders[order]!.map((stage) =>
          Effect.isEffect(stage) ? sealing([newer, old], { write }) : stage,
        )
        const stored = yield* Effect.flatMap(codecOf(...stages), ({ encode }) => encode(text, place))
        const rotated = yield* codecOf(turning, sealing([keyOf("newest", 3), old, newer]), packing)
        assert.strictEqual(yield* rotated.decode(stored, place), text)
      }),
    { arbitrary: { runs: 200 } },
  )

  it.effect.prop(
    "refuses an encrypted body in which any single byte was changed",
    {
      ...texts,
      packed: Schema.Boolean,
      at: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999_999 })),
      bits: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 255 })),
    },
    ({ at, bits, packed, ...rest }) =>
      Effect.gen(function* () {
        const codec = yield* codecOf(...(packed ? [packing] : []), sealing([newer]))
        const stored = yield* codec.encode(textOf(rest), place)
        const body = bodyOf(stored)
        const index = Math.floor(at * body.length)
        body[index] = body[index]! ^ bits
        assert.match(
          yield* reasonOf(codec.decode(withBody(stored, body), place)),
          /^does not open with the key newer: /,
        )
      }),
    { arbitrary: { runs: 300 } },
  )

  it.effect("refuses an encrypted text in which any single character was changed", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(packing, sealing([newer]))
      const text = JSON.stringify("a secret of which more is told ".repeat(3))
      const stored = yield* codec.encode(text, place)
      for (let at = 0; at < stored.length; at++) {
        for (const other of ["A", "B", "=", "1", " ", ",", '"', "}"]) {
          if (other === stored[at]) continue
          const changed = `${stored.slice(0, at)}${other}${stored.slice(at + 1)}`
          const exit = yield* Effect.exit(codec.decode(changed, place))
          // One that is no more marked is not taken for JSON of the task either.
          if (Exit.isSuccess(exit)) assert.strictEqual(exit.value, changed, `${at}: ${other}`)
          if (Exit.isSuccess(exit)) assert.isBelow(at, '{"~outlive/coded"'.length)
        }
      }
    }),
  )

  it.effect("refuses what was cut off, or made longer", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(sealing([newer]))
      const stored = yield* codec.encode('"text"', place)
      const body = bodyOf(stored)
      for (let length = 0; length < body.length; length++) {
        const reason = yield* reasonOf(codec.decode(withBody(stored, body.subarray(0, length)), place))
        assert.match(reason, /^does not open/)
      }
      const longer = withBody(stored, Buffer.concat([body, Buffer.of(0)]))
      assert.match(yield* reasonOf(codec.decode(longer, place)), /^does not open/)
    }),
  )

  const others: Record<string, Partial<PayloadCodec.Place>> = {
    "another record": { owner: "id 2" },
    "another task": { task: "Sent" },
    "another version": { version: 2 },
    "another part": { part: "result" },
  }
  it.effect.each(Object.entries(others))("refuses an encrypted text in the place of %s", ([, other]) =>
    Effect.gen(function* () {
      const codec = yield* codecOf(packing, sealing([newer]))
      const stored = yield* codec.encode('"text"', place)
      assert.match(yield* reasonOf(codec.decode(stored, { ...place, ...other })), /^does not open with the key newer/)
      assert.strictEqual(yield* codec.decode(stored, place), '"text"')
    }),
  )

  it.effect("refuses an encrypted text whose other steps are told differently", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(turning, packing, sealing([newer]))
      const stored = yield* codec.encode('"text"', place)
      assert.include(stored, "1 turned,aes-256-gcm:newer ")
      const without = stored.replace("turned,", "")
      assert.match(yield* reasonOf(codec.decode(without, place)), /^does not open/)
    }),
  )

  it.effect("never encrypts the same text into the same text", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(sealing([newer]))
      const stored = yield* Effect.forEach(Array.from({ length: 500 }), () => codec.encode('"same"', place))
      const vectors = stored.map((each) => bodyOf(each).subarray(0, 12).toString("hex"))
      assert.strictEqual(new Set(vectors).size, 500)
      assert.notInclude(stored.join(), "same")
      assert.notInclude(stored.join(), Buffer.from("same").toString("base64").slice(0, 5))
    }),
  )

  it.effect("can be read by whoever has the key, with AES-256-GCM as everybody has it", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(sealing([newer]))
      const stored = yield* codec.encode('"text"', place)
      const body = new Uint8Array(bodyOf(stored))
      const binding = JSON.stringify(["outlive", "payload", "Send", 1, "id 1", [], "newer"])
      const bytes = new Uint8Array(Redacted.value(newer.key))
      const opened = yield* Effect.promise(async () => {
        const key = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["decrypt"])
        const additionalData = new TextEncoder().encode(binding)
        return crypto.subtle.decrypt({ name: "AES-GCM", iv: body.slice(0, 12), additionalData }, key, body.slice(12))
      })
      assert.strictEqual(new TextDecoder().decode(opened), '"text"')
    }),
  )

  it.effect("names the key that it does not know, and those that it knows, and nothing of the content", () =>
    Effect.gen(function* () {
      const stored = yield* Effect.flatMap(codecOf(sealing([old])), ({ encode }) => encode('"content"', place))
      const reason = yield* reasonOf(Effect.flatMap(codecOf(sealing([newer])), ({ decode }) => decode(stored, place)))
      assert.strictEqual(
        reason,
        "was encrypted with the key old, and the keys known here are newer: add it to those of PayloadCodec.encryption",
      )
      const wrong = codecOf(sealing([{ ...newer, id: "old" }]))
      assert.match(
        yield* reasonOf(Effect.flatMap(wrong, ({ decode }) => decode(stored, place))),
        /^does not open with the key old: .* or old was another key where it was written$/,
      )
    }),
  )

  it.effect("says which stages are missing", () =>
    Effect.gen(function* () {
      const text = JSON.stringify("long ".repeat(100))
      const stored = yield* Effect.flatMap(codecOf(packing, sealing([newer])), ({ encode }) => encode(text, place))
      const reason = yield* reasonOf(Effect.flatMap(codecOf(packing), ({ decode }) => decode(stored, place)))
      assert.include(reason, "was coded by deflate, aes-256-gcm:newer, and the PayloadCodec has deflate here")
      const none = yield* reasonOf(Effect.flatMap(codecOf(), ({ decode }) => decode(stored, place)))
      assert.include(none, "and there is no PayloadCodec here")
    }),
  )

  it.effect("reads what was stored as it is, unless encryption is required", () =>
    Effect.gen(function* () {
      const lenient = yield* codecOf(packing, sealing([newer]))
      assert.strictEqual(yield* lenient.decode('{"a":1}', place), '{"a":1}')
      const strict = yield* codecOf(packing, sealing([newer], { required: true }))
      const required = "was stored without aes-256-gcm, which is required here"
      assert.strictEqual(yield* reasonOf(strict.decode('{"a":1}', place)), required)
      const packed = yield* Effect.flatMap(codecOf(packing), ({ encode }) =>
        encode(JSON.stringify("long ".repeat(100)), place),
      )
      assert.strictEqual(yield* reasonOf(strict.decode(packed, place)), required)
      assert.strictEqual(yield* strict.decode(yield* strict.encode('{"a":1}', place), place), '{"a":1}')
    }),
  )

  it.effect.each([
    ["2 - AAAA", "is coded in form 2, and form 1 is the newest that is known here: update this program"],
    ["1 -", "is marked as coded, and is not in the form that coded texts have"],
    ["1 - AAAA AAAA", "is marked as coded, and is not in the form that coded texts have"],
    ["x - AAAA", "is marked as coded, and is not in the form that coded texts have"],
    ["1 - AAA", "is coded, and was changed since: it is damaged"],
    ["1 - AAB=", "is coded, and was changed since: it is damaged"],
    ["1 - A AA", "is marked as coded, and is not in the form that coded texts have"],
    ["1 De_flate AAAA", "is coded, and was changed since: it is damaged"],
    ["1 - /w==", "is damaged"],
  ])("says what is wrong with the form %s", ([form, reason]) =>
    Effect.gen(function* () {
      const codec = yield* codecOf(packing)
      assert.strictEqual(yield* reasonOf(codec.decode(marked(form!), place)), reason)
      const others = ['{"~outlive/coded":1}', '{"~outlive/coded":"1 - AAAA","more":1}', '{"~outlive/coded"']
      for (const other of others) {
        assert.match(yield* reasonOf(codec.decode(other, place)), /^is marked as coded, and is not in the form/)
      }
    }),
  )

  it.effect("is not made of two stages of one name, or of one without", () =>
    Effect.gen(function* () {
      const twice = yield* Effect.flip(PayloadCodec.make([packing, PayloadCodec.compression()]))
      assert.include(twice.message, "PayloadCodec: there are two stages with the name deflate")
      for (const name of ["", "A", "a,b", "a b", "a:b", "x".repeat(33)]) {
        const error = yield* Effect.flip(PayloadCodec.make([{ ...turning, name }]))
        assert.include(error.message, JSON.stringify(name))
      }
      const hinted = yield* codecOf({ ...turning, encode: (body) => Effect.succeed({ body, hint: "a b" }) })
      assert.match(yield* reasonOf(hinted.encode('"x"', place)), /^cannot be coded: the hint of turned must match/)
    }),
  )
})

describe("PayloadCodec.compression", () => {
  it.effect("leaves a text as it is that is short, or that it would not make shorter", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(PayloadCodec.compression())
      const short = JSON.stringify("a".repeat(1022))
      assert.strictEqual(yield* codec.encode(short, place), short)
      const long = JSON.stringify("a".repeat(1023))
      const packed = yield* codec.encode(long, place)
      assert.include(packed, '"1 deflate ')
      assert.isBelow(packed.length, 100)
      // Four bits a character deflate to half, which base64 makes two thirds; six bits, to what they were.
      const random = (alphabet: string) =>
        JSON.stringify(
          Array.from(crypto.getRandomValues(new Uint8Array(3000)), (n) => alphabet[n % alphabet.length]).join(""),
        )
      const hex = random("0123456789abcdef")
      assert.isBelow((yield* codec.encode(hex, place)).length, hex.length)
      const dense = random("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
      assert.strictEqual(yield* codec.encode(dense, place), dense)
    }),
  )

  it.effect("counts bytes, not characters, and says so of the bound", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(PayloadCodec.compression({ above: 300 }))
      const text = JSON.stringify("ä".repeat(150))
      assert.include(yield* codec.encode(text, place), "deflate")
      const plain = JSON.stringify("a".repeat(150))
      assert.strictEqual(yield* codec.encode(plain, place), plain)
    }),
  )

  it.effect("packs nothing above its limit, and stops where a text unpacks to more", () =>
    Effect.gen(function* () {
      const big = JSON.stringify("a".repeat(5_000_000))
      const small = yield* codecOf(PayloadCodec.compression({ limit: 1_000_000 }))
      assert.strictEqual(yield* small.encode(big, place), big)
      const stored = yield* Effect.flatMap(codecOf(PayloadCodec.compression()), ({ encode }) => encode(big, place))
      assert.isBelow(stored.length, 10_000)
      assert.strictEqual(
        yield* reasonOf(small.decode(stored, place)),
        "unpacks to more than 1000000 bytes, the limit of PayloadCodec.compression",
      )
    }),
  )

  it.effect("reads no further than its limit: a small text may unpack to more than there is memory", () =>
    Effect.gen(function* () {
      const big = JSON.stringify("a".repeat(30_000_000))
      const stored = yield* Effect.flatMap(codecOf(PayloadCodec.compression()), ({ encode }) => encode(big, place))
      let unpacked = 0
      const original = globalThis.DecompressionStream
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          globalThis.DecompressionStream = class {
            readonly readable: ReadableStream
            readonly writable: WritableStream
            constructor(format: "deflate") {
              const { readable, writable } = new original(format)
              const transform = (chunk: Uint8Array, out: TransformStreamDefaultController) => {
                unpacked += chunk.length
                out.enqueue(chunk)
              }
              this.readable = readable.pipeThrough(new TransformStream({ transform }))
              this.writable = writable
            }
          } as never
        }),
        () => Effect.sync(() => (globalThis.DecompressionStream = original)),
      )
      const codec = yield* codecOf(PayloadCodec.compression({ limit: 1_000_000 }))
      assert.match(yield* reasonOf(codec.decode(stored, place)), /^unpacks to more than 1000000 bytes/)
      assert.isAbove(unpacked, 1_000_000)
      assert.isBelow(unpacked, 5_000_000)
    }),
  )

  it.effect("refuses what is damaged", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf(PayloadCodec.compression())
      const stored = yield* codec.encode(JSON.stringify("long ".repeat(1000)), place)
      const body = bodyOf(stored)
      for (const at of [0, 1, 5, body.length - 1]) {
        const damaged = Buffer.from(body)
        damaged[at] = damaged[at]! ^ 0x55
        assert.strictEqual(
          yield* reasonOf(codec.decode(withBody(stored, damaged), place)),
          "is damaged: it does not unpack",
        )
      }
      const cut = withBody(stored, body.subarray(0, 10))
      assert.strictEqual(yield* reasonOf(codec.decode(cut, place)), "is damaged: it does not unpack")
    }),
  )
})

describe("PayloadCodec.encryption", () => {
  it.effect("writes with the first key, or with the one that is named", () =>
    Effect.gen(function* () {
      const first = yield* codecOf(sealing([newer, old]))
      assert.include(yield* first.encode('"x"', place), "aes-256-gcm:newer ")
      const named = yield* codecOf(sealing([newer, old], { write: "old" }))
      assert.include(yield* named.encode('"x"', place), "aes-256-gcm:old ")
      const error = yield* Effect.flip(sealing([newer, old], { write: "none" }))
      assert.include(error.message, 'none has the id "none", which is to write; there are newer, old')
    }),
  )

  it.effect("takes keys of exactly 32 bytes, each id once, and at least one", () =>
    Effect.gen(function* () {
      const refused = (...keys: ReadonlyArray<PayloadKey>) =>
        Effect.map(Effect.flip(sealing(keys)), ({ message }) => message)
      for (const size of [0, 16, 24, 31, 33, 64]) {
        const key = { id: "k", key: Redacted.make(new Uint8Array(size).fill(65)) }
        const message = yield* refused(key)
        assert.include(message, `k has ${size} bytes, and must have exactly 32`)
        assert.notInclude(message, "AAAA")
      }
      assert.include(yield* refused(), "there is none")
      assert.include(yield* refused(old, { ...newer, id: "old" }), "there are two with the id old")
      for (const id of ["", "a b", "a,b", "a:b", "x".repeat(65)]) {
        assert.include(yield* refused({ ...old, id }), JSON.stringify(id))
      }
    }),
  )
})
