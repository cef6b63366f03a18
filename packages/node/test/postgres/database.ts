/**
 * A database for a test file: `DATABASE_URL`, or a server that is started for the file before its first test and is gone
 * after its last.
 */
import { PgClient } from "@effect/sql-pg"
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { madeSchemas } from "./records.ts"
import { type Server, startServer, whyNoServer } from "./server.ts"

const given = process.env.DATABASE_URL

/** Whether the tests of a file have to be left out, which is said aloud. */
export const isMissing: boolean = given === undefined && whyNoServer !== undefined
if (isMissing) console.warn(`\nTESTS AGAINST POSTGRES ARE LEFT OUT: ${whyNoServer}\n`)

export interface Database {
  readonly url: () => string
  /** A client, which is a pool of connections, of its own for each place that it is built in. */
  readonly client: Layer.Layer<PgClient.PgClient>
}

const clientOf = (url: () => string, options?: Omit<PgClient.PgPoolConfig, "url">): Layer.Layer<PgClient.PgClient> =>
  Layer.orDie(Layer.unwrap(Effect.sync(() => PgClient.layer({ url: Redacted.make(url()), ...options }))))

/** A client of the database at this address. */
export const clientAt = (url: string, options?: Omit<PgClient.PgPoolConfig, "url">): Layer.Layer<PgClient.PgClient> =>
  clientOf(() => url, options)

const dropSchemas = Effect.flatMap(PgClient.PgClient, (sql) =>
  Effect.forEach(madeSchemas, (schema) => sql.unsafe(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)),
)

/** The database of this test file; to be called once in it, outside of tests. */
export const useDatabase = (): Database => {
  let server: Server | undefined
  const url = () => given ?? server?.url ?? "postgres://not.started"
  beforeAll(async () => {
    if (given === undefined && !isMissing) server = await startServer()
  }, 60_000)
  const client = clientOf(url)
  afterAll(async () => {
    if (given !== undefined) await Effect.runPromise(Effect.provide(dropSchemas, client))
    await server?.close()
  })
  return { url, client }
}
