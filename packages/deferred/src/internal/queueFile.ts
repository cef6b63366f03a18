/**
 * The syntax of App Engine's `queue.yaml` (Q130-Q137), parsed already, to and from the queues it configures.
 */
import * as Result from "effect/Result"
import { queuePattern } from "../DeferOptions.ts"
import type { Queue, QueueConfig } from "../QueueConfig.ts"
import { unlimited } from "../QueueLimits.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import {
  asText,
  compact,
  expecting,
  fields,
  listOf,
  numberFrom,
  oneOf,
  type Path,
  type Problem,
  type Read,
  text,
  truth,
  wholeFrom,
  wrong,
} from "./fields.ts"
import { keyLimitsOf, readByKey, readKeys, writeByKey, writeKeys } from "./queueKeys.ts"
import { ageLimit, bytes, millisToSeconds, rate, secondsToMillis, time, writeRate } from "./queueUnits.ts"

export type Contents = Pick<QueueConfig, "queues" | "resumePausedQueues" | "application" | "totalStorageLimit">

export const queueName: Read<string> = expecting(`a name of ${queuePattern.source}`, (value) => {
  const name = asText(value)
  return typeof name === "string" && queuePattern.test(name) ? name : undefined
})

export const target: Read<string> = expecting(
  "[version.]service in at most 100 characters, without an instance",
  (value) => {
    const found = asText(value)
    return typeof found === "string" && found.length <= 100 && /^(?:[^\s.]+\.)?[^\s.]+$/.test(found) ? found : undefined
  },
)

const retryFields = {
  task_retry_limit: wholeFrom(0),
  task_age_limit: ageLimit,
  min_backoff_seconds: numberFrom(0),
  max_backoff_seconds: numberFrom(0),
  max_doublings: wholeFrom(0),
}

const fieldOf: Readonly<Record<string, keyof typeof retryFields>> = {
  retryLimit: "task_retry_limit",
  ageLimit: "task_age_limit",
  minBackoff: "min_backoff_seconds",
  maxBackoff: "max_backoff_seconds",
  maxDoublings: "max_doublings",
}

const readRetry: Read<RetryPolicy.AppEngine> = (value, path) =>
  Result.gen(function* () {
    const given = yield* fields(retryFields)(value, path)
    const min = given.min_backoff_seconds
    const max = given.max_backoff_seconds
    if (min !== undefined && max !== undefined && max < min) {
      const reason = `must not be less than min_backoff_seconds, which is ${min}, and is ${max}`
      return yield* wrong([...path, "max_backoff_seconds"], reason)
    }
    const policy = RetryPolicy.appEngine({
      minBackoff: min === undefined ? undefined : secondsToMillis(min),
      maxBackoff: max === undefined ? undefined : secondsToMillis(max),
      maxDoublings: given.max_doublings,
      retryLimit: given.task_retry_limit,
      ageLimit: given.task_age_limit,
    })
    const problem = RetryPolicy.problem(policy)
    if (problem !== undefined) return yield* wrong([...path, fieldOf[problem.field] ?? problem.field], problem.reason)
    return policy
  })

const elsewhere = {
  ...Object.fromEntries(Object.keys(retryFields).map((field) => [field, "in retry_parameters"])),
  ordered: "in by_key",
  weight: "in an item of keys",
}

const queueFields = fields(
  {
    name: queueName,
    mode: oneOf("push", "pull"),
    rate,
    // With less than one token nothing would ever start (Q137), which nobody wants who does not pause the queue.
    bucket_size: numberFrom(1),
    max_concurrent_requests: wholeFrom(1),
    retry_parameters: readRetry,
    target,
    paused: truth,
    ageing: time,
    by_key: readByKey,
    keys: readKeys,
    acl: listOf(fields({ user_email: text, writer_email: text })),
  },
  elsewhere,
)

/** What a worker's pace is set by, which nobody sets for those who lease records themselves (Q135). */
const pushOnly = ["rate", "bucket_size", "max_concurrent_requests"] as const
const pushOnlyRetry = ["min_backoff_seconds", "max_backoff_seconds", "max_doublings"] as const

const readQueue: Read<Queue> = (value, path) =>
  Result.gen(function* () {
    const given = yield* queueFields(value, path)
    const { acl = [], mode = "push", name } = given
    if (name === undefined) return yield* wrong([...path, "name"], "is missing: every queue has one")
    if (mode === "pull") {
      const reason = "must not be there: records of a pull queue are leased, and nobody starts them"
      for (const field of pushOnly) if (given[field] !== undefined) return yield* wrong([...path, field], reason)
      const { retry_parameters: retry } = value as { readonly retry_parameters?: Readonly<Record<string, unknown>> }
      for (const field of pushOnlyRetry) {
        if (retry?.[field] !== undefined && retry[field] !== null)
          return yield* wrong([...path, "retry_parameters", field], reason)
      }
    }
    const queue: Queue = {
      name,
      rate: given.rate,
      burst: given.bucket_size ?? unlimited.burst,
      maxConcurrent: given.max_concurrent_requests,
      paused: given.paused,
      ageing: given.ageing,
      byKey: given.by_key ?? keyLimitsOf(undefined),
      keys: given.keys ?? [],
      retry: given.retry_parameters,
      target: given.target,
      mode,
      acl: acl.map(({ user_email, writer_email }) => ({ userEmail: user_email, writerEmail: writer_email })),
    }
    return queue
  })

