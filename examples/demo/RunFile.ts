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
  /** The process that works on it, or did last. */
  process: Schema.Int,
  report: Schema.NullOr(Report),
})
export type Run = typeof Run.Type

const Text = Schema.fromJsonString(Schema.toCodecJson(Run))

/** Writes beside and renames over: a reader sees the old or the new file, and a kill leaves one of them. */
export const save = Effect.fnUntraced(function* (home: string, run: Run) {
  const fs = yield* FileSystem.FileSystem
  const file = join(home, "runs", `${run.runId}.json`)
  yield* fs.writeFileString(`${file}.${run.process}.tmp`, yield* Schema.encodeEffect(Text)(run))
  yield* fs.rename(`${file}.${run.process}.tmp`, file)
})

/** The run of this input that has no report yet. */
export const unfinished = Effect.fnUntraced(function* (home: string, folder: string, only: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const names = yield* fs.readDirectory(join(home, "runs"))
  const runs = yield* Effect.forEach(
    names.filter((name) => name.endsWith(".json")),
    (name) => Effect.flatMap(fs.readFileString(join(home, "runs", name)), Schema.decodeEffect(Text)),
  )
  const same = (run: Run) => run.folder === folder && run.only.join() === only.join() && run.report === null
  return Option.fromUndefinedOr(runs.find(same))
})
