import { AsyncLocalStorage } from "node:async_hooks"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as NodeInstance from "@outlive/node/NodeInstance"
import { Effect, Latch, Layer } from "effect"

const kindOf = (env: Record<string, string>, kind?: "frontend" | "backend") =>
  Instance.Instance.pipe(Effect.provide(NodeInstance.layer({ env, kind, signals: [] })))

describe("NodeInstance.layer", () => {
  it.effect.each([
    ["AWS Lambda", { AWS_LAMBDA_FUNCTION_NAME: "f", AWS_REGION: "x" }],
    ["Vercel", { VERCEL: "1", AWS_LAMBDA_FUNCTION_NAME: "f" }],
    ["Netlify", { SITE_ID: "s", AWS_LAMBDA_FUNCTION_NAME: "f" }],
    ["Azure Functions", { FUNCTIONS_WORKER_RUNTIME: "node", WEBSITE_INSTANCE_ID: "w" }],
    ["Cloud Functions", { FUNCTION_TARGET: "f", K_SERVICE: "s", K_REVISION: "r" }],
    ["Cloud Run with request-based CPU", { K_SERVICE: "s", K_REVISION: "r", K_CONFIGURATION: "c" }],
    ["App Engine with automatic scaling", { GAE_ENV: "standard", GAE_SERVICE: "default" }],
  ] as const)("is a frontend on %s and says the way out", ([name, env]) =>
    Effect.gen(function* () {
      const { host, kind } = yield* kindOf(env)
      assert.strictEqual(kind, "frontend")
      assert.strictEqual(host.name, name)
      assert.isAbove(host.hint.length, 30)
    }),
  )

  it.effect.each([
    ["a plain machine", {}],
    ["a Cloud Run job", { CLOUD_RUN_JOB: "j", CLOUD_RUN_EXECUTION: "e" }],
    ["a Cloud Run worker pool", { CLOUD_RUN_WORKER_POOL: "p" }],
    ["App Engine flexible", { GAE_INSTANCE: "i", GAE_SERVICE: "default" }],
  ] as const)("is a backend on %s", ([, env]) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* kindOf(env)).kind, "backend")
    }),
  )

  it.effect("lets an explicit setting win over the host, and the option over the variable", () =>
    Effect.gen(function* () {
      const cloudRun = { K_SERVICE: "s", K_REVISION: "r" }
      assert.strictEqual((yield* kindOf({ ...cloudRun, OUTLIVE_INSTANCE: "backend" })).kind, "backend")
      assert.strictEqual((yield* kindOf({ OUTLIVE_INSTANCE: "frontend" })).kind, "frontend")
      assert.strictEqual((yield* kindOf({ OUTLIVE_INSTANCE: "frontend" }, "backend")).kind, "backend")
    }),
  )

  it.effect("refuses a setting that it does not know", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(kindOf({ OUTLIVE_INSTANCE: "server" }))
      assert.include(error.message, `"server"`)
    }),
  )
})

describe("a thread of a NodeInstance", () => {
  it.effect("has not its creator's async-local storage", () =>
    Effect.gen(function* () {
      const storage = new AsyncLocalStorage<string>()
      const look = Effect.map(
        Effect.andThen(
          Effect.yieldNow,
          Effect.promise(() => Promise.resolve()),
        ),
        () => storage.getStore() ?? "nothing",
      )
      const request = Effect.flatMap(BackgroundThread.start(look), (thread) => thread.join())
      const context = yield* Effect.context<BackgroundThread.BackgroundThreads>()
      const inRequest = storage.run("the request", () => Effect.runPromiseWith(context)(request))
      assert.strictEqual(yield* Effect.promise(() => inRequest), "nothing")
      // So it would be without: the storage itself works.
      const plain = storage.run("the request", () => Effect.runPromise(look))
      assert.strictEqual(yield* Effect.promise(() => plain), "the request")
    }).pipe(
      Effect.provide(
        BackgroundThread.BackgroundThreads.layer.pipe(Layer.provide(NodeInstance.layer({ env: {}, signals: [] }))),
      ),
    ),
  )

  it.effect("is carried to its end by a host that can wait for it", () =>
    Effect.gen(function* () {
      const carried: Array<Promise<void>> = []
      const gate = yield* Latch.make(false)
      const layer = BackgroundThread.BackgroundThreads.layer.pipe(
        Layer.provide(NodeInstance.layerWaitUntil({ waitUntil: (ended) => carried.push(ended) })),
      )
      yield* Effect.gen(function* () {
        const thread = yield* BackgroundThread.start(Effect.andThen(gate.await, Effect.fail("no")))
        assert.strictEqual(carried.length, 1)
        yield* gate.open
        // Ends with the thread, and does not fail with it: the failure is reported where threads are.
        yield* Effect.promise(() => carried[0]!)
        assert.isFalse(yield* thread.isAlive)
      }).pipe(Effect.provide(layer))
    }),
  )
})

describe("a process with NodeInstance", () => {
  interface Ended {
    readonly code: number | null
    readonly output: string
  }
  /** Runs the service, does what is said when it is ready, and gives how it ended. */
  const run = (
    args: ReadonlyArray<string>,
    whenOutput: (output: string, kill: (signal: NodeJS.Signals) => void) => void,
  ) =>
    Effect.callback<Ended>((resume) => {
      const program = fileURLToPath(new URL("./programs/instance.ts", import.meta.url))
      const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] })
      let output = ""
      const read = (chunk: Buffer) => {
        output += chunk
        whenOutput(output, (signal) => child.kill(signal))
      }
      child.stdout.on("data", read)
      child.stderr.on("data", read)
      child.on("close", (code) => resume(Effect.succeed({ code, output })))
      return Effect.sync(() => child.kill("SIGKILL"))
    })
  const once = (signal: NodeJS.Signals) => {
    let sent = false
    return (output: string, kill: (signal: NodeJS.Signals) => void) => {
      if (!sent && output.includes("ready")) {
        sent = true
        kill(signal)
      }
    }
  }

  it.live.each(["SIGTERM", "SIGINT"] as const)(
    "ends in order on %s: waits for its threads, says what was left",
    (signal) =>
      Effect.gen(function* () {
        const { code, output } = yield* run([], once(signal))
        assert.include(output, "thread ended")
        assert.include(output, "nothing was left")
        assert.strictEqual(code, 0, output)
      }),
  )

  it.live("ends within the grace period although a thread cannot be stopped, and says so with its exit code", () =>
    Effect.gen(function* () {
      const { code, output } = yield* run(["stubborn", "500"], once("SIGTERM"))
      assert.include(output, "left: background threads (timedOut)")
      assert.strictEqual(code, 1, output)
    }),
  )

  it.live("ends at once, with a code that is not zero, on a second signal", () =>
    Effect.gen(function* () {
      let sent = 0
      const { code, output } = yield* run(["stubborn", "60000"], (output, kill) => {
        if (sent === 0 && output.includes("ready")) {
          sent++
          kill("SIGINT")
        }
        if (sent === 1 && output.includes("a second signal")) {
          sent++
          kill("SIGINT")
        }
      })
      assert.strictEqual(code, 130, output)
    }),
  )
})
