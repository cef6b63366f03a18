/**
 * The demo: a server takes a request to index a folder and answers at once; a background thread defers a task for each
 * file into a SQLite file; workers run them. See `--help`.
 */

import { createServer } from "node:http"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { NodeHttpServer, NodeRuntime, NodeServices } from "@effect/platform-node"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Worker from "@outlive/deferred/Worker"
import * as NodeInstance from "@outlive/node/NodeInstance"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, FileSystem, Layer, Option, References, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { FetchHttpClient } from "effect/http"
import { DemoProblem, indexFolder } from "./client.ts"
import { IndexDocument, IndexDocumentHandler } from "./IndexDocument.ts"
import { format, Report } from "./Report.ts"
import { Runs } from "./Runs.ts"
import { ServerLayer } from "./server.ts"

const home = resolve(".outlive")

/** Always there, and real: the packages `effect` and `node` as they were installed. */
const installed = {
  folder: fileURLToPath(new URL("../../node_modules", import.meta.url)),
  only: ["effect", "node"],
}

const Home = Layer.effectDiscard(
  Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeDirectory(join(home, "runs"), { recursive: true })).pipe(
    Effect.mapError(
      ({ reason }) =>
        new DemoProblem({
          message: `cannot make the folder ${home}, where the demo keeps its tasks: ${reason._tag}`,
        }),
    ),
  ),
)

/** From the bottom up: the process, its queue, its worker, the runs, the server. */
const App = ServerLayer.pipe(
  Layer.provide(Runs.layer(home)),
  Layer.merge(
    Worker.layer({ tasks: [IndexDocument], queues: { index: { concurrency: 8 } }, drainTimeout: "10 seconds" }).pipe(
      Layer.provide(IndexDocumentHandler),
    ),
  ),
  Layer.provide(BackgroundThreads.layer),
  Layer.provide(TaskQueueSqlite.layer({ filename: join(home, "demo.db") })),
  Layer.provide(Home),
  Layer.provideMerge(
    NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: "1 second" }),
  ),
  Layer.provideMerge(NodeInstance.layer({ grace: "20 seconds" })),
  Layer.provideMerge(FetchHttpClient.layer),
)

const demo = Command.make(
  "demo",
  {
    folder: Argument.String("folder").pipe(
      Argument.withDescription("The folder to index; left out: the installed packages effect and node"),
      Argument.optional,
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print the report as one JSON object, and nothing else, on standard output"),
      Flag.withDefault(false),
    ),
  },
  Effect.fnUntraced(
    function* ({ folder, json }) {
      const input = Option.match(folder, {
        onNone: () => installed,
        onSome: (given) => ({ folder: resolve(given), only: [] }),
      })
      const report = yield* indexFolder(input)
      yield* Console.log(json ? JSON.stringify(yield* Schema.encodeEffect(Report)(report)) : format(report))
    },
    Effect.provide(App),
    Effect.catch((error) => Effect.fail(new DemoProblem({ message: error.message }))),
  ),
).pipe(
  Command.withDescription(
    "Indexes the text files of a folder: bytes, lines, words, SHA-256 and the ten most frequent terms of each. " +
      "What is not UTF-8 ends as a dead letter with its reason. Links are not followed, node_modules inside is left out. " +
      "The top terms of the report are the sums over the ten of each file. Tasks are kept in .outlive/demo.db: stop the " +
      "demo by Ctrl-C or kill -9 and run it again, and it goes on where it stopped.",
  ),
  Command.withExamples([
    { command: "npx -y pnpm@12 demo", description: "Index the installed packages effect and node" },
    { command: "npx -y pnpm@12 demo docs --json", description: "Index the folder docs, for another program" },
  ]),
)

demo.pipe(
  Command.run({ version: "0.0.0" }),
  // Dead letters are in the report; --log-level shows the rest. Standard output is the report's alone.
  Effect.provide(
    Layer.mergeAll(
      NodeServices.layer,
      Layer.succeed(References.LogToStderr, true),
      Layer.succeed(References.MinimumLogLevel, "Fatal"),
    ),
  ),
  NodeRuntime.runMain,
)
