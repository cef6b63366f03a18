/**
 * A chapter of the suite for drivers.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TaskQueue, TaskQueueError } from "../../TaskQueue.ts"

export interface Chapter {
  readonly title: string
  readonly tests: (test: Test) => void
}

export type Test = (sentence: string, body: Effect.Effect<unknown, TaskQueueError, TaskQueue | Scope.Scope>) => void
