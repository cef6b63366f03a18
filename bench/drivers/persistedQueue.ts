/**
 * Effect's own PersistedQueue on its SQL store: on SQLite through the client of this repository, on Postgres through
 * Effect's. It polls every 5 milliseconds, not every second as it does by default, so that its latency is not its poll.
 */
import { PgClient } from "@effect/sql-pg"
import * as SqliteClient from "@outlive/node/SqliteClient"
import { Effect, Layer, ManagedRuntime, Redacted, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { SqlClient } from "effect/sql"
import type { Contender, Place } from "./contender.ts"

const clientAt = (place: Place, { synchronous }: Options) => {
  switch (place.engine) {
    case "sqlite":
      return SqliteClient.layer({ filename: place.file, synchronous })
    case "postgres":
      return PgClient.layer({ url: Redacted.make(place.url) })
    case "redis":
      throw new Error("this is for its SQL store")
  }
}

export interface Options {
  readonly synchronous?: "full" | "normal" | undefined
}

const schema = Schema.Struct({ n: Schema.Int, at: Schema.Finite, text: Schema.String })

export const open = async (place: Place, options: Options): Promise<Contender> => {
  const client = clientAt(place, options)
  const store = PersistedQueue.layerStoreSql({ pollInterval: "5 millis" }).pipe(Layer.provide(client))
  const runtime = ManagedRuntime.make(PersistedQueue.layer.pipe(Layer.provide(store), Layer.provideMerge(client)))
  const queue = await runtime.runPromise(PersistedQueue.make({ name: "small", schema }))
  return {
    produce: (next, callers) =>
      runtime.runPromise(
        Effect.forEach(
          Array.from({ length: callers }),
          Effect.fnUntraced(function* () {
            for (let payload = next(); payload !== undefined; payload = next()) yield* queue.offer(payload)
          }),
          { concurrency: callers, discard: true },
        ),
      ),
    work: async (handle, concurrency) => {
      const taker = Effect.forever(queue.take((payload) => Effect.sync(() => handle(payload))))
      runtime
        .runPromise(Effect.forEach(Array.from({ length: concurrency }), () => taker, { concurrency, discard: true }))
        .catch((error: unknown) => {
          console.error(error)
          process.exit(1)
        })
    },
    unfinished: () =>
      runtime.runPromise(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const rows = yield* sql<{
            count: string
          }>`SELECT count(*) AS count FROM effect_queue WHERE state <> 'completed'`
          return Number(rows[0]?.count)
        }),
      ),
  }
}
