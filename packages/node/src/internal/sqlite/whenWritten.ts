/**
 * Being told by the system that a file was written to, by whichever process. It is a hint: some systems tell late, or not
 * at all, or cannot watch as many files as are asked for.
 */
import { type FSWatcher, watch } from "node:fs"

/** Calls back until it is closed, which what this returns does. */
export const whenWritten = (file: string, written: () => void): (() => void) => {
  let watcher: FSWatcher | undefined
  try {
    watcher = watch(file, { persistent: false }, written)
    watcher.on("error", () => watcher?.close())
  } catch {
    // Nobody tells, then.
  }
  return () => watcher?.close()
}
