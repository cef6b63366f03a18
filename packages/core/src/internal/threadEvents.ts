/**
 * The one place that tells of threads: to subscribers, and to the metrics.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Refusal } from "../BackgroundThread.ts"
import * as Broadcast from "../Broadcast.ts"
import * as ThreadEvent from "../ThreadEvent.ts"

interface Told {
  readonly id: number
  readonly name: string
}

export interface ThreadEvents {
  readonly started: (thread: Told & { readonly daemon: boolean }, active: number) => void
  readonly refused: (name: string | undefined, reason: Refusal["_tag"]) => void
  readonly restarted: (thread: Told, cause: Cause.Cause<unknown>) => void
  readonly ended: (thread: Told, exit: Exit.Exit<unknown, unknown>, millis: number, active: number) => void
  readonly subscribe: Effect.Effect<Stream.Stream<ThreadEvent.ThreadEvent>, never, Scope.Scope>
}

const refusedBy = {
  FrontendsNotSupported: Metric.withAttributes(ThreadEvent.refused, { reason: "FrontendsNotSupported" }),
  LimitReached: Metric.withAttributes(ThreadEvent.refused, { reason: "LimitReached" }),
  ShuttingDown: Metric.withAttributes(ThreadEvent.refused, { reason: "ShuttingDown" }),
}

export const makeThreadEvents = (application: Context.Context<never>): ThreadEvents => {
  const { subscribe, tell } = Broadcast.make<ThreadEvent.ThreadEvent>()
  return {
    started: ({ daemon, id, name }, active) => {
      ThreadEvent.started.updateUnsafe(1, application)
      ThreadEvent.active.updateUnsafe(active, application)
      tell(() => ({ _tag: "Started", id, name, daemon }))
    },
    refused: (name, reason) => {
      refusedBy[reason].updateUnsafe(1, application)
      tell(() => ({ _tag: "Refused", name, reason }))
    },
    restarted: ({ id, name }, cause) => tell(() => ({ _tag: "Restarted", id, name, cause })),
    ended: ({ id, name }, exit, millis, active) => {
      const outcome = Exit.isSuccess(exit)
        ? "succeeded"
        : Cause.hasInterruptsOnly(exit.cause)
          ? "interrupted"
          : "failed"
      const took = Duration.millis(millis)
      if (outcome === "failed") ThreadEvent.failed.updateUnsafe(1, application)
      ThreadEvent.active.updateUnsafe(active, application)
      ThreadEvent.duration.updateUnsafe(took, application)
      tell(() => ({ _tag: "Ended", id, name, outcome, took }))
    },
    subscribe,
  }
}
