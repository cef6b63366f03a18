/**
 * The contract of task queues once more, as plainly as it can be said: immutable, every question a scan of all records.
 * `TaskQueueModel` asks a driver what it asks this.
 */
import { type QueueLimits, unlimited } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { Attempt, NewRecord, TaskRecord, Unique } from "../../TaskRecord.ts"
import * as TokenBucket from "../../TokenBucket.ts"

/** `ready` stands for both faces of a waiting record; `token` counts the claims. */
export interface ModelRecord extends TaskRecord {
  readonly token: number
  readonly tombstone: number
  readonly unique: Unique | undefined
  readonly holdsKey: boolean
  readonly attempts: ReadonlyArray<Attempt>
}

/** Who has a name, and until when it stays taken once that record has ended. */
interface Name {
  readonly queue: string
  readonly name: string
  readonly owner: TaskId
  readonly until: number | undefined
}

interface Limits extends QueueLimits {
  readonly bucket: TokenBucket.TokenBucket
}

export interface Model {
  /** In the order of insertion. */
  readonly records: ReadonlyArray<ModelRecord>
  readonly names: ReadonlyArray<Name>
  readonly limits: Readonly<Record<string, Limits>>
}

/** What the model is after a call, and what the call says. */
export type Said<A> = readonly [model: Model, answer: A]

export const empty: Model = { records: [], names: [], limits: {} }

/** A batch is its items, one after the other. */
const each = <Item, A>(
  model: Model,
  items: ReadonlyArray<Item>,
  one: (model: Model, item: Item) => Said<A>,
): Said<ReadonlyArray<A>> => {
  let after = model
  const answers = items.map((item) => {
    const [next, answer] = one(after, item)
    after = next
    return answer
  })
  return [after, answers]
}

const find = (model: Model, id: TaskId) => model.records.find((record) => record.id === id)
const put = (model: Model, changed: ModelRecord): Model => ({
  ...model,
  records: model.records.map((record) => (record.id === changed.id ? holding(changed) : record)),
})
/** Once it was in a state that its key is not for, a record has given it up. */
const holding = (record: ModelRecord): ModelRecord => {
  const phase = record.state === "ready" || record.state === "scheduled" ? "waiting" : record.state
  return { ...record, holdsKey: record.holdsKey && record.unique?.while.includes(phase) === true }
}
const holderOf = (model: Model, { task, unique }: Pick<NewRecord, "task" | "unique">) =>
  model.records.find((other) => other.holdsKey && other.task === task && other.unique?.key === unique?.key)
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
const drop = (model: Model, id: TaskId): Model => ({
  ...model,
  records: model.records.filter((record) => record.id !== id),
})
type Named = Pick<NewRecord, "queue" | "name">
const isNameOf = (record: Named) => (name: Name) => name.queue === record.queue && name.name === record.name
const isTakenAt = (now: number) => (name: Name) => name.until === undefined || name.until > now
const nameOf = (model: Model, record: Named, now: number) => model.names.filter(isTakenAt(now)).find(isNameOf(record))
const own = (model: Model, record: ModelRecord): Model => {
  if (record.name === undefined) return model
  const others = model.names.filter((name) => !isNameOf(record)(name))
  return {
    ...model,
    names: [...others, { queue: record.queue, name: record.name, owner: record.id, until: undefined }],
  }
}
export const isWaiting = (record: ModelRecord) => record.state === "ready"
export const isRunning = (record: ModelRecord) => record.state === "running"
const hasEnded = (record: ModelRecord) => record.endedAt !== undefined

const fresh = ({ onDuplicate: _, ...content }: NewRecord, now: number): ModelRecord => ({
  name: undefined,
  target: undefined,
  expiresAt: undefined,
  retry: undefined,
  timeout: undefined,
  lease: undefined,
  unique: undefined,
  payloadRef: undefined,
  ...content,
  uniqueKey: content.unique?.key,
  holdsKey: content.unique !== undefined,
  attempts: [],
  progress: undefined,
  state: "ready",
  eta: Math.max(now, content.eta),
  enqueuedAt: now,
  attempt: 0,
  crashes: 0,
  token: 0,
  firstAttemptAt: undefined,
  startedAt: undefined,
  worker: undefined,
  leaseUntil: undefined,
  cancelRequested: undefined,
  endedAt: undefined,
  reason: undefined,
  result: undefined,
  failure: undefined,
})

