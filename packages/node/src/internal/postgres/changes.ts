/**
 * Telling of changes: those of this process when they are committed, those of others by LISTEN.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Broadcast from "@outlive/core/Broadcast"
import type { Change } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { SqlError } from "effect/sql/SqlError"
import { changesOf } from "./calls.ts"
import { textOf } from "./failure.ts"

export interface Changes {
  readonly publish: (changes: ReadonlyArray<Change>) => void
  readonly subscribe: Effect.Effect<Stream.Stream<Change>, never, Scope.Scope>
}

/** What another process told; `undefined` when it was this one. */
const read = (payload: string, by: string): ReadonlyArray<Change> | undefined => {
  try {
    const told = JSON.parse(payload) as { readonly by?: unknown; readonly waiting?: unknown }
    if (told.by === by) return undefined
    const changes = changesOf(told)
    if (changes.length > 0) return changes
  } catch {
    // Not from this package, but somebody wants to be heard.
  }
  return [{ _tag: "Elsewhere" }]
}

/** Milliseconds before it is tried again to listen: soon at first, then so that a server that is down is left in peace. */
const pause = (attempt: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // allow time: the server lives by the machine's clock; under a test clock the wait would never end
    const timer = setTimeout(() => resume(Effect.void), Math.min(5000, 50 * 2 ** attempt) * (0.5 + Math.random() / 2))
    return Effect.sync(() => clearTimeout(timer))
  })

/** Listens from the first subscriber on, on a connection of its own, until the scope ends. */
export const makeChanges = Effect.fnUntraced(function* (options: {
  readonly sql: PgClient
  readonly schema: string
  /** What this process says in its own notifications. */
  readonly by: string
  readonly listen: boolean
}): Effect.fn.Return<Changes, never, Scope.Scope> {
  const { by, schema, sql } = options
  const hub = Broadcast.make<Change>()
  const publish: Changes["publish"] = (changes) => {
    for (const change of changes) hub.tell(() => change)
  }
  if (!options.listen) return { publish, subscribe: hub.subscribe }

  const wanted = yield* Latch.make(false)
  const begun = yield* Latch.make(false)
  let failures = 0

  const listening: Effect.Effect<never, SqlError> = Effect.scoped(
    Effect.gen(function* () {
      const inbox = yield* sql.listen(schema)
      if (failures > 0) {
        yield* Effect.logInfo(`The task queue in "${schema}" listens to Postgres again`)
        // What happened in between was told to nobody.
        publish([{ _tag: "Elsewhere" }])
      }
      failures = 0
      yield* begun.open
      while (true) {
        const { payload } = yield* Queue.take(inbox)
        publish(read(payload, by) ?? [])
      }
    }),
  )
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      yield* wanted.await
      while (true) {
        const error = yield* Effect.flip(listening)
        if (failures++ === 0) {
          yield* Effect.logWarning(
            `The task queue in "${schema}" cannot listen to Postgres and polls until it can: ${textOf(error)}`,
          )
        }
        yield* begun.open
        yield* pause(failures)
      }
    }),
  )
  const watch = Effect.andThen(wanted.open, begun.await)
  return { publish, subscribe: Effect.andThen(watch, hub.subscribe) }
})
