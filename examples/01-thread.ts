/**
 * A request that is answered at once while its background thread goes on, over a real HTTP server.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as NodeInstance from "@outlive/node/NodeInstance"
import { Console, Deferred, Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer, HttpServerResponse } from "effect/http"

/** Says when the mail is out, so that this program can wait for it; an application would not. */
const mailIsOut = Deferred.makeUnsafe<string>()

const Routes = HttpRouter.add(
  "POST",
  "/welcome",
  Effect.gen(function* () {
    const sending = Effect.sleep("200 millis").pipe(
      Effect.andThen(Deferred.succeed(mailIsOut, "the mail is out, after the answer")),
    )
    const thread = yield* BackgroundThread.start(sending, { name: "welcome-mail" })
    return HttpServerResponse.text(`accepted, ${thread.name} goes on`, { status: 202 })
  }).pipe(
    // Too many at once, the process is ending, or the host would freeze it: the caller may try again elsewhere.
    Effect.catchTag(["LimitReached", "ShuttingDown", "FrontendsNotSupported"], (refusal) =>
      Effect.succeed(HttpServerResponse.text(refusal.message, { status: 503 })),
    ),
  ),
)

const App = HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provide(BackgroundThread.BackgroundThreads.layer),
  Layer.provide(NodeInstance.layer({ threadLimit: 20 })),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.provideMerge(FetchHttpClient.layer),
)

export const program = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  const client = yield* HttpClient.HttpClient
  const answer = yield* client.post(`${HttpServer.formatAddress(address)}/welcome`)
  yield* Console.log(`${answer.status} ${yield* answer.text}`)
  yield* Console.log(`out already? ${Deferred.isDoneUnsafe(mailIsOut)}`)
  yield* Console.log(yield* Deferred.await(mailIsOut))
}).pipe(Effect.provide(App))

if (import.meta.main) await Effect.runPromise(program)
