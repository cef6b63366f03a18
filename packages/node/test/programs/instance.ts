/** A service that ends on signals, for NodeInstance.test.ts. Its thread goes on for ever, or ends soon when asked to. */
import { NodeRuntime } from "@effect/platform-node"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as NodeInstance from "@outlive/node/NodeInstance"
import { Console, Effect, Layer } from "effect"

const stubborn = process.argv.includes("stubborn")
const work = stubborn
  ? Effect.uninterruptible(Effect.never)
  : Effect.ensuring(Effect.sleep("100 millis"), Console.log("thread ended"))
const program = Effect.gen(function* () {
  yield* BackgroundThread.start(work, { name: "work" })
  // Keeps the process alive, as a server would.
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(() => undefined, 1000)),
    (timer) => Effect.sync(() => clearInterval(timer)),
  )
  yield* Console.log("ready")
  yield* Effect.never
})
program.pipe(
  Effect.scoped,
  Effect.provide(
    BackgroundThread.BackgroundThreads.layer.pipe(
      Layer.provide(NodeInstance.layer({ id: "test", grace: Number(process.argv[3] ?? 5000) })),
    ),
  ),
  NodeRuntime.runMain({ teardown: NodeInstance.teardown }),
)
