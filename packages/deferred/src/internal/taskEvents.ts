/**
 * The one place that tells of tasks: to subscribers, and to the metrics.
 */
import * as Broadcast from "@outlive/core/Broadcast"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"
import type * as TaskEvent from "../TaskEvent.ts"
import type { AttemptFailure, TaskRecord } from "../TaskRecord.ts"
import * as TaskMetrics from "./taskMetrics.ts"

export const makeTaskEvents = (application: Context.Context<never>): TaskEvent.TaskEvents => {
  const { subscribe, subscribers, tell } = Broadcast.make<TaskEvent.TaskEvent>()
  const common = Context.get(application, Metric.CurrentMetricAttributes)
  const of = attributed(common)
  const sent = of(TaskMetrics.sent)
  const deadLetters = of(TaskMetrics.deadLetters, "outlive.reason")
  const processDuration = of(TaskMetrics.processDuration)
  const underWay = of((attributes) => ({
    active: TaskMetrics.active(attributes),
    waitDuration: TaskMetrics.waitDuration(attributes),
  }))
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
      if (subscribers() > 0) tell(deferredOf(record, outcome))
    },
    started: (record, worker, now) => {
      const waited = Math.max(0, now - record.eta)
      const { active, waitDuration } = underWay(record, undefined, undefined)
      waitDuration.updateUnsafe(waited / 1000, context)
      active.modifyUnsafe(1, context)
      if (subscribers() > 0) tell(startedOf(record, worker, waited))
    },
    ended: (record, worker, settlement, millis) => {
      const error = failureOf(settlement)?.tag
      const reason = settlement?.reason
      processDuration(record, settlement?._tag ?? "Abandoned", error).updateUnsafe(millis / 1000, context)
      underWay(record, undefined, undefined).active.modifyUnsafe(-1, context)
      if (reason !== undefined) deadLetters(record, reason, error).updateUnsafe(1, context)
      if (subscribers() > 0) tell(endedOf(record, worker, settlement, millis))
    },
  }
}

type Told = () => TaskEvent.TaskEvent

// Apart from what counts: its parameters would be kept for these, and take memory, where nobody is told as well.
const deferredOf =
  (...[{ id, queue, task }, outcome]: Parameters<TaskEvent.TaskEvents["deferred"]>): Told =>
  () => ({ _tag: "Deferred", id: outcome.id ?? id, task, queue, outcome: outcome._tag })

const startedOf =
  ({ attempt, id, queue, task }: TaskRecord, worker: string, waited: number): Told =>
  () => ({ _tag: "Started", id, task, queue, worker, attempt, waited: Duration.millis(waited) })

const endedOf =
  (...[{ attempt, id, queue, task }, worker, settlement, millis]: Parameters<TaskEvent.TaskEvents["ended"]>): Told =>
  () => ({
    _tag: "Ended",
    id,
    task,
    queue,
    worker,
    attempt,
    outcome: settlement?._tag ?? "Abandoned",
    took: Duration.millis(millis),
    reason: settlement?.reason,
    failure: failureOf(settlement),
  })

const failureOf = (settlement: TaskEvent.Settled | undefined): AttemptFailure | undefined =>
  settlement?.failure === undefined ? undefined : (JSON.parse(settlement.failure) as AttemptFailure)

/** How many combinations of attributes a metric has at the most: error tags come from applications. */
const most = 1000

/** A metric with its attributes, made once for each combination of them. */
const attributed =
  (common: Metric.Metric.AttributeSet) =>
  <M>(make: (attributes: Metric.Metric.AttributeSet) => M, kindName = "outlive.outcome") => {
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
