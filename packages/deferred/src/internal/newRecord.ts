/**
 * From a payload and options to a record that can be enqueued.
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
} from "../DeferOptions.ts"
import { deferredAsHeader } from "../PayloadStage.ts"
import { type QueueDefault, QueueDefaults } from "../QueueDefaults.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Task from "../Task.ts"
import type { TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { Latest, NewRecord, Unique } from "../TaskRecord.ts"
import { successAtOnce } from "./atOnce.ts"
import { wantedOf } from "./latest.ts"
import { toMillis } from "./millis.ts"
import { isSmall, tooLarge } from "./payloads.ts"
import { keyOf, quote, uniqueOf } from "./recordKeys.ts"
import { isPlain, queueIn, storePayload } from "./storedText.ts"

/** What one call takes from its context, looked up once for all its records. */
export interface Deferrer {
  readonly task: Task.Any
  readonly queue: TaskQueue["Service"]
  readonly now: number
  readonly maxDelay: Duration.Duration
  readonly payloadLimit: number
  readonly defaults: ReadonlyMap<string, QueueDefault>
  readonly random: () => number
  readonly span: Tracer.AnySpan | undefined
}

export const deferrerOf = (context: Context.Context<TaskQueue>, task: Task.Any): Deferrer => {
  const { maxDelay, payloadLimit } = limitsIn(context)
  const random = randomIn(context)
  return {
    task,
    queue: queueIn(context),
    now: clockIn(context).currentTimeMillisUnsafe(),
    maxDelay,
    payloadLimit,
    defaults: defaultsIn(context),
    random: () => random.nextDoubleUnsafe(),
    span: spanIn(context),
  }
}

// Made once: `Context.get` with both arguments takes memory for each call.
const limitsIn = Context.get(DeferLimits)
const randomIn = Context.get(Random.Random)
const clockIn = Context.get(Clock.Clock)
const defaultsIn = Context.get(QueueDefaults)
const spanIn = Context.getOrUndefined(Tracer.ParentSpan)

export type RecordError = InvalidTaskOptions | NotInTransaction | PayloadTooLarge | Schema.SchemaError | TaskQueueError

/**
 * With most schemas an `Exit`: nothing of it has to be waited for. The steps of that way stand in one piece: every deferral
 * takes it, and a function for each of them would be compiled several times, alone and in those that call it. What only
 * other ways need stands apart: a closure takes memory for what it remembers wherever it might be made.
 */
export const toRecord = (
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
): Effect.Effect<NewRecord, RecordError, unknown> => {
  const { maxDelay, now, payloadLimit, queue, task } = deferrer
  if (options.requireTransaction === true) return madeInside(deferrer, input, options, recordOf)
  const checked = check(task, options, now, maxDelay)
  if (checked instanceof InvalidTaskOptions) return Effect.fail(checked)
  const { codec } = task.settings
  const making = codec.makePayload(input)
  const payload = successAtOnce(making)
  if (payload === undefined) return madeLater(deferrer, options, checked, making, recordOf)
  const key = keyOf(task, options, payload.value)
  if (key instanceof InvalidTaskOptions) return Effect.fail(key)
  const unique = uniqueOf(task, options, payload.value, checked.latest)
  if (unique instanceof InvalidTaskOptions) return Effect.fail(unique)
  const encoding = codec.encodeMade(payload.value)
  const text = successAtOnce(encoding)
  if (text === undefined) return encodedLater(deferrer, options, checked, encoding, key, unique)
  const record = recordWith(deferrer, options, checked, text.value, key, unique)
  const isReady = isPlain(queue.codec, text.value) && isSmall(text.value, payloadLimit)
  return isReady ? Effect.succeed(record) : stored(deferrer, record)
}

/** What a record is made of, for who makes it more than once. */
export interface Draft {
  readonly options: DeferOptions
  readonly checked: Checked
  readonly payload: unknown
  readonly key: string | undefined
  readonly unique: Unique | undefined
}

export const toDraft = (
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
): Effect.Effect<Draft, RecordError, unknown> =>
  (options.requireTransaction === true ? madeInside : made)(deferrer, input, options, draftOf)

const draftOf: Making<Draft> = (_, options, checked, payload, key, unique) =>
  Effect.succeed({ options, checked, payload, key, unique })

/** A record of a draft: at each call another one, with an id of its own. */
export const recordOfDraft = (
  deferrer: Deferrer,
  { checked, key, options, payload, unique }: Draft,
): Effect.Effect<NewRecord, RecordError, unknown> => recordOf(deferrer, options, checked, payload, key, unique)

const requireTransaction = Effect.fnUntraced(function* ({ queue, task }: Deferrer) {
  const isInside = queue.inTransaction === undefined ? false : yield* queue.inTransaction
  if (!isInside) yield* Effect.fail(new NotInTransaction({ task: task.taskName, driver: queue.name }))
})

type Making<A> = (
  deferrer: Deferrer,
  options: DeferOptions,
  checked: Checked,
  payload: unknown,
  key: string | undefined,
  unique: Unique | undefined,
) => Effect.Effect<A, RecordError, unknown>

