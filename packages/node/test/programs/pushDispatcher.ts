/**
 * A process that dispatches from a task queue file, for PushDispatcherProcesses.test.ts. Told to, it dies of SIGKILL as soon
 * as it has an answer: after the handler's end and before the settlement.
 */
import * as Instance from "@outlive/core/Instance"
import * as PushDispatcher from "@outlive/node/PushDispatcher"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { Act, Keys } from "../push/endpoint.ts"

const [filename, url, dies] = process.argv.slice(2)
if (filename === undefined || url === undefined) throw new Error("usage: pushDispatcher.ts FILE URL [dies]")

const Client = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(
    HttpClient.HttpClient,
    HttpClient.tap(() => Effect.sync(() => dies === "dies" && process.kill(process.pid, "SIGKILL"))),
  ),
).pipe(Layer.provide(FetchHttpClient.layer))

const Main = PushDispatcher.layer({ url, tasks: [Act], lease: "1 second", pollInterval: "50 millis" }).pipe(
  Layer.provide([Client, Keys, TaskQueueSqlite.layer({ filename }), Instance.layerBackend()]),
)
await Effect.runPromise(Layer.launch(Main))
