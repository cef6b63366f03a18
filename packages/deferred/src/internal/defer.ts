/**
 * From a payload and options to a stored record.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Tracer from "effect/Tracer"
import {
  DeferLimits,
  type DeferOptions,
  InvalidTaskOptions,
  NotInTransaction,
  namePattern,
  queuePattern,
  TaskAlreadyExists,
  TombstonedTask,
  type UniqueStates,
} from "../DeferOptions.ts"
import { QueueDefaults } from "../QueueDefaults.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Task from "../Task.ts"
import { type EnqueueOutcome, TaskQueue } from "../TaskQueue.ts"
import type { NewRecord, Unique, UniqueWhile } from "../TaskRecord.ts"
import { discard, storeApart } from "./payloads.ts"
import { makeRef } from "./taskRef.ts"

export const defer = Effect.fnUntraced(function* (task: Task.Any, input: unknown, options: DeferOptions) {
  const queue = yield* TaskQueue
  if (options.requireTransaction === true) yield* requireTransaction(queue, task)
  const now = yield* Clock.currentTimeMillis
  const record = yield* toRecord(queue, task, input, options, now)
  const [outcome] = yield* queue.enqueue({ records: [record], now })
  yield* discardUnused(queue, [record], [outcome])
  if (outcome !== undefined) queue.events.deferred(record, outcome)
  const error = refusal(record, outcome)
  if (error !== undefined) return yield* Effect.fail(error)
  return deferredRef(queue, task, outcome)
})

export const deferAll = Effect.fnUntraced(function* (
  task: Task.Any,
  inputs: Iterable<unknown>,
  optionsOf: (input: unknown, index: number) => DeferOptions,
) {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const records: Array<NewRecord> = []
  for (const input of inputs) {
    const options = optionsOf(input, records.length)
    if (options.requireTransaction === true) yield* requireTransaction(queue, task)
    records.push(yield* toRecord(queue, task, input, options, now))
  }
  const outcomes = yield* queue.enqueue({ records, now })
  yield* discardUnused(queue, records, outcomes)
  for (const [index, outcome] of outcomes.entries()) queue.events.deferred(records[index]!, outcome)
  return records.map((record, index) => {
    const outcome = outcomes[index]
    const error = refusal(record, outcome)
    return error === undefined
      ? { _tag: "Deferred" as const, ref: deferredRef(queue, task, outcome) }
      : { _tag: "Refused" as const, error }
  })
})

const requireTransaction = Effect.fnUntraced(function* (queue: TaskQueue["Service"], task: Task.Any) {
  const isInside = queue.inTransaction === undefined ? false : yield* queue.inTransaction
  if (!isInside) yield* Effect.fail(new NotInTransaction({ task: task.taskName, driver: queue.name }))
})

const toRecord = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  task: Task.Any,
  input: unknown,
  options: DeferOptions,
  now: number,
) {
  const services = yield* Effect.context<never>()
  const { maxDelay, payloadLimit } = Context.get(services, DeferLimits)
  const checked = check(task, options, now, Duration.toMillis(maxDelay))
  if (checked instanceof InvalidTaskOptions) return yield* Effect.fail(checked)
  const { codec } = task.settings
  const made = yield* codec.makePayload(input)
  const unique = uniqueOf(task, options, made)
  if (unique instanceof InvalidTaskOptions) return yield* Effect.fail(unique)
  const payload = yield* codec.encodeMade(made)
  const random = Context.get(services, Random.Random)
  const span = Context.getOrUndefined(services, Tracer.ParentSpan)
  const record: NewRecord = {
    id: queue.nextId(now, () => random.nextDoubleUnsafe()),
    task: task.taskName,
    version: task.settings.version,
    payload,
    headers: withTrace(options.headers, span),
    onDuplicate: options.onDuplicate ?? "fail",
    name: options.name,
    unique,
    target: Context.get(services, QueueDefaults).get(checked.queue)?.target ?? options.target,
    lease: task.settings.lease,
    maxCrashes: task.settings.maxCrashes,
    keep: task.settings.keep,
    ...checked,
  }
  return yield* storeApart(queue, record, payloadLimit, now)
})

/** Bodies that were put for records which the queue did not take. */
const discardUnused = (
  queue: TaskQueue["Service"],
  records: ReadonlyArray<NewRecord>,
  outcomes: ReadonlyArray<EnqueueOutcome | undefined>,
): Effect.Effect<void> => {
  const unused = records.flatMap(({ payloadRef }, index) => {
    const taken = outcomes[index]?._tag === "Inserted" || outcomes[index]?._tag === "Replaced"
    return payloadRef === undefined || taken ? [] : [payloadRef]
  })
  return discard(queue, unused)
}

/** The key that the options or the task's function give. */
const uniqueOf = (task: Task.Any, options: DeferOptions, payload: unknown): Unique | InvalidTaskOptions | undefined => {
  const { taskName, settings } = task
  if (options.unique === false) return undefined
  if (options.unique === undefined && settings.unique === undefined) return undefined
  const invalid = (reason: string) => new InvalidTaskOptions({ task: taskName, field: "unique", reason })
  let key: unknown
  try {
    key = options.unique === undefined ? settings.unique?.key(payload as never) : options.unique.key
  } catch (error) {
    return invalid(`must give a key, and its function threw ${String(error)}`)
  }
  if (typeof key !== "string" || key === "" || key.length > 1000) {
    return invalid(`must have a key of 1 to 1,000 characters, and has ${quote(String(key))}`)
  }
  const states = options.unique?.while
  return { key, while: states === undefined ? (settings.unique?.while ?? untilEnd) : uniqueWhile(states) }
}

