/**
 * When a failed record is tried again, and when no more: pure data and pure functions of the attempt count, so that a
 * retry can be decided in another process than the attempt before it.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { toMillis } from "./internal/millis.ts"

const TypeId = "~outlive/deferred/RetryPolicy"

/**
 * How a delay `d` is spread, so that records that failed together do not come back together (AWS, "Exponential backoff
 * and jitter"): `none` is `d`, `equal` is between `d/2` and `d`, `full` is between 0 and `d`.
 *
 * @since 0.1.0
 */
export type Jitter = "none" | "equal" | "full"

/** Limits and jitter that every policy has. @since 0.1.0 */
export interface Limits {
  /** Attempts in all, the first included; `undefined`: no limit. */
  readonly maxAttempts: number | undefined
  /** Milliseconds since the first attempt began after which a failure is not retried; `undefined`: no limit. */
  readonly maxAge: number | undefined
  readonly jitter: Jitter
}

/**
 * App Engine's formula (Q82), and its give-up rule (Q86): with both `retryLimit` and `ageLimit` a record is given up
 * only when both are exceeded. Milliseconds.
 *
 * @since 0.1.0
 */
export interface AppEngine extends Limits {
  readonly [TypeId]: typeof TypeId
  readonly _tag: "AppEngine"
  readonly minBackoff: number
  readonly maxBackoff: number
  readonly maxDoublings: number
  readonly retryLimit: number | undefined
  readonly ageLimit: number | undefined
}

/** `base * factor^(n-1)`, at most `max`. Milliseconds. @since 0.1.0 */
export interface Exponential extends Limits {
  readonly [TypeId]: typeof TypeId
  readonly _tag: "Exponential"
  readonly base: number
  readonly factor: number
  readonly max: number
}

/** Always the same delay. Milliseconds. @since 0.1.0 */
export interface Fixed extends Limits {
  readonly [TypeId]: typeof TypeId
  readonly _tag: "Fixed"
  readonly delay: number
}

/** Any schedule, replayed to the attempt at hand. @since 0.1.0 */
export interface FromSchedule extends Limits {
  readonly [TypeId]: typeof TypeId
  readonly _tag: "FromSchedule"
  readonly schedule: Schedule.Schedule<unknown, unknown>
}

/** The policies that can be written down with a record. @since 0.1.0 */
export type RetryPolicyData = AppEngine | Exponential | Fixed

/** @since 0.1.0 */
export type RetryPolicy = RetryPolicyData | FromSchedule

/** @since 0.1.0 */
export interface LimitOptions {
  /** Attempts in all, the first included. Default: no limit. */
  readonly maxAttempts?: number | undefined
  /** Since the first attempt began. Default: no limit. */
  readonly maxAge?: Duration.Input | undefined
  readonly jitter?: Jitter | undefined
}

const limitsOf = (options: LimitOptions | undefined, jitter: Jitter): Limits => ({
  maxAttempts: options?.maxAttempts,
  maxAge: options?.maxAge === undefined ? undefined : toMillis(options.maxAge),
  jitter: options?.jitter ?? jitter,
})

/**
 * App Engine's retry parameters with its defaults: 100 ms doubling 16 times, then growing linearly, at most an hour, for
 * ever, without jitter (Q80-Q91). When one bound is given and crosses the other's default, the other follows it (Q89).
 *
 * @since 0.1.0
 */
export const appEngine = (
  options?: LimitOptions & {
    readonly minBackoff?: Duration.Input | undefined
    readonly maxBackoff?: Duration.Input | undefined
    readonly maxDoublings?: number | undefined
    /** Retries, not attempts: 0 is one attempt (Q87). */
    readonly retryLimit?: number | undefined
    readonly ageLimit?: Duration.Input | undefined
  },
): AppEngine => {
  const min = options?.minBackoff === undefined ? undefined : toMillis(options.minBackoff)
  const max = options?.maxBackoff === undefined ? undefined : toMillis(options.maxBackoff)
  return {
    [TypeId]: TypeId,
    _tag: "AppEngine",
    minBackoff: min ?? Math.min(100, max ?? 100),
    maxBackoff: max ?? Math.max(3_600_000, min ?? 0),
    maxDoublings: options?.maxDoublings ?? 16,
    retryLimit: options?.retryLimit,
    ageLimit: options?.ageLimit === undefined ? undefined : toMillis(options.ageLimit),
    ...limitsOf(options, "none"),
  }
}

