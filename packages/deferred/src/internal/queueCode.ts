/**
 * Queues as a program writes them, checked.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Queue, QueueOptions } from "../QueueConfig.ts"
import { unlimited } from "../QueueLimits.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { expecting, fields, numberFrom, type Problem, type Read, truth, wholeFrom, wrong } from "./fields.ts"
import { queueName, target } from "./queueFile.ts"
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

const queueFields = fields({
  rate,
  burst: numberFrom(1),
  maxConcurrent: wholeFrom(1),
  paused: truth,
  ageing: duration,
  retry,
  target,
})

export const readOptions = (
  queues: Readonly<Record<string, QueueOptions>>,
): Result.Result<ReadonlyArray<Queue>, Problem> =>
  Result.all(
    Object.entries(queues).map(([name, options]) =>
      Result.gen(function* () {
        yield* queueName(name, [name, "name"])
        const given = yield* queueFields(options, [name])
        const queue: Queue = { ...given, name, burst: given.burst ?? unlimited.burst, mode: "push", acl: [] }
        return queue
      }),
    ),
  )
