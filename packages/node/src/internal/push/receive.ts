/**
 * The way of a request in, the same for all endpoints that strangers can reach: who sent it, before anything else; then
 * whether there is room; then its form; and only then its body, within bounds of size and time.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import * as PushAnswer from "../../PushAnswer.ts"
import { NotAuthentic, type PushAuthenticator, type Sender } from "../../PushAuthenticator.ts"
import { digestOf } from "../../PushSignature.ts"
import { headOf, isDuplicated } from "./head.ts"
import type { Refusals } from "./refusals.ts"

export interface Bounds {
  /** Bytes. */
  readonly bodyLimit: number
  /** Milliseconds in which the body must be there. */
  readonly bodyTimeout: number
}

/** A request that goes no further, as its answer. */
export class Refused {
  readonly _tag = "Refused"
  readonly response: HttpServerResponse.HttpServerResponse
  constructor(status: number, headers?: Readonly<Record<string, string>>) {
    // What was not read of the body is not waited for either.
    this.response = HttpServerResponse.empty({ status, headers: { ...headers, connection: "close" } })
  }
}

/** Its answer, which is not worth a line of the server's log. */
export const answer = ({
  response,
}: Refused): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  HttpMiddleware.withLoggerDisabled(Effect.succeed(response))

export const refusedUntil = (millis: number): Refused =>
  new Refused(503, { "retry-after": PushAnswer.retryAfterHeader(millis), [PushAnswer.outcomeHeader]: "Refused" })

/** Who sent it. A stranger gets 403, whatever else is wrong with the request, and nothing of what it sent is looked at. */
export const authenticate = (
  authenticator: PushAuthenticator["Service"],
  refusals: Refusals,
  request: HttpServerRequest.HttpServerRequest,
): Effect.Effect<Sender, Refused> =>
  Effect.suspend(() =>
    isDuplicated(request)
      ? Effect.fail(new NotAuthentic({ reason: "duplicated" }))
      : authenticator.authenticate(headOf(request)),
  ).pipe(Effect.mapError((refusal) => forbid(refusals, refusal)))

const forbid = (refusals: Refusals, refusal: Parameters<Refusals["count"]>[0]): Refused => {
  refusals.count(refusal)
  return new Refused(403)
}

/** The body of an authentic request: a POST of JSON, no larger than it may be, whole, in time, and the one that was signed. */
export const readBody = (
  request: HttpServerRequest.HttpServerRequest,
  sender: Sender,
  refusals: Refusals,
  { bodyLimit, bodyTimeout }: Bounds,
): Effect.Effect<Uint8Array, Refused> =>
  Effect.gen(function* () {
    if (request.method !== "POST") return yield* Effect.fail(new Refused(405, { allow: "POST" }))
    if (!/^application\/json *(;|$)/i.test(request.headers["content-type"] ?? "")) {
      return yield* Effect.fail(new Refused(415, { accept: "application/json" }))
    }
    // Nothing is unpacked: a small body must not become a large one.
    if ((request.headers["content-encoding"] ?? "identity") !== "identity") {
      return yield* Effect.fail(new Refused(415, { "accept-encoding": "identity" }))
    }
    if (Number(request.headers["content-length"] ?? 0) > bodyLimit) return yield* Effect.fail(new Refused(413))
    const bytes = yield* Effect.timeoutOrElse(collect(request, bodyLimit), {
      duration: Duration.millis(bodyTimeout),
      orElse: () => Effect.fail(new Refused(408)),
    })
    if (sender.digest !== undefined && sender.digest !== digestOf(bytes)) {
      return yield* Effect.fail(forbid(refusals, new NotAuthentic({ reason: "wrongBody" })))
    }
    return bytes
  })

/** Not `arrayBuffer`: interrupted, that one cuts the connection, and who was too slow is to be told so. */
const collect = (request: HttpServerRequest.HttpServerRequest, limit: number): Effect.Effect<Uint8Array, Refused> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    return Stream.runForEach(request.stream, (chunk) => {
      size += chunk.length
      chunks.push(chunk)
      return size > limit ? Effect.fail(new Refused(413)) : Effect.void
    }).pipe(
      Effect.map((): Uint8Array => Buffer.concat(chunks)),
      // It breaks off, or is not what its head says.
      Effect.mapError((error) => (error instanceof Refused ? error : new Refused(400))),
    )
  })
