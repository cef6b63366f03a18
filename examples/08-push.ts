/**
 * Push delivery: a function that may run nothing in the background, and a dispatcher beside it that brings it its tasks as
 * signed requests. Here both are in one process, with a real socket between them.
 */
import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { SingularTaskFailure } from "@outlive/deferred/TaskFailure"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as PushDispatcher from "@outlive/node/PushDispatcher"
import * as PushHandler from "@outlive/node/PushHandler"
import * as PushKeys from "@outlive/node/PushKeys"
import * as PushSignature from "@outlive/node/PushSignature"
import { Console, Effect, Layer, Redacted, References, Schema } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer } from "effect/http"

class Broken extends Schema.TaggedError<Broken>()("Broken", { picture: Schema.String }) {}

class Thumbnail extends Task.make("Thumbnail", {
  payload: { picture: Schema.String },
  success: Schema.String,
  error: Broken,
  retry: { Broken: "never", _: RetryPolicy.fixed("20 millis") },
}) {}

// Both sides have the key: from the configuration (PushKeys.layerConfig), in a real program.
const Keys = PushKeys.layer([{ id: "2026", secret: Redacted.make(randomBytes(32)) }])

// The function: a host that freezes it once a request is answered.
const Frontend = Instance.layerFrontend()
const ThumbnailHandler = Thumbnail.toLayer(({ picture }, { attempt }) => {
  if (picture === "broken.png") return Effect.fail(new Broken({ picture }))
  if (picture === "huge.png" && attempt === 1)
    return Effect.fail(new SingularTaskFailure({ message: "still uploading" }))
  return Effect.succeed(`${picture} is small now, in attempt ${attempt}`)
})
const Function = HttpRouter.serve(PushHandler.layer({ tasks: [Thumbnail] }), {
  disableLogger: true,
  disableListenLog: true,
}).pipe(
  Layer.provide([ThumbnailHandler, PushSignature.layer().pipe(Layer.provide(Keys)), Frontend]),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
)

// Where a process may live: the queue, and who dispatches from it. It knows the task by its definition, and no handler.
const Dispatcher = Layer.unwrap(
  Effect.map(HttpServer.HttpServer, ({ address }) =>
    PushDispatcher.layer({ url: HttpServer.formatAddress(address), tasks: [Thumbnail] }),
  ),
).pipe(Layer.provide([Keys, FetchHttpClient.layer, Instance.layerBackend()]), Layer.provideMerge(TaskQueueMemory.layer))

const App = Dispatcher.pipe(
  Layer.provideMerge(Function),
  // This program prints what became of each; an application wants the log.
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
)

export const program = Effect.gen(function* () {
  const refused = yield* Effect.flip(Layer.build(Worker.layer({ tasks: [Thumbnail] }))).pipe(
    Effect.provide([ThumbnailHandler, TaskQueueMemory.layer, Frontend]),
  )
  yield* Console.log(`a worker in the function: ${refused._tag}`)

  for (const picture of ["cat.png", "huge.png", "broken.png"]) {
    const ref = yield* Thumbnail.defer({ picture })
    const said = yield* ref.await.pipe(
      Effect.catchTag("Broken", (error) => Effect.succeed(`${error.picture}: its own typed error, by type`)),
    )
    yield* Console.log(said)
  }

  const { address } = yield* HttpServer.HttpServer
  const url = `${HttpServer.formatAddress(address)}/_ah/queue/deferred`
  const { status } = yield* HttpClient.post(url).pipe(Effect.provide(FetchHttpClient.layer))
  yield* Console.log(`a stranger: ${status}`)
}).pipe(Effect.scoped, Effect.provide(App))

if (import.meta.main) await Effect.runPromise(program)
