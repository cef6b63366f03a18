/** Records for the tests of drivers, with everything filled in that a test does not speak of; and files for them. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Effect } from "effect"

/** Records are told apart by a number, by which their ids sort. */
export const idOf = (number: number): TaskId => `00000000-0000-7000-8000-${String(number).padStart(12, "0")}` as TaskId

export const record = (number: number, more?: Partial<NewRecord>): NewRecord => ({
  id: idOf(number),
  task: "task",
  version: 1,
  queue: "queue",
  payload: "{}",
  headers: {},
  priority: 0,
  eta: 0,
  onDuplicate: "fail",
  tombstone: 0,
  maxCrashes: 3,
  keep: Number.POSITIVE_INFINITY,
  ...more,
})

export const records = (count: number, more?: (number: number) => Partial<NewRecord>): ReadonlyArray<NewRecord> =>
  Array.from({ length: count }, (_, number) => record(number, more?.(number)))

/** A folder that goes with its scope. */
export const newFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)

/** The name of a file that is not there yet, in a folder of its own. */
export const newFile = Effect.map(newFolder, (folder) => join(folder, "queue.db"))
