/**
 * Signatures of deliveries: HMAC-SHA-256 over everything that a receiver acts upon (`docs/push.md` has the wire format).
 * Whoever has a key can sign, and whoever has it can check: keep it where passwords are kept.
 *
 * The digest of the body is a header of its own and it is the digest that is signed: a receiver knows whether a request is
 * genuine before it has read a byte of its body.
 *
 * @since 0.1.0
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { millis } from "./internal/push/options.ts"
import { NotAuthentic, PushAuthenticator, type Reason, type Sender } from "./PushAuthenticator.ts"
import { PushKeys } from "./PushKeys.ts"

/** What is signed of a request. None of it may hold a line break; a request cannot have one there. @since 0.1.0 */
export interface Parts {
  /** In upper case. */
  readonly method: string
  /** With its query: `/_ah/queue/deferred`. */
  readonly path: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** The id of the record, or whatever else tells one request from another. */
  readonly id: string
  /** Counted from 1. */
  readonly attempt: number
  /** As `digestOf` gives it. */
  readonly digest: string
}

/** The headers of a signed request, as `PushDispatcher` sends them. @since 0.1.0 */
export const headers = {
  timestamp: "x-outlive-timestamp",
  id: "x-outlive-id",
  attempt: "x-outlive-attempt",
  /** RFC 9530. */
  digest: "content-digest",
  signature: "x-outlive-signature",
} as const

/** The digest of a body in the form of RFC 9530: `sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:`. @since 0.1.0 */
export const digestOf = (body: Uint8Array | string): string =>
  `sha-256=:${createHash("sha256").update(body).digest("base64")}:`

/**
 * The text that is signed: seven lines, the first one a name for the format. No part can hold a line break, so no two
 * requests have the same text.
 *
 * @since 0.1.0
 */
export const textOf = ({ attempt, digest, id, method, path, timestamp }: Parts): string =>
  ["outlive-push-v1", method, path, timestamp, id, attempt, digest].join("\n")

/** A signature in base64url: 43 characters. @since 0.1.0 */
export const sign = (secret: Redacted.Redacted<Uint8Array>, parts: Parts): string =>
  createHmac("sha256", Redacted.value(secret)).update(textOf(parts)).digest("base64url")

/**
 * The headers that make a request authentic: signed with the first key, now.
 *
 * @since 0.1.0
 */
export const headersFor = (
  { signing }: PushKeys["Service"],
  request: Omit<Parts, "timestamp" | "digest"> & { readonly body: Uint8Array | string },
): Effect.Effect<Readonly<Record<string, string>>> =>
  Effect.map(Clock.currentTimeMillis, (timestamp) => {
    const digest = digestOf(request.body)
    const signature = sign(signing.secret, { ...request, timestamp, digest })
    return {
      [headers.timestamp]: `${timestamp}`,
      [headers.id]: request.id,
      [headers.attempt]: `${request.attempt}`,
      [headers.digest]: digest,
      [headers.signature]: `v1:${signing.id}:${signature}`,
    }
  })

/** @since 0.1.0 */
export interface Options {
  /** How far the timestamp may be from the receiver's `Clock`, either way. Default 5 minutes. */
  readonly window?: Duration.Input | undefined
}

/**
 * Accepts requests that are signed with any of the `PushKeys`, within the replay window.
 *
 * Within the window a request that somebody recorded can be played again, and its handler runs again with the same id and
 * attempt: what delivery at least once asks of a handler anyway.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options?: Options,
): Effect.fn.Return<PushAuthenticator["Service"], never, PushKeys> {
  const keys = yield* PushKeys
  const window = yield* millis("window", options?.window, "5 minutes")
  return PushAuthenticator.of({
    authenticate: (request) =>
      Effect.clockWith((clock) => {
        const checked = check(keys, request, window, clock.currentTimeMillisUnsafe())
        return typeof checked === "string"
          ? Effect.fail(new NotAuthentic({ reason: checked }))
          : Effect.succeed(checked)
      }),
  })
})

/** See `make`. @since 0.1.0 */
export const layer = (options?: Options): Layer.Layer<PushAuthenticator, never, PushKeys> =>
  Layer.effect(PushAuthenticator, make(options))

type Request = Parameters<PushAuthenticator["Service"]["authenticate"]>[0]

/** Forms that hold no line break and no comma: what a server joined of two headers is none of them. */
const idForm = /^[A-Za-z0-9_.:-]{1,500}$/
const numberForm = /^(0|[1-9][0-9]{0,14})$/
const digestForm = /^sha-256=:[A-Za-z0-9+/]{43}=:$/
const signatureForm = /^v1:([A-Za-z0-9_.-]{1,64}):([A-Za-z0-9_-]{43})$/

const check = (keys: PushKeys["Service"], request: Request, window: number, now: number): Sender | Reason => {
  const signature = request.header(headers.signature)
  if (signature === undefined) return "unsigned"
  const timestamp = request.header(headers.timestamp) ?? ""
  const id = request.header(headers.id) ?? ""
  const attempt = request.header(headers.attempt) ?? ""
  const digest = request.header(headers.digest) ?? ""
  const parsed = signatureForm.exec(signature)
  const isWellFormed =
    idForm.test(id) && digestForm.test(digest) && numberForm.test(timestamp) && numberForm.test(attempt)
  if (parsed?.[1] === undefined || parsed[2] === undefined || !isWellFormed) return "malformed"
  const { method, path } = request
  if (/[\r\n]/.test(method + path)) return "malformed"
  const parts = { method, path, timestamp: Number(timestamp), id, attempt: Number(attempt), digest }
  const secret = keys.secret(parsed[1])
  if (secret === undefined) return "unknownKey"
  // The signature first: what a stranger is told must not depend on what is wrong with a text of his own making.
  if (!timingSafeEqual(Buffer.from(sign(secret, parts)), Buffer.from(parsed[2]))) return "wrongSignature"
  if (Math.abs(now - parts.timestamp) > window) return "stale"
  return { name: `key ${parsed[1]}`, digest, id, attempt: parts.attempt }
}