/**
 * Exponential growth from `base` (default 1 second) by `factor` (default 2) to `max` (default 1 hour), with full jitter.
 *
 * @since 0.1.0
 */
export const exponential = (
  options?: LimitOptions & {
    readonly base?: Duration.Input | undefined
    readonly factor?: number | undefined
    readonly max?: Duration.Input | undefined
  },
): Exponential => ({
  [TypeId]: TypeId,
  _tag: "Exponential",
  base: toMillis(options?.base ?? "1 second"),
  factor: options?.factor ?? 2,
  max: toMillis(options?.max ?? "1 hour"),
  ...limitsOf(options, "full"),
})

/** The same delay before every retry, without jitter. @since 0.1.0 */
export const fixed = (delay: Duration.Input, options?: LimitOptions): Fixed => ({
  [TypeId]: TypeId,
  _tag: "Fixed",
  delay: toMillis(delay),
  ...limitsOf(options, "none"),
})

/**
 * Any Effect schedule; its input is the error. The attempt count is the schedule's state: it is replayed from its start
 * to the attempt at hand on an ideal clock that counts only the delays, so a schedule that looks at the real time of day
 * sees that ideal time. When the schedule is done, the record is given up.
 *
 * @since 0.1.0
 */
export const fromSchedule = <E = unknown>(
  schedule: Schedule.Schedule<unknown, E>,
  options?: LimitOptions,
): FromSchedule => ({
  [TypeId]: TypeId,
  _tag: "FromSchedule",
  schedule: schedule as Schedule.Schedule<unknown, unknown>,
  ...limitsOf(options, "none"),
})

/** No second attempt. @since 0.1.0 */
export const never: Fixed = fixed(0, { maxAttempts: 1 })

/**
 * What a task has that says nothing: App Engine's figures with full jitter, 25 attempts (some five hours in
 * the mean, ten at most).
 *
 * @since 0.1.0
 */
export const defaultPolicy: AppEngine = appEngine({ jitter: "full", maxAttempts: 25 })

/** @since 0.1.0 */
export const isRetryPolicy = (value: unknown): value is RetryPolicy =>
  typeof value === "object" && value !== null && TypeId in value

/**
 * The delay before retry `n` (1 is the first) in milliseconds, before jitter. Q82: exponential for `maxDoublings`
 * steps, then linear.
 *
 * @since 0.1.0
 */
export const backoff = (policy: RetryPolicyData, retry: number): number => {
  switch (policy._tag) {
    case "AppEngine": {
      const doublings = Math.min(retry - 1, policy.maxDoublings)
      const linear = Math.max(1, retry - doublings)
      return Math.min(policy.maxBackoff, policy.minBackoff * 2 ** Math.min(1023, doublings) * linear)
    }
    case "Exponential":
      return Math.min(policy.max, policy.base * policy.factor ** (retry - 1))
    case "Fixed":
      return policy.delay
  }
}

/** What is wrong with one field of a policy: `reason` goes on where the field's name ends. @since 0.1.0 */
export interface Problem {
  readonly field: string
  readonly reason: string
}

/**
 * What is wrong with a policy, if anything is: the first field that is out of its bounds (Q80, Q134). The constructors
 * never throw, so whoever takes a policy asks here first: `defer` and `QueueConfig` do, and refuse it with their own
 * errors.
 *
 * - times are finite, not negative, and short enough that the time they lead to is in the calendar
 * - `maxBackoff` is not below `minBackoff`, `max` not below `base`
 * - `maxDoublings` and `retryLimit` are whole and not negative, `maxAttempts` is whole and at least 1
 * - `ageLimit`, `maxAge` and `base` are above 0, `factor` is at least 1
 *
 * A policy without a problem gives finite delays that are not negative, for any number of retries. What a schedule gives
 * is not known before it is asked.
 *
 * @since 0.1.0
 */
