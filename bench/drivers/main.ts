/**
 * The durable drivers beside other queues, their neighbours' best settings, and the floor of hand-written SQL, through
 * the interface that applications have. See README.md beside this file for what is measured and how to read it.
 *
 *     pnpm bench drivers [--only sqlite|postgres] [--rounds 3] [--count 20000] [--warm 5000] [--seconds 10]
 *       [--workloads defer,drain,pickup,both] [--contenders outlive-sqlite,bullmq] [--curve 1000,1000000]
 */
import { existsSync } from "node:fs"
import { parseArgs } from "node:util"
import { type ContenderName, contenders, isContender } from "./contender.ts"
import { curve } from "./curve.ts"
import { machine, median, percentile } from "./machine.ts"
import { redisSite, type Site, sqliteSite, startPostgres, whyNoRedis } from "./servers.ts"
import { type Cost, latencies, stretch, together } from "./workloads.ts"

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    count: { type: "string", default: "20000" },
    warm: { type: "string", default: "5000" },
    seconds: { type: "string", default: "10" },
    ticks: { type: "string", default: "300" },
    workloads: { type: "string", default: "defer,drain,pickup,both" },
    contenders: { type: "string" },
    curve: { type: "string" },
  },
})
const rounds = Number(values.rounds)
const count = Number(values.count)
const warm = Number(values.warm)
const workloads = values.workloads.split(",")

const usual: Record<"sqlite" | "postgres", ReadonlyArray<ContenderName>> = {
  sqlite: [
    ...(["outlive-sqlite", "outlive-sqlite-normal", "floor-sqlite", "effect-sqlite-normal", "plainjob"] as const),
    ...(["bullmq", "bullmq-always"] as const),
  ],
  postgres: ["outlive-postgres", "floor-postgres", "effect-postgres", "graphile-worker", "pg-boss", "bullmq"],
}
const engines = (["sqlite", "postgres"] as const).filter(
  (engine) => values.only === undefined || values.only === engine,
)
if (engines.length === 0) throw new Error(`--only is sqlite or postgres, not ${values.only}`)

const given = values.contenders?.split(",").map((name) => {
  if (isContender(name)) return name
  throw new Error(`no contender is called ${name}; there are ${Object.keys(contenders).join(", ")}`)
})

/** Why a contender cannot be measured here. */
const whyNot = (name: ContenderName): string | undefined => {
  const { engine, file } = contenders[name]
  if (file.startsWith("../peers/") && !existsSync(new URL("../peers/node_modules", import.meta.url))) {
    return "install it first: npx pnpm@12 --dir bench/peers install"
  }
  return engine === "redis" ? whyNoRedis : undefined
}

const taking = (names: ReadonlyArray<ContenderName>) =>
  names.filter((name) => {
    const why = whyNot(name)
    if (why !== undefined) console.log(`LEFT OUT: ${name}: ${why}`)
    return why === undefined
  })

let postgres: Awaited<ReturnType<typeof startPostgres>> | undefined
const siteFor = async (name: ContenderName): Promise<Site> => {
  switch (contenders[name].engine) {
    case "sqlite":
      return sqliteSite()
    case "redis":
      return redisSite(name === "bullmq-always" ? "always" : "everysec")
    case "postgres":
      postgres ??= await startPostgres()
      return postgres.site()
  }
}

/** All runs of a workload, by contender, one a round. */
type Runs<A> = Map<ContenderName, Array<A>>
const note = <A>(runs: Runs<A>, name: ContenderName, run: A) => {
  const found = runs.get(name)
  if (found === undefined) runs.set(name, [run])
  else found.push(run)
}

const rounded = (number: number | undefined, digits = 0) => (number === undefined ? "" : Number(number.toFixed(digits)))
const medianOf = <A>(runs: ReadonlyArray<A>, of: (run: A) => number | undefined) => {
  const numbers = runs.map(of).filter((number) => number !== undefined)
  return numbers.length === 0 ? undefined : median(numbers)
}

