/**
 * One attempt: from a claimed record to the settlement of its outcome.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { PayloadTooLarge } from "../../DeferOptions.ts"
import * as Outcome from "../../Outcome.ts"
import type { PayloadCodec } from "../../PayloadCodec.ts"
import { QueueDefaults } from "../../QueueDefaults.ts"
import * as RetryPolicy from "../../RetryPolicy.ts"
import type * as Task from "../../Task.ts"
import { TaskContext } from "../../TaskContext.ts"
import { Snooze } from "../../TaskFailure.ts"
import type { TaskHandler } from "../../TaskHandler.ts"
import type { ClaimedRecord, Settlement, TaskQueue } from "../../TaskQueue.ts"
import type { AttemptFailure } from "../../TaskRecord.ts"
import { successAtOnce } from "../atOnce.ts"
import { isLink, permanent, successOf } from "../handOver.ts"
import type { Page } from "../notes.ts"
import { loadPayload } from "../payloads.ts"
import { withoutInterrupts } from "../taskCodec.ts"
import { AttemptContext, type Speaking } from "./attemptContext.ts"
import { type Committing, committing } from "./commit.ts"

/** A task with its handler and the context that its attempts start from. */
export interface Known {
  readonly task: Task.Any
  readonly handler: TaskHandler
  readonly context: Context.Context<never>
  /** That of the queue, or of whoever was given the record. */
  readonly codec: PayloadCodec | undefined
  /** Somebody may see spans: the tracer is not Effect's own, which keeps nothing. */
  readonly traced: boolean
  /** Nobody hears of successes: the log begins above them. */
  readonly quiet: boolean
}

/** `base` is the context of who runs attempts: its clock, logger and tracer go over the handler's. */
export const makeKnown = (
  task: Task.Any,
  handler: TaskHandler,
  { base, codec }: { readonly base: Context.Context<never>; readonly codec: PayloadCodec | undefined },
): Known => {
  const context = Context.merge(handler.services, base) as Context.Context<never>
  return {
    task,
    handler,
    context,
    codec,
    traced: base.mapUnsafe.has(Tracer.Tracer.key),
    quiet: LogLevel.isGreaterThan(Context.get(context, References.MinimumLogLevel), "Debug"),
  }
}

/** What must be known of an attempt to settle it. */
export interface Settling {
  readonly record: ClaimedRecord
  readonly known: {
    readonly task: Task.Any
    readonly handler: Pick<TaskHandler, "encodeExit">
    readonly codec?: PayloadCodec | undefined
    readonly quiet?: boolean
  }
  /** Who wants the attempt to end, once somebody does. */
  readonly stop: Outcome.Stop | undefined
}

/** A record under way in this worker. */
export interface Slot extends Committing, Speaking {
  readonly known: Known
  /** What runs it; set when its first steps are done. */
  fiber: Fiber.Fiber<Settlement | undefined> | undefined
}

/**
 * Runs the handler in a fiber of its own, which begins at once, and gives the settlement; `undefined` when nothing may be
 * written. It does not fail. The fiber is uninterruptible but for the handler: an interruption ends the handler, and
 * nothing of what writes down its outcome.
 */
export const runAttempt = (queue: TaskQueue["Service"], slot: Slot): Fiber.Fiber<Settlement | undefined> => {
  const { known, record } = slot
  const context: TaskContext["Service"] = new AttemptContext(queue, slot)
  const { payloadRef, timeout, version } = record
  const execute = (payload: string) => known.handler.execute({ version, payload, timeout, context, codec: known.codec })
  const work = payloadRef === undefined ? execute(record.payload) : Effect.flatMap(loaded(queue, record), execute)
  const committed = committing(queue, slot, work)
  const caller = record.headers.traceparent
  const observed = known.traced || caller !== undefined ? traced(committed, record, caller) : committed
  const ended = (exit: Exit.Exit<unknown, unknown>) => {
    const settlement = settlementOf(slot, exit, queue)
    const { page } = slot
    return page === undefined ? settlement : Effect.map(settlement, (each) => withProgress(page, each))
  }
  const program = Effect.matchCauseEffect(Effect.interruptible(observed), {
    onSuccess: (value) => ended(Exit.succeed(value)),
    onFailure: (cause) => ended(Exit.failCause(cause)),
  })
  const annotations = { task: record.task, taskId: record.id, attempt: record.attempt }
  const services = Context.addUnsafe(
    Context.addUnsafe(known.context, TaskContext.key, context),
    References.CurrentLogAnnotations.key,
    annotations,
  ) as Context.Context<never>
  return Effect.runForkWith(services)(program, { uninterruptible: true })
}

/** A store that fails is not the handler's fault: the attempt is given back. */
const loaded = (
  queue: TaskQueue["Service"],
  record: ClaimedRecord,
): Effect.Effect<string, Outcome.PayloadMissing | Snooze> =>
  Effect.catchTag(loadPayload(queue, record), "TaskQueueError", (error) =>
    Effect.andThen(
      Effect.logWarning(`the payload could not be loaded, trying again in 10 seconds: ${error.message}`),
      Effect.fail(Snooze.for("10 seconds")),
    ),
  )

