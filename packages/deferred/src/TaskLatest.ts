/**
 * The latest wins: what is deferred takes the place of what waits with the same key, so that of many changes that come
 * one after the other the last one is worked on, and no older one after it. `docs/latest.md`.
 *
 * Of a key, at most one record runs and one more waits or follows it:
 *
 * - One waits: it gets the new payload and options, and keeps its id (`Replaced`).
 * - One runs: the new one is held back until that has ended, and runs then (`Inserted`); the next takes its place
 *   (`Replaced`). What runs goes on to its end, but is not tried again: it is cancelled instead, since it is out of date.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"

/**
 * Waits for a pause: the record is due `within` after the last deferral with its key, and never later than `maxWait` after
 * the first that nothing has run for yet.
 *
 * @since 0.1.0
 */
export interface Debounce {
  /** Above 0, at most `DeferLimits.maxDelay`. */
  readonly within: Duration.Input
  /** At least `within`, at most `DeferLimits.maxDelay`. Default: however long there is no pause. */
  readonly maxWait?: Duration.Input | undefined
}

/**
 * Keeps a distance: records of a key are due at least `within` apart. The first is due at once, what comes sooner after it
 * is later, and the last state always runs.
 *
 * @since 0.1.0
 */
export interface Throttle {
  /** Above 0, at most `DeferLimits.maxDelay`. */
  readonly within: Duration.Input
}

/** One of the two, or neither: then a record is due as `delay` or `eta` say. @since 0.1.0 */
export type Pace =
  | { readonly debounce?: Debounce | undefined; readonly throttle?: undefined }
  | { readonly throttle?: Throttle | undefined; readonly debounce?: undefined }

/**
 * What a task says of it (`Task.make`). `Merge` is `Payload`, or `never` where a waiting payload cannot be read again
 * without further services.
 *
 * @since 0.1.0
 */
export type TaskLatest<Payload, Merge = Payload> = Pace & {
  /** What is the same when its payloads are about the same thing: 1 to 1,000 characters, within the task. */
  readonly key: (payload: Payload) => string
  /**
   * Makes one payload of the one that waits and the one given, instead of dropping the first. It may run several times for
   * one deferral, when others come in between, so it should only compute; and what waited may have begun meanwhile, so that
   * its part is worked on twice: a union, the newest or the largest bear that, a sum does not. Default: the given one.
   *
   * It costs two more calls where something waits, and `deferAll` stores one record after the other. A version of the payload
   * that is not known here cannot be merged with: `InvalidTaskOptions`.
   */
  readonly merge?: ((waiting: Merge, given: Merge) => Merge) | undefined
}

/**
 * What one deferral says of it: the rest is as the task has it, and a `debounce` or a `throttle` here replaces the task's.
 * Payloads are merged as the task has it.
 *
 * @since 0.1.0
 */
export type DeferLatest = Pace & {
  /** 1 to 1,000 characters. Default: what the task's `latest.key` gives. */
  readonly key?: string | undefined
}
