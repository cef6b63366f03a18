/**
 * How far running attempts have come.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Lease, ProgressOutcome, ProgressUpdate } from "@outlive/deferred/TaskQueue"
import type { Touched } from "./touched.ts"

export interface Progress {
  readonly note: (lease: Lease, progress: string) => ProgressOutcome
  readonly noteAll: (updates: ReadonlyArray<ProgressUpdate>) => ReadonlyArray<ProgressOutcome>
}

export const makeProgress = (db: DatabaseSync, touched: Touched): Progress => {
  const write = db.prepare("UPDATE outlive_records SET progress = ? WHERE id = ? AND state = 1 AND token = ?")
  const note = ({ id, token }: Lease, progress: string): ProgressOutcome => {
    if (write.run(progress, id, token).changes === 0) return "LeaseLost"
    touched.progress(id)
    return "Recorded"
  }
  return { note, noteAll: (updates) => updates.map((update) => note(update, update.progress)) }
}
