/** What the machine is like at the moment, which decides more than any queue does. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { now } from "./contender.ts"

export const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = [...numbers].sort((left, right) => left - right)
  const middle = sorted.length / 2
  // Of two in the middle, what is between them.
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2
}

export const percentile = (numbers: ReadonlyArray<number>, share: number): number => {
  const sorted = [...numbers].sort((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** Milliseconds until a page is on the disk. */
const fsyncTime = (): number => {
  const folder = mkdtempSync(join(tmpdir(), "outlive-fsync-"))
  const file = openSync(join(folder, "file"), "w")
  const page = Buffer.alloc(4096, 1)
  const times = Array.from({ length: 50 }, () => {
    const begin = now()
    writeSync(file, page)
    fdatasyncSync(file)
    return now() - begin
  })
  closeSync(file)
  rmSync(folder, { recursive: true })
  return median(times)
}

export const machine = (): string => {
  const load = loadavg()[0] ?? Number.NaN
  return `${availableParallelism()} cores (${cpus()[0]?.model ?? "unknown"}), load ${load.toFixed(1)}, an fsync takes ${fsyncTime().toFixed(2)} ms`
}
