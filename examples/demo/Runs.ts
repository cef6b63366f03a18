/**
 * Runs over folders. `begin` answers at once; a background thread goes on: it walks the folder, defers a task for each
 * file, and adds up what comes back.
 */

import { createHash } from "node:crypto"
import { join } from "node:path"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { TaskRef } from "@outlive/deferred/TaskRef"
import { Clock, Context, Effect, Fiber, FileSystem, Layer, Option, Random, Schema, Stream } from "effect"
import { IndexDocument } from "./IndexDocument.ts"
import { Report, Tally } from "./Report.ts"
import { forget, load, type Run, save, unfinished } from "./RunFile.ts"
import { walk } from "./walk.ts"

/** The input cannot be indexed; the message says why. */
export class BadFolder extends Schema.TaggedError<BadFolder>()(
  "BadFolder",
  { message: Schema.String },
  { httpApiStatus: 422 },
) {}

export class UnknownRun extends Schema.TaggedError<UnknownRun>()(
  "UnknownRun",
  { runId: Schema.String },
  { httpApiStatus: 404 },
) {}

export const Status = Schema.Struct({
  runId: Schema.String,
  state: Schema.Literals(["walking", "indexing", "done", "failed"]),
  /** Files found so far; all of them once it is `indexing`. */
  found: Schema.Int,
  /** Files indexed or dead. */
  ended: Schema.Int,
  problem: Schema.NullOr(Schema.String),
  report: Schema.NullOr(Report),
})
export type Status = typeof Status.Type

interface Live {
  run: Run
  readonly tally: Tally
  state: Status["state"]
  found: number
  problem: string | null
  report: Report | null
}

export class Runs extends Context.Service<
  Runs,
  {
    readonly begin: (input: {
      readonly folder: string
      readonly only: ReadonlyArray<string>
    }) => Effect.Effect<{ readonly runId: string; readonly resumed: boolean }, BadFolder | BackgroundThread.Refusal>
    readonly status: (runId: string) => Effect.Effect<Status, UnknownRun>
  }
>()("demo/Runs") {
  /** Keeps its runs in the folder `home`. */
  static readonly layer = (home: string) =>
    Layer.effect(
      Runs,
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const context = yield* Effect.context<
          FileSystem.FileSystem | TaskQueue.TaskQueue | BackgroundThread.BackgroundThreads
        >()
        const live = new Map<string, Live>()

        const begin = Effect.fnUntraced(function* (input: { folder: string; only: ReadonlyArray<string> }) {
          const info = yield* Effect.catchTag(fs.stat(input.folder), "PlatformError", ({ reason }) =>
            Effect.fail(
              new BadFolder({
                message:
                  reason._tag === "NotFound"
                    ? `there is no folder ${input.folder}`
                    : `cannot look at ${input.folder}: ${reason._tag}`,
              }),
            ),
          )
          if (info.type !== "Directory") {
            return yield* new BadFolder({ message: `${input.folder} is a file, not a folder` })
          }
          const now = yield* Clock.currentTimeMillis
          const before = yield* unfinished(home, input.folder, input.only)
          if (Option.isSome(before) && isUnderWay(before.value, now)) {
            const { process, runId } = before.value
            return yield* new BadFolder({
              message: `${input.folder} is being indexed already, by process ${process} (run ${runId})`,
            })
          }
          const run: Run = Option.isSome(before)
            ? { ...before.value, process: process.pid, seen: now }
            : { runId: yield* newRunId, ...input, process: process.pid, seen: now, walked: false, report: null }
          yield* save(home, run)
          const state: Live = { run, tally: new Tally(), state: "walking", found: 0, problem: null, report: null }
          live.set(run.runId, state)
          // A daemon: shutdown need not wait for it, since the next process can go on where it stopped.
          yield* BackgroundThread.start(finish(home, state), { name: `run-${run.runId}`, daemon: true })
          return { runId: run.runId, resumed: Option.isSome(before) }
        })

        return Runs.of({
          begin: (input) =>
            begin(input).pipe(
              Effect.catchTag("PlatformError", ({ reason }) =>
                Effect.fail(new BadFolder({ message: `cannot keep the run in ${home}: ${reason._tag}` })),
              ),
              // What this program made itself always encodes.
              Effect.catchTag("SchemaError", Effect.die),
              Effect.provideContext(context),
            ),
          status: Effect.fnUntraced(function* (runId) {
            const found = live.get(runId)
            if (found !== undefined) {
              const { problem, report, state, tally } = found
              return { runId, state, found: found.found, ended: tally.ended, problem, report }
            }
            // Of an earlier process there is the report, when it came that far.
            const stored = yield* Effect.provideContext(load(home, runId), context)
            if (Option.isNone(stored) || stored.value.report === null) return yield* new UnknownRun({ runId })
            const { report } = stored.value
            const files = report.dead.reduce((sum, { count }) => sum + count, report.files)
            return { runId, state: "done", found: files, ended: files, problem: null, report }
          }),
        })
      }),
    )
}

/** A file of the run and the handle on its task. */
interface Deferred {
  readonly path: string
  readonly ref: TaskRef<typeof IndexDocument.success.Type, typeof IndexDocument.error.Type>
}

/** The thread's work; how it ends is written into the run's state. */
const finish = (home: string, live: Live) =>
  index(home, live).pipe(
    Effect.tap((report) =>
      Effect.sync(() => {
        live.report = report
        live.state = "done"
      }),
    ),
    Effect.tapCause((cause) =>
      Effect.sync(() => {
        live.problem = cause.reasons
          .map((reason) => ("error" in reason ? reason.error.message : "it was stopped"))
          .join()
        live.state = "failed"
      }),
    ),
    // Said in the run's state; there is nobody else to tell.
    Effect.ignore,
  )

