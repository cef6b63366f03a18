/**
 * Moves the jobs that wait in a BullMQ queue over to tasks, out of its keys in Redis: written to those of BullMQ 6.7 (and held
 * against it in the tests), which are those since 5. Over Effect's own `Redis` service, so that nothing more is installed than
 * what the application has: `@effect/platform-node/NodeRedis`, or `Redis.make` over another client.
 *
 * Waiting, paused, prioritized and delayed jobs are moved. Stop adding jobs first, or run it again until it moves nothing. Its
 * workers may go on: a job is first put where no worker looks (the hash `outlive-moving` of the queue), then stored as a record,
 * then deleted. A run that was cut off leaves what it had in hand there; the next one begins with it.
 *
 * Children of flows and the next jobs of schedulers stay: their parents and schedules wait for them.
 *
 * See `Import` for what holds for all imports.
 *
 * @since 0.1.0
 */
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { Redis, type RedisError } from "effect/persistence/Redis"
import { type Report, type Target, type TargetServices, UnknownSource } from "./Import.ts"
import { makeBullMq, type Place } from "./internal/import/bullMq.ts"
import { makeTally, recordName } from "./internal/import/tally.ts"

/** @since 0.1.0 */
export interface Options<Targets extends Readonly<Record<string, Target<unknown>>>> {
  /** The name of BullMQ's queue. */
  readonly queue: string
  /** What jobs become, by their name. Jobs of other names stay. */
  readonly jobs: Targets
  /** BullMQ's prefix of keys. Default `bull`. */
  readonly prefix?: string | undefined
  /** Decodes and checks, and changes nothing. Default `false`. */
  readonly dryRun?: boolean | undefined
}

/**
 * Moves them, and says what it did. Jobs that failed or run are counted in the report under the name `*`.
 *
 * Fails with `UnknownSource` when Redis has no such queue, with `RedisError` and `TaskQueueError` when one of the two fails:
 * run it again then.
 *
 * @example
 * ```ts
 * import { NodeRedis } from "@effect/platform-node"
 * import * as Task from "@outlive/deferred/Task"
 * import * as Import from "@outlive/node/Import"
 * import * as ImportBullMq from "@outlive/node/ImportBullMq"
 * import { Effect, Schema } from "effect"
 *
 * class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
 *
 * const program = ImportBullMq.run({ queue: "mails", jobs: { welcome: Import.to(Mail) } }).pipe(
 *   Effect.provide(NodeRedis.layer({ url: "redis://localhost" })),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const run = Effect.fnUntraced(function* <const Targets extends Readonly<Record<string, Target<unknown>>>>(
  options: Options<Targets>,
): Effect.fn.Return<Report, RedisError | TaskQueueError | UnknownSource, Redis | TaskQueue | TargetServices<Targets>> {
  const { queue } = options
  const prefix = options.prefix ?? "bull"
  const dryRun = options.dryRun ?? false
  const bull = makeBullMq(yield* Redis, prefix, queue)
  const targets = new Map(Object.entries(options.jobs) as ReadonlyArray<[string, Target<TargetServices<Targets>>]>)
  const tally = makeTally(dryRun)
  if (!(yield* bull.exists)) {
    return yield* new UnknownSource({
      source: "bullmq",
      reason: `there is no queue ${queue} under the prefix ${prefix}: give the names that BullMQ was given`,
    })
  }

  const moveOne = Effect.fnUntraced(function* (place: Place, isTaken: boolean) {
    const found = yield* bull.read(place)
    // A worker was faster, or the run before had come as far as to delete it.
    if (found === undefined) return isTaken ? void (yield* bull.forget(place)) : undefined
    const { job } = found
    const target = targets.get(job.name)
    const stay = target === undefined ? "unmapped" : found.isDependent ? "dependent" : undefined
    if (target === undefined || stay !== undefined) {
      if (isTaken) yield* bull.giveBack(place)
      return tally.left(job.name, stay ?? "unmapped", 1)
    }
    const move = { job, name: recordName("bullmq", queue, job.id, String(job.createdAt)) }
    const [would = "Moved"] = yield* target.check([move])
    if (typeof would !== "string" && isTaken) yield* bull.giveBack(place)
    if (dryRun || typeof would !== "string") return tally.moved(job, would)
    const from = isTaken ? place : yield* bull.take(place)
    if (from === undefined) return undefined
    const [outcome = { refused: "it has no outcome" }] = yield* target.move([move])
    yield* typeof outcome === "string" ? bull.finish(found) : bull.giveBack(from)
    return tally.moved(job, outcome)
  })

  if (!dryRun) for (const place of yield* bull.moving) yield* moveOne(place, true)
  for (const place of yield* bull.waiting) yield* moveOne(place, false)
  tally.left("*", "running", yield* bull.running)
  tally.left("*", "failed", yield* bull.failed)
  tally.left("*", "dependent", yield* bull.parents)
  return tally.report()
})
