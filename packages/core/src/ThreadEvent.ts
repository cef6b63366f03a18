/**
 * What happens to background threads, as a stream of events and as metrics, from one place.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"

/**
 * - `Started`: a permit was taken, the thread runs
 * - `Refused`: nothing was started, for this reason
 * - `Restarted`: its effect failed and runs again (`restart`)
 * - `Ended`: it has ended, its finalizers have run, its permit is back
 *
 * @since 0.1.0
 */
export type ThreadEvent =
  | { readonly _tag: "Started"; readonly id: number; readonly name: string; readonly daemon: boolean }
  | {
      readonly _tag: "Refused"
      readonly name: string | undefined
      readonly reason: "FrontendsNotSupported" | "LimitReached" | "ShuttingDown"
    }
  | { readonly _tag: "Restarted"; readonly id: number; readonly name: string; readonly cause: Cause.Cause<unknown> }
  | {
      readonly _tag: "Ended"
      readonly id: number
      readonly name: string
      readonly outcome: "succeeded" | "failed" | "interrupted"
      readonly took: Duration.Duration
    }

/** Threads alive. @since 0.1.0 */
export const active = Metric.gauge("outlive_threads_active", { description: "Background threads alive" })

/** Threads started. @since 0.1.0 */
export const started = Metric.counter("outlive_threads_started_total", {
  description: "Background threads started",
  incremental: true,
})

/** Starts refused, by the attribute `reason`. @since 0.1.0 */
export const refused = Metric.counter("outlive_threads_refused_total", {
  description: "Background threads refused",
  incremental: true,
})

/** Threads that failed or died. @since 0.1.0 */
export const failed = Metric.counter("outlive_threads_failed_total", {
  description: "Background threads that failed",
  incremental: true,
})

/** How long threads lived. @since 0.1.0 */
export const duration = Metric.timer("outlive_thread_duration", { description: "Life time of background threads" })
