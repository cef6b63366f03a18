/**
 * What task queues can do: they differ in what their storage engines are made for.
 *
 * @since 0.1.0
 */

/**
 * What a driver can do, as data: for callers that must choose, and for people. To ask for what it cannot do fails with a
 * `TaskQueueError` whose `reason` is `NotSupported`; nothing is ignored in silence.
 *
 * @since 0.1.0
 */
export interface Capabilities {
  /** Records survive the process. */
  readonly durable: boolean
  /** Several processes can work on the same queues. */
  readonly shared: boolean
  /** `enqueue` and `settle` can join a transaction of the application. */
  readonly transactional: boolean
  /** `changes` tells of other processes' changes without polling. */
  readonly listens: boolean
  /** Records are claimed, by workers and pull queues. Where not, the engine itself delivers them, to a `PushHandler`. */
  readonly claims: boolean
  /** Records stay for a while when they have ended: to wait for results, to read ledgers, to redrive dead letters. */
  readonly results: boolean
  /** Higher priorities come first. */
  readonly priorities: boolean
  /** Unique keys hold. */
  readonly uniqueKeys: boolean
}
