/**
 * What a worker tells of itself through the queue: who is there, what they know, how they are. For people, for
 * `ref.explain`, for whoever scales workers.
 *
 * @since 0.1.0
 */

/**
 * Plain data; times are epoch milliseconds by the worker's clock.
 *
 * @since 0.1.0
 */
export interface WorkerInfo {
  readonly id: string
  readonly startedAt: number
  /** When it said this. */
  readonly at: number
  /** What it claims: newer versions and other tasks stay where they are. */
  readonly tasks: ReadonlyArray<{ readonly name: string; readonly maxVersion: number }>
  readonly targets: ReadonlyArray<string>
  readonly queues: ReadonlyArray<WorkerQueue>
  /** Attempts that ended since it started. */
  readonly finished: number
  /** Outcomes that the queue has not taken yet. */
  readonly unsettled: number
  /** Since when calls to the queue fail; `undefined`: they do not. */
  readonly failingSince: number | undefined
  /** It is stopping and claims nothing more. */
  readonly draining: boolean
}

/** How a worker stands to one of its queues. @since 0.1.0 */
export interface WorkerQueue {
  readonly name: string
  /** Its slots. */
  readonly concurrency: number
  /** Slots in use. */
  readonly running: number
  /** Claimed, and waiting for a slot. */
  readonly buffered: number
}