const withProgress = (page: Page, settlement: Settlement | undefined): Settlement | undefined => {
  if (!page.isUnsaid || settlement === undefined) return settlement
  // Nobody needs the notes of what has ended; of others they must not be taken back by a page that does not know them.
  const goesOn = settlement._tag === "Retry" || settlement._tag === "Snooze" || settlement._tag === "Release"
  return goesOn && page.isDoubtful ? settlement : { ...settlement, progress: page.text }
}

/**
 * What came of an attempt, with the encoded success where it is kept or handed over. A success that does not encode is none.
 * Without a `queue` it is settled elsewhere.
 */
export const judge = Effect.fnUntraced(function* (
  { known, record, stop }: Settling,
  exit: Exit.Exit<unknown, unknown>,
  queue?: TaskQueue["Service"],
) {
  const { keep, rules } = known.task.settings
  const outcome = Outcome.fromExit(exit, { stop, rules })
  if (outcome._tag !== "Succeeded") return { outcome, ended: exit, result: undefined, handOver: undefined }
  const encode = () => known.handler.encodeExit(exit, record, known.codec)
  const encoded = yield* Effect.exit(successOf(record, keep, encode, queue))
  if (Exit.isSuccess(encoded)) return { outcome, ended: exit, ...encoded.value }
  // The handler gave something that its own schema does not know: a defect of the handler.
  const error = Cause.squash(encoded.cause)
  const ended = error instanceof PayloadTooLarge ? Exit.fail(permanent(error)) : Exit.die(error)
  const instead = Outcome.fromExit(ended, { stop: undefined, rules })
  return { outcome: instead, ended, result: undefined, handOver: undefined }
})

/** The settlement of an attempt that ended so; `undefined` when nothing may be written. */
export const settlementOf = (
  slot: Settling,
  exit: Exit.Exit<unknown, unknown>,
  queue?: TaskQueue["Service"],
): Effect.Effect<Settlement | undefined> => {
  const isPlain = exit._tag === "Success" && slot.stop === undefined && slot.known.task.settings.keep !== 0
  if (!isPlain || isLink(slot.record)) return settlementOfAny(slot, exit, queue)
  // By far the most frequent way, and the shortest.
  const { id, token } = slot.record
  const encoded = slot.known.handler.encodeExit(exit, slot.record, slot.known.codec)
  const succeed = (result: string) => {
    const settlement = { id, token, _tag: "Succeed" as const, result }
    return slot.known.quiet === true ? Effect.succeed(settlement) : Effect.as(logSuccess, settlement)
  }
  const known = successAtOnce(encoded)
  if (known !== undefined) return succeed(known.value)
  return Effect.matchCauseEffect(encoded, { onSuccess: succeed, onFailure: () => settlementOfAny(slot, exit, queue) })
}

const logSuccess = Effect.logDebug("task succeeded")

const settlementOfAny = Effect.fnUntraced(function* (
  slot: Settling,
  exit: Exit.Exit<unknown, unknown>,
  queue: TaskQueue["Service"] | undefined,
) {
  const { record } = slot
  const lease = { id: record.id, token: record.token }
  const { ended, handOver, outcome, result } = yield* judge(slot, exit, queue)
  switch (outcome._tag) {
    case "Succeeded":
      yield* logSuccess
      return { ...lease, _tag: "Succeed", result, handOver } satisfies Settlement
    case "Abandoned":
      yield* Effect.logWarning("the lease was lost, the attempt was interrupted; another worker owns the record")
      return undefined
    case "Released":
      yield* Effect.logInfo("interrupted by shutdown, released")
      return { ...lease, _tag: "Release" } satisfies Settlement
    case "Cancelled":
      yield* Effect.logInfo("cancelled while running")
      return { ...lease, _tag: "Cancel" } satisfies Settlement
    case "Snoozed": {
      const eta = Outcome.snoozedUntil(outcome.snooze, yield* Clock.currentTimeMillis)
      const pause = Outcome.pauseOf(outcome.snooze)
      yield* sayOfPause(record, eta, pause)
      return { ...lease, _tag: "Snooze", eta, ...(pause !== undefined && { pause }) } satisfies Settlement
    }
    case "Dead": {
      yield* Effect.logError(`task is dead: ${outcome.reason}`, causeOf(ended))
      return yield* bury(
        slot,
        ended,
        outcome.reason,
        failureOf(record, "failure", outcome.error, yield* Clock.currentTimeMillis),
      )
    }
    case "Retry": {
      const now = yield* Clock.currentTimeMillis
      const failure = failureOf(record, outcome.kind, outcome.error, now)
      const delay = yield* retryDelay(slot, outcome, now)
      if (delay === undefined) {
        yield* Effect.logError("task is dead: RetriesExhausted", causeOf(ended))
        return yield* bury(slot, ended, "RetriesExhausted", failure)
      }
      const say = outcome.quiet ? Effect.logDebug : outcome.kind === "defect" ? Effect.logError : Effect.logWarning
      yield* say(`task failed, next attempt in ${Math.round(delay)} ms`, causeOf(ended))
      return {
        ...lease,
        _tag: "Retry",
        eta: now + Math.ceil(delay),
        failure: JSON.stringify(failure),
      } satisfies Settlement
    }
  }
})

