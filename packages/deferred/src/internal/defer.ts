/**
 * From a payload and options to a stored record.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import {
  DeferLimits,
  type DeferOptions,
  InvalidTaskOptions,
  NotInTransaction,
  namePattern,
  type PayloadTooLarge,
  queuePattern,
  TaskAlreadyExists,
  TombstonedTask,
  type UniqueStates,
} from "../DeferOptions.ts"
import { type QueueDefault, QueueDefaults } from "../QueueDefaults.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Task from "../Task.ts"
import type { EnqueueOutcome, TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { NewRecord, Unique, UniqueWhile } from "../TaskRecord.ts"
import { flatMapAtOnce, successAtOnce } from "./atOnce.ts"
import { toMillis } from "./millis.ts"
import { discard, storeApart, tooLarge } from "./payloads.ts"
import { queueIn, storePayload } from "./storedText.ts"
import { makeRef } from "./taskRef.ts"

export const defer = (task: Task.Any, input: unknown, options: DeferOptions) =>
  Effect.contextWith((context: Context.Context<TaskQueue>) => {
    const deferrer = deferrerOf(context, task)
    return flatMapAtOnce(toRecord(deferrer, input, options), (made) =>
      flatMapAtOnce(storeApart(deferrer.queue, made, deferrer.payloadLimit, deferrer.now), (record) =>
        enqueue(deferrer, record),
      ),
    )
  })

const enqueue = (deferrer: Deferrer, record: NewRecord) => {
  const { now, queue, task } = deferrer
  return Effect.flatMap(queue.enqueue({ records: [record], now }), ([outcome]) => {
    if (outcome !== undefined) queue.events.deferred(record, outcome)
    const error = refusal(record, outcome)
    const answer = error === undefined ? Effect.succeed(deferredRef(queue, task, outcome)) : Effect.fail(error)
    return isUnused(record, outcome) ? Effect.andThen(discard(queue, [record.payloadRef]), answer) : answer
  })
}

export const deferAll = Effect.fnUntraced(function* (
  task: Task.Any,
  inputs: Iterable<unknown>,
  optionsOf: (input: unknown, index: number) => DeferOptions,
) {
  const deferrer = deferrerOf(yield* Effect.context<TaskQueue>(), task)
  const { now, payloadLimit, queue } = deferrer
  const made: Array<NewRecord> = []
  for (const input of inputs) {
    const record = toRecord(deferrer, input, optionsOf(input, made.length))
    const atOnce = successAtOnce(record)
    made.push(atOnce === undefined ? yield* record : atOnce.value)
  }
  // Not before all of them are known to be good: nothing is put for a call that is refused.
  const records: Array<NewRecord> = []
  for (const each of made) {
    const record = storeApart(queue, each, payloadLimit, now)
    const atOnce = successAtOnce(record)
    records.push(atOnce === undefined ? yield* record : atOnce.value)
  }
  const outcomes = yield* queue.enqueue({ records, now })
  const unused = records.filter((record, index) => isUnused(record, outcomes[index]))
  yield* discard(
    queue,
    unused.map(({ payloadRef }) => payloadRef),
  )
  for (const [index, outcome] of outcomes.entries()) queue.events.deferred(records[index]!, outcome)
  return records.map((record, index) => {
    const outcome = outcomes[index]
    const error = refusal(record, outcome)
    return error === undefined
      ? { _tag: "Deferred" as const, ref: deferredRef(queue, task, outcome) }
      : { _tag: "Refused" as const, error }
  })
})

/** What one call takes from its context, looked up once for all its records. */
interface Deferrer {
  readonly task: Task.Any
  readonly queue: TaskQueue["Service"]
  readonly now: number
  readonly maxDelay: number
  readonly payloadLimit: number
  readonly defaults: ReadonlyMap<string, QueueDefault>
  readonly random: () => number
  readonly span: Tracer.AnySpan | undefined
}

const deferrerOf = (context: Context.Context<TaskQueue>, task: Task.Any): Deferrer => {
  const { maxDelay, payloadLimit } = Context.get(context, DeferLimits)
  const random = Context.get(context, Random.Random)
  return {
    task,
    queue: queueIn(context),
    now: Context.get(context, Clock.Clock).currentTimeMillisUnsafe(),
    maxDelay: Duration.toMillis(maxDelay),
    payloadLimit,
    defaults: Context.get(context, QueueDefaults),
    random: () => random.nextDoubleUnsafe(),
    span: Context.getOrUndefined(context, Tracer.ParentSpan),
  }
}

