/**
 * The one place that tells of tasks: to subscribers, and to the metrics.
 */
import * as Broadcast from "@outlive/core/Broadcast"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"
import * as TaskEvent from "../TaskEvent.ts"
import type { AttemptFailure } from "../TaskRecord.ts"

type Counter = typeof TaskEvent.sent
type Histogram = typeof TaskEvent.processDuration

export const makeTaskEvents = (application: Context.Context<never>): TaskEvent.TaskEvents => {
  const { subscribe, tell } = Broadcast.make<TaskEvent.TaskEvent>()
  const sent = attributed<Counter>(TaskEvent.sent)
  const deadLetters = attributed<Counter>(TaskEvent.deadLetters)
  const processDuration = attributed<Histogram>(TaskEvent.processDuration)
  const waitDuration = attributed<Histogram>(TaskEvent.waitDuration)
  const active = attributed<typeof TaskEvent.active>(TaskEvent.active)

  return {
    subscribe,
    deferred: (record, outcome) => {
      sent(record, outcome._tag, undefined).updateUnsafe(1, application)
      const { queue, task } = record
      const id = outcome.id ?? record.id
      tell(() => ({ _tag: "Deferred", id, task, queue, outcome: outcome._tag }))
    },
    started: (record, worker, now) => {
      const waited = Math.max(0, now - record.eta)
      waitDuration(record, undefined, undefined).updateUnsafe(waited / 1000, application)
      active(record, undefined, undefined).modifyUnsafe(1, application)
      const { attempt, id, queue, task } = record
      tell(() => ({ _tag: "Started", id, task, queue, worker, attempt, waited: Duration.millis(waited) }))
    },
    ended: (record, worker, settlement, millis) => {
      const outcome = settlement?._tag ?? "Abandoned"
      const failure = failureOf(settlement)
      const reason = settlement?.reason
      processDuration(record, outcome, failure?.tag).updateUnsafe(millis / 1000, application)
      active(record, undefined, undefined).modifyUnsafe(-1, application)
      if (reason !== undefined) deadLetters(record, reason, failure?.tag).updateUnsafe(1, application)
      const { attempt, id, queue, task } = record
      const took = Duration.millis(millis)
      tell(() => ({ _tag: "Ended", id, task, queue, worker, attempt, outcome, took, reason, failure }))
    },
  }
}

const failureOf = (settlement: TaskEvent.Settled | undefined): AttemptFailure | undefined =>
  settlement?.failure === undefined ? undefined : (JSON.parse(settlement.failure) as AttemptFailure)

/** How many combinations of attributes a metric has at the most: error tags come from applications. */
const most = 1000

/** A metric with its attributes, made once for each combination of them. */
const attributed = <M extends Counter | Histogram | typeof TaskEvent.active>(metric: M) => {
  const made = new Map<string, M>()
  // Mostly the same as the last time, and then not even a key has to be made.
  let last: { queue: string; task: string; kind: string | undefined; error: string | undefined; metric: M } | undefined
  return (
    { queue, task }: { readonly queue: string; readonly task: string },
    kind: string | undefined,
    error: string | undefined,
  ): M => {
    if (last?.queue === queue && last.task === task && last.kind === kind && last.error === error) return last.metric
    const key = `${queue}\n${task}\n${kind}\n${error}`
    let found = made.get(key)
    if (found === undefined) {
      found = Metric.withAttributes(metric as Counter, {
        "messaging.system": "outlive",
        "messaging.destination.name": queue,
        "outlive.task.name": task,
        ...(kind === undefined
          ? {}
          : { [(metric as Counter) === TaskEvent.deadLetters ? "outlive.reason" : "outlive.outcome"]: kind }),
        ...(error === undefined ? {} : { "error.type": error }),
      }) as unknown as M
      if (made.size < most) made.set(key, found)
    }
    last = { queue, task, kind, error, metric: found }
    return found
  }
}
