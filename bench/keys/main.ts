/**
 * What turns by key cost: the same claims on a queue whose records have keys, ten thousand of them, and on one whose records
 * have none, with every driver, side by side. Each claim takes `--batch` records, which are settled before the next, uncounted.
 *
 *     pnpm bench keys [--keys 10000] [--each 20] [--count 200000] [--batch 50] [--rounds 3] [--only memory|sqlite|postgres] [--blocks] [--limited]
 *
 * `--blocks` stores all of a key one after the other, so that each claim finds its records far apart: the worst for whatever
 * keeps them in the order of insertion. `--limited` gives each key a limit of one running record and a rate besides.
 */
import { parseArgs } from "node:util"
import { PgClient } from "@effect/sql-pg"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer, Redacted, References } from "effect"
import { now as steadyNow, text } from "../drivers/contender.ts"
import { machine, median } from "../drivers/machine.ts"
import { type Site, sqliteSite, startPostgres } from "../drivers/servers.ts"

const { values } = parseArgs({
  options: {
    keys: { type: "string", default: "10000" },
    each: { type: "string", default: "20" },
    count: { type: "string", default: "200000" },
    rounds: { type: "string", default: "3" },
    batch: { type: "string", default: "50" },
    only: { type: "string" },
    blocks: { type: "boolean", default: false },
    limited: { type: "boolean", default: false },
  },
})
const keys = Number(values.keys)
const total = keys * Number(values.each)
const count = Math.min(total, Number(values.count))
const batch = Number(values.batch)
const payload = JSON.stringify({ n: 1, text })

/** The records' own time: nothing here waits for any. */
let now = 1_000_000

const record = (id: NewRecord["id"], index: number, isKeyed: boolean): NewRecord => ({
  id,
  task: "Small",
  version: 1,
  queue: isKeyed ? "keyed" : "plain",
  payload,
  headers: {},
  priority: 0,
  eta: now,
  onDuplicate: "fail",
  tombstone: 0,
  maxCrashes: 3,
  keep: 0,
  key: isKeyed ? `tenant-${values.blocks ? Math.floor(index / Number(values.each)) : index % keys}` : undefined,
})

const fill = (isKeyed: boolean) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    for (let from = 0; from < total; from += 1000) {
      const size = Math.min(1000, total - from)
      const records = Array.from({ length: size }, (_, index) =>
        record(queue.nextId(now, Math.random), from + index, isKeyed),
      )
      yield* queue.enqueue({ records, now })
    }
  })

interface Cost {
  readonly wall: number
  readonly cpu: number
}

/** Milliseconds of 1,000 records' claims; the server's processor time is that of their settlements, too. */
const claims = (name: string, site: Site | undefined) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    const tasks = [{ name: "Small", maxVersion: 1 }]
    let wall = 0
    let own = 0
    const before = yield* Effect.promise(async () => (await site?.read())?.cpu ?? 0)
    for (let left = count; left > 0; left -= batch) {
      now += 1000
      const cpuBefore = process.cpuUsage()
      const begin = steadyNow()
      const { records } = yield* queue.claim({
        queues: [{ name, limit: batch }],
        tasks,
        targets: [],
        lease: 30_000,
        worker: "bench",
        now,
      })
      wall += steadyNow() - begin
      const { system, user } = process.cpuUsage(cpuBefore)
      own += (system + user) / 1000
      if (records.length !== batch) throw new Error(`${name}: ${records.length} records instead of ${batch}`)
      yield* queue.settle({
        settlements: records.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
        now,
      })
    }
    const after = yield* Effect.promise(async () => (await site?.read())?.cpu ?? 0)
    const cost: Cost = { wall: (wall / count) * 1000, cpu: ((own + after - before) / count) * 1000 }
    return cost
  })

const measured = (site: Site | undefined) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    if (values.limited) {
      const byKey = { maxConcurrent: 1, rate: 100, burst: 5, ordered: false }
      yield* queue.configure({ queue: "keyed", limits: { byKey }, now })
    }
    yield* fill(false)
    yield* fill(true)
    const plain = yield* claims("plain", site)
    const keyed = yield* claims("keyed", site)
    return { plain, keyed }
  })

const drivers: Record<
  string,
  () => Promise<{ readonly layer: Layer.Layer<TaskQueue, unknown>; readonly site?: Site }>
> = {
  memory: async () => ({ layer: TaskQueueMemory.layer }),
  sqlite: async () => {
    const site = sqliteSite()
    if (site.place.engine !== "sqlite") throw new Error("not a file")
    return { layer: TaskQueueSqlite.layer({ filename: site.place.file }), site }
  },
  postgres: async () => {
    server ??= await startPostgres()
    const site = await server.site()
    if (site.place.engine !== "postgres") throw new Error("not a server")
    const client = PgClient.layer({ url: Redacted.make(site.place.url) })
    return { layer: TaskQueuePostgres.layer().pipe(Layer.provide(client)), site }
  },
}
let server: Awaited<ReturnType<typeof startPostgres>> | undefined

const names = values.only === undefined ? Object.keys(drivers) : [values.only]
console.log(`${count} of ${total} records claimed, ${batch} a call, ${keys} keys: ${machine()}`)
const table: Record<string, Record<string, number>> = {}
for (const name of names) {
  const open = drivers[name]
  if (open === undefined) throw new Error(`--only ${name}: there is ${Object.keys(drivers).join(", ")}`)
  const runs: Array<{ readonly plain: Cost; readonly keyed: Cost }> = []
  for (let round = 0; round < Number(values.rounds); round++) {
    const { layer, site } = await open()
    const run = Effect.scoped(Effect.provide(measured(site), layer))
    runs.push(await Effect.runPromise(Effect.provideService(run, References.MinimumLogLevel, "Warn")))
    await site?.remove()
  }
  const of = (from: (run: (typeof runs)[number]) => number) => Number(median(runs.map(from)).toFixed(2))
  table[name] = {
    "plain ms/1000": of(({ plain }) => plain.wall),
    "by key ms/1000": of(({ keyed }) => keyed.wall),
    "times as long": of(({ keyed, plain }) => keyed.wall / plain.wall),
    "plain CPU ms/1000": of(({ plain }) => plain.cpu),
    "by key CPU ms/1000": of(({ keyed }) => keyed.cpu),
    "times the CPU": of(({ keyed, plain }) => keyed.cpu / plain.cpu),
  }
}
console.table(table)
process.exit(0)
