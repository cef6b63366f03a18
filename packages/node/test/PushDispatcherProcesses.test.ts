/** Dispatchers that die. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Fiber } from "effect"
import { Act } from "./push/endpoint.ts"
import { target } from "./push/target.ts"

const newFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  ),
  (folder) => join(folder, "queue.db"),
)

const program = fileURLToPath(new URL("./programs/pushDispatcher.ts", import.meta.url))

/** Runs until it ends, and gives the signal it died of and what it had to say. */
const dispatcher = (...args: ReadonlyArray<string>) =>
  Effect.callback<{ readonly signal: string | null; readonly errors: string }>((resume) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "ignore", "pipe"] })
    let errors = ""
    child.stderr.on("data", (chunk) => {
      errors += chunk
    })
    child.on("close", (_, signal) => resume(Effect.succeed({ signal, errors })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("a PushDispatcher that is killed between the answer and its settlement", () => {
  it.live("delivers again, with the same id and a higher attempt", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const { got, url } = yield* target(({ n }) => ({
        status: 200,
        headers: { "x-outlive-outcome": "Succeeded" },
        body: JSON.stringify({ outcome: "Succeeded", result: `{"_tag":"Success","value":"answer ${n + 1}"}` }),
      }))
      yield* Effect.gen(function* () {
        const ref = yield* Act.defer({ how: "once, if that were possible" })
        assert.deepStrictEqual(yield* dispatcher(filename, url, "dies"), { signal: "SIGKILL", errors: "" })
        assert.lengthOf(got, 1)
        assert.strictEqual(yield* ref.state, "running")

        const second = yield* Effect.forkChild(dispatcher(filename, url))
        assert.strictEqual(yield* ref.await, "answer 2")
        yield* Fiber.interrupt(second)
        const deliveries = yield* Effect.forEach(got, ({ body }) => PushDelivery.decode(Buffer.from(body)))
        assert.deepStrictEqual(
          deliveries.map(({ attempt, id }) => [id, attempt?.number, attempt?.crashes]),
          [
            [ref.id, 1, 0],
            [ref.id, 2, 1],
          ],
        )
        assert.strictEqual(got[1]?.headers["x-outlive-id"], ref.id)
        assert.strictEqual(got[1]?.headers["x-outlive-attempt"], "2")
        assert.strictEqual(got[1]?.headers["x-appengine-taskretryreason"], "Crash")
      }).pipe(Effect.provide(TaskQueueSqlite.layer({ filename })))
    }),
  )
})
