/**
 * Keeps one Postgres server for the process that started it, which talks to it on stdin: `stop immediate`, `stop fast` and
 * `start`, one a line, each answered by a line on stdout when it is done. When stdin ends, because its owner has ended in
 * whatever way, the server is stopped and its data deleted.
 *
 *     node keeper.ts <folder of the programs> <folder of the data, which will be deleted> <port> <setting=value>...
 */
import { type ChildProcess, spawn } from "node:child_process"
import { openSync, readFileSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { user } from "./binaries.ts"

const [native = "", folder = "", port = "", ...settings] = process.argv.slice(2)
const logFile = join(folder, "log")
let server: ChildProcess | undefined

const accepts = () =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: Number(port) })
    // A Postgres that is still starting refuses the start-up message with an error: only an answer to it counts.
    const names = Buffer.from("user\0postgres\0database\0postgres\0\0", "latin1")
    const head = Buffer.alloc(8)
    head.writeInt32BE(head.length + names.length)
    head.writeInt32BE(0x30000, 4)
    socket.on("connect", () => socket.write(Buffer.concat([head, names])))
    socket.on("data", (data) => {
      socket.destroy()
      resolve(data[0] === "R".charCodeAt(0))
    })
    socket.on("error", () => resolve(false))
    socket.on("close", () => resolve(false))
  })

const start = async () => {
  const log = openSync(logFile, "a")
  const options = Object.entries({
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "64MB",
    ...Object.fromEntries(settings.map((setting) => setting.split("="))),
  }).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  const child = spawn(join(native, "bin", "postgres"), ["-D", join(folder, "data"), ...options], {
    ...user,
    stdio: ["ignore", log, log],
    // On Windows the server is stopped with its console.
    detached: process.platform !== "win32",
  })
  server = child
  let ended = false
  child.once("exit", () => {
    ended = true
  })
  child.once("error", () => {
    ended = true
  })
  while (!(await accepts())) {
    if (ended) throw new Error(`the server ended: ${readFileSync(logFile, "utf8").slice(-2000)}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const stop = async (signal: "SIGQUIT" | "SIGINT") => {
  const child = server
  server = undefined
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once("exit", resolve))
  child.kill(process.platform === "win32" ? "SIGTERM" : signal)
  await ended
}

const answer = (line: string) => process.stdout.write(`${line}\n`)
const commands: Record<string, () => Promise<void>> = {
  start,
  "stop fast": () => stop("SIGINT"),
  "stop immediate": () => stop("SIGQUIT"),
}

// What ends its owner by a key on the keyboard is not for the keeper.
process.on("SIGINT", () => undefined)
process.on("SIGTERM", () => undefined)
process.stdout.on("error", () => undefined)

let last = Promise.resolve()
const lines = createInterface({ input: process.stdin })
lines.on("line", (line) => {
  last = last.then(async () => {
    try {
      await commands[line]?.()
      answer("done")
    } catch (error) {
      answer(JSON.stringify(String(error)))
    }
  })
})
lines.on("close", () => {
  last = last.then(async () => {
    await stop("SIGQUIT")
    rmSync(folder, { recursive: true, force: true })
    process.exit(0)
  })
})