/** Checks everything, and makes something of it. */
const made = <A>(
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
  make: Making<A>,
): Effect.Effect<A, RecordError, unknown> => {
  const { maxDelay, now, task } = deferrer
  const checked = check(task, options, now, maxDelay)
  if (checked instanceof InvalidTaskOptions) return Effect.fail(checked)
  return madeLater(deferrer, options, checked, task.settings.codec.makePayload(input), make)
}

const madeInside = <A>(
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
  make: Making<A>,
): Effect.Effect<A, RecordError, unknown> =>
  Effect.flatMap(requireTransaction(deferrer), () => made(deferrer, input, options, make))

const madeLater = <A>(
  deferrer: Deferrer,
  options: DeferOptions,
  checked: Checked,
  making: Effect.Effect<unknown, Schema.SchemaError>,
  make: Making<A>,
): Effect.Effect<A, RecordError, unknown> =>
  Effect.flatMap(making, (payload) => keyed(deferrer, options, checked, payload, make))

const keyed = <A>(
  deferrer: Deferrer,
  options: DeferOptions,
  checked: Checked,
  payload: unknown,
  make: Making<A>,
): Effect.Effect<A, RecordError, unknown> => {
  const key = keyOf(deferrer.task, options, payload)
  if (key instanceof InvalidTaskOptions) return Effect.fail(key)
  const unique = uniqueOf(deferrer.task, options, payload, checked.latest)
  if (unique instanceof InvalidTaskOptions) return Effect.fail(unique)
  return make(deferrer, options, checked, payload, key, unique)
}

const recordOf: Making<NewRecord> = (deferrer, options, checked, made, key, unique) =>
  encodedLater(deferrer, options, checked, deferrer.task.settings.codec.encodeMade(made), key, unique)

const encodedLater = (
  deferrer: Deferrer,
  options: DeferOptions,
  checked: Checked,
  encoding: Effect.Effect<string, Schema.SchemaError, unknown>,
  key: string | undefined,
  unique: Unique | undefined,
): Effect.Effect<NewRecord, RecordError, unknown> =>
  Effect.flatMap(encoding, (text) => stored(deferrer, recordWith(deferrer, options, checked, text, key, unique)))

/** Its payload is not that of the queue's codec yet. */
const recordWith = (
  { defaults, now, queue, random, span, task }: Deferrer,
  options: DeferOptions,
  checked: Checked,
  payload: string,
  key: string | undefined,
  unique: Unique | undefined,
): NewRecord => {
  const { keep, lease, maxCrashes, version } = task.settings
  const traced = withTrace(options.headers, span)
  return {
    id: queue.nextId(now, random),
    task: task.taskName,
    version,
    payload,
    headers: unique?.latest === undefined || queue.codec === undefined ? traced : boundTo(unique.key, traced),
    onDuplicate: options.onDuplicate ?? "fail",
    name: options.name,
    unique,
    key,
    target: defaults.get(checked.queue)?.target ?? options.target,
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
}

/** Its payload as the queue gets it. */
const stored = (
  { payloadLimit, queue }: Deferrer,
  record: NewRecord,
): Effect.Effect<NewRecord, PayloadTooLarge | TaskQueueError> =>
  Effect.flatMap(storePayload(queue.codec, record.payload, record), (payload) => {
    const coded = { ...record, payload }
    const error = tooLarge(queue, coded, payloadLimit)
    return error === undefined ? Effect.succeed(coded) : Effect.fail(error)
  })

interface Checked
  extends Pick<NewRecord, "queue" | "priority" | "eta" | "tombstone" | "retry" | "timeout" | "expiresAt"> {
  readonly latest: Latest | undefined
}

/** Those of a deferral that has none: what they come to is in the task's definition, which was checked when it was made. */
export const noOptions: DeferOptions = Object.freeze({})

const check = (
  task: Task.Any,
  options: DeferOptions,
  now: number,
  maxDelay: Duration.Duration,
): Checked | InvalidTaskOptions => {
  const { latest, priority, queue, timeout } = task.settings
  if (options !== noOptions || latest !== undefined)
    return checkOptions(task, options, now, Duration.toMillis(maxDelay))
  return {
    queue,
    priority,
    eta: Math.ceil(now),
    tombstone: nineDays,
    timeout,
    expiresAt: undefined,
    retry: undefined,
    latest: undefined,
  }
}

/** The first option that is out of its bounds, or the options as numbers. */
const checkOptions = (
  task: Task.Any,
  options: DeferOptions,
  now: number,
  maxDelay: number,
): Checked | InvalidTaskOptions => {
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
  const wanted = wantedOf(task, options, now, maxDelay, invalid)
  if (wanted instanceof InvalidTaskOptions) return wanted
  const ahead =
    options.delay === undefined
      ? options.eta === undefined
        ? (wanted?.ahead ?? 0)
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
    latest: wanted?.latest,
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

/**
 * A record may come to be stored under the id of the one whose place it takes, so what its payload is bound to by a codec
 * is the key. No queue has a space in its name: it is never taken for a name.
 */
const boundTo = (key: string, headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> => ({
  ...headers,
  [deferredAsHeader]: `latest ${key}`,
})

/** Characters: headers stay in the record, whatever becomes of a large payload. */
const maxHeaders = 65_536

/** App Engine's (Q14). */
const nineDays = 777_600_000