export const enqueue = (model: Model, records: ReadonlyArray<NewRecord>, now: number) =>
  each(model, records, (model, given): Said<TaskQueue.EnqueueOutcome> => {
    if (find(model, given.id) !== undefined) return [model, { _tag: "Existing", id: given.id }]
    const record = fresh(given, now)
    const taken = given.name === undefined ? undefined : nameOf(model, given, now)
    const holder = given.unique === undefined ? undefined : holderOf(model, given)
    if (taken !== undefined) {
      if (given.onDuplicate === "ignore") return [model, { _tag: "Existing", id: taken.owner }]
      if (given.onDuplicate === "fail") {
        const { owner, until } = taken
        return [model, until === undefined ? { _tag: "Duplicate", id: owner } : { _tag: "Tombstoned", until }]
      }
      const owner = taken.until === undefined ? find(model, taken.owner) : undefined
      if (owner !== undefined && isWaiting(owner)) {
        if (holder !== undefined && holder.id !== owner.id) return [model, { _tag: "Existing", id: holder.id }]
        return [put(model, { ...record, id: owner.id, token: owner.token }), { _tag: "Replaced", id: owner.id }]
      }
    }
    if (holder !== undefined) return [model, { _tag: "Existing", id: holder.id }]
    return [own({ ...model, records: [...model.records, record] }, record), { _tag: "Inserted", id: record.id }]
  })

const end = (
  model: Model,
  record: ModelRecord,
  how: Pick<ModelRecord, "state"> & Partial<ModelRecord>,
  now: number,
): Model => {
  const ended = { ...record, ...how, endedAt: now, leaseUntil: undefined }
  const names = model.names.map((name) =>
    name.owner === record.id && isNameOf(record)(name) ? { ...name, until: now + record.tombstone } : name,
  )
  const isKept = ended.state === "dead" || ended.keep > 0
  return { ...(isKept ? put(model, ended) : drop(model, record.id)), names }
}

/** Back to waiting, or cancelled when somebody asked for that. */
const waitAgain = (model: Model, record: ModelRecord, how: Partial<ModelRecord>, now: number): Model =>
  record.cancelRequested !== undefined
    ? end(model, { ...record, ...how, eta: record.eta }, { state: "cancelled" }, now)
    : put(model, {
        ...record,
        ...how,
        state: "ready",
        eta: Math.max(now, how.eta ?? now),
        leaseUntil: undefined,
      })

const takeBack = (model: Model, now: number): Model =>
  model.records.reduce((model, record) => {
    if (isRunning(record) && record.leaseUntil! <= now) {
      const failure = JSON.stringify({ attempt: record.attempt, at: now, kind: "crash", tag: "Crashed" })
      const crashed = { ...withAttempt(record, "Crash", failure, now), crashes: record.crashes + 1, failure }
      return crashed.crashes > record.maxCrashes && record.cancelRequested === undefined
        ? end(model, crashed, { state: "dead", reason: "Crashed" }, now)
        : waitAgain(model, crashed, {}, now)
    }
    const isLate = isWaiting(record) && record.firstAttemptAt === undefined && (record.expiresAt ?? now + 1) <= now
    return isLate ? end(model, record, { state: "dead", reason: "Expired" }, now) : model
  }, model)

export const limitsOf = (model: Model, queue: string): Limits =>
  model.limits[queue] ?? { ...unlimited, bucket: { tokens: 0, at: 0 } }
export const rateOf = ({ burst, rate }: QueueLimits) => (rate === undefined ? undefined : { rate, burst })

/** Higher priority first, then eta, or by ageing; then insertion (the sort is stable). */
const inOrder =
  ({ ageing }: QueueLimits) =>
  (left: ModelRecord, right: ModelRecord) =>
    ageing === undefined
      ? right.priority - left.priority || left.eta - right.eta
      : left.eta - left.priority * ageing - (right.eta - right.priority * ageing)

