/**
 * The contract of task queues once more, as plainly as it can be said: immutable, every question a scan of all records.
 * `TaskQueueModel` asks a driver what it asks this.
 */
import type { QueueLimits } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { Attempt } from "../../TaskRecord.ts"
import * as TokenBucket from "../../TokenBucket.ts"
import { cancelOne, end, forget, forgetAll, handOver, waitAgain } from "./modelEnds.ts"
import {
  each,
  find,
  followerOf,
  fresh,
  hasEnded,
  holderOf,
  isHeldJoin,
  isRunning,
  isTakenAt,
  isWaiting,
  limitsOf,
  type Model,
  type ModelRecord,
  nameOf,
  own,
  put,
  rateOf,
  type Said,
  turnsOf,
} from "./modelState.ts"
import { forgetKeys, keyLimitsOf, pauseLonger, start } from "./modelTurns.ts"

const withAttempt = (
  record: ModelRecord,
  outcome: Attempt["outcome"],
  failure: string | undefined,
  now: number,
): ModelRecord => {
  const { attempt, attempts, startedAt, worker } = record
  const ended = { attempt, worker: worker!, startedAt: startedAt!, endedAt: now, outcome, failure }
  return { ...record, attempts: [...attempts, ended] }
}

/** Does something to those records that are, when their turn comes, still as asked. */
const inTurn = (
  model: Model,
  is: (record: ModelRecord) => boolean,
  change: (model: Model, record: ModelRecord) => Model,
): Model =>
  model.records.filter(is).reduce((model, { id }) => {
    const record = find(model, id)
    return record !== undefined && is(record) ? change(model, record) : model
  }, model)

const takeBack = (model: Model, now: number): Model => {
  const isLost = (record: ModelRecord) => isRunning(record) && record.leaseUntil! <= now
  const isLate = (record: ModelRecord) =>
    isWaiting(record) && record.firstAttemptAt === undefined && (record.expiresAt ?? now + 1) <= now
  return inTurn(
    inTurn(model, isLost, (model, record) => crash(model, record, now)),
    isLate,
    (model, record) => end(model, record, { state: "dead", reason: "Expired" }, now),
  )
}

const crash = (model: Model, record: ModelRecord, now: number): Model => {
  const failure = JSON.stringify({ attempt: record.attempt, at: now, kind: "crash", tag: "Crashed" })
  const crashed = { ...withAttempt(record, "Crash", failure, now), crashes: record.crashes + 1, failure }
  return crashed.crashes > record.maxCrashes && record.cancelRequested === undefined
    ? end(model, crashed, { state: "dead", reason: "Crashed" }, now)
    : waitAgain(model, crashed, {}, now)
}

export const claim = (model: Model, params: TaskQueue.ClaimParams): Said<ReadonlyArray<ModelRecord>> => {
  const { now } = params
  const [after, claimed] = each(takeBack(model, now), params.queues, (model, queue) => {
    const [next, chosen] = start(model, params, queue)
    const started = chosen.map(
      (record): ModelRecord => ({
        ...record,
        state: "running",
        worker: params.worker,
        startedAt: now,
        firstAttemptAt: record.firstAttemptAt ?? now,
        leaseUntil: now + (record.lease ?? params.lease),
        attempt: record.attempt + 1,
        token: record.token + 1,
      }),
    )
    return [started.reduce(put, next), started]
  })
  return [after, claimed.flat()]
}

/** When the same claim would next give something, if nobody did anything before: found by trying. */
export const nextClaimable = (model: Model, params: TaskQueue.ClaimParams): number | undefined => {
  const queues = params.queues.map(({ name }) => name)
  const limitTimes = queues.flatMap((name) => {
    const limits = limitsOf(model, name)
    const turns = turnsOf(model, name)
    const rate = rateOf(limits)
    const keyTimes = Object.entries(turns.keys).flatMap(([key, { bucket, override, pausedUntil }]) => {
      const { rate } = keyLimitsOf(limits.byKey, key, override)
      return [pausedUntil, rate && bucket && TokenBucket.nextAt(bucket, rate)]
    })
    return [rate && TokenBucket.nextAt(limits.bucket, rate), turns.pausedUntil, ...keyTimes]
  })
  const recordTimes = model.records.flatMap(({ eta, leaseUntil, wanted }) => [eta, leaseUntil, wanted])
  // What will expire, and leases in other queues, count for nothing: who waits need not know that others wait for them.
  const seen = {
    ...model,
    records: model.records.map((record) => ({
      ...record,
      leaseUntil: queues.includes(record.queue) ? record.leaseUntil : Number.POSITIVE_INFINITY,
      expiresAt: (record.expiresAt ?? 0) > params.now ? undefined : record.expiresAt,
    })),
  }
  return [params.now, ...limitTimes, ...recordTimes]
    .filter((time) => time !== undefined)
    .filter((time) => time >= params.now && Number.isFinite(time))
    .sort((left, right) => left - right)
    .find((now) => {
      const both = claim(model, { ...params, now })[1]
      return claim(seen, { ...params, now })[1].some(({ id }) => both.some((record) => record.id === id))
    })
}

const held = (model: Model, { id, token }: TaskQueue.Lease) => {
  const record = find(model, id)
  return record !== undefined && isRunning(record) && record.token === token ? record : undefined
}

export const extend = (model: Model, { leases, until }: TaskQueue.ExtendParams) =>
  each(model, leases, (model, lease): Said<TaskQueue.ExtendOutcome> => {
    const record = held(model, lease)
    if (record === undefined) return [model, "LeaseLost"]
    const outcome = record.cancelRequested === undefined ? "Extended" : "CancelRequested"
    return [put(model, { ...record, leaseUntil: until }), outcome]
  })

