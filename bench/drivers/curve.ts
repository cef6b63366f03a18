/** What a task costs when many others wait: `node bench/main.ts drivers --curve 1000,10000,100000,1000000`. */
import type { ContenderName } from "./contender.ts"
import { median } from "./machine.ts"
import type { Site } from "./servers.ts"
import { type Cost, stretch } from "./workloads.ts"

const kinds = ["produce", "work"] as const

/** Fills a place up to each of the sizes, and there defers and runs `count` tasks. */
export const curve = async (
  contender: ContenderName,
  makeSite: () => Promise<Site>,
  { count, rounds, sizes }: { readonly count: number; readonly rounds: number; readonly sizes: ReadonlyArray<number> },
): Promise<Readonly<Record<string, Readonly<Record<string, number>>>>> => {
  const costs = new Map(sizes.map((size) => [size, { produce: [] as Array<Cost>, work: [] as Array<Cost> }]))
  for (let round = 0; round < rounds; round++) {
    const site = await makeSite()
    let waiting = 0
    for (const size of sizes) {
      if (size > waiting) await stretch("produce", contender, site, { count: size - waiting, warm: 1 })
      waiting = Math.max(size, waiting)
      // As many are run as deferred: the size stays.
      for (const kind of kinds)
        costs.get(size)?.[kind].push(await stretch(kind, contender, site, { count, warm: 2000 }))
    }
    await site.remove()
  }
  const of = (size: number, kind: (typeof kinds)[number], what: "speed" | "cpu") =>
    median((costs.get(size)?.[kind] ?? []).map((cost) => cost[what]))
  const first = sizes[0] ?? 0
  const row = (size: number) => ({
    "defer/s": Math.round(of(size, "produce", "speed")),
    "defer CPU ms/1000": round(of(size, "produce", "cpu")),
    "of the first": round(of(size, "produce", "cpu") / of(first, "produce", "cpu")),
    "run/s": Math.round(of(size, "work", "speed")),
    "run CPU ms/1000": round(of(size, "work", "cpu")),
    "of the first ": round(of(size, "work", "cpu") / of(first, "work", "cpu")),
  })
  return Object.fromEntries(sizes.map((size) => [`${size} waiting`, row(size)]))
}

const round = (number: number) => Number(number.toFixed(2))
