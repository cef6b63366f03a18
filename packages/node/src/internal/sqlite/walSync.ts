/**
 * Waiting for the disk beside the event loop. With `synchronous` FULL SQLite writes what a transaction adds to its
 * write-ahead log and syncs that file, inside COMMIT: the thread stands still meanwhile, and whoever wants the write lock
 * waits, too. Here the connection commits as with NORMAL, which leaves the sync out, and the file is synced when the lock is
 * free again, by Node's thread pool where the disk is slow; who committed hears of it when that is done.
 *
 * What is acknowledged is as safe as with FULL: the log is written from front to back, and what a power cut takes from it
 * is its end (https://sqlite.org/wal.html, each frame has a checksum of all before it), so a commit is there again if the file
 * was synced at any time after it. One sync serves all commits before it, those of other processes too. What others can read
 * meanwhile is nothing that anybody was told is safe.
 */
import { close, fdatasync, fdatasyncSync, openSync } from "node:fs"

export interface WalSync {
  /** Calls back when all that is committed now is on the disk; with the error, when that is not known. */
  readonly afterSync: (done: (error: unknown) => void) => void
  readonly close: () => void
}

/** Milliseconds: a disk that takes less is waited for on the spot, which is over before the thread pool would have begun. */
const short = 1

/** `file` is the database's. Its log is there from the first commit on, and stays for as long as it is open. */
export const makeWalSync = (file: string): WalSync => {
  let log: number | undefined
  let syncing = false
  /** Of the last syncs, in milliseconds. */
  let mean = 0
  let waiting: Array<(error: unknown) => void> = []

  const sync = () => {
    const served = waiting
    waiting = []
    const finish = (error: unknown) => {
      syncing = false
      for (const done of served) done(error)
      if (waiting.length > 0 && !syncing) sync()
    }
    try {
      // Not read-only: Windows syncs only what may be written.
      log ??= openSync(`${file}-wal`, "r+")
    } catch (error) {
      return finish(error)
    }
    syncing = true
    // allow time: how long the disk takes is a matter of the machine, not of the program's clock
    const begin = performance.now()
    const end = (error: unknown) => {
      // allow time: as above
      mean += (performance.now() - begin - mean) / 8
      finish(error)
    }
    if (mean > short) return fdatasync(log, end)
    try {
      fdatasyncSync(log)
    } catch (error) {
      return end(error)
    }
    end(null)
  }

  return {
    afterSync: (done) => {
      waiting.push(done)
      if (!syncing) sync()
    },
    close: () => {
      if (log !== undefined) close(log)
      log = undefined
    },
  }
}
