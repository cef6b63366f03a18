/**
 * The metrics of tasks, as `TaskEvent` has them, with any attributes: one made with its attributes finds its series at less
 * cost than one that gets them afterwards (`Metric.withAttributes`), and is the same to whoever reads it.
 */
import * as Metric from "effect/Metric"

type Attributes = Metric.Metric.AttributeSet

export const sent = (attributes?: Attributes) =>
  Metric.counter("messaging.client.sent.messages", { description: "Tasks deferred", incremental: true, attributes })

const seconds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 7200]

export const processDuration = (attributes?: Attributes) =>
  Metric.histogram("messaging.process.duration", {
    description: "Duration of attempts in seconds",
    boundaries: seconds,
    attributes,
  })

export const waitDuration = (attributes?: Attributes) =>
  Metric.histogram("outlive.task.wait.duration", {
    description: "Seconds that due tasks waited for their attempt",
    boundaries: seconds,
    attributes,
  })

export const deadLetters = (attributes?: Attributes) =>
  Metric.counter("outlive.task.dead_letters", { description: "Dead letters made", incremental: true, attributes })

export const active = (attributes?: Attributes) =>
  Metric.gauge("outlive.task.active", { description: "Attempts under way", attributes })
