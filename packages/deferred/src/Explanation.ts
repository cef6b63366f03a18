/**
 * Why a record is not running, or not any more: as data, and as a sentence.
 *
 * @since 0.1.0
 */
import { heldBy, limitsOf, pausesOf } from "./internal/limitReasons.ts"
import type { KeyStatistics } from "./KeyLimits.ts"
import type { QueueLimits, QueueStatistics } from "./QueueLimits.ts"
import type { AttemptFailure, DeadReason, TaskRecord, TaskState } from "./TaskRecord.ts"
import type { WorkerInfo } from "./WorkerInfo.ts"

/**
 * One reason. Times are epoch milliseconds.
 *
 * - `Scheduled`: not before `until`, because it was deferred so or because an attempt failed or was snoozed
 * - `Members`: it waits for others; so many of them have ended
 * - `Latest`: it follows the record that runs with its unique key, and runs when that has ended
 * - `Paused`, `PausedUntil`, `Rate`, `Concurrency`: its queue's limits, or with a `key` those of its key; `Rate` without
 *   `until` is a rate of 0
 * - `InOrder`: its key's records run one after the other; so many run and wait, itself included
 * - `NoWorker`: nobody who is there can run it; `lacks` is what the nearest of them lack
 * - `Busy`: those who can have no free slot
 * - `Behind`: so many records of its queue are ready, itself included; it comes when it is its turn
 * - `Running`, `Cancelling`: somebody holds it; it stops as soon as its worker hears of it
 * - `LeaseExpired`: who held it has died or is cut off; the next claim of any worker takes it back
 * - `Ended`, `Dead`: it does not run again by itself
 *
 * @since 0.1.0
 */
export type Reason =
  | { readonly _tag: "Scheduled"; readonly until: number; readonly because: "deferred" | "tried before" }
  | { readonly _tag: "Members"; readonly ended: number; readonly total: number }
  | { readonly _tag: "Latest"; readonly uniqueKey: string }
  | { readonly _tag: "Paused"; readonly queue: string }
  | {
      readonly _tag: "PausedUntil"
      readonly queue: string
      readonly key?: string | undefined
      readonly until: number
    }
  | {
      readonly _tag: "Rate"
      readonly queue: string
      readonly key?: string | undefined
      readonly rate: number
      readonly until: number | undefined
    }
  | {
      readonly _tag: "Concurrency"
      readonly queue: string
      readonly key?: string | undefined
      readonly running: number
      readonly maxConcurrent: number
    }
  | {
      readonly _tag: "InOrder"
      readonly queue: string
      readonly key: string
      readonly running: number
      readonly waiting: number
    }
  | { readonly _tag: "NoWorker"; readonly lacks: "any" | "queue" | "task" | "version" | "target" }
  | { readonly _tag: "Busy"; readonly slots: number }
  | { readonly _tag: "Behind"; readonly ready: number }
  | {
      readonly _tag: "Running" | "LeaseExpired"
      readonly worker: string
      readonly since: number
      readonly leaseUntil: number
    }
  | { readonly _tag: "Cancelling"; readonly reason: string }
  | { readonly _tag: "Ended"; readonly state: "succeeded" | "cancelled"; readonly at: number }
  | { readonly _tag: "Dead"; readonly reason: DeadReason; readonly detail: string | undefined; readonly at: number }

/** @since 0.1.0 */
export interface Explanation {
  readonly state: TaskState
  /** The most telling first; never empty. */
  readonly reasons: ReadonlyArray<Reason>
  readonly sentence: string
}

/** What is known beside a record. @since 0.1.0 */
export interface Known {
  readonly record: TaskRecord
  readonly limits: QueueLimits
  readonly statistics: QueueStatistics
  /** Of the record's key in its queue; without it nothing is said of what the key waits for. */
  readonly keyStatistics?: KeyStatistics | undefined
  readonly workers: ReadonlyArray<WorkerInfo>
  readonly now: number
}

/**
 * Explains a record by what else is known at a time. A pure function; `TaskRef.explain` asks the queue for what it needs.
 *
 * @since 0.1.0
 */
export const explain = (known: Known): Explanation => {
  const { now, record } = known
  const reasons = reasonsOf(known)
  const because = reasons.map((reason) => words(reason, record, now)).join("; ")
  return { state: record.state, reasons, sentence: `${record.task} ${record.id} is ${record.state}: ${because}` }
}

