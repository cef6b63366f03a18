/**
 * Deliveries with an OpenID Connect token, as Google Cloud Tasks sends them: who they are from is said by an identity
 * provider, whose keys are read from where it publishes them.
 *
 * A token says who sent a request and for whom it is, and nothing of its body: whoever can read one can use it until it
 * expires. So it must come over TLS, and its audience must be this service alone.
 *
 * @barrel none: needs the optional peer "jose"
 *
 * @since 0.1.0
 */
import { messageOf } from "@outlive/deferred/Outcome"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Jose from "jose"
import { millis } from "./internal/push/options.ts"
import { AuthenticatorUnavailable, NotAuthentic, PushAuthenticator } from "./PushAuthenticator.ts"

/** @since 0.1.0 */
export interface Options {
  /** Whom tokens must be for: the url of this service, or whatever the sender's `audience` is set to. */
  readonly audience: string
  /** The service account that sends: tokens of others are good tokens, and refused. Several for a change of accounts. */
  readonly email: string | ReadonlyArray<string>
  /** Who issues tokens. Default `https://accounts.google.com`. */
  readonly issuer?: string | undefined
  /** Where the issuer publishes its keys. Default `https://www.googleapis.com/oauth2/v3/certs`. */
  readonly keys?: string | undefined
  /** How long keys are trusted before they are read again. Default 1 hour. */
  readonly keysFor?: Duration.Input | undefined
  /** How far the issuer's clock may be from this one. Default 30 seconds. */
  readonly tolerance?: Duration.Input | undefined
}

/**
 * The options are not enough to tell one sender from another.
 *
 * @since 0.1.0
 */
export class InvalidOidcOptions extends Schema.TaggedError<InvalidOidcOptions>()("InvalidOidcOptions", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `PushOidc: ${this.field} ${this.reason}`
  }
}

/** Signatures by a private key. One made with a shared secret would make a secret of the keys that everybody can read. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

/**
 * Accepts requests with a bearer token of the issuer, for the audience, of one of the accounts (`email`, which must be
 * verified), that is valid now by the `Clock`.
 *
 * Keys are read when the first token comes, kept for `keysFor`, and read again, once a minute at the most, when a token
 * names one that is not known. When they cannot be read, those that were known stay good for another `keysFor`; with none
 * at all nobody is accepted.
 *
 * @example
 * ```ts
 * import { NodeHttpClient } from "@effect/platform-node"
 * import * as PushOidc from "@outlive/node/PushOidc"
 * import { Layer } from "effect"
 *
 * const Authenticator = PushOidc.layer({
 *   audience: "https://tasks.example.com",
 *   email: "invoker@project.iam.gserviceaccount.com",
 * }).pipe(Layer.provide(NodeHttpClient.layerUndici))
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<PushAuthenticator["Service"], InvalidOidcOptions, HttpClient.HttpClient> {
  const emails = typeof options.email === "string" ? [options.email] : options.email
  const refuse = (field: string, reason: string) => Effect.fail(new InvalidOidcOptions({ field, reason }))
  if (options.audience === "")
    return yield* refuse("audience", "must not be empty: tokens for anybody would be accepted")
  if (emails.length === 0 || emails.includes("")) {
    return yield* refuse("email", "must name an account: everybody with an account at the issuer would be accepted")
  }
  const keysUrl = options.keys ?? "https://www.googleapis.com/oauth2/v3/certs"
  const tolerance = (yield* millis("tolerance", options.tolerance, "30 seconds")) / 1_000
  const keySet = yield* makeKeySet(keysUrl, yield* millis("keysFor", options.keysFor, "1 hour"))

  const verify = (token: string, set: KeySet, now: number) =>
    Effect.tryPromise({
      try: () =>
        Jose.jwtVerify(token, set.find, {
          issuer: options.issuer ?? "https://accounts.google.com",
          audience: options.audience,
          algorithms,
          clockTolerance: tolerance,
          currentDate: DateTime.toDateUtc(DateTime.makeUnsafe(now)),
          requiredClaims: ["exp", "iat"],
        }),
      catch: (error) => error,
    })

  return PushAuthenticator.of({
    authenticate: (request) =>
      Effect.gen(function* () {
        const authorization = request.header("authorization")
        if (authorization === undefined) return yield* Effect.fail(new NotAuthentic({ reason: "unsigned" }))
        const token = /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(authorization)?.[1]
        if (token === undefined || token.length > longestToken) {
          return yield* Effect.fail(new NotAuthentic({ reason: "malformed" }))
        }
        const now = yield* Clock.currentTimeMillis
        const { payload } = yield* Effect.flatMap(keySet.known, (set) => verify(token, set, now)).pipe(
          // The issuer may have a new key: only then is it worth to ask again.
          Effect.catchIf(
            (error) => error instanceof Jose.errors.JWKSNoMatchingKey,
            () => Effect.flatMap(keySet.newer, (set) => verify(token, set, now)),
          ),
          Effect.mapError((error) =>
            error instanceof AuthenticatorUnavailable ? error : new NotAuthentic({ reason: "wrongToken" }),
          ),
        )
        const { email, email_verified: verified } = payload
        if (typeof email !== "string" || !emails.includes(email) || verified !== true) {
          return yield* Effect.fail(new NotAuthentic({ reason: "wrongToken" }))
        }
        return { name: email, digest: undefined }
      }),
  })
})

/** See `make`. @since 0.1.0 */
export const layer = (options: Options): Layer.Layer<PushAuthenticator, InvalidOidcOptions, HttpClient.HttpClient> =>
  Layer.effect(PushAuthenticator, make(options))

