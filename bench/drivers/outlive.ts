/** Ours, through the interface that applications have: typed tasks, `defer`, `Worker.layer`. */
import { PgClient } from "@effect/sql-pg"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Clock, Effect, Layer, ManagedRuntime, Redacted, References, Schema } from "effect"
import type { Contender, Payload, Place } from "./contender.ts"

export interface Options {
  readonly synchronous?: "full" | "normal" | undefined
  readonly keep?: "none" | undefined
  readonly prefetch?: number | undefined
  readonly listen?: boolean | undefined
  /** Effect's compiler of schemas. */
  readonly compiled?: boolean | undefined
}

const queueAt = (place: Place, { listen, synchronous }: Options) => {
  switch (place.engine) {
    case "sqlite":
      return TaskQueueSqlite.layer({ filename: place.file, synchronous })
    case "postgres":
      return TaskQueuePostgres.layer({ listen }).pipe(Layer.provide(PgClient.layer({ url: Redacted.make(place.url) })))
    case "redis":
      throw new Error("there is no driver for Redis")
  }
}

export const open = async (place: Place, options: Options): Promise<Contender> => {
  if (options.compiled === true) await import("effect/schema/SchemaJITCompiler/enable")
  const Small = Task.make("Small", {
    payload: { n: Schema.Int, at: Schema.Finite, text: Schema.String },
    keep: options.keep,
  })
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(queueAt(place, options), Instance.layerBackend(), Layer.succeed(References.MinimumLogLevel, "Warn")),
  )
  // So that what is measured begins with an open queue.
  await runtime.runPromise(TaskQueue)
  return {
    produce: (next, callers) =>
      runtime.runPromise(
        Effect.forEach(
          Array.from({ length: callers }),
          Effect.fnUntraced(function* () {
            for (let payload = next(); payload !== undefined; payload = next()) yield* Small.defer(payload)
          }),
          { concurrency: callers, discard: true },
        ),
      ),
    work: async (handle, concurrency) => {
      const handler = Small.toLayer((payload: Payload) => Effect.sync(() => handle(payload)))
      const worker = Worker.layer({
        tasks: [Small],
        queues: { default: { concurrency } },
        prefetch: options.prefetch,
      }).pipe(Layer.provide(handler))
      await new Promise<void>((resolve, reject) => {
        runtime
          .runPromise(
            Effect.scoped(Layer.build(worker).pipe(Effect.andThen(Effect.sync(resolve)), Effect.andThen(Effect.never))),
          )
          .catch(reject)
      })
    },
    unfinished: () =>
      runtime.runPromise(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const counts = yield* queue.counts({ state: "running", now: yield* Clock.currentTimeMillis })
          return counts.reduce((sum, { count }) => sum + count, 0)
        }),
      ),
  }
}
