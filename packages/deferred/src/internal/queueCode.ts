/**
 * Queues as a program writes them, checked.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { KeyOverride } from "../KeyLimits.ts"
import type { Key, Queue } from "../QueueConfig.ts"
import { unlimited } from "../QueueLimits.ts"
import type { KeyOptions, QueueOptions } from "../QueueOptions.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import {
  anyFields,
  expecting,
  fields,
  numberFrom,
  type Path,
  type Problem,
  type Read,
  truth,
  wholeFrom,
  wrong,
} from "./fields.ts"
import { queueName, target } from "./queueFile.ts"
import { keyLimitsOf, keyName, orUnlimited, overrideOf, weight } from "./queueKeys.ts"
import { perSecond, rate as rateText } from "./queueUnits.ts"

const rateFields = fields({ perSecond: numberFrom(0) })

const rate: Read<number | undefined> = (value, path) =>
  typeof value === "object" && perSecond(value) === undefined
    ? Result.map(rateFields(value, path), (given) => given.perSecond)
    : rateText(value, path)

const duration = expecting("a finite duration above 0", (value) => {
  const millis = Option.map(Duration.fromInput(value as Duration.Input), Duration.toMillis)
  return Option.getOrUndefined(Option.filter(millis, (found) => found > 0 && Number.isFinite(found)))
})

const retry: Read<RetryPolicy.RetryPolicyData> = (value, path) => {
  if (!RetryPolicy.isRetryPolicy(value)) return wrong(path, "must be a policy that RetryPolicy made")
  if (value._tag === "FromSchedule") return wrong(path, "must be plain data, and is a schedule: give that to the task")
  const problem = RetryPolicy.problem(value)
  return problem === undefined ? Result.succeed(value) : wrong([...path, problem.field], problem.reason)
}

const byKeyFields = fields(
  { maxConcurrent: wholeFrom(1), rate, burst: numberFrom(1), ordered: truth },
  { weight: "in keys, to single keys" },
)

const keyFields = fields(
  { maxConcurrent: orUnlimited(wholeFrom(1)), rate: orUnlimited(rate), burst: numberFrom(1), weight },
  { ordered: "in byKey: all keys of a queue, or none" },
)

const queueFields = fields(
  {
    rate,
    burst: numberFrom(1),
    maxConcurrent: wholeFrom(1),
    paused: truth,
    ageing: duration,
    byKey: byKeyFields,
    keys: anyFields,
    retry,
    target,
  },
  { ordered: "in byKey", weight: "in keys, to single keys" },
)

/** A key, where a program names one. */
export const readKey: Read<string> = keyName

export const readKeyOptions = (name: string, options: KeyOptions, path: Path): Result.Result<KeyOverride, Problem> =>
  Result.gen(function* () {
    yield* keyName(name, path)
    return overrideOf(yield* keyFields(options, path))
  })

export const readOptions = (
  queues: Readonly<Record<string, QueueOptions>>,
): Result.Result<ReadonlyArray<Queue>, Problem> =>
  Result.all(
    Object.entries(queues).map(([name, options]) =>
      Result.gen(function* () {
        yield* queueName(name, [name, "name"])
        const { byKey, keys, ...given } = yield* queueFields(options, [name])
        const named = Object.entries(keys ?? {}).map(([key, each]) =>
          Result.map(
            readKeyOptions(key, each as KeyOptions, [name, "keys", key]),
            (said): Key => ({ name: key, ...said }),
          ),
        )
        const queue: Queue = {
          ...given,
          name,
          burst: given.burst ?? unlimited.burst,
          byKey: keyLimitsOf(byKey),
          keys: yield* Result.all(named),
          mode: "push",
          acl: [],
        }
        return queue
      }),
    ),
  )
