/** A Postgres database that is known as any SQL database, too. */
import { PgClient } from "@effect/sql-pg"
import { Layer } from "effect"
import { SqlClient } from "effect/sql"
import { type Database, useDatabase } from "../postgres/database.ts"

export { isMissing } from "../postgres/database.ts"

/** To be called once in a test file, outside of tests. */
export const useSqlDatabase = (): {
  readonly url: Database["url"]
  readonly client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient>
} => {
  const { client, url } = useDatabase()
  return { url, client: Layer.effect(SqlClient.SqlClient, PgClient.PgClient).pipe(Layer.provideMerge(client)) }
}