const costTable = (title: string, runs: Runs<Cost>) => {
  const [first] = runs.values()
  if (first === undefined) return
  console.log(`\n${title}`)
  const row = (mine: ReadonlyArray<Cost>) => ({
    "tasks/s": rounded(medianOf(mine, ({ speed }) => speed)),
    // Of the same round: the machine is not the same in another.
    "first is × faster": rounded(
      median(mine.map(({ speed }, round) => (first[round]?.speed ?? Number.NaN) / speed)),
      2,
    ),
    "CPU ms/1000": rounded(
      medianOf(mine, ({ cpu }) => cpu),
      1,
    ),
    "of it server": rounded(
      medianOf(mine, ({ serverCpu }) => serverCpu),
      1,
    ),
    "peak RSS MB": rounded(medianOf(mine, ({ rss }) => rss)),
    "commits/1000": rounded(
      medianOf(mine, ({ commits }) => commits),
      1,
    ),
    "bytes/task": rounded(medianOf(mine, ({ wal }) => wal)),
  })
  console.table(Object.fromEntries([...runs].map(([name, mine]) => [name, row(mine)])))
}

const pickupTable = (title: string, runs: Runs<ReadonlyArray<number>>) => {
  if (runs.size === 0) return
  console.log(`\n${title}`)
  const row = (mine: ReadonlyArray<ReadonlyArray<number>>) => {
    const at = (share: number) => rounded(median(mine.map((all) => percentile(all, share))), 2)
    return { "p50 ms": at(0.5), "p95 ms": at(0.95), "p99 ms": at(0.99) }
  }
  console.table(Object.fromEntries([...runs].map(([name, mine]) => [name, row(mine)])))
}

const measure = async (engine: "sqlite" | "postgres") => {
  const names = taking(given?.filter((name) => ["redis", engine].includes(contenders[name].engine)) ?? usual[engine])
  const deferred: Runs<Cost> = new Map()
  const drained: Runs<Cost> = new Map()
  const both: Runs<Cost> = new Map()
  const across: Runs<ReadonlyArray<number>> = new Map()
  const within: Runs<ReadonlyArray<number>> = new Map()
  for (let round = 1; round <= rounds; round++) {
    console.log(`${engine}, round ${round} of ${rounds}: ${machine()}`)
    for (const name of names) {
      const site = await siteFor(name)
      if (workloads.includes("defer") || workloads.includes("drain")) {
        note(deferred, name, await stretch("produce", name, site, { count, warm }))
      }
      if (workloads.includes("drain")) {
        await site.tend?.()
        note(drained, name, await stretch("empty", name, site, { count, warm }))
      }
      await site.remove()
    }
    for (const name of workloads.includes("both") ? names : []) {
      const site = await siteFor(name)
      note(both, name, await together(name, site, Number(values.seconds)))
      await site.remove()
    }
    for (const where of workloads.includes("pickup") ? (["across", "within"] as const) : []) {
      for (const name of names) {
        const site = await siteFor(name)
        note(where === "across" ? across : within, name, await latencies(name, site, where, Number(values.ticks)))
        await site.remove()
      }
    }
  }
  costTable(`W1: ${count} tasks of about 200 bytes deferred from 50 callers, after ${warm}`, deferred)
  costTable(`W2: ${count} tasks run, 50 at once, until the last is settled, after ${warm}`, drained)
  costTable(
    `W4: one process defers from 50 callers, one runs 50 at once, ${values.seconds} s; what was run counts`,
    both,
  )
  pickupTable("W3: from a deferral in one process to the handler in another, idle one; a task each 20 ms", across)
  pickupTable("W3 within one process", within)
}

if (values.curve === undefined) for (const engine of engines) await measure(engine)
else {
  const sizes = values.curve.split(",").map(Number)
  for (const engine of engines) {
    for (const name of taking(given?.filter((one) => contenders[one].engine === engine) ?? [`outlive-${engine}`])) {
      console.log(`\n${name}, ${rounds} rounds: ${machine()}`)
      console.table(await curve(name, () => siteFor(name), { count, rounds, sizes }))
    }
  }
}
if (postgres !== undefined) console.log(`Postgres ${postgres.version}`)
process.exit(0)