export const progress = (model: Model, updates: ReadonlyArray<TaskQueue.ProgressUpdate>) =>
  each(model, updates, (model, { progress, ...lease }): Said<TaskQueue.ProgressOutcome> => {
    const record = held(model, lease)
    return record === undefined ? [model, "LeaseLost"] : [put(model, { ...record, progress }), "Recorded"]
  })

export const settle = (model: Model, settlements: ReadonlyArray<TaskQueue.Settlement>, now: number) =>
  each(model, settlements, (model, settlement): Said<TaskQueue.SettleOutcome> => {
    const before = held(model, settlement)
    if (before === undefined) return [model, "LeaseLost"]
    const failure = "failure" in settlement ? settlement.failure : undefined
    const said = { ...before, progress: settlement.progress ?? before.progress }
    const record = withAttempt(said, settlement._tag, failure, now)
    const givenBack = record.attempt - 1
    switch (settlement._tag) {
      case "Succeed": {
        const handed = handOver(model, record.memberOf, settlement.handOver)
        return [end(handed, record, { state: "succeeded", result: settlement.result }, now), "Settled"]
      }
      case "Cancel":
        return [end(model, record, { state: "cancelled" }, now), "Settled"]
      case "Bury": {
        const { reason, result } = settlement
        const failure = settlement.failure ?? record.failure
        return [end(model, record, { state: "dead", reason, result, failure }, now), "Settled"]
      }
      case "Retry":
        return [waitAgain(model, record, { eta: settlement.eta, failure: settlement.failure }, now), "Settled"]
      case "Snooze": {
        const { eta, pause } = settlement
        const isOver = record.cancelRequested !== undefined || followerOf(model, record.id) !== undefined
        const after = waitAgain(model, record, { eta, attempt: givenBack }, now)
        if (isOver || pause === undefined) return [after, "Settled"]
        return [pauseLonger(after, record.queue, pause === "key" ? record.key : undefined, eta), "Settled"]
      }
      case "Release":
        return [waitAgain(model, record, { attempt: givenBack }, now), "Settled"]
    }
  })

export const cancel = (model: Model, ids: ReadonlyArray<TaskId>, reason: string, now: number) =>
  each(model, ids, (model, id) => cancelOne(model, id, reason, now))

export const redrive = (model: Model, ids: ReadonlyArray<TaskId>, now: number) =>
  each(model, ids, (model, id): Said<TaskQueue.RedriveOutcome> => {
    const record = find(model, id)
    if (record === undefined) return [model, "NotFound"]
    if (record.state !== "dead") return [model, "NotDead"]
    const { attempts, enqueuedAt, failure, join, token } = record
    const again = { ...fresh({ ...record, onDuplicate: "fail" }, now), enqueuedAt, failure, token, attempts, join }
    const holder = holderOf(model, record)
    const holdsKey = record.unique !== undefined && (holder === undefined || holder.id === id)
    const waiting = put(model, { ...again, holdsKey, eta: now, expiresAt: undefined })
    const taken = nameOf(model, record, now)
    const owned = taken === undefined || taken.owner === id ? own(waiting, record) : waiting
    return [uncount(owned, record.memberOf), "Redriven"]
  })

/** What was dead is not: while something still waits for it, it is counted anew when it ends. */
const uncount = (model: Model, id: TaskId | undefined): Model => {
  const join = find(model, id)
  if (join === undefined || !isHeldJoin(join)) return model
  return put(model, { ...join, join: { ...join.join!, dead: join.join!.dead - 1 } })
}

export const remove = (model: Model, ids: ReadonlyArray<TaskId>, only: "dead" | undefined, now: number) =>
  each(model, ids, (model, id): Said<TaskQueue.RemoveOutcome> => {
    const record = find(model, id)
    if (record === undefined) return [model, "NotFound"]
    if (only === "dead" && record.state !== "dead") return [model, "NotDead"]
    return isRunning(record) ? [model, "Running"] : [forget(model, record, now), "Removed"]
  })

export const purge = (model: Model, queue: string, now: number): Said<number> => {
  const waiting = model.records.filter((record) => isWaiting(record) && record.queue === queue)
  return [forgetAll(model, waiting, now), waiting.length]
}

export const prune = (model: Model, now: number, deadBefore: number): Said<number> => {
  const over = model.records.filter(
    (record) =>
      hasEnded(record) &&
      (record.state === "dead" ? record.endedAt! < deadBefore : record.endedAt! + record.keep <= now),
  )
  const rest = {
    ...forgetKeys(model, now),
    names: model.names.filter(isTakenAt(now)),
    spacings: model.spacings.filter(({ until }) => until > now),
  }
  return [over.reduce<Model>((model, record) => forget(model, record, now), rest), over.length]
}

export const configure = (
  model: Model,
  queue: string,
  changes: Partial<QueueLimits>,
  now: number,
): Said<QueueLimits> => {
  const before = limitsOf(model, queue)
  const { bucket, ...limits } = { ...before, ...changes }
  const was = rateOf(before)
  const is = rateOf(limits)
  // A first rate starts with a full bucket; a changed one keeps what was gathered under the old.
  const gathered =
    was === undefined ? (is === undefined ? bucket : TokenBucket.full(is, now)) : TokenBucket.refill(bucket, was, now)
  return [{ ...model, limits: { ...model.limits, [queue]: { ...limits, bucket: gathered } } }, limits]
}