const rootFields = fields(
  { application: text, total_storage_limit: bytes, resume_paused_queues: truth, queue: listOf(readQueue) },
  Object.fromEntries(["name", "rate", "bucket_size", "mode", "target"].map((field) => [field, "in an item of queue"])),
)

/** An empty file configures nothing, as App Engine has it. */
export const readFile: Read<Contents> = (value, path) =>
  Result.gen(function* () {
    const given = yield* rootFields(value ?? {}, path)
    const queues = given.queue ?? []
    const twice = queues.findIndex(({ name }, index) => queues.findIndex((other) => other.name === name) < index)
    if (twice >= 0) {
      const first = queues.findIndex((other) => other.name === queues[twice]!.name)
      const reason = `must be there once, and is the name of the queues ${first + 1} and ${twice + 1}`
      return yield* wrong([...path, "queue", twice, "name"], reason)
    }
    return {
      queues,
      resumePausedQueues: given.resume_paused_queues ?? false,
      application: given.application,
      totalStorageLimit: given.total_storage_limit,
    }
  })

const writeRetry = (policy: RetryPolicy.RetryPolicyData, path: Path) =>
  Result.gen(function* () {
    if (policy._tag !== "AppEngine") return yield* wrong(path, `cannot hold a policy ${policy._tag}, only App Engine's`)
    for (const field of ["maxAttempts", "maxAge"] as const) {
      if (policy[field] !== undefined) return yield* wrong(path, `cannot hold ${field}: App Engine does not know it`)
    }
    if (policy.jitter !== "none") return yield* wrong(path, "cannot hold jitter: App Engine does not know it (Q91)")
    const { ageLimit } = policy
    if (ageLimit !== undefined && !Number.isInteger(ageLimit / 1000)) {
      return yield* wrong([...path, "task_age_limit"], `cannot hold ${ageLimit} ms: it is in whole seconds`)
    }
    // What App Engine takes anyway need not be said, and a pull queue must not say it.
    const plain = RetryPolicy.appEngine()
    return compact({
      task_retry_limit: policy.retryLimit,
      task_age_limit: ageLimit === undefined ? undefined : `${ageLimit / 1000}s`,
      min_backoff_seconds:
        policy.minBackoff === plain.minBackoff
          ? undefined
          : yield* inSeconds(policy.minBackoff, [...path, "min_backoff_seconds"]),
      max_backoff_seconds:
        policy.maxBackoff === plain.maxBackoff
          ? undefined
          : yield* inSeconds(policy.maxBackoff, [...path, "max_backoff_seconds"]),
      max_doublings: policy.maxDoublings === plain.maxDoublings ? undefined : policy.maxDoublings,
    })
  })

const inSeconds = (millis: number, path: Path): Result.Result<number, Problem> => {
  const seconds = millisToSeconds(millis)
  return seconds === undefined ? wrong(path, `cannot hold ${millis} ms exactly`) : Result.succeed(seconds)
}

const writeQueue = (queue: Queue, path: Path) =>
  Result.gen(function* () {
    const { acl, ageing, retry } = queue
    return compact({
      name: queue.name,
      mode: queue.mode === "push" ? undefined : queue.mode,
      rate: writeRate(queue.rate),
      bucket_size: queue.burst === unlimited.burst ? undefined : queue.burst,
      max_concurrent_requests: queue.maxConcurrent,
      retry_parameters: retry === undefined ? undefined : yield* writeRetry(retry, [...path, "retry_parameters"]),
      target: queue.target,
      paused: queue.paused,
      ageing: ageing === undefined ? undefined : `${yield* inSeconds(ageing, [...path, "ageing"])}s`,
      by_key: writeByKey(queue.byKey),
      keys: writeKeys(queue.keys),
      acl:
        acl.length === 0
          ? undefined
          : acl.map(({ userEmail, writerEmail }) => compact({ user_email: userEmail, writer_email: writerEmail })),
    })
  })

/** What reads back as the same; a problem where the syntax has no words for something. */
export const writeFile = (contents: Contents): Result.Result<object, Problem> =>
  Result.gen(function* () {
    const { application, resumePausedQueues, totalStorageLimit } = contents
    return compact({
      application,
      total_storage_limit: totalStorageLimit === undefined ? undefined : `${totalStorageLimit}B`,
      resume_paused_queues: resumePausedQueues ? true : undefined,
      queue: yield* Result.all(contents.queues.map((queue, index) => writeQueue(queue, ["queue", index]))),
    })
  })
