/**
 * What a program says of its queues (`QueueConfig.make`).
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type { RetryPolicyData } from "./RetryPolicy.ts"

/** Attempts started: `"5/s"`, `"500/m"`, `"20/h"`, `"1/d"`, `{ perSecond: 5 }`; 0 starts none. @since 0.1.0 */
export type Rate = `${number}/${"s" | "m" | "h" | "d"}` | 0 | { readonly perSecond: number }

/** What each key of a queue's records may do, besides what the queue may. @since 0.1.0 */
export interface ByKeyOptions {
  /** Records of a key running at the same time, over all workers; at least 1. Default: no limit. */
  readonly maxConcurrent?: number | undefined
  /** Default: no limit. */
  readonly rate?: Rate | undefined
  /** How many of a key may start at once when its rate was not used for a while, at least 1. Default 5. */
  readonly burst?: number | undefined
  /**
   * The records of a key run one after the other, in the order in which they were deferred: none before the one before it has
   * ended, however long that waits or is tried again. Priorities count for nothing then. Default `false`.
   */
  readonly ordered?: boolean | undefined
}

/** What one key may do instead; what is not said is as `byKey` has it. @since 0.1.0 */
export interface KeyOptions {
  /** At least 1, or `"unlimited"`. */
  readonly maxConcurrent?: number | "unlimited" | undefined
  readonly rate?: Rate | "unlimited" | undefined
  /** At least 1. */
  readonly burst?: number | undefined
  /** Its share beside other keys: of 3, it starts three while one of 1 starts one. 0.001 to 1,000, default 1. */
  readonly weight?: number | undefined
}

/** @since 0.1.0 */
export interface QueueOptions {
  /** Default: no limit. */
  readonly rate?: Rate | undefined
  /** How many may start at once when the rate was not used for a while, at least 1 (Q137). Default 5, as App Engine's. */
  readonly burst?: number | undefined
  /** Records running at the same time, over all workers; at least 1. Default: no limit. */
  readonly maxConcurrent?: number | undefined
  /** Default: as it is. */
  readonly paused?: boolean | undefined
  /** Waiting that weighs as much as one point of priority, so that a low one is not passed for ever. Default: none. */
  readonly ageing?: Duration.Input | undefined
  /** What each key of its records may do. Default: no limits, no order. */
  readonly byKey?: ByKeyOptions | undefined
  /** What holds for single keys instead, by key (1 to 255 characters). */
  readonly keys?: Readonly<Record<string, KeyOptions>> | undefined
  /** For records whose `defer` and whose task say nothing (`QueueDefaults`). Default: `RetryPolicy.defaultPolicy`. */
  readonly retry?: RetryPolicyData | undefined
  /** Where all its records go, whatever `defer` says (Q125, `QueueDefaults`). Default: where `defer` says. */
  readonly target?: string | undefined
}
