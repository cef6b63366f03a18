/**
 * Real processes, killed at random: nothing acknowledged is lost, and nothing happens twice but where a crash explains it.
 *
 *     OUTLIVE_STORMS=50 pnpm test packages/node/test/durability     # more seeds
 *     OUTLIVE_STORM=7 pnpm test packages/node/test/durability       # one again, as a failure names it
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { storm } from "./storm.ts"

const one = process.env.OUTLIVE_STORM
const seeds =
  one === undefined
    ? Array.from({ length: Number(process.env.OUTLIVE_STORMS ?? 1) }, (_, index) => index + 1)
    : [Number(one)]

describe("durability", () => {
  it.live.each(seeds)(
    "SQLite: 20,000 tasks of producers and workers that are killed, storm %i",
    (seed) =>
      Effect.gen(function* () {
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
        )
        const options = { seed, tasks: 20_000, kills: 12, producers: 2, workers: 3 }
        const report = yield* storm({ sqlite: join(folder, "queue.db") }, options)
        yield* Console.log(`storm ${seed}: ${JSON.stringify(report)}`)
      }).pipe(Effect.scoped),
    180_000,
  )
})