const requireTransaction = Effect.fnUntraced(function* (queue: TaskQueue["Service"], task: Task.Any) {
  const isInside = queue.inTransaction === undefined ? false : yield* queue.inTransaction
  if (!isInside) yield* Effect.fail(new NotInTransaction({ task: task.taskName, driver: queue.name }))
})

type RecordError = InvalidTaskOptions | NotInTransaction | PayloadTooLarge | Schema.SchemaError | TaskQueueError

/** With most schemas an `Exit`: nothing of it has to be waited for. */
const toRecord = (
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
): Effect.Effect<NewRecord, RecordError, unknown> => {
  const { queue, task } = deferrer
  if (options.requireTransaction !== true) return checkedRecord(deferrer, input, options)
  return Effect.flatMap(requireTransaction(queue, task), () => checkedRecord(deferrer, input, options))
}

const checkedRecord = (
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
): Effect.Effect<NewRecord, RecordError, unknown> => {
  const { now, queue, task } = deferrer
  const { codec, keep, lease, maxCrashes, version } = task.settings
  const checked = check(task, options, now, deferrer.maxDelay)
  if (checked instanceof InvalidTaskOptions) return Effect.fail(checked)
  return flatMapAtOnce(codec.makePayload(input), (made): Effect.Effect<NewRecord, RecordError, unknown> => {
    const unique = uniqueOf(task, options, made)
    if (unique instanceof InvalidTaskOptions) return Effect.fail(unique)
    return flatMapAtOnce(codec.encodeMade(made), (text) => {
      const id = queue.nextId(now, deferrer.random)
      const place = { id, task: task.taskName, version, queue: checked.queue, name: options.name }
      return flatMapAtOnce(storePayload(queue.codec, text, place), (payload) => {
        const record: NewRecord = {
          id,
          task: task.taskName,
          version,
          payload,
          headers: withTrace(options.headers, deferrer.span),
          onDuplicate: options.onDuplicate ?? "fail",
          name: options.name,
          unique,
          target: deferrer.defaults.get(checked.queue)?.target ?? options.target,
          lease,
          maxCrashes,
          keep,
          // Written out: a spread costs more than the rest of the record.
          queue: checked.queue,
          priority: checked.priority,
          eta: checked.eta,
          tombstone: checked.tombstone,
          timeout: checked.timeout,
          expiresAt: checked.expiresAt,
          retry: checked.retry,
        }
        const error = tooLarge(queue, record, deferrer.payloadLimit)
        return error === undefined ? Effect.succeed(record) : Effect.fail(error)
      })
    })
  })
}

/** Its body was put apart for a record which the queue did not take. */
const isUnused = (
  record: NewRecord,
  outcome: EnqueueOutcome | undefined,
): record is NewRecord & { readonly payloadRef: string } =>
  record.payloadRef !== undefined && outcome?._tag !== "Inserted" && outcome?._tag !== "Replaced"

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
  let size = 0
  for (const [name, value] of Object.entries(options.headers ?? noHeaders)) {
    if (/^(outlive-|x-appengine-|x-cloudtasks-)/i.test(name))
      return invalid("headers", `must not hold the reserved name ${quote(name)}`)
    if (typeof value !== "string") return invalid("headers", `must hold texts, and ${quote(name)} is not one`)
    size += name.length + value.length
  }
  if (size > maxHeaders)
    return invalid("headers", `must have at most ${maxHeaders} characters in all, and have ${size}`)
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

/** One for all records without headers: most have none. */
const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

/** W3C trace context, so that the attempt's span is the child of, or linked to, the caller's. */
const withTrace = (
  headers: Readonly<Record<string, string>> | undefined,
  span: Tracer.AnySpan | undefined,
): Readonly<Record<string, string>> => {
  if (span === undefined) return headers ?? noHeaders
  // Whatever the case in which the caller wrote it.
  if (headers !== undefined && Object.keys(headers).some((name) => name.toLowerCase() === "traceparent")) return headers
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

/** Characters: headers stay in the record, whatever becomes of a large payload. */
const maxHeaders = 65_536

/** App Engine's (Q14). */
const nineDays = 777_600_000

const quote = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
