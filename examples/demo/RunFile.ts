/**
 * What is remembered of a run beside its tasks, so that the next process can go on with it: one small file each, in
 * `.outlive/runs`, always whole.
 */

import { join } from "node:path"
import { Effect, FileSystem, Option, Schema } from "effect"
import { Report } from "./Report.ts"

export const Run = Schema.Struct({
  runId: Schema.String,
  folder: Schema.String,
  only: Schema.Array(Schema.String),
  /** The process that works on it, or did last, and when it last said so (epoch milliseconds). */
  process: Schema.Int,
  seen: Schema.Finite,
  /** All its files have been deferred. */
  walked: Schema.Boolean,
  report: Schema.NullOr(Report),
})
export type Run = typeof Run.Type

const Text = Schema.fromJsonString(Schema.toCodecJson(Run))
const fileOf = (home: string, runId: string) => join(home, "runs", `${runId}.json`)

/** Writes beside and renames over: a reader sees the old or the new file, and a kill leaves one of them. */
export const save = Effect.fnUntraced(function* (home: string, run: Run) {
  const fs = yield* FileSystem.FileSystem
  const file = fileOf(home, run.runId)
  yield* fs.writeFileString(`${file}.${run.process}.tmp`, yield* Schema.encodeEffect(Text)(run))
  yield* fs.rename(`${file}.${run.process}.tmp`, file)
})

/** None when there is no such run, or its file is damaged. */
export const load = Effect.fnUntraced(function* (home: string, runId: string) {
  const fs = yield* FileSystem.FileSystem
  const text = fs.readFileString(fileOf(home, runId))
  return yield* Effect.option(Effect.flatMap(text, Schema.decodeEffect(Text)))
})

export const forget = Effect.fnUntraced(function* (home: string, runId: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.remove(fileOf(home, runId), { force: true })
})

/** The run of this input that has no report yet. */
export const unfinished = Effect.fnUntraced(function* (home: string, folder: string, only: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const names = yield* fs.readDirectory(join(home, "runs"))
  const ids = names.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length))
  const runs = yield* Effect.forEach(ids, (id) => load(home, id))
  const same = (run: Run) => run.folder === folder && run.only.join() === only.join() && run.report === null
  return Option.fromUndefinedOr(runs.flatMap((run) => Option.toArray(run)).find(same))
})
