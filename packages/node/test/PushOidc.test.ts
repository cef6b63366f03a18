import { assert, describe, it } from "@effect/vitest"
import * as PushAuthenticators from "@outlive/node/PushAuthenticator"
import { PushAuthenticator } from "@outlive/node/PushAuthenticator"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as PushOidc from "@outlive/node/PushOidc"
import * as PushSignature from "@outlive/node/PushSignature"
import { Clock, Deferred, Effect, Fiber, Layer, References } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Jose from "jose"
import { act, delivery, endpoint, Keys, port, send, signedHeaders } from "./push/endpoint.ts"

const audience = "https://tasks.example.com"
const email = "invoker@project.iam.gserviceaccount.com"
const issuer = "https://accounts.google.com"

const pairs = {
  one: await Jose.generateKeyPair("RS256", { extractable: true }),
  two: await Jose.generateKeyPair("RS256", { extractable: true }),
  stranger: await Jose.generateKeyPair("RS256", { extractable: true }),
}
type Kid = keyof typeof pairs
const jwk = async (kid: Kid) => ({ ...(await Jose.exportJWK(pairs[kid].publicKey)), kid, alg: "RS256", use: "sig" })
const published = { one: await jwk("one"), two: await jwk("two"), stranger: await jwk("stranger") }

const token = (
  claims: Record<string, unknown> = {},
  options: { readonly by?: Kid; readonly kid?: string; readonly at?: number } = {},
) =>
  Effect.promise(() => {
    const { at = 0, by = "one" } = options
    const payload = { iss: issuer, aud: audience, email, email_verified: true, iat: at, exp: at + 3_600, ...claims }
    return new Jose.SignJWT(payload)
      .setProtectedHeader({ alg: "RS256", kid: options.kid ?? by })
      .sign(pairs[by].privateKey)
  })

/** What the issuer publishes, and how often it was asked. */
interface Issuer {
  keys: ReadonlyArray<object>
  status: number
  asked: number
  gate: Effect.Effect<void>
}
const issuerOf = (...keys: ReadonlyArray<object>): Issuer => ({ keys, status: 200, asked: 0, gate: Effect.void })
const client = (issuer: Issuer) =>
  Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request) =>
      Effect.suspend(() => {
        issuer.asked++
        const { keys, status } = issuer
        const response = () => HttpClientResponse.fromWeb(request, new Response(JSON.stringify({ keys }), { status }))
        return Effect.map(issuer.gate, response)
      }),
    ),
  )

const authenticator = (issuer: Issuer, options?: Partial<PushOidc.Options>) =>
  PushOidc.make({ audience, email, ...options }).pipe(Effect.provide(client(issuer)))

const authorize = (authorization: string | undefined) => ({
  method: "POST",
  path: "/",
  header: (name: string) => (name === "authorization" ? authorization : undefined),
})

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

/** Who it is, or why not. */
const judge = (it: PushAuthenticator["Service"], authorization: string | undefined) =>
  it.authenticate(authorize(authorization)).pipe(
    Effect.match({
      onSuccess: ({ name }) => name,
      onFailure: (error) => (error._tag === "NotAuthentic" ? error.reason : error._tag),
    }),
    quietly,
  )
const bearer = (it: PushAuthenticator["Service"], token: Effect.Effect<string>) =>
  Effect.flatMap(token, (text) => judge(it, `Bearer ${text}`))