export const problem = (policy: RetryPolicy): Problem | undefined => problemOfOwn(policy) ?? problemOfLimits(policy)

/** What is known when an attempt has failed. @since 0.1.0 */
export interface Failed {
  /** The attempt that failed, counted from 1. */
  readonly attempt: number
  /** Milliseconds since the first attempt began. */
  readonly age: number
  readonly error: unknown
  /** In [0, 1), for the jitter. */
  readonly random: number
}

/**
 * The delay in milliseconds before the next attempt, or `undefined` when the policy gives up. Limits are looked at when
 * an attempt fails, so a retry scheduled inside `maxAge` may start after it (Q86).
 *
 * @since 0.1.0
 */
export const decide = (policy: RetryPolicy, failed: Failed): Effect.Effect<number | undefined> => {
  if (!allows(policy, failed)) return Effect.undefined
  if (policy._tag === "FromSchedule") {
    return Effect.map(replay(policy.schedule, failed.attempt, failed.error), (delays) => {
      const delay = delays[failed.attempt - 1]
      return delay === undefined ? undefined : jittered(policy.jitter, delay, failed.random)
    })
  }
  return Effect.succeed(jittered(policy.jitter, backoff(policy, failed.attempt), failed.random))
}

/**
 * The first `n` delays of a policy as data, without jitter and limits of age: what a person wants to see before trusting
 * it. Fewer when the policy gives up earlier.
 *
 * @since 0.1.0
 */
export const delays = (policy: RetryPolicy, n: number): Effect.Effect<ReadonlyArray<Duration.Duration>> => {
  const most = Math.min(n, (policy.maxAttempts ?? Number.POSITIVE_INFINITY) - 1)
  if (policy._tag === "FromSchedule") {
    return Effect.map(replay(policy.schedule, most, undefined), (found) => found.map((delay) => Duration.millis(delay)))
  }
  const found: Array<Duration.Duration> = []
  for (
    let retry = 1;
    retry <= most && allows(policy, { attempt: retry, age: 0, error: undefined, random: 0 });
    retry++
  ) {
    found.push(Duration.millis(backoff(policy, retry)))
  }
  return Effect.succeed(found)
}

const Limited = {
  maxAttempts: Schema.UndefinedOr(Schema.Int),
  maxAge: Schema.UndefinedOr(Schema.Finite),
  jitter: Schema.Literals(["none", "equal", "full"]),
}

const Written = Schema.fromJsonString(
  Schema.toCodecJson(
    Schema.Union([
      Schema.TaggedStruct("AppEngine", {
        minBackoff: Schema.Finite,
        maxBackoff: Schema.Finite,
        maxDoublings: Schema.Finite,
        retryLimit: Schema.UndefinedOr(Schema.Finite),
        ageLimit: Schema.UndefinedOr(Schema.Finite),
        ...Limited,
      }),
      Schema.TaggedStruct("Exponential", {
        base: Schema.Finite,
        factor: Schema.Finite,
        max: Schema.Finite,
        ...Limited,
      }),
      Schema.TaggedStruct("Fixed", { delay: Schema.Finite, ...Limited }),
    ]),
  ),
)
const write = Schema.encodeSync(Written)
const read = Schema.decodeUnknownEffect(Written)

/** The JSON text of a policy, as a record carries it. @since 0.1.0 */
export const toJson = (policy: RetryPolicyData): string => write(policy)

/** Reads what `toJson` wrote. @since 0.1.0 */
export const fromJson = (text: string): Effect.Effect<RetryPolicyData, Schema.SchemaError> =>
  Effect.map(read(text), (policy) => ({ [TypeId]: TypeId, ...policy }))

