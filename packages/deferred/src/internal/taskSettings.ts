/**
 * From what a task's definition says to its settings.
 */
import type * as Duration from "effect/Duration"
import type * as Schema from "effect/Schema"
import { InvalidTaskOptions, queuePattern } from "../DeferOptions.ts"
import type { RetryRules } from "../Outcome.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { Latest, Options, Settings } from "../TaskOptions.ts"
import { paceOf } from "./latest.ts"
import { toMillis } from "./millis.ts"
import { uniqueWhile } from "./recordKeys.ts"
import type { TaskCodec } from "./taskCodec.ts"

/** Options whose types are those of a definition which is not known here. */
export type AnyOptions = Options<typeof Schema.Void, Schema.Top, Schema.Top>

/** A definition that cannot work is a mistake of the program: it is thrown where the task is defined. */
export const settingsOf = (
  task: string,
  options: AnyOptions | undefined,
  made: { readonly version: number; readonly codec: TaskCodec },
): Settings => {
  const retry:
    | RetryPolicy.RetryPolicy
    | (RetryRules & { readonly _?: RetryPolicy.RetryPolicy | undefined })
    | undefined = options?.retry
  const settings: Settings = {
    queue: options?.queue ?? "default",
    priority: options?.priority ?? 0,
    policy: RetryPolicy.isRetryPolicy(retry) ? retry : retry?._,
    rules: retry === undefined || RetryPolicy.isRetryPolicy(retry) ? {} : { ...retry, _: undefined },
    timeout: millis(options?.timeout),
    lease: millis(options?.lease),
    maxCrashes: options?.maxCrashes ?? 3,
    commit: options?.commit ?? "afterHandler",
    keep: keepMillis(options?.keep ?? "1 day"),
    aliases: options?.aliases ?? [],
    key: options?.key,
    unique:
      options?.unique === undefined
        ? undefined
        : { key: options.unique.key, while: uniqueWhile(options.unique.while ?? ["scheduled", "ready", "running"]) },
    latest: latestOf(task, options),
    ...made,
  }
  check(task, settings)
  return settings
}

const latestOf = (task: string, options: AnyOptions | undefined): Latest | undefined => {
  if (options?.latest === undefined) return undefined
  const { latest } = options
  const refuse = (field: string, reason: string) => new InvalidTaskOptions({ task, field, reason })
  // Types say so already; JavaScript does not.
  if (options.unique !== undefined) throw refuse("latest", "and unique exclude each other")
  const pace = paceOf(latest, refuse)
  if (pace instanceof InvalidTaskOptions) throw pace
  return { key: latest.key, merge: latest.merge, ...pace }
}

const check = (task: string, settings: Settings): void => {
  const refuse = (field: string, reason: string): never => {
    throw new InvalidTaskOptions({ task, field, reason })
  }
  const { keep, lease, maxCrashes, policy, priority, queue, rules, timeout } = settings
  if (task === "") refuse("name", "must not be empty")
  if (!queuePattern.test(queue)) refuse("queue", `must match ${queuePattern.source}, and is ${JSON.stringify(queue)}`)
  if (!Number.isFinite(priority)) refuse("priority", `must be a finite number, and is ${priority}`)
  for (const [field, value] of Object.entries({ timeout, lease })) {
    if (value !== undefined && !(value > 0 && Number.isFinite(value))) refuse(field, "must be a finite time above 0")
  }
  if (!Number.isInteger(maxCrashes) || maxCrashes < 0) refuse("maxCrashes", `must be 0, 1, ..., and is ${maxCrashes}`)
  if (!(keep >= 0)) refuse("keep", "must not be negative")
  for (const [tag, rule] of Object.entries({ ...rules, _: policy })) {
    const problem = RetryPolicy.isRetryPolicy(rule) ? RetryPolicy.problem(rule) : undefined
    if (problem !== undefined) refuse(`retry${tag === "_" ? "" : `.${tag}`}.${problem.field}`, problem.reason)
  }
}

const millis = (input: Duration.Input | undefined): number | undefined =>
  input === undefined ? undefined : toMillis(input)

const keepMillis = (keep: Duration.Input | "none" | "forever"): number =>
  keep === "none" ? 0 : keep === "forever" ? Number.POSITIVE_INFINITY : toMillis(keep)