describe("PushOidc", () => {
  it.effect("accepts a token of the issuer for this audience and account", () =>
    Effect.gen(function* () {
      const it = yield* authenticator(issuerOf(published.one))
      assert.strictEqual(yield* bearer(it, token()), email)
      assert.strictEqual(yield* bearer(it, token({ aud: ["https://else.example.com", audience] })), email)
    }),
  )

  it.effect.each([
    ["for another audience", { aud: "https://else.example.com" }, {}],
    ["of another issuer", { iss: "https://accounts.example.com" }, {}],
    ["of another account", { email: "somebody@example.com" }, {}],
    ["of no account", { email: undefined }, {}],
    ["of an account that is not verified", { email_verified: false }, {}],
    ["of an account that says so in words", { email_verified: "true" }, {}],
    ["that has expired", { exp: -31 }, {}],
    ["that is not valid yet", { nbf: 31 }, {}],
    ["that never expires", { exp: undefined }, {}],
    ["that does not say since when", { iat: undefined }, {}],
    ["signed with a key that the issuer does not have", {}, { by: "stranger" }],
    ["signed with another key than it names", {}, { by: "stranger", kid: "one" }],
  ] as const)("refuses a token %s", ([, claims, options]) =>
    Effect.gen(function* () {
      const it = yield* authenticator(issuerOf(published.one))
      assert.strictEqual(yield* bearer(it, token(claims, options)), "wrongToken")
    }),
  )

  it.effect("refuses a token without a signature, and one that is signed with the issuer's public key", () =>
    Effect.gen(function* () {
      const it = yield* authenticator(issuerOf(published.one))
      const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
      const claims = part({ iss: issuer, aud: audience, email, email_verified: true, iat: 0, exp: 3_600 })
      assert.strictEqual(yield* judge(it, `Bearer ${part({ alg: "none" })}.${claims}.AA`), "wrongToken")
      const secret = new TextEncoder().encode(JSON.stringify(published.one))
      const confused = Effect.promise(() =>
        new Jose.SignJWT({ email, email_verified: true })
          .setProtectedHeader({ alg: "HS256", kid: "one" })
          .setIssuer(issuer)
          .setAudience(audience)
          .setIssuedAt(0)
          .setExpirationTime(3_600)
          .sign(secret),
      )
      assert.strictEqual(yield* bearer(it, confused), "wrongToken")
    }),
  )

  it.effect("tells no token from a malformed one, and asks nobody about either", () =>
    Effect.gen(function* () {
      const issuer = issuerOf(published.one)
      const it = yield* authenticator(issuer)
      assert.strictEqual(yield* judge(it, undefined), "unsigned")
      for (const malformed of [
        "",
        "Bearer",
        "Basic YTpi",
        "Bearer a.b",
        "Bearer a.b.c, Bearer a.b.c",
        `Bearer ${"a".repeat(9_000)}.b.c`,
      ]) {
        assert.strictEqual(yield* judge(it, malformed), "malformed")
      }
      assert.strictEqual(issuer.asked, 0)
    }),
  )

  it.effect("reads the keys once for all who come, and again when they are old", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const issuer = { ...issuerOf(published.one), gate: Deferred.await(gate) }
      const it = yield* authenticator(issuer)
      const good = yield* token({ exp: 1_000_000 })
      const all = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 50 }, () => judge(it, `Bearer ${good}`)),
          { concurrency: "unbounded" },
        ),
      )
      yield* TestClock.adjust("5 seconds")
      const late = yield* Effect.forkChild(judge(it, `Bearer ${good}`), { startImmediately: true })
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(late), email)
      assert.deepStrictEqual([...new Set(yield* Fiber.join(all))], [email])
      assert.strictEqual(issuer.asked, 1)
      yield* TestClock.adjust("59 minutes")
      yield* judge(it, `Bearer ${good}`)
      assert.strictEqual(issuer.asked, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* judge(it, `Bearer ${good}`), email)
      assert.strictEqual(issuer.asked, 2)
    }),
  )

  it.effect("finds a new key when a token names it, and is not made to ask more than once a minute", () =>
    Effect.gen(function* () {
      const issuer = issuerOf(published.one)
      const it = yield* authenticator(issuer)
      assert.strictEqual(yield* bearer(it, token()), email)
      issuer.keys = [published.one, published.two]
      assert.strictEqual(yield* bearer(it, token({}, { by: "two" })), "wrongToken")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* bearer(it, token({}, { by: "two" })), email)
      assert.strictEqual(issuer.asked, 2)
      for (let n = 0; n < 20; n++) yield* bearer(it, token({}, { by: "stranger", kid: `made up ${n}` }))
      assert.strictEqual(issuer.asked, 2)
      yield* TestClock.adjust("1 minute")
      for (let n = 0; n < 20; n++) yield* bearer(it, token({}, { by: "stranger", kid: `made up ${n}` }))
      assert.strictEqual(issuer.asked, 3)
    }),
  )

  it.effect("trusts the keys that it has for a while when it cannot read new ones, and then nobody", () =>
    Effect.gen(function* () {
      const issuer = issuerOf(published.one)
      const it = yield* authenticator(issuer)
      const good = yield* token({ exp: 1_000_000 })
      yield* judge(it, `Bearer ${good}`)
      issuer.status = 500
      yield* TestClock.adjust("90 minutes")
      assert.strictEqual(yield* judge(it, `Bearer ${good}`), email)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(yield* judge(it, `Bearer ${good}`), "AuthenticatorUnavailable")
      issuer.status = 200
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* judge(it, `Bearer ${good}`), email)
    }),
  )

  it.effect.each([
    ["an issuer that is down", { status: 503 }],
    ["keys that are none", { keys: "none" as never }],
  ] as const)("accepts nobody without keys: %s", ([, change]) =>
    Effect.gen(function* () {
      const issuer = { ...issuerOf(published.one), ...change }
      const it = yield* authenticator(issuer)
      assert.strictEqual(yield* bearer(it, token()), "AuthenticatorUnavailable")
    }),
  )

  it.effect.each([
    [{ audience: "" }, /audience must not be empty/],
    [{ email: "" }, /email must name an account/],
    [{ email: [] }, /email must name an account/],
  ] as const)("refuses to start with %j", ([options, message]) =>
    Effect.gen(function* () {
      assert.match((yield* Effect.flip(authenticator(issuerOf(), options))).message, message)
    }),
  )

  it.effect("lets Cloud Tasks deliver, and beside it whoever signs", () =>
    Effect.gen(function* () {
      const at = yield* port
      const { attempt: _, ...uncounted } = delivery()
      const body = PushDelivery.encode(uncounted)
      const now = yield* Clock.currentTimeMillis
      const headers = {
        "content-type": "application/json",
        authorization: `Bearer ${yield* token({}, { at: now / 1_000 })}`,
        "x-cloudtasks-taskretrycount": "2",
      }
      const said = yield* send(at, { body, headers })
      assert.deepStrictEqual(
        [said.status, JSON.parse(said.body).result],
        [200, '{"_tag":"Success","value":"attempt 3"}'],
      )
      assert.strictEqual((yield* send(at, { body: act("it"), headers: signedHeaders(act("it")) })).status, 200)
      assert.strictEqual(
        (yield* send(at, { body, headers: { ...headers, authorization: "Bearer a.b.c" } })).status,
        403,
      )
      assert.strictEqual((yield* send(at, { body })).status, 403)
    }).pipe(
      Effect.provide(
        endpoint(
          (_, { attempt }) => Effect.succeed(`attempt ${attempt}`),
          {},
          Layer.effect(
            PushAuthenticator,
            Effect.map(
              Effect.all([Effect.orDie(authenticator(issuerOf(published.one))), PushSignature.make()]),
              PushAuthenticators.anyOf,
            ),
          ).pipe(Layer.provide(Keys)),
        ),
      ),
      quietly,
    ),
  )
})