const untilEnd: Unique["while"] = ["waiting", "running"]

/** As a queue writes it down: `scheduled` and `ready` are one there. */
export const uniqueWhile = (states: UniqueStates): ReadonlyArray<UniqueWhile> => [
  "waiting",
  ...states.filter((state) => state !== "scheduled" && state !== "ready"),
]

type Checked = Pick<NewRecord, "queue" | "priority" | "eta" | "tombstone" | "retry" | "timeout" | "expiresAt">

/** The first option that is out of its bounds, or the options as numbers. */
const check = (task: Task.Any, options: DeferOptions, now: number, maxDelay: number): Checked | InvalidTaskOptions => {
  const invalid = (field: string, reason: string) => new InvalidTaskOptions({ task: task.taskName, field, reason })
  const queue = options.queue ?? task.settings.queue
  if (!queuePattern.test(queue)) return invalid("queue", `must match ${queuePattern.source}, and is ${quote(queue)}`)
  if (options.name !== undefined && !namePattern.test(options.name)) {
    return invalid("name", `must match ${namePattern.source} (Q2), and is ${quote(options.name)}`)
  }
  const priority = options.priority ?? task.settings.priority
  if (!Number.isFinite(priority)) return invalid("priority", `must be a finite number, and is ${priority}`)
  if (options.delay !== undefined && options.eta !== undefined)
    return invalid("delay", "and eta exclude each other (Q28)")
  const ahead =
    options.delay === undefined
      ? options.eta === undefined
        ? 0
        : options.eta.epochMilliseconds - now
      : toMillis(options.delay)
  const field = options.delay === undefined ? "eta" : "delay"
  if (!Number.isFinite(ahead)) return invalid(field, "must be a finite time")
  if (field === "delay" && ahead < 0) return invalid(field, `must not be negative, and is ${ahead} ms`)
  if (ahead > maxDelay)
    return invalid(field, `is ${ahead} ms ahead, more than the ${maxDelay} ms of DeferLimits.maxDelay (Q10)`)
  const tombstone = options.tombstone === undefined ? nineDays : toMillis(options.tombstone)
  if (!(tombstone >= 0 && tombstone <= 2_592_000_000)) return invalid("tombstone", "must be 0 to 30 days")
  const timeout = options.timeout === undefined ? task.settings.timeout : toMillis(options.timeout)
  if (timeout !== undefined && !(timeout > 0 && Number.isFinite(timeout)))
    return invalid("timeout", "must be a finite time above 0")
  const problem = options.retry === undefined ? undefined : RetryPolicy.problem(options.retry)
  if (problem !== undefined) return invalid(`retry.${problem.field}`, problem.reason)
  const expires = options.expires === undefined ? undefined : toMillis(options.expires)
  if (expires !== undefined && !(expires > 0 && Number.isFinite(expires)))
    return invalid("expires", "must be a finite time above 0")
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    if (/^(outlive-|x-appengine-|x-cloudtasks-)/i.test(name))
      return invalid("headers", `must not hold the reserved name ${quote(name)}`)
    if (typeof value !== "string") return invalid("headers", `must hold texts, and ${quote(name)} is not one`)
  }
  return {
    queue,
    priority,
    eta: Math.max(now, Math.ceil(now + ahead)),
    tombstone,
    timeout,
    expiresAt: expires === undefined ? undefined : now + Math.ceil(expires),
    retry: options.retry === undefined ? undefined : RetryPolicy.toJson(options.retry),
  }
}

/** W3C trace context, so that the attempt's span is the child of, or linked to, the caller's. */
const withTrace = (
  headers: Readonly<Record<string, string>> | undefined,
  span: Tracer.AnySpan | undefined,
): Readonly<Record<string, string>> => {
  if (span === undefined || headers?.traceparent !== undefined) return headers ?? {}
  return { ...headers, traceparent: `00-${span.traceId}-${span.spanId}-0${span.sampled ? 1 : 0}` }
}

const refusal = (
  record: NewRecord,
  outcome: EnqueueOutcome | undefined,
): TaskAlreadyExists | TombstonedTask | undefined => {
  const name = record.name ?? ""
  if (outcome?._tag === "Duplicate") return new TaskAlreadyExists({ queue: record.queue, name, id: outcome.id })
  if (outcome?._tag === "Tombstoned") return new TombstonedTask({ queue: record.queue, name, until: outcome.until })
  return undefined
}

const deferredRef = (queue: TaskQueue["Service"], task: Task.Any, outcome: EnqueueOutcome | undefined) => {
  if (outcome === undefined || !("id" in outcome) || outcome._tag === "Duplicate") {
    throw new Error(`the driver ${queue.name} gave no outcome for a record`)
  }
  return makeRef(queue, task, outcome.id, outcome._tag)
}

/** App Engine's (Q14). */
const nineDays = 777_600_000

const toMillis = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))
const quote = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
