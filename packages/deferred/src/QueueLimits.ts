/**
 * What a queue may do, over all its workers together, and how it stands.
 *
 * @since 0.1.0
 */

import { type KeyLimits, unlimited as keysUnlimited } from "./KeyLimits.ts"

/**
 * The limits of a queue, over all its workers together. A queue that was never configured has none.
 *
 * @since 0.1.0
 */
export interface QueueLimits {
  /** Nothing is claimed while paused; enqueueing goes on. */
  readonly paused: boolean
  /** Attempts started per second; `undefined`: no limit, 0: none. */
  readonly rate: number | undefined
  /** How many may start at once when the rate was not used for a while (bucket size); at least 1. */
  readonly burst: number
  /** Records running at the same time; `undefined`: no limit. */
  readonly maxConcurrent: number | undefined
  /**
   * Milliseconds of waiting that weigh as much as one point of priority, so that a high priority cannot keep a low one
   * waiting for ever: claims then come by `eta - priority * ageing`, the smallest first, then by insertion.
   * `undefined`: the priority alone decides.
   */
  readonly ageing: number | undefined
  /** What each key of its records may do. It is changed as a whole. */
  readonly byKey: KeyLimits
}

/**
 * A queue at a glance (App Engine's `QueueStatistics`, Q66).
 *
 * @since 0.1.0
 */
export interface QueueStatistics {
  /** Scheduled and ready. */
  readonly waiting: number
  readonly ready: number
  /** The smallest eta of what is waiting; of what waits for other records, none is known. */
  readonly oldestEta: number | undefined
  /** Running, by live leases and by those that nobody has taken back yet. */
  readonly inFlight: number
  /** Attempts settled in the last 60 seconds, whole seconds taken together; what was released does not count. */
  readonly executedLastMinute: number
  /** When the rate next allows a start, now or later; `undefined`: there is no rate, or it is 0. */
  readonly nextTokenAt: number | undefined
  /** Nothing starts before then (`TaskQueue.pauseUntil`); `undefined`: it is not paused so now. */
  readonly pausedUntil: number | undefined
}

/** The limits of a queue that was never configured. @since 0.1.0 */
export const unlimited: QueueLimits = {
  paused: false,
  rate: undefined,
  burst: 5,
  maxConcurrent: undefined,
  ageing: undefined,
  byKey: keysUnlimited,
}
