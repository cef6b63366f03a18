/**
 * The one place that tells of tasks: to subscribers, and to the metrics.
 */
import * as Broadcast from "@outlive/core/Broadcast"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"
import type * as TaskEvent from "../TaskEvent.ts"
import type { AttemptFailure } from "../TaskRecord.ts"
import * as TaskMetrics from "./taskMetrics.ts"

export const makeTaskEvents = (application: Context.Context<never>): TaskEvent.TaskEvents => {
  const { subscribe, tell } = Broadcast.make<TaskEvent.TaskEvent>()
  const common = Context.get(application, Metric.CurrentMetricAttributes)
  const of = attributed(common)
  const sent = of(TaskMetrics.sent, "outlive.outcome")
  const deadLetters = of(TaskMetrics.deadLetters, "outlive.reason")
  const processDuration = of(TaskMetrics.processDuration, "outlive.outcome")
  const waitDuration = of(TaskMetrics.waitDuration, "outlive.outcome")
  const active = of(TaskMetrics.active, "outlive.outcome")
  // All that a metric with attributes of its own looks for, at each update.
  const context = Context.add(
    Context.make(Metric.MetricRegistry, Context.get(application, Metric.MetricRegistry)),
    Metric.CurrentMetricAttributes,
    {},
  )

  return {
    subscribe,
    deferred: (record, outcome) => {
      sent(record, outcome._tag, undefined).updateUnsafe(1, context)
      const { queue, task } = record
      const id = outcome.id ?? record.id
      tell(() => ({ _tag: "Deferred", id, task, queue, outcome: outcome._tag }))
    },
    started: (record, worker, now) => {
      const waited = Math.max(0, now - record.eta)
      waitDuration(record, undefined, undefined).updateUnsafe(waited / 1000, context)
      active(record, undefined, undefined).modifyUnsafe(1, context)
      const { attempt, id, queue, task } = record
      tell(() => ({ _tag: "Started", id, task, queue, worker, attempt, waited: Duration.millis(waited) }))
    },
    ended: (record, worker, settlement, millis) => {
      const outcome = settlement?._tag ?? "Abandoned"
      const failure = failureOf(settlement)
      const reason = settlement?.reason
      processDuration(record, outcome, failure?.tag).updateUnsafe(millis / 1000, context)
      active(record, undefined, undefined).modifyUnsafe(-1, context)
      if (reason !== undefined) deadLetters(record, reason, failure?.tag).updateUnsafe(1, context)
      const { attempt, id, queue, task } = record
      tell(() => {
        const took = Duration.millis(millis)
        return { _tag: "Ended", id, task, queue, worker, attempt, outcome, took, reason, failure }
      })
    },
  }
}

const failureOf = (settlement: TaskEvent.Settled | undefined): AttemptFailure | undefined =>
  settlement?.failure === undefined ? undefined : (JSON.parse(settlement.failure) as AttemptFailure)

/** How many combinations of attributes a metric has at the most: error tags come from applications. */
const most = 1000

/** A metric with its attributes, made once for each combination of them. */
const attributed =
  (common: Metric.Metric.AttributeSet) =>
  <M>(make: (attributes: Metric.Metric.AttributeSet) => M, kindName: string) => {
    const made = new Map<string, M>()
    // Mostly the same as the last time, and then not even a key has to be made.
    let last:
      | { queue: string; task: string; kind: string | undefined; error: string | undefined; metric: M }
      | undefined
    return (
      { queue, task }: { readonly queue: string; readonly task: string },
      kind: string | undefined,
      error: string | undefined,
    ): M => {
      if (last?.queue === queue && last.task === task && last.kind === kind && last.error === error) return last.metric
      const key = `${queue}\n${task}\n${kind}\n${error}`
      let found = made.get(key)
      if (found === undefined) {
        found = make({
          ...common,
          "messaging.system": "outlive",
          "messaging.destination.name": queue,
          "outlive.task.name": task,
          ...(kind === undefined ? {} : { [kindName]: kind }),
          ...(error === undefined ? {} : { "error.type": error }),
        })
        if (made.size < most) made.set(key, found)
      }
      last = { queue, task, kind, error, metric: found }
      return found
    }
  }