export const claim = (model: Model, params: TaskQueue.ClaimParams): Said<ReadonlyArray<ModelRecord>> => {
  const { now } = params
  const [after, claimed] = each(takeBack(model, now), params.queues, (model, { limit, name }) => {
    const limits = limitsOf(model, name)
    const rate = rateOf(limits)
    const bucket = rate === undefined ? limits.bucket : TokenBucket.refill(limits.bucket, rate, now)
    const running = model.records.filter((record) => isRunning(record) && record.queue === name).length
    const free = Math.max(0, (limits.maxConcurrent ?? Number.POSITIVE_INFINITY) - running)
    const tokens = rate === undefined ? Number.POSITIVE_INFINITY : rate.rate === 0 ? 0 : TokenBucket.available(bucket)
    const started = model.records
      .filter(
        (record) =>
          isWaiting(record) &&
          record.queue === name &&
          record.eta <= now &&
          params.tasks.some((task) => task.name === record.task && task.maxVersion >= record.version) &&
          (record.target === undefined || params.targets.includes(record.target)),
      )
      .sort(inOrder(limits))
      .slice(0, limits.paused ? 0 : Math.min(limit, free, tokens))
      .map(
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
    const spends = rate !== undefined && started.length > 0
    const spent = spends ? TokenBucket.take(bucket, started.length) : limits.bucket
    const next = { ...model, limits: { ...model.limits, [name]: { ...limits, bucket: spent } } }
    return [started.reduce(put, next), started]
  })
  return [after, claimed.flat()]
}

/** When the same claim would next give something, if nobody did anything before: found by trying. */
export const nextClaimable = (model: Model, params: TaskQueue.ClaimParams): number | undefined => {
  const tokens = params.queues.map(({ name }) => {
    const limits = limitsOf(model, name)
    return limits.rate === undefined ? undefined : TokenBucket.nextAt(limits.bucket, { ...limits, rate: limits.rate })
  })
  const times = [params.now, ...tokens, ...model.records.flatMap(({ eta, leaseUntil }) => [eta, leaseUntil])]
  return times
    .filter((time) => time !== undefined)
    .filter((time) => time >= params.now)
    .sort((left, right) => left - right)
    .find((now) => claim(model, { ...params, now })[1].length > 0)
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
      case "Succeed":
        return [end(model, record, { state: "succeeded", result: settlement.result }, now), "Settled"]
      case "Cancel":
        return [end(model, record, { state: "cancelled" }, now), "Settled"]
      case "Bury": {
        const { reason, result } = settlement
        const failure = settlement.failure ?? record.failure
        return [end(model, record, { state: "dead", reason, result, failure }, now), "Settled"]
      }
      case "Retry":
        return [waitAgain(model, record, { eta: settlement.eta, failure: settlement.failure }, now), "Settled"]
      case "Snooze":
        return [waitAgain(model, record, { eta: settlement.eta, attempt: givenBack }, now), "Settled"]
      case "Release":
        return [waitAgain(model, record, { attempt: givenBack }, now), "Settled"]
    }
  })

export const cancel = (model: Model, ids: ReadonlyArray<TaskId>, reason: string, now: number) =>
  each(model, ids, (model, id): Said<TaskQueue.CancelOutcome> => {
    const record = find(model, id)
    if (record === undefined) return [model, "NotFound"]
    if (hasEnded(record)) return [model, "TooLate"]
    const asked = { ...record, cancelRequested: reason }
    if (isRunning(record)) return [put(model, asked), "Requested"]
    return [end(model, asked, { state: "cancelled" }, now), "Cancelled"]
  })

export const redrive = (model: Model, ids: ReadonlyArray<TaskId>, now: number) =>
  each(model, ids, (model, id): Said<TaskQueue.RedriveOutcome> => {
    const record = find(model, id)
    if (record === undefined) return [model, "NotFound"]
    if (record.state !== "dead") return [model, "NotDead"]
    const { attempts, enqueuedAt, failure, token } = record
    const again = { ...fresh({ ...record, onDuplicate: "fail" }, now), enqueuedAt, failure, token, attempts }
    const holder = holderOf(model, record)
    const holdsKey = record.unique !== undefined && (holder === undefined || holder.id === id)
    const waiting = put(model, { ...again, holdsKey, eta: now, expiresAt: undefined })
    const taken = nameOf(model, record, now)
    return [taken === undefined || taken.owner === id ? own(waiting, record) : waiting, "Redriven"]
  })

const forget = (model: Model, record: ModelRecord): Model => {
  const isFreed = (name: Name) => !hasEnded(record) && name.owner === record.id && isNameOf(record)(name)
  return { ...drop(model, record.id), names: model.names.filter((name) => !isFreed(name)) }
}

export const remove = (model: Model, ids: ReadonlyArray<TaskId>, only: "dead" | undefined) =>
  each(model, ids, (model, id): Said<TaskQueue.RemoveOutcome> => {
    const record = find(model, id)
    if (record === undefined) return [model, "NotFound"]
    if (only === "dead" && record.state !== "dead") return [model, "NotDead"]
    return isRunning(record) ? [model, "Running"] : [forget(model, record), "Removed"]
  })

export const purge = (model: Model, queue: string): Said<number> => {
  const waiting = model.records.filter((record) => isWaiting(record) && record.queue === queue)
  return [waiting.reduce(forget, model), waiting.length]
}

export const prune = (model: Model, now: number, deadBefore: number): Said<number> => {
  const over = model.records.filter(
    (record) =>
      hasEnded(record) &&
      (record.state === "dead" ? record.endedAt! < deadBefore : record.endedAt! + record.keep <= now),
  )
  return [over.reduce(forget, { ...model, names: model.names.filter(isTakenAt(now)) }), over.length]
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