/** Characters: tokens of providers have one or two thousand. */
const longestToken = 8_192

interface KeySet {
  readonly find: ReturnType<typeof Jose.createLocalJWKSet>
  readonly at: number
}

const Jwks = Schema.Struct({ keys: Schema.Array(Schema.Record(Schema.String, Schema.Unknown)) })

/** Milliseconds between two readings that a stranger's token can bring about. */
const cooldown = 60_000

const makeKeySet = Effect.fnUntraced(function* (url: string, trusted: number) {
  const client = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
  let known: KeySet | undefined
  let triedAt = Number.NEGATIVE_INFINITY
  let failed = "they were not read yet"
  /** One reading for all who need it. */
  let reading: Deferred.Deferred<void> | undefined

  const read = client.get(url).pipe(
    Effect.flatMap((response) => response.json),
    Effect.flatMap(Schema.decodeUnknownEffect(Jwks)),
    Effect.flatMap((jwks) =>
      Effect.try({ try: () => Jose.createLocalJWKSet(jwks as unknown as Jose.JSONWebKeySet), catch: (error) => error }),
    ),
    Effect.timeout("10 seconds"),
    Effect.scoped,
  )
  const unavailable = () => new AuthenticatorUnavailable({ message: `the keys at ${url} could not be read: ${failed}` })

  const reread = Effect.fnUntraced(function* (now: number, done: Deferred.Deferred<void>) {
    const result = yield* Effect.result(read)
    if (result._tag === "Success") known = { find: result.success, at: now }
    else {
      failed = messageOf(result.failure)
      yield* Effect.logWarning(unavailable().message)
    }
    reading = undefined
    yield* Deferred.succeed(done, undefined)
  })

  /** Reads when `isOld` says so and it was not just tried. */
  const refresh = (isOld: (set: KeySet | undefined, now: number) => boolean) =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if (reading === undefined && isOld(known, now) && now - triedAt >= (known === undefined ? 1_000 : cooldown)) {
        triedAt = now
        reading = Deferred.makeUnsafe()
        // Not the request's own: it may be cut, and others wait for the keys, too.
        yield* Effect.forkDetach(reread(now, reading))
      }
      if (reading !== undefined) yield* Deferred.await(reading)
      if (known === undefined || now - known.at >= 2 * trusted) return yield* Effect.fail(unavailable())
      return known
    })
  return {
    known: Effect.clockWith((clock) => {
      const fresh = known
      return fresh !== undefined && clock.currentTimeMillisUnsafe() - fresh.at < trusted
        ? Effect.succeed(fresh)
        : refresh((set, now) => set === undefined || now - set.at >= trusted)
    }),
    newer: refresh(() => true),
  }
})
