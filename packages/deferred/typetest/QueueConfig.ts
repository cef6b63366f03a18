/**
 * Queue configuration: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import { type Effect, type Layer, Schedule } from "effect"

// ---- as code
const config: Effect.Effect<QueueConfig.QueueConfig, QueueConfig.InvalidQueueConfig> = QueueConfig.make({
  mail: { rate: "5/s", burst: 20, maxConcurrent: 10, paused: false, ageing: "1 minute", target: "v2" },
  web: { rate: { perSecond: 2.5 }, retry: RetryPolicy.exponential() },
  off: { rate: 0 },
})
// @ts-expect-error a rate has a unit
QueueConfig.make({ mail: { rate: "5" } })
// @ts-expect-error per what?
QueueConfig.make({ mail: { rate: 5 } })
// @ts-expect-error there are no rates per year
QueueConfig.make({ mail: { rate: "5/y" } })
// @ts-expect-error the name in a file, not in code
QueueConfig.make({ mail: { bucket_size: 5 } })
// @ts-expect-error a schedule cannot be written down
QueueConfig.make({ mail: { retry: RetryPolicy.fromSchedule(Schedule.forever) } })

// ---- what keys may do
QueueConfig.make({
  sync: {
    byKey: { maxConcurrent: 2, rate: "5/s", burst: 10, ordered: true },
    keys: { acme: { weight: 3, maxConcurrent: "unlimited", rate: { perSecond: 9 } } },
  },
})
// @ts-expect-error all keys have their turns alike
QueueConfig.make({ sync: { byKey: { weight: 3 } } })
// @ts-expect-error what is not said has no limit
QueueConfig.make({ sync: { byKey: { maxConcurrent: "unlimited" } } })
// @ts-expect-error all keys of a queue have an order, or none
QueueConfig.make({ sync: { keys: { acme: { ordered: true } } } })

// ---- a configuration is made, not written
// @ts-expect-error nobody has checked it
QueueConfig.apply({ queues: [], resumePausedQueues: false, application: undefined, totalStorageLimit: undefined })

// ---- the layer has the errors of what it was given, and needs the queues
export const layer: Layer.Layer<never, QueueConfig.InvalidQueueConfig | TaskQueueError, TaskQueue> =
  QueueConfig.layer(config)
declare const checked: QueueConfig.QueueConfig
export const sure: Layer.Layer<never, TaskQueueError, TaskQueue> = QueueConfig.layer(checked)
// @ts-expect-error a mistake may come out
export const careless: Layer.Layer<never, TaskQueueError, TaskQueue> = QueueConfig.layer(config)

// ---- a change says what it is about
declare const change: QueueConfig.Change
if (change.field === "rate") {
  change.after satisfies number | undefined
}
if (change.field === "keys") {
  change.key satisfies string
  change.after.weight satisfies number | undefined
}
// @ts-expect-error a change of another field
change.after satisfies number | undefined
