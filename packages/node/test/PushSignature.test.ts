import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { PushAuthenticator, type Reason } from "@outlive/node/PushAuthenticator"
import * as PushKeys from "@outlive/node/PushKeys"
import * as PushSignature from "@outlive/node/PushSignature"
import { Effect, Layer, Redacted, Schema } from "effect"
import { TestClock } from "effect/testing"
import { id, Keys, key, oldKey, path, secretOf, signedHeaders } from "./push/endpoint.ts"

const Authenticator = PushSignature.layer().pipe(Layer.provide(Keys))

const check = (
  headers: Readonly<Record<string, string>>,
  head?: { readonly method?: string; readonly path?: string },
) =>
  Effect.gen(function* () {
    const { authenticate } = yield* PushAuthenticator
    const sender = yield* Effect.result(
      authenticate({ method: "POST", path, ...head, header: (name) => headers[name] }),
    )
    if (sender._tag === "Success") return sender.success
    assert(sender.failure._tag === "NotAuthentic")
    return sender.failure.reason
  }).pipe(Effect.provide(Authenticator))

const refused = (headers: Readonly<Record<string, string>>, reason: Reason, head?: { readonly method?: string }) =>
  Effect.map(check(headers, head), (said) => assert.strictEqual(said, reason))

/** What a request can say: nothing here has a line break. */
const Part = Schema.String.check(Schema.isPattern(/^[ -~]{0,12}$/))
const Word = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_.:-]{1,12}$/))
/** Text as a socket carries it: halves of surrogate pairs are all the same three bytes there. */
const Body = Schema.String.check(Schema.makeFilter((text) => text.isWellFormed()))
const Parts = Schema.Struct({
  method: Schema.Literals(["POST", "PUT", "GET"]),
  path: Schema.String.check(Schema.isPattern(/^\/[!-~]{0,12}$/)),
  timestamp: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300_000 })),
  id: Word,
  attempt: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 })),
  body: Body,
})

