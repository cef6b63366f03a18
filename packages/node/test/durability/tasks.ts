/**
 * The tasks of the storm, and the ledger into which all processes write what they did. The ledger is apart from the queue: a
 * file that everybody appends whole lines to, which a killed process cannot take back.
 */
import { openSync, writeSync } from "node:fs"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Schema } from "effect"

export class Unlucky extends Schema.TaggedError<Unlucky>()("Unlucky", {}) {}

const retry = RetryPolicy.fixed("30 millis")
/** Far more than a storm has: a record that dies of crashes would have no effect. */
const maxCrashes = 1000
const keep = "forever"

/** Without any limit. */
export const Plain = Task.make("Plain", { payload: { n: Schema.Int }, error: Unlucky, retry, maxCrashes, keep })

/** Of a queue that runs so many at once. */
export const Limited = Task.make("Limited", {
  payload: { n: Schema.Int },
  error: Unlucky,
  queue: "limited",
  retry,
  maxCrashes,
  keep,
})
export const maxConcurrent = 4

/** One at a time of each key, from its deferral to its end. */
export const Single = Task.make("Single", {
  payload: { n: Schema.Int },
  error: Unlucky,
  queue: "single",
  unique: { key: ({ n }) => keyOf(n) },
  retry,
  maxCrashes,
  keep,
})
export const keyOf = (n: number): string => `${n % 20}`

/** Which of the tasks the record with a number is of. */
export const kindOf = (n: number): "Plain" | "Limited" | "Single" =>
  n % 100 < 90 ? "Plain" : n % 100 < 94 ? "Limited" : "Single"

export type Entry =
  /** A deferral was acknowledged: the record has this id, and is new or not. */
  | { readonly _tag: "Deferred"; readonly n: number; readonly id: string; readonly outcome: string }
  | {
      readonly _tag: "Began" | "Ended"
      readonly n: number
      readonly id: string
      readonly attempt: number
      readonly pid: number
      /** Of the machine's one steady clock, in milliseconds. */
      readonly at: number
    }
  /** By whoever did it. */
  | { readonly _tag: "Killed"; readonly pid: number; readonly at: number }

export const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

export const openLedger = (file: string): ((entry: Entry) => void) => {
  const descriptor = openSync(file, "a")
  return (entry) => {
    writeSync(descriptor, `${JSON.stringify(entry)}\n`)
  }
}