/** The OR of Q86: App Engine's two limits stop a record only together; `maxAttempts` and `maxAge` each on its own. */
const allows = (policy: RetryPolicy, failed: Failed): boolean => {
  if (policy.maxAttempts !== undefined && failed.attempt >= policy.maxAttempts) return false
  if (policy.maxAge !== undefined && failed.age > policy.maxAge) return false
  if (policy._tag !== "AppEngine") return true
  const { ageLimit, retryLimit } = policy
  if (retryLimit === undefined && ageLimit === undefined) return true
  return (
    (retryLimit !== undefined && retryLimit >= failed.attempt) || (ageLimit !== undefined && ageLimit >= failed.age)
  )
}

const jittered = (jitter: Jitter, delay: number, random: number): number =>
  jitter === "none" ? delay : jitter === "full" ? delay * random : delay / 2 + (delay / 2) * random

const replay = Effect.fnUntraced(function* (schedule: Schedule.Schedule<unknown, unknown>, n: number, error: unknown) {
  const step = yield* Schedule.toStep(schedule)
  const found: Array<number> = []
  let now = 0
  while (found.length < n) {
    const next = yield* Pull.catchDone(step(now, error), () => Effect.undefined)
    if (next === undefined) break
    const delay = Duration.toMillis(next[1])
    found.push(delay)
    now += delay
  }
  return found
})

const problemOfOwn = (policy: RetryPolicy): Problem | undefined => {
  switch (policy._tag) {
    case "AppEngine":
      return (
        notTime("minBackoff", policy.minBackoff) ??
        notTime("maxBackoff", policy.maxBackoff) ??
        below("maxBackoff", policy.maxBackoff, "minBackoff", policy.minBackoff) ??
        notWhole("maxDoublings", policy.maxDoublings, 0) ??
        (policy.retryLimit === undefined ? undefined : notWhole("retryLimit", policy.retryLimit, 0)) ??
        (policy.ageLimit === undefined ? undefined : notTimeAbove0("ageLimit", policy.ageLimit))
      )
    case "Exponential":
      return (
        // From 0 nothing grows, and 0 times a factor that has grown without bounds is no number.
        notTimeAbove0("base", policy.base) ??
        notTime("max", policy.max) ??
        below("max", policy.max, "base", policy.base) ??
        (policy.factor >= 1 && policy.factor < Number.POSITIVE_INFINITY
          ? undefined
          : { field: "factor", reason: `must be a finite number of at least 1, and is ${policy.factor}` })
      )
    case "Fixed":
      return notTime("delay", policy.delay)
    case "FromSchedule":
      return undefined
  }
}

const problemOfLimits = ({ jitter, maxAge, maxAttempts }: Limits): Problem | undefined =>
  (maxAttempts === undefined ? undefined : notWhole("maxAttempts", maxAttempts, 1)) ??
  (maxAge === undefined ? undefined : notTimeAbove0("maxAge", maxAge)) ??
  (jitters.includes(jitter)
    ? undefined
    : { field: "jitter", reason: `must be one of ${jitters.join(", ")}, and is ${String(jitter)}` })

const jitters: ReadonlyArray<Jitter> = ["none", "equal", "full"]

/** Half of JavaScript's calendar, which leaves the other half for the time it is added to. */
const longest = 4.32e15

const notTime = (field: string, millis: number): Problem | undefined =>
  millis >= 0 && millis <= longest
    ? undefined
    : { field, reason: `must be a time from 0 to ${longest} ms, and is ${millis} ms` }

const notTimeAbove0 = (field: string, millis: number): Problem | undefined =>
  millis > 0 && millis <= longest
    ? undefined
    : { field, reason: `must be a time above 0 and at most ${longest} ms, and is ${millis} ms` }

const notWhole = (field: string, value: number, least: number): Problem | undefined =>
  Number.isSafeInteger(value) && value >= least
    ? undefined
    : { field, reason: `must be a whole number of at least ${least}, and is ${value}` }

const below = (field: string, millis: number, lower: string, least: number): Problem | undefined =>
  millis >= least
    ? undefined
    : { field, reason: `must not be less than ${lower}, which is ${least} ms, and is ${millis} ms` }