const index = Effect.fnUntraced(function* (home: string, live: Live) {
  const { run, tally } = live
  const queue = yield* TaskQueue.TaskQueue
  const begun = yield* Clock.currentTimeMillis
  const stillHere = Effect.flatMap(Clock.currentTimeMillis, (seen) => save(home, { ...live.run, seen }))
  // A write that has begun is waited for: one that was left alone could come after the last word on this run.
  const saying = yield* Effect.forkScoped(Effect.forever(Effect.delay(Effect.uninterruptible(stillHere), "1 second")))

  const known = new Set<TaskId>()
  const followed = (batch: ReadonlyArray<Deferred>) =>
    Effect.sync(() => {
      const fresh = batch.filter(({ ref }) => !known.has(ref.id))
      for (const { ref } of fresh) known.add(ref.id)
      live.found += fresh.length
      return fresh
    })
  const walked = run.walked ? Stream.empty : deferAll(live)
  const files = walked.pipe(
    Stream.onEnd(
      Effect.sync(() => {
        live.run = { ...live.run, walked: true }
      }),
    ),
    // What an earlier process deferred counts as well, also when the file is no longer there to be found.
    Stream.concat(stored(run.runId)),
    Stream.mapEffect(followed),
    Stream.onEnd(
      Effect.sync(() => {
        live.state = "indexing"
      }),
    ),
    Stream.flattenIterable,
  )
  // Every result is awaited from the moment its task is deferred; a waiting fiber is all that costs.
  yield* Stream.runDrain(
    Stream.mapEffect(files, (file) => outcomeOf(tally, file), { concurrency: "unbounded", unordered: true }),
  )
  yield* Fiber.interrupt(saying)
  if (tally.ended === 0) {
    yield* forget(home, run.runId)
    return yield* new BadFolder({ message: `there are no files in ${run.folder}` })
  }

  const ended = yield* Clock.currentTimeMillis
  const ids = [...known]
  const records = (yield* queue.get({ ids, now: ended })).filter((record) => record !== undefined)
  const seconds = Math.max(1, ended - begun) / 1000
  const report = tally.report({
    runId: run.runId,
    folder: run.only.length === 0 ? run.folder : join(run.folder, `{${run.only.join()}}`),
    seconds,
    tasksPerSecond: Math.round(records.filter((record) => (record.endedAt ?? 0) >= begun).length / seconds),
    // What a killed process had begun was not tried again: it was tried for the first time.
    retries: records.reduce((sum, record) => sum + Math.max(0, record.attempt - record.crashes - 1), 0),
  })
  // First the report, then the records it was made of: killed in between, they stay until they are pruned.
  yield* save(home, { ...live.run, report })
  yield* queue.remove({ ids })
  return report
}, Effect.scoped)

/** Walks the folder and defers a task for each file, a few at a time. */
const deferAll = (live: Live) => {
  const { run, tally } = live
  const closed = (path: string) => {
    live.found++
    tally.died("Unreadable", path)
  }
  return walk(run.folder, { only: run.only, closed }).pipe(
    Stream.grouped(200),
    Stream.mapEffect((paths) =>
      Effect.map(
        // The name makes it the same task when a later process walks again, for as long as its result is kept.
        IndexDocument.deferAll(
          paths.map((path) => ({ folder: run.folder, path })),
          ({ path }) => ({ name: nameOf(run.runId, path), onDuplicate: "ignore", tombstone: "7 days" }),
        ),
        (outcomes) =>
          outcomes.flatMap(
            (outcome, at): ReadonlyArray<Deferred> =>
              outcome._tag === "Deferred" ? [{ path: paths[at] ?? "", ref: outcome.ref }] : [],
          ),
      ),
    ),
  )
}

/** The run's tasks as the queue has them, page by page. */
const stored = (runId: string) =>
  Stream.paginate(undefined as string | undefined, (cursor) =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue.TaskQueue
      const now = yield* Clock.currentTimeMillis
      const page = yield* queue.find({ queue: "index", namePrefix: `${runId}-`, limit: 500, cursor, now })
      const files = yield* Effect.forEach(page.records, (record) =>
        Effect.all({
          path: Effect.map(IndexDocument.payloadOf(record), ({ path }) => path),
          ref: IndexDocument.ref(record.id),
        }),
      )
      return [[files], Option.map(Option.fromUndefinedOr(page.cursor), (next): string | undefined => next)] as const
    }),
  )

/** Waits for one result and adds it up: a document, or a dead letter with its reason. */
const outcomeOf = (tally: Tally, { path, ref }: Deferred) =>
  ref.await.pipe(
    Effect.map((document) => tally.indexed(document)),
    Effect.catchTags({
      NotText: (error) => Effect.sync(() => tally.died(error._tag, path)),
      Vanished: (error) => Effect.sync(() => tally.died(error._tag, path)),
      Unreadable: (error) => Effect.sync(() => tally.died(error._tag, path)),
      TaskDead: (error) => Effect.sync(() => tally.died(error.reason, path)),
      TaskCancelled: (error) => Effect.sync(() => tally.died(error._tag, path)),
    }),
  )

const nameOf = (runId: string, path: string): string =>
  `${runId}-${createHash("sha256").update(path).digest("hex").slice(0, 32)}`

const newRunId = Effect.map(Effect.all([Random.nextInt, Random.nextInt]), (numbers) =>
  numbers.map((number) => (number >>> 0).toString(16).padStart(8, "0")).join(""),
)

/** A process that is there and said so lately: an id alone may have gone to another process. */
const isUnderWay = (run: Run, now: number): boolean => {
  if (now - run.seen > 5000) return false
  if (run.process === process.pid) return true
  try {
    // Signal 0 only asks.
    process.kill(run.process, 0)
    return true
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}
