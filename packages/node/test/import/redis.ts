/** A Redis server for a test file, where `redis-server` is installed: on a free port, in memory, gone with the file. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { connect, createServer } from "node:net"
import { NodeRedis } from "@effect/platform-node"
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Layer } from "effect"

/** Whether the tests of a file have to be left out, which is said aloud. */
export const isMissing: boolean = spawnSync("redis-server", ["--version"]).status !== 0
if (isMissing) console.warn("\nTESTS AGAINST REDIS ARE LEFT OUT: there is no redis-server in the PATH\n")

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer()
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

const accepts = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true))
    socket.on("error", () => resolve(false))
    socket.on("connect", () => socket.destroy())
  })

/** To be called once in a test file, outside of tests. */
export const useRedis = () => {
  let server: ChildProcess | undefined
  let port = 0
  beforeAll(async () => {
    if (isMissing) return
    port = await freePort()
    server = spawn(
      "redis-server",
      ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
      {
        stdio: "ignore",
      },
    )
    for (let looks = 0; looks < 500 && !(await accepts(port)); looks++) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }, 30_000)
  afterAll(() => server?.kill("SIGKILL"))
  return {
    port: () => port,
    layer: Layer.orDie(Layer.unwrap(Effect.sync(() => NodeRedis.layer({ url: `redis://127.0.0.1:${port}` })))),
  }
}
