/**
 * What the records of one key may do, over all workers together. A record's key says whom its work is for: a tenant, an
 * account, a device (`key` of `Task.make`). Within a queue, keys take turns, so that one with a million records delays
 * another's single one by at most a round; and each keeps to limits of its own besides those of the queue.
 *
 * The turns are start-time fair queueing (Goyal, Vin, Cheng 1996) in records started: each key has a place in a virtual time,
 * and each start moves it on by one over its weight; who has not been there for a while begins at the present and gains
 * nothing from that. `docs/keys.md`.
 *
 * @since 0.1.0
 */

/** The limits of a queue that each of its keys has for itself. @since 0.1.0 */
export interface KeyLimits {
  /** Records of a key running at the same time; `undefined`: no limit. */
  readonly maxConcurrent: number | undefined
  /** Attempts of a key started per second; `undefined`: no limit, 0: none. */
  readonly rate: number | undefined
  /** How many of a key may start at once when its rate was not used for a while; at least 1. */
  readonly burst: number
  /**
   * Whether the records of a key run strictly one after the other, in the order of insertion: none before the one inserted
   * before it has ended, however often that is tried and however long it waits for its eta. Priorities count for nothing then.
   * A record that waits for members of its own key must be inserted after them: before them it would wait for ever.
   */
  readonly ordered: boolean
}

/**
 * What holds for one key of a queue instead: what it says; the rest is as the queue has it.
 *
 * @since 0.1.0
 */
export interface KeyOverride {
  /** `Infinity`: no limit. */
  readonly maxConcurrent?: number | undefined
  /** `Infinity`: no limit; 0: none starts. */
  readonly rate?: number | undefined
  readonly burst?: number | undefined
  /** Its share beside other keys: one of 3 starts three records while one of 1 starts one. Above 0, default 1. */
  readonly weight?: number | undefined
}

/** A key at a glance. @since 0.1.0 */
export interface KeyStatistics {
  /** Scheduled and ready. */
  readonly waiting: number
  readonly ready: number
  readonly inFlight: number
  /** Nothing of it starts before then; `undefined`: it is not paused now. */
  readonly pausedUntil: number | undefined
  /** When its rate next allows a start, now or later; `undefined`: there is no rate, or it is 0. */
  readonly nextTokenAt: number | undefined
  /** What was said for this key alone. */
  readonly override: KeyOverride
}

/** The limits of keys in a queue that was never told any. @since 0.1.0 */
export const unlimited: KeyLimits = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }
