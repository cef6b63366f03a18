/**
 * Retry policies in Cloud Tasks' terms (C4, Q87).
 */
import type { protos } from "@google-cloud/tasks"
import type { AppEngine, Exponential, Fixed, Problem, RetryPolicyData } from "@outlive/deferred/RetryPolicy"
import * as Result from "effect/Result"

/** Whole seconds: Cloud Tasks cuts off what is below them (C4). */
export interface RetryConfig {
  /** The first included; -1: no limit. */
  readonly maxAttempts: number
  /** Since the first attempt; 0: no limit. A task is given up when both limits are reached. */
  readonly maxRetryDuration: number
  readonly minBackoff: number
  readonly maxBackoff: number
  readonly maxDoublings: number
}

/** As many as App Engine's defaults have: more make no difference within Cloud Tasks' bounds. */
const mostDoublings = 16

export const retryConfigOf = (policy: RetryPolicyData): Result.Result<RetryConfig, Problem> =>
  Result.flatMap(backoffOf(policy), (backoff) => Result.map(limitsOf(policy), (limits) => ({ ...limits, ...backoff })))

export const toProtoRetry = (
  policy: RetryPolicyData,
): Result.Result<protos.google.cloud.tasks.v2beta3.IRetryConfig, Problem> =>
  Result.map(retryConfigOf(policy), ({ maxAttempts, maxBackoff, maxDoublings, maxRetryDuration, minBackoff }) => ({
    maxAttempts,
    maxRetryDuration: { seconds: maxRetryDuration },
    minBackoff: { seconds: minBackoff },
    maxBackoff: { seconds: maxBackoff },
    maxDoublings,
  }))

type Backoff = Pick<RetryConfig, "minBackoff" | "maxBackoff" | "maxDoublings">
type Limits = Pick<RetryConfig, "maxAttempts" | "maxRetryDuration">

/** Rounded up: nothing comes earlier than its policy says, and no time becomes none. */
const seconds = (millis: number): number => Math.ceil(millis / 1000)

const backoffOf = (policy: RetryPolicyData): Result.Result<Backoff, Problem> => {
  switch (policy._tag) {
    case "AppEngine":
      return Result.succeed(ofAppEngine(policy))
    case "Exponential":
      return ofExponential(policy)
    case "Fixed":
      return Result.succeed(ofFixed(policy))
  }
}

/** The formula is the same (Q82, and the example of Cloud Tasks' own documentation). */
const ofAppEngine = ({ maxBackoff, maxDoublings, minBackoff }: AppEngine): Backoff => ({
  minBackoff: seconds(minBackoff),
  maxBackoff: seconds(maxBackoff),
  maxDoublings,
})

const ofFixed = ({ delay }: Fixed): Backoff => ({
  minBackoff: seconds(delay),
  maxBackoff: seconds(delay),
  maxDoublings: 0,
})

const ofExponential = ({ base, factor, max }: Exponential): Result.Result<Backoff, Problem> => {
  if (base === max || factor === 1)
    return Result.succeed({ minBackoff: seconds(base), maxBackoff: seconds(base), maxDoublings: 0 })
  if (factor !== 2) return refuse("factor", `must be 2, as Cloud Tasks doubles its pauses, and is ${factor}`)
  const doublings = Math.ceil(Math.log2(max / base))
  if (doublings > mostDoublings) {
    const least = base * 2 ** mostDoublings
    return refuse(
      "max",
      `must be at most ${least} ms, 16 doublings above base, after which Cloud Tasks' pauses grow linearly`,
    )
  }
  return Result.succeed({ minBackoff: seconds(base), maxBackoff: seconds(max), maxDoublings: doublings })
}

const refuse = (field: string, reason: string): Result.Result<never, Problem> => Result.fail({ field, reason })

/**
 * Cloud Tasks gives a task up when it has had its attempts *and* its time (C4), as App Engine does with `retryLimit` and
 * `ageLimit` (Q86); `maxAttempts` and `maxAge` stop on their own. One limit alone can always be said: an age limit as "one
 * attempt, and that time".
 */
const limitsOf = (policy: RetryPolicyData): Result.Result<Limits, Problem> => {
  const { retryLimit, ageLimit } = policy._tag === "AppEngine" ? policy : { retryLimit: undefined, ageLimit: undefined }
  const together = retryLimit !== undefined && ageLimit !== undefined
  // Q87: a limit of retries does not count the first attempt, Cloud Tasks does.
  const retries = retryLimit === undefined ? undefined : retryLimit + 1
  const attempts = least(policy.maxAttempts, together ? undefined : retries)
  const age = least(policy.maxAge, together ? undefined : ageLimit)
  if (attempts !== undefined && age !== undefined) {
    return refuse(
      policy.maxAge === undefined ? "ageLimit" : "maxAge",
      "cannot stop a task on its own beside a limit of attempts: Cloud Tasks gives up when both are reached (retryLimit with ageLimit)",
    )
  }
  if (!together) return Result.succeed(alone(attempts, age))
  // A limit that is reached before both of the pair decides alone; one that is not adds a rule that cannot be said.
  if (attempts !== undefined && attempts > retryLimit + 1) {
    return refuse(
      "maxAttempts",
      "must not be above retryLimit + 1 beside an ageLimit: Cloud Tasks has no word for that",
    )
  }
  if (age !== undefined && age > ageLimit) {
    return refuse("maxAge", "must not be above ageLimit beside a retryLimit: Cloud Tasks has no word for that")
  }
  return Result.succeed(
    attempts === undefined && age === undefined
      ? { maxAttempts: retryLimit + 1, maxRetryDuration: seconds(ageLimit) }
      : alone(attempts, age),
  )
}

const alone = (attempts: number | undefined, age: number | undefined): Limits =>
  age === undefined
    ? { maxAttempts: attempts ?? -1, maxRetryDuration: 0 }
    : { maxAttempts: 1, maxRetryDuration: seconds(age) }

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b)
