/** Records and calls for the tests of the Postgres driver, with everything filled in that a test does not speak of. */
import { randomUUID } from "node:crypto"
import type { PgClient } from "@effect/sql-pg"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { type Context, Effect, Layer } from "effect"

export { idOf, record, records } from "../records.ts"

export const now = 1000

/** The same list for all claims, as a worker has it. */
const tasks = [{ name: "task", maxVersion: 1 }]

export const claim = (
  driver: TaskQueue.Driver,
  options?: { readonly limit?: number; readonly now?: number; readonly lease?: number; readonly worker?: string },
): Effect.Effect<TaskQueue.ClaimResult, TaskQueue.TaskQueueError> =>
  driver.claim({
    queues: [{ name: "queue", limit: options?.limit ?? 1000 }],
    tasks,
    targets: [],
    lease: options?.lease ?? 1000,
    worker: options?.worker ?? "worker",
    now: options?.now ?? now,
  })

export const succeed = (
  driver: TaskQueue.Driver,
  claimed: ReadonlyArray<TaskQueue.ClaimedRecord>,
): Effect.Effect<ReadonlyArray<TaskQueue.SettleOutcome>, TaskQueue.TaskQueueError> =>
  driver.settle({
    settlements: claimed.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined }) as const),
    now,
  })

/** How many records there are in each state. */
export const states = (
  driver: TaskQueue.Driver,
): Effect.Effect<Readonly<Record<string, number>>, TaskQueue.TaskQueueError> =>
  Effect.map(driver.counts({ now }), (counts) => {
    const sums: Record<string, number> = {}
    for (const { count, state } of counts) sums[state] = (sums[state] ?? 0) + count
    return sums
  })

/** A schema's name that no other test has. */
export const newSchema = (): string => {
  const schema = `test_${randomUUID().replaceAll("-", "").slice(0, 16)}`
  madeSchemas.push(schema)
  return schema
}
/** Those of this test file, so that a server that is not the tests' own has none of them afterwards. */
export const madeSchemas: Array<string> = []

/** A driver with a pool of connections of its own, as another process has it. */
export const process = Effect.fnUntraced(function* (
  client: Layer.Layer<PgClient.PgClient>,
  options: TaskQueuePostgres.Options,
) {
  const services = yield* Layer.build(Layer.fresh(client))
  const driver = yield* Effect.provideContext(TaskQueuePostgres.make(options), services)
  return { driver, services }
})

/** As many processes as that on one schema. */
export const processes = Effect.fnUntraced(function* (
  client: Layer.Layer<PgClient.PgClient>,
  count: number,
  options?: TaskQueuePostgres.Options,
) {
  const schema = newSchema()
  const all = yield* Effect.forEach(Array.from({ length: count }), () => process(client, { schema, ...options }), {
    concurrency: "unbounded",
  })
  return { schema, drivers: all.map(({ driver }) => driver), services: all.map(({ services }) => services) }
})

/** Runs what needs a client on that of a process. */
export const on =
  (services: Context.Context<PgClient.PgClient>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, PgClient.PgClient>> =>
    Effect.provideContext(effect, services)
