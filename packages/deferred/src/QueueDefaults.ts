/**
 * What a queue says about its records where they do not say it themselves: retry policy and target. Unlike the limits of
 * a queue, which are stored in it and hold everywhere, these are this program's: whoever defers or works reads its own.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { RetryPolicyData } from "./RetryPolicy.ts"

/** @since 0.1.0 */
export interface QueueDefault {
  /**
   * For records whose `defer` said nothing of retries and whose task says nothing either. It is taken whole, never merged
   * with another (Q88), and looked up when an attempt has failed, so a new one holds for waiting records, too.
   *
   * What decides, from the first that says something: the record's own policy (`defer`), the rule for the error's tag, the
   * task's policy, the queue's, `RetryPolicy.defaultPolicy`.
   */
  readonly retry: RetryPolicyData | undefined
  /**
   * Where all records of the queue go: it comes before the target that `defer` names (Q125), so that who runs the program
   * can move a queue to other workers without a change to its callers. It is written down with the record when it is
   * deferred: a new one holds for new records.
   */
  readonly target: string | undefined
}

/**
 * By queue. `QueueConfig.layer` provides it, and `QueueConfig.apply` changes what that layer provides; `defer` and the
 * worker read it. Default: empty.
 *
 * @since 0.1.0
 */
export const QueueDefaults = Context.Reference<ReadonlyMap<string, QueueDefault>>("outlive/deferred/QueueDefaults", {
  defaultValue: () => new Map(),
})
