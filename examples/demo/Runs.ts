/**
 * Runs over folders. `begin` answers at once; a background thread goes on: it walks the folder, defers a task for each
 * file, and adds up what comes back.
 */

import { createHash } from "node:crypto"
import { join } from "node:path"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import type { DeferredRef } from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import { Clock, Context, Effect, FileSystem, Layer, Option, Random, Schema, Stream } from "effect"
import { IndexDocument } from "./IndexDocument.ts"
import { Report, Tally } from "./Report.ts"
import { type Run, save, unfinished } from "./RunFile.ts"
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
  readonly run: Run
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
          const info = yield* Effect.option(fs.stat(input.folder))
          if (Option.isNone(info)) return yield* new BadFolder({ message: `there is no folder ${input.folder}` })
          if (info.value.type !== "Directory") {
            return yield* new BadFolder({ message: `${input.folder} is a file, not a folder` })
          }
          const before = yield* unfinished(home, input.folder, input.only)
          if (Option.isSome(before) && (live.has(before.value.runId) || isAlive(before.value.process))) {
            return yield* new BadFolder({
              message: `${input.folder} is being indexed already, by process ${before.value.process} (run ${before.value.runId})`,
            })
          }
          const runId = Option.isSome(before) ? before.value.runId : yield* newRunId
          const run: Run = { runId, ...input, process: process.pid, report: null }
          yield* save(home, run)
          const state: Live = { run, tally: new Tally(), state: "walking", found: 0, problem: null, report: null }
          live.set(runId, state)
          // A daemon: shutdown need not wait for it, since the next process can go on where it stopped.
          yield* BackgroundThread.start(finish(home, state), { name: `run-${runId}`, daemon: true })
          return { runId, resumed: Option.isSome(before) }
        })

        return Runs.of({
          begin: (input) =>
            begin(input).pipe(
              Effect.catchTag(["PlatformError", "SchemaError"], (error) =>
                Effect.fail(new BadFolder({ message: `cannot keep the run in ${home}: ${error.message}` })),
              ),
              Effect.provideContext(context),
            ),
          status: (runId) => {
            const found = live.get(runId)
            if (found === undefined) return Effect.fail(new UnknownRun({ runId }))
            const { problem, report, state, tally } = found
            return Effect.succeed({ runId, state, found: found.found, ended: tally.ended, problem, report })
          },
        })
      }),
    )
}

type DocumentRef = DeferredRef<typeof IndexDocument.success, typeof IndexDocument.error>

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
  const refs: Array<{ readonly path: string; readonly ref: DocumentRef }> = []
  const deferred = walk(run.folder, run.only).pipe(
    Stream.grouped(200),
    Stream.mapEffect((paths) =>
      Effect.map(
        // The name makes it the same task when a later process walks again.
        IndexDocument.deferAll(
          paths.map((path) => ({ folder: run.folder, path })),
          ({ path }) => ({ name: nameOf(run.runId, path), onDuplicate: "ignore", tombstone: "1 hour" }),
        ),
        (outcomes) =>
          outcomes.flatMap((outcome, at) =>
            outcome._tag === "Deferred" ? [{ path: paths[at] ?? "", ref: outcome.ref }] : [],
          ),
      ),
    ),
    Stream.tap((batch) =>
      Effect.sync(() => {
        live.found += batch.length
        refs.push(...batch)
      }),
    ),
    Stream.onEnd(
      Effect.sync(() => {
        live.state = "indexing"
      }),
    ),
    Stream.flattenIterable,
  )
  // Every result is awaited from the moment its task is deferred; a waiting fiber is all that costs.
  yield* Stream.runDrain(
    Stream.mapEffect(deferred, ({ path, ref }) => outcomeOf(tally, path, ref), {
      concurrency: "unbounded",
      unordered: true,
    }),
  )
  if (live.found === 0) return yield* new BadFolder({ message: `there are no files in ${run.folder}` })

  const ended = yield* Clock.currentTimeMillis
  const ids = refs.map(({ ref }) => ref.id)
  const records = (yield* queue.get({ ids, now: ended })).filter((record) => record !== undefined)
  const seconds = Math.max(1, ended - begun) / 1000
  const report = tally.report({
    runId: run.runId,
    folder: run.only.length === 0 ? run.folder : join(run.folder, `{${run.only.join()}}`),
    seconds,
    tasksPerSecond: Math.round(records.filter((record) => (record.endedAt ?? 0) >= begun).length / seconds),
    retries: records.reduce((sum, record) => sum + Math.max(0, record.attempt - 1), 0),
  })
  // First the report, then the records it was made of: killed in between, they stay for a day and are pruned.
  yield* save(home, { ...run, report })
  yield* queue.remove({ ids })
  return report
})

/** Waits for one result and adds it up: a document, or a dead letter with its reason. */
const outcomeOf = (tally: Tally, path: string, ref: DocumentRef) =>
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

const isAlive = (pid: number): boolean => {
  if (pid === process.pid) return false
  try {
    // Signal 0 only asks.
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}
