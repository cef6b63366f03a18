/**
 * Who may deliver: decides from the head of a request, before anything of its body is read. `PushSignature.layer` accepts
 * signed requests, `PushOidc.layer` those with a token of an identity provider, `anyOf` what any of several accepts.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** The head of a request as an authenticator sees it. @since 0.1.0 */
export interface RequestHead {
  /** In upper case. */
  readonly method: string
  /** As it came over the wire, with its query. */
  readonly path: string
  /** A header that came exactly once; `undefined` when it is missing or came twice. */
  readonly header: (name: string) => string | undefined
}

/** Who sent an authentic request, and what is certain of it. @since 0.1.0 */
export interface Sender {
  /** For logs: `key 2026b`, `invoker@project.iam.gserviceaccount.com`. */
  readonly name: string
  /** What `PushSignature.digestOf` must give for the body. `undefined`: the sender's word covers no body. */
  readonly digest: string | undefined
  /** Of a signed request, the id and the attempt that were signed. */
  readonly id?: string | undefined
  readonly attempt?: number | undefined
}

/**
 * What was wrong with a request that was refused. It is counted for the log, and nobody outside is told.
 *
 * - `unsigned`: no signature, or no token
 * - `duplicated`: a header that matters came twice
 * - `malformed`: a header is not in its form
 * - `unknownKey`: signed with a key that is not among the keys
 * - `wrongSignature`: somebody does not have the key, or changed what was signed
 * - `stale`: signed too long ago, or for the future
 * - `wrongToken`: not issued by whom it should, for this audience, for this account, or expired
 * - `wrongBody`: the body is not the one that was signed
 *
 * @since 0.1.0
 */
export type Reason =
  | "unsigned"
  | "duplicated"
  | "malformed"
  | "unknownKey"
  | "wrongSignature"
  | "stale"
  | "wrongToken"
  | "wrongBody"

/** @since 0.1.0 */
export class NotAuthentic extends Schema.TaggedError<NotAuthentic>()("NotAuthentic", {
  reason: Schema.Literals([
    "unsigned",
    "duplicated",
    "malformed",
    "unknownKey",
    "wrongSignature",
    "stale",
    "wrongToken",
    "wrongBody",
  ]),
}) {}

/**
 * Who is genuine cannot be known now: the provider's keys cannot be read, say. The sender is asked to come again.
 *
 * @since 0.1.0
 */
export class AuthenticatorUnavailable extends Schema.TaggedError<AuthenticatorUnavailable>()(
  "AuthenticatorUnavailable",
  { message: Schema.String },
) {}

/**
 * @since 0.1.0
 */
export class PushAuthenticator extends Context.Service<
  PushAuthenticator,
  {
    readonly authenticate: (request: RequestHead) => Effect.Effect<Sender, NotAuthentic | AuthenticatorUnavailable>
  }
>()("outlive/node/PushAuthenticator") {}

/**
 * Accepts what the first of these accepts that does. Of several refusals the last that says more than `unsigned` counts.
 *
 * @example
 * ```ts
 * import * as PushAuthenticator from "@outlive/node/PushAuthenticator"
 * import * as PushOidc from "@outlive/node/PushOidc"
 * import * as PushSignature from "@outlive/node/PushSignature"
 * import { Effect, Layer } from "effect"
 *
 * const Both = Layer.effect(
 *   PushAuthenticator.PushAuthenticator,
 *   Effect.map(
 *     Effect.all([
 *       PushSignature.make(),
 *       PushOidc.make({ audience: "https://tasks.example.com", email: "invoker@project.iam.gserviceaccount.com" }),
 *     ]),
 *     PushAuthenticator.anyOf,
 *   ),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const anyOf = (authenticators: ReadonlyArray<PushAuthenticator["Service"]>): PushAuthenticator["Service"] =>
  PushAuthenticator.of({
    authenticate: (request) =>
      Effect.gen(function* () {
        let refusal: NotAuthentic | AuthenticatorUnavailable = new NotAuthentic({ reason: "unsigned" })
        for (const each of authenticators) {
          const sender = yield* Effect.result(each.authenticate(request))
          if (sender._tag === "Success") return sender.success
          const { failure } = sender
          if (failure._tag === "AuthenticatorUnavailable" || failure.reason !== "unsigned") refusal = failure
        }
        return yield* Effect.fail(refusal)
      }),
  })
