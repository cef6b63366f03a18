/**
 * Looking at the model.
 */
import type { QueueStatistics } from "../../QueueLimits.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { TaskState } from "../../TaskRecord.ts"
import * as TokenBucket from "../../TokenBucket.ts"
import { isRunning, isWaiting, limitsOf, type Model, type ModelRecord, rateOf } from "./model.ts"

const stateOf = (record: ModelRecord, now: number): TaskState =>
  isWaiting(record) && record.eta > now ? "scheduled" : record.state

/** The records as a reader sees them at a time, in the order of insertion. */
export const look = (model: Model, filter: TaskQueue.Filter, now: number): ReadonlyArray<ModelRecord> =>
  model.records
    .map((record) => ({ ...record, state: stateOf(record, now) }))
    .filter(
      ({ endedAt, failure, name, queue, reason, state, task }) =>
        (filter.tag === undefined || tagOf(failure) === filter.tag) &&
        (filter.endedAfter === undefined || (endedAt ?? Number.NEGATIVE_INFINITY) >= filter.endedAfter) &&
        (filter.endedBefore === undefined || (endedAt ?? Number.POSITIVE_INFINITY) < filter.endedBefore) &&
        (filter.queue === undefined || queue === filter.queue) &&
        (filter.task === undefined || task === filter.task) &&
        (filter.state === undefined || state === filter.state) &&
        (filter.reason === undefined || reason === filter.reason) &&
        (filter.namePrefix === undefined || name?.startsWith(filter.namePrefix) === true),
    )

export const tagOf = (failure: string | undefined): string | undefined =>
  failure === undefined ? undefined : (JSON.parse(failure) as { readonly tag?: string }).tag

export const statistics = (model: Model, queue: string, now: number): Omit<QueueStatistics, "executedLastMinute"> => {
  const waiting = model.records.filter((record) => isWaiting(record) && record.queue === queue)
  const { bucket, ...limits } = limitsOf(model, queue)
  const rate = rateOf(limits)
  const never = rate === undefined || rate.rate === 0
  const tokenAt = never ? undefined : TokenBucket.nextAt(TokenBucket.refill(bucket, rate, now), rate)
  return {
    waiting: waiting.length,
    ready: waiting.filter(({ eta }) => eta <= now).length,
    oldestEta: waiting.length === 0 ? undefined : Math.min(...waiting.map(({ eta }) => eta)),
    inFlight: model.records.filter((record) => isRunning(record) && record.queue === queue).length,
    nextTokenAt: tokenAt === undefined ? undefined : Math.max(now, tokenAt),
  }
}