describe("PushSignature", () => {
  it.effect.prop(
    "lets in what is signed, whatever it says, and tells what is certain of it",
    { parts: Parts },
    ({ parts }) =>
      Effect.gen(function* () {
        const { method, path } = parts
        const said = yield* check(signedHeaders(parts.body, parts), { method, path })
        assert.deepStrictEqual(said, {
          name: "key k1",
          digest: PushSignature.digestOf(parts.body),
          id: parts.id,
          attempt: parts.attempt,
        })
      }),
  )

  it.effect.prop(
    "refuses it as soon as one part of it is another one",
    { parts: Parts, other: Parts, part: Schema.Literals(["method", "path", "timestamp", "id", "attempt", "body"]) },
    ({ other, part, parts }) =>
      Effect.gen(function* () {
        const changed = { ...parts, [part]: other[part] }
        const signed = signedHeaders(parts.body, parts)
        const sent = { ...signedHeaders(changed.body, changed), "x-outlive-signature": signed["x-outlive-signature"]! }
        const said = yield* check(sent, { method: changed.method, path: changed.path })
        if (changed[part] === parts[part]) assert.isObject(said)
        else assert.strictEqual(said, "wrongSignature")
      }),
  )

  it.effect.prop(
    "refuses whatever a stranger makes up, and never fails",
    { a: Part, b: Part, c: Part, d: Part, e: Part },
    (h) =>
      Effect.gen(function* () {
        const said = yield* check({
          "x-outlive-timestamp": h.a,
          "x-outlive-id": h.b,
          "x-outlive-attempt": h.c,
          "content-digest": h.d,
          "x-outlive-signature": h.e,
        })
        assert.isString(said)
      }),
  )

  it.effect.prop("gives no two requests the same text to sign", { a: Parts, b: Parts }, ({ a, b }) =>
    Effect.sync(() => {
      const text = (parts: typeof a) => PushSignature.textOf({ ...parts, digest: PushSignature.digestOf(parts.body) })
      assert.strictEqual(text(a) === text(b), JSON.stringify(a) === JSON.stringify(b))
    }),
  )

  it("is what docs/push.md says, so that other programs can make it", () => {
    const parts = { method: "POST", path: "/x?y=1", timestamp: 1_700_000_000_000, id, attempt: 2 }
    const digest = PushSignature.digestOf("{}")
    assert.strictEqual(digest, "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:")
    const text = `outlive-push-v1\nPOST\n/x?y=1\n1700000000000\n${id}\n2\n${digest}`
    assert.strictEqual(
      PushSignature.sign(key.secret, { ...parts, digest }),
      createHmac("sha256", "a".repeat(32)).update(text).digest("base64url"),
    )
  })

  it.effect("accepts any of its keys, and says which; no other, and none under another's name", () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* check(signedHeaders("{}", { key: oldKey })), { name: "key k0" })
      yield* refused(signedHeaders("{}", { key: { id: "k9", secret: key.secret } }), "unknownKey")
      yield* refused(signedHeaders("{}", { key: { id: "k0", secret: key.secret } }), "wrongSignature")
    }),
  )

  it.effect("signs with the first key, now", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_234)
      const headers = yield* PushSignature.headersFor(yield* PushKeys.PushKeys, {
        method: "POST",
        path,
        id,
        attempt: 1,
        body: "{}",
      })
      assert.strictEqual(headers["x-outlive-timestamp"], "1234")
      assert.deepInclude(yield* check(headers), { name: "key k1" })
    }).pipe(Effect.provide(Keys)),
  )

  it.effect("refuses what was signed more than five minutes ago, or for later than in five minutes", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      for (const timestamp of [700_000, 1_000_000, 1_300_000]) {
        assert.isObject(yield* check(signedHeaders("{}", { timestamp })))
      }
      for (const timestamp of [0, 699_999, 1_300_001, 9_999_999_999_999]) {
        yield* refused(signedHeaders("{}", { timestamp }), "stale")
      }
    }),
  )

  it.effect(
    "says that a signature is wrong before it says that it is old: an old one that is right is worth something",
    () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(1_000_000)
        yield* refused(signedHeaders("{}", { key: { id: "k1", secret: secretOf("z") } }), "wrongSignature")
      }),
  )

  it.effect.each([
    ["no signature", { "x-outlive-signature": undefined }, "unsigned"],
    ["no digest", { "content-digest": undefined }, "malformed"],
    ["no timestamp", { "x-outlive-timestamp": undefined }, "malformed"],
    ["a timestamp with a sign", { "x-outlive-timestamp": "+0" }, "malformed"],
    ["a timestamp in another notation", { "x-outlive-timestamp": "0e0" }, "malformed"],
    ["a timestamp with a zero before", { "x-outlive-timestamp": "00" }, "malformed"],
    ["two ids that a server joined", { "x-outlive-id": `${id}, ${id}` }, "malformed"],
    ["two signatures that a server joined", { "x-outlive-signature": "v1:k1:a, v1:k1:a" }, "malformed"],
    ["another algorithm", { "content-digest": "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:" }, "malformed"],
    ["a signature of another length", { "x-outlive-signature": "v1:k1:AAAA" }, "malformed"],
    ["another version", { "x-outlive-signature": `v2:k1:${"A".repeat(43)}` }, "malformed"],
    ["all zeros", { "x-outlive-signature": `v1:k1:${"A".repeat(43)}` }, "wrongSignature"],
  ] as const)("refuses a request with %s", ([, changed, reason]) => {
    const headers = Object.entries({ ...signedHeaders("{}"), ...changed }).filter(([, value]) => value !== undefined)
    return refused(Object.fromEntries(headers) as Record<string, string>, reason)
  })

  it.effect("cannot be made to sign two lines as one", () =>
    refused(signedHeaders("{}", { method: "POST\n/x" }), "malformed", { method: "POST\n/x" }),
  )
})

const problem = (text: string) =>
  Effect.map(Effect.flip(Effect.flatMap(PushKeys.parse(Redacted.make(text)), PushKeys.make)), (error) => error.message)

describe("PushKeys", () => {
  const good = Buffer.alloc(32, 7).toString("base64")

  it.effect("reads keys as configuration has them, the one to sign with first", () =>
    Effect.gen(function* () {
      const keys = yield* Effect.flatMap(PushKeys.parse(Redacted.make(`b:${good}, a:${good},`)), PushKeys.make)
      assert.strictEqual(keys.signing.id, "b")
      assert.isDefined(keys.secret("a"))
      assert.isUndefined(keys.secret("c"))
      assert.notInclude(JSON.stringify(keys) + String(keys.signing.secret), "BwcH")
    }),
  )

  it.effect.each([
    ["", /there is none, and nothing is sent or accepted unsigned/],
    [good, /number 1 of 1 must be written id:secret/],
    [`a:${good},b:?`, /the secret of number 2 of 2 must be base64/],
    ["a:c2hvcnQ=", /the secret of a has 5 bytes, and must have 32 or more/],
    [`a:${good},a:${good}`, /there are two with the id a/],
    [`a b:${good}`, /the id "a b" must be/],
  ] as const)("refuses %s", ([text, message]) =>
    Effect.map(problem(text), (said) => {
      assert.match(said, message)
      assert.notInclude(said, good)
    }),
  )

  it.effect("does not let a program start without", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(PushKeys.layerConfig("NO_SUCH_KEYS_ANYWHERE")))
      assert.match(error.message, /NO_SUCH_KEYS_ANYWHERE is not set.*openssl rand/)
    }),
  )
})
