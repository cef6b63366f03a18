/** One process of the storm: a producer, or a worker. It ends on SIGTERM, in order, or is killed. */
import { readFileSync } from "node:fs"
import { NodeRuntime } from "@effect/platform-node"
import type { Instance } from "@outlive/core/Instance"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as NodeInstance from "@outlive/node/NodeInstance"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { type Entry, kindOf, Limited, now, openLedger, Plain, Single, Unlucky } from "./tasks.ts"

/** Where the queue is. */
export type Place = { readonly sqlite: string } | { readonly postgres: string; readonly schema: string }

export interface Role {
  readonly place: Place
  readonly ledger: string
  readonly role: "producer" | "worker"
  /** The numbers of a producer. */
  readonly from: number
  readonly to: number
}

export const queueAt = (place: Place): Layer.Layer<TaskQueue, TaskQueueError> =>
  "sqlite" in place
    ? TaskQueueSqlite.layer({ filename: place.sqlite })
    : Layer.unwrap(
        Effect.promise(async () => {
          const { PgClient } = await import("@effect/sql-pg")
          const TaskQueuePostgres = await import("@outlive/node/TaskQueuePostgres")
          const client = PgClient.layer({ url: Redacted.make(place.postgres), maxConnections: 5 })
          return TaskQueuePostgres.layer({ schema: place.schema }).pipe(Layer.provide(Layer.orDie(client)))
        }),
      )

const run = ({ from, ledger, place, role, to }: Role) => {
  const write = openLedger(ledger)

  /** Leaves out what it had been told of before it was killed; what it had not been told of has its name. */
  const produce = Effect.gen(function* () {
    const told = new Set(
      readFileSync(ledger, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Entry)
        .map((entry) => (entry._tag === "Deferred" ? entry.n : undefined)),
    )
    const numbers = Array.from({ length: to - from }, (_, index) => from + index).filter((n) => !told.has(n))
    const tasks = { Plain, Limited, Single }
    yield* Effect.forEach(
      numbers,
      (n) =>
        tasks[kindOf(n)].defer({ n }, { name: `n-${n}`, onDuplicate: "ignore" }).pipe(
          // A server that is being restarted: the name makes it safe to ask again.
          Effect.retry({ while: (error) => error._tag === "TaskQueueError" && error.isRetryable }),
          Effect.map(({ id, outcome }) => write({ _tag: "Deferred", n, id, outcome })),
        ),
      { concurrency: 20, discard: true },
    )
  })

  const handle = ({ n }: { readonly n: number }, { attempt, id }: { readonly attempt: number; readonly id: string }) =>
    Effect.gen(function* () {
      const entry = { n, id, attempt, pid: process.pid }
      write({ _tag: "Began", ...entry, at: now() })
      // Some take long enough to be met by a kill.
      if (n % 20 === 0) yield* Effect.sleep(100)
      else if (n % 7 === 0) yield* Effect.sleep(n % 5)
      write({ _tag: "Ended", ...entry, at: now() })
      // Its effect is done, and then it fails: it is done twice, and by its own account.
      if (n % 50 === 0 && attempt === 1) return yield* Effect.fail(new Unlucky())
    })
  const workers = Worker.layer({ tasks: [Plain, Limited, Single], concurrency: 20, lease: "1 second" }).pipe(
    Layer.provide([Plain.toLayer(handle), Limited.toLayer(handle), Single.toLayer(handle)]),
  )
  const work = Effect.andThen(Layer.build(workers), Effect.never)
  const program: Effect.Effect<void, unknown, TaskQueue | Instance | Scope.Scope> = role === "producer" ? produce : work
  program.pipe(
    Effect.scoped,
    Effect.provide(queueAt(place)),
    Effect.provide(NodeInstance.layer({ id: `${process.pid}`, grace: 5000 })),
    NodeRuntime.runMain({ teardown: NodeInstance.teardown }),
  )
}

if (import.meta.main) run(JSON.parse(process.argv[2] ?? "") as Role)