const reasonsOf = (known: Known): ReadonlyArray<Reason> => {
  const { now, record, statistics, workers } = known
  const { endedAt, queue, startedAt, state, worker } = record
  if (state === "dead") {
    return [{ _tag: "Dead", reason: record.reason ?? "PermanentFailure", detail: detailOf(record), at: endedAt ?? now }]
  }
  if (state === "succeeded" || state === "cancelled") return [{ _tag: "Ended", state, at: endedAt ?? now }]
  if (state === "running") {
    const leaseUntil = record.leaseUntil ?? now
    const held = { worker: worker ?? "unknown", since: startedAt ?? now, leaseUntil }
    const reason: Reason = { _tag: leaseUntil > now ? "Running" : "LeaseExpired", ...held }
    return record.cancelRequested === undefined
      ? [reason]
      : [{ _tag: "Cancelling", reason: record.cancelRequested }, reason]
  }
  const reasons: Array<Reason> = [...heldBy(known)]
  if (state === "scheduled" && record.eta < Number.POSITIVE_INFINITY) {
    const because = record.firstAttemptAt === undefined ? "deferred" : "tried before"
    reasons.push({ _tag: "Scheduled", until: record.eta, because })
  }
  reasons.push(...pausesOf(known))
  const lacks = lackOf(record, workers)
  if (lacks !== undefined) reasons.push({ _tag: "NoWorker", lacks })
  if (state === "scheduled" || reasons.length > 0) return reasons
  // What follows passes by itself, so it is worth telling only of what nothing else keeps.
  reasons.push(...limitsOf(known))
  const lanes = workers.flatMap((each) => (lackOf(record, [each]) === undefined ? each.queues : []))
  const slots = lanes.filter(({ name }) => name === queue)
  if (slots.every(({ concurrency, running }) => running >= concurrency)) {
    reasons.push({ _tag: "Busy", slots: slots.reduce((sum, { concurrency }) => sum + concurrency, 0) })
  }
  return [...reasons, { _tag: "Behind", ready: statistics.ready }]
}

/** What keeps all of the workers from running it; `undefined`: one can. */
const lackOf = (record: TaskRecord, workers: ReadonlyArray<WorkerInfo>) => {
  const { queue, target, task, version } = record
  const there = workers.filter(({ draining }) => !draining)
  if (there.length === 0) return "any"
  const serving = there.filter(({ queues }) => queues.some(({ name }) => name === queue))
  if (serving.length === 0) return "queue"
  const versions = (worker: WorkerInfo) => worker.tasks.filter(({ name }) => name === task)
  const knowing = serving.filter((worker) => versions(worker).length > 0)
  if (knowing.length === 0) return "task"
  const able = knowing.filter((worker) => versions(worker).some(({ maxVersion }) => maxVersion >= version))
  if (able.length === 0) return "version"
  return target === undefined || able.some(({ targets }) => targets.includes(target)) ? undefined : "target"
}

const words = (reason: Reason, record: TaskRecord, now: number): string => {
  const { queue, target, task, version } = record
  switch (reason._tag) {
    case "Scheduled":
      return `not before ${time(reason.until)} (in ${span(reason.until - now)}), ${
        reason.because === "deferred" ? "as it was deferred" : "since it was tried before"
      }`
    case "Members":
      return `it waits for others, of which ${reason.ended} of ${reason.total} have ended`
    case "Latest":
      return `it runs when what runs with the unique key ${reason.uniqueKey} has ended`
    case "Paused":
      return `queue ${queue} is paused`
    case "PausedUntil":
      return `${subject(reason)} is paused until ${time(reason.until)} (for ${span(reason.until - now)})`
    case "Rate":
      return reason.until === undefined
        ? `${subject(reason)} has a rate of 0`
        : `${subject(reason)} starts ${reason.rate} a second, the next in ${span(reason.until - now)}`
    case "Concurrency":
      return `${subject(reason)} runs ${reason.running} at once, and may run ${reason.maxConcurrent}`
    case "InOrder":
      return `${subject(reason)} runs one after the other: ${reason.running} running, ${reason.waiting} waiting`
    case "NoWorker":
      return {
        any: "no worker is there",
        queue: `no worker serves queue ${queue}`,
        task: `no worker of queue ${queue} knows ${task}`,
        version: `no worker of queue ${queue} knows ${task} v${version}, only older versions`,
        target: `no worker of queue ${queue} that knows ${task} has the target ${target}`,
      }[reason.lacks]
    case "Busy":
      return `all ${reason.slots} slots of the workers that can run it are in use`
    case "Behind":
      return `it waits for its turn, ${reason.ready} of queue ${queue} are ready`
    case "Running":
      return `worker ${reason.worker} has run it for ${span(now - reason.since)}, leased until ${time(reason.leaseUntil)}`
    case "LeaseExpired":
      return `worker ${reason.worker} has not been heard of since its lease ended ${span(now - reason.leaseUntil)} ago`
    case "Cancelling":
      return `to be cancelled (${reason.reason})`
    case "Ended":
      return `since ${time(reason.at)}`
    case "Dead":
      return `${reason.reason} at ${time(reason.at)}${reason.detail === undefined ? "" : `: ${reason.detail}`}`
  }
}

const subject = ({ key, queue }: { readonly key?: string | undefined; readonly queue: string }): string =>
  key === undefined ? `queue ${queue}` : `key ${key} of queue ${queue}`

const detailOf = ({ failure }: TaskRecord): string | undefined => {
  if (failure === undefined) return undefined
  const { message, tag } = JSON.parse(failure) as AttemptFailure
  return `${tag}: ${message}`
}

const time = (millis: number): string =>
  Math.abs(millis) <= 8.64e15 ? new Date(millis).toISOString() : "the end of time"

const span = (millis: number): string => {
  if (millis < 1000) return `${Math.max(0, Math.round(millis))} ms`
  const seconds = Math.round(millis / 1000)
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`
}