/** A pause concerns others too, and who wonders why nothing runs finds it in the log. */
const sayOfPause = ({ key, queue }: ClaimedRecord, eta: number, pause: "key" | "queue" | undefined) => {
  if (pause === undefined) return Effect.logDebug("snoozed")
  const what = pause === "key" && key !== undefined ? `key ${key} of queue ${queue}` : `queue ${queue}`
  return Effect.logInfo(`throttled until ${new Date(eta).toISOString()}: ${what}`)
}

const bury = Effect.fnUntraced(function* (
  slot: Settling,
  exit: Exit.Exit<unknown, unknown>,
  reason: Extract<Settlement, { _tag: "Bury" }>["reason"],
  failure: AttemptFailure,
) {
  const kept = Exit.isFailure(exit) ? Exit.failCause(causeOf(exit)) : exit
  // An error that does not fit its schema still has its tag and message in `failure`.
  const result =
    reason === "Undecodable"
      ? Option.none()
      : yield* Effect.option(slot.known.handler.encodeExit(kept, slot.record, slot.known.codec))
  return {
    id: slot.record.id,
    token: slot.record.token,
    _tag: "Bury",
    reason,
    result: Option.getOrUndefined(result),
    failure: JSON.stringify(failure),
  } satisfies Settlement
})

/**
 * Milliseconds until the next attempt, or none: by the record's own policy, else the rule's, the task's, the queue's (Q88:
 * whole, never merged).
 */
export const retryDelay = Effect.fnUntraced(function* (
  slot: Settling,
  outcome: Extract<Outcome.Outcome, { _tag: "Retry" }>,
  now: number,
) {
  const { record, known } = slot
  const written = record.retry === undefined ? undefined : yield* Effect.option(RetryPolicy.fromJson(record.retry))
  const own = written === undefined ? undefined : Option.getOrUndefined(written)
  const policy =
    own ??
    outcome.policy ??
    known.task.settings.policy ??
    (yield* QueueDefaults).get(record.queue)?.retry ??
    RetryPolicy.defaultPolicy
  const random = yield* Random.next
  const delay = yield* RetryPolicy.decide(policy, {
    // What a crash cut short has not failed; crashes have a limit of their own.
    attempt: record.attempt - record.crashes,
    age: now - record.firstAttemptAt,
    error: outcome.error,
    random,
  })
  return delay === undefined ? undefined : Math.max(delay, outcome.atLeast ?? 0)
})

export const failureOf = (
  record: Pick<ClaimedRecord, "attempt">,
  kind: AttemptFailure["kind"],
  error: unknown,
  at: number,
): AttemptFailure => ({
  attempt: record.attempt,
  at,
  kind,
  tag: Outcome.tagOf(error),
  message: Outcome.messageOf(error),
})

export const causeOf = (exit: Exit.Exit<unknown, unknown>): Cause.Cause<unknown> =>
  Exit.isFailure(exit) ? Cause.fromReasons(withoutInterrupts(exit.cause)) : Cause.empty

/**
 * The attempt's span: a child of the caller's for a first attempt that was due at once, only linked to it for retries
 * and delayed work, whose caller's trace has long ended.
 */
export const traced = (
  work: Effect.Effect<unknown, unknown>,
  record: ClaimedRecord,
  traceparent: string | undefined,
): Effect.Effect<unknown, unknown> => {
  const caller = callerOf(traceparent)
  const prompt = record.attempt === 1 && record.eta <= record.enqueuedAt
  const lineage =
    caller === undefined
      ? { root: true }
      : prompt
        ? { parent: caller }
        : { root: true, links: [{ span: caller, attributes: {} }] }
  return Effect.withSpan(work, record.task, {
    kind: "consumer",
    attributes: {
      "messaging.system": "outlive",
      "messaging.operation.type": "process",
      "messaging.destination.name": record.queue,
      "messaging.message.id": record.id,
      "outlive.task.name": record.task,
      "outlive.attempt": record.attempt,
    },
    captureStackTrace: false,
    ...lineage,
  })
}

const callerOf = (traceparent: string | undefined): Tracer.ExternalSpan | undefined => {
  const match = traceparent?.match(/^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/)
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return undefined
  return Tracer.externalSpan({
    traceId: match[1],
    spanId: match[2],
    sampled: (Number.parseInt(match[3], 16) & 1) === 1,
  })
}
