/**
 * Who may call the endpoints of an `HttpApi`, and with what bodies: the same way in as that of deliveries.
 */
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { HttpApiSchemaError } from "effect/http-api/HttpApiError"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as Layer from "effect/Layer"
import { PushAuthenticator } from "../../PushAuthenticator.ts"
import { answer, authenticate, type Bounds, readBody } from "./receive.ts"
import type { Refusals } from "./refusals.ts"

/** Lets a request through to its endpoint, with its body read and checked. */
export class Admission extends HttpApiMiddleware.Service<Admission>()("outlive/node/DeferApi/Admission") {}

export const layer = (refusals: Refusals, bounds: Bounds): Layer.Layer<Admission, never, PushAuthenticator> =>
  Layer.effect(
    Admission,
    Effect.map(PushAuthenticator, (authenticator) =>
      Admission.of((endpoint) =>
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const sender = yield* authenticate(authenticator, refusals, request)
          const body = yield* readBody(request, sender, refusals, bounds)
          return yield* Effect.provideService(endpoint, HttpServerRequest.HttpServerRequest, withBody(request, body))
        }).pipe(
          Effect.catchTag("Refused", answer),
          Effect.catch((error: unknown) =>
            HttpApiSchemaError.is(error)
              ? Effect.succeed(
                  HttpServerResponse.jsonUnsafe(
                    { _tag: "InvalidDeferral", message: error.cause.message },
                    { status: 400 },
                  ),
                )
              : Effect.fail(error as never),
          ),
        ),
      ),
    ),
  )

/** The request with a body that has been read. */
const withBody = (
  request: HttpServerRequest.HttpServerRequest,
  body: Uint8Array,
): HttpServerRequest.HttpServerRequest =>
  HttpServerRequest.fromWeb(
    new Request(`http://localhost${request.url.startsWith("/") ? request.url : "/"}`, {
      method: request.method,
      headers: { "content-type": "application/json" },
      body: new Uint8Array(body),
    }),
  )
