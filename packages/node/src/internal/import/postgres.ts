/**
 * Imports from tables in Postgres: in each transaction some rows are locked, their records stored, and the rows deleted. A
 * task queue in the same database, on the same client, joins the transaction; one elsewhere has the records first, under names
 * by which they are known when the transaction did not come to its end.
 */
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { type Job, type Left, type Report, type Target, UnknownSource } from "../../Import.ts"
import { makeTally, recordName } from "./tally.ts"

export interface Source {
  /** For people, and in the records' names. */
  readonly name: string
  readonly schema: string
  /** What must be there, without the schema. */
  readonly tables: ReadonlyArray<string>
  /** What a job is known by for ever, other than others that had its id. */
  readonly key: (job: Job) => ReadonlyArray<string>
  /** The ids of all jobs of this name that can be moved, in their order. */
  readonly waiting: (name: string) => Effect.Effect<ReadonlyArray<string>, SqlError>
  /** Locks those of the given ids that can still be moved and that nobody else has locked. */
  readonly lock: (name: string, ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Job>, SqlError>
  readonly remove: (name: string, ids: ReadonlyArray<string>) => Effect.Effect<unknown, SqlError>
  /** What cannot be moved. */
  readonly left: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Omit<Left, "examples">>, SqlError>
}

export interface Options<Targets> {
  readonly jobs: Targets
  readonly dryRun?: boolean | undefined
  readonly batch?: number | undefined
}

export const run = Effect.fnUntraced(function* <R>(
  source: Source,
  options: Options<Readonly<Record<string, Target<R>>>>,
): Effect.fn.Return<Report, SqlError | TaskQueueError | UnknownSource, SqlClient | TaskQueue | R> {
  const sql = yield* SqlClient
  const dryRun = options.dryRun ?? false
  const batch = options.batch ?? 500
  const tally = makeTally(dryRun)
  const targets = new Map(Object.entries(options.jobs))
  yield* look(source)

  for (const [name, target] of targets) {
    const ids = yield* source.waiting(name)
    for (let at = 0; at < ids.length; at += batch) {
      const some = ids.slice(at, at + batch)
      const moveSome = Effect.gen(function* () {
        const locked = new Map((yield* source.lock(name, some)).map((job) => [job.id, job]))
        const jobs = some.flatMap((id) => locked.get(id) ?? [])
        if (jobs.length === 0) return []
        const moves = jobs.map((job) => ({ job, name: recordName(source.name, source.schema, ...source.key(job)) }))
        const outcomes = yield* dryRun ? target.check(moves) : target.move(moves)
        const became = jobs.map((job, index) => ({ job, outcome: outcomes[index]! }))
        const done = became.filter(({ outcome }) => typeof outcome === "string").map(({ job }) => job.id)
        if (!dryRun && done.length > 0) yield* source.remove(name, done)
        return became
      })
      // An interruption waits for the commit: a job whose record is in another queue by now must not come back.
      const became = yield* Effect.uninterruptible(sql.withTransaction(moveSome))
      // Counted when its transaction is committed: one that was rolled back has moved nothing.
      for (const { job, outcome } of became) tally.moved(job, outcome)
    }
  }
  for (const { count, name, why } of yield* source.left([...targets.keys()])) tally.left(name, why, count)
  return tally.report()
})

const look = Effect.fnUntraced(function* (source: Source) {
  const sql = yield* SqlClient
  const refuse = (reason: string) => new UnknownSource({ source: source.name, reason })
  if (!/^[^"\0]{1,63}$/.test(source.schema)) {
    return yield* refuse(`${JSON.stringify(source.schema)} cannot be the name of a schema`)
  }
  for (const table of source.tables) {
    const [found] = yield* sql<{ found: boolean }>`
      SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ${source.schema} AND c.relname = ${table}
      ) AS found`
    if (found?.found !== true) {
      return yield* refuse(
        `the schema ${source.schema} has no table ${table}: give its schema, and bring it to its current version`,
      )
    }
  }
  return undefined
})

/** How rows are read: as JSON, so that columns which a version does not have are only missing. */
export type Row = Readonly<Record<string, unknown>>

export const millisOf = (time: unknown): number => (typeof time === "string" ? Date.parse(time) : Number.NaN)
