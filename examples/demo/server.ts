/**
 * The HTTP side: `POST /index` answers at once with the run's id, `GET /runs/:id` says how far it is.
 */
import { Effect, Layer, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { BadFolder, Runs, Status, UnknownRun } from "./Runs.ts"

/** This process takes no background work now; the message says why. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { message: Schema.String },
  { httpApiStatus: 503 },
) {}

export class DemoApi extends HttpApi.make("demo").add(
  HttpApiGroup.make("runs", { topLevel: true }).add(
    HttpApiEndpoint.post("index", "/index", {
      payload: Schema.Struct({
        folder: Schema.NonEmptyString,
        /** Only these entries of the folder; left out: all. */
        only: Schema.optionalKey(Schema.Array(Schema.NonEmptyString)),
      }),
      success: Schema.Struct({ runId: Schema.String, resumed: Schema.Boolean }).annotate({ httpApiStatus: 202 }),
      error: Schema.Union([BadFolder, Unavailable]),
    }),
    HttpApiEndpoint.get("status", "/runs/:runId", {
      params: { runId: Schema.String },
      success: Status,
      error: UnknownRun,
    }),
  ),
) {}

const Handlers = HttpApiBuilder.group(
  DemoApi,
  "runs",
  Effect.fn(function* (handlers) {
    const runs = yield* Runs
    return handlers.handleAll({
      index: ({ payload }) =>
        runs
          .begin({ folder: payload.folder, only: payload.only ?? [] })
          .pipe(
            Effect.catchTag(["FrontendsNotSupported", "LimitReached", "ShuttingDown"], (refusal) =>
              Effect.fail(new Unavailable({ message: refusal.message })),
            ),
          ),
      status: ({ params }) => runs.status(params.runId),
    })
  }),
)

/** Serves the API; needs `Runs` and an HTTP server. */
export const ServerLayer = HttpRouter.serve(HttpApiBuilder.layer(DemoApi).pipe(Layer.provide(Handlers)), {
  disableLogger: true,
  disableListenLog: true,
})
