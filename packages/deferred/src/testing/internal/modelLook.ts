/**
 * Looking at the model.
 */
import type { KeyStatistics } from "../../KeyLimits.ts"
import type { QueueStatistics } from "../../QueueLimits.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { TaskState } from "../../TaskRecord.ts"
import * as TokenBucket from "../../TokenBucket.ts"
import { isRunning, isWaiting, keyOf, limitsOf, type Model, type ModelRecord, rateOf, turnsOf } from "./modelState.ts"
import { keyBucketOf, keyLimitsOf } from "./modelTurns.ts"

const stateOf = (record: ModelRecord, now: number): TaskState =>
  isWaiting(record) && record.eta > now ? "scheduled" : record.state

/** The records as a reader sees them at a time, in the order of insertion. */
export const look = (model: Model, filter: TaskQueue.Filter, now: number): ReadonlyArray<ModelRecord> =>
  model.records
    .map((record) => ({ ...record, state: stateOf(record, now) }))
    .filter(
      ({ endedAt, failure, memberOf, name, queue, reason, state, task }) =>
        (filter.tag === undefined || tagOf(failure) === filter.tag) &&
        (filter.endedAfter === undefined || (endedAt ?? Number.NEGATIVE_INFINITY) >= filter.endedAfter) &&
        (filter.endedBefore === undefined || (endedAt ?? Number.POSITIVE_INFINITY) < filter.endedBefore) &&
        (filter.queue === undefined || queue === filter.queue) &&
        (filter.task === undefined || task === filter.task) &&
        (filter.state === undefined || state === filter.state) &&
        (filter.memberOf === undefined || memberOf === filter.memberOf) &&
        (filter.reason === undefined || reason === filter.reason) &&
        (filter.namePrefix === undefined || name?.startsWith(filter.namePrefix) === true),
    )

export const tagOf = (failure: string | undefined): string | undefined =>
  failure === undefined ? undefined : (JSON.parse(failure) as { readonly tag?: string }).tag

export const statistics = (model: Model, queue: string, now: number): Omit<QueueStatistics, "executedLastMinute"> => {
  const waiting = model.records.filter((record) => isWaiting(record) && record.queue === queue)
  const etas = waiting.map(({ eta }) => eta).filter(Number.isFinite)
  const { bucket, ...limits } = limitsOf(model, queue)
  const rate = rateOf(limits)
  return {
    waiting: waiting.length,
    ready: waiting.filter(({ eta }) => eta <= now).length,
    oldestEta: etas.length === 0 ? undefined : Math.min(...etas),
    inFlight: model.records.filter((record) => isRunning(record) && record.queue === queue).length,
    nextTokenAt: rate && tokenAt(TokenBucket.refill(bucket, rate, now), rate, now),
    pausedUntil: ahead(turnsOf(model, queue).pausedUntil, now),
  }
}

export const keyStatistics = (model: Model, queue: string, key: string, now: number): KeyStatistics => {
  const ofKey = model.records.filter((record) => record.queue === queue && record.key === key)
  const state = keyOf(turnsOf(model, queue), key)
  const { rate } = keyLimitsOf(limitsOf(model, queue).byKey, key, state.override)
  return {
    waiting: ofKey.filter(isWaiting).length,
    ready: ofKey.filter((record) => isWaiting(record) && record.eta <= now).length,
    inFlight: ofKey.filter(isRunning).length,
    nextTokenAt: rate && tokenAt(keyBucketOf(state, rate, now), rate, now),
    pausedUntil: ahead(state.pausedUntil, now),
    override: state.override,
  }
}

const tokenAt = (bucket: TokenBucket.TokenBucket, rate: TokenBucket.Rate, now: number): number | undefined => {
  const next = rate.rate === 0 ? undefined : TokenBucket.nextAt(bucket, rate)
  return next === undefined ? undefined : Math.max(now, next)
}

const ahead = (time: number | undefined, now: number) => (time !== undefined && time > now ? time : undefined)
