/**
 * Real processes, killed at random: nothing acknowledged is lost, and nothing happens twice but where a crash explains it.
 *
 *     OUTLIVE_STORMS=50 pnpm test packages/node/test/durability     # more seeds
 *     OUTLIVE_STORM=7 pnpm test packages/node/test/durability       # one again, as a failure names it
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PgClient } from "@effect/sql-pg"
import { describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { clientAt } from "../postgres/database.ts"
import { startServer, whyNoServer } from "../postgres/server.ts"
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

  if (whyNoServer !== undefined) console.warn(`\nTHE STORM ON POSTGRES IS LEFT OUT: ${whyNoServer}\n`)
  const onPostgres = whyNoServer === undefined ? seeds : []
  it.live.each(onPostgres)(
    "Postgres: 20,000 tasks, processes and connections that are killed, a server that is stopped at once, storm %i",
    (seed) =>
      Effect.gen(function* () {
        const server = yield* Effect.acquireRelease(
          Effect.promise(() => startServer()),
          (server) => Effect.promise(() => server.close()),
        )
        // All connections of everybody, as a proxy or an administrator ends them.
        const cut = Effect.flatMap(
          PgClient.PgClient,
          (sql) => sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
        ).pipe(Effect.provide(clientAt(server.url)), Effect.orDie)
        const disturb = {
          times: 4,
          once: (random: () => number) =>
            random() < 0.5 ? Effect.asVoid(cut) : Effect.promise(() => server.restart()),
        }
        const options = { seed, tasks: 20_000, kills: 8, producers: 2, workers: 3, disturb }
        const report = yield* storm({ postgres: server.url, schema: "outlive" }, options)
        yield* Console.log(`storm ${seed}: ${JSON.stringify(report)}`)
      }).pipe(Effect.scoped),
    180_000,
  )
})
