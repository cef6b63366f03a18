/**
 * Waiting for another process's lock, without blocking the event loop. That process lives by the machine's clock, so
 * the waits do too: under a test clock they would never end.
 */
import * as Effect from "effect/Effect"
import { isBusy } from "./failure.ts"

/**
 * Most locks are held for a millisecond or two, and a process that writes all the time is without one only for moments,
 * which timers miss: so after each pause it is tried in turn after turn of the event loop, for so many milliseconds ...
 */
const eagerFor = 3
/** ... and so often: whoever keeps a lock for longer is not worth the processor, and is looked for after pauses only. */
const eagerTimes = 10

/** Milliseconds of the timers in between: chosen anew each time, so that processes do not march in step. */
const pause = (): number => 1 + Math.random() * 4

export interface Retries {
  /** Calls back when it is time to try again. */
  readonly later: (attempt: () => void) => void
  /** The lock was free: the next wait starts anew. */
  readonly reset: () => void
  /** Does not call back any more. */
  readonly cancel: () => void
}

export const makeRetries = (): Retries => {
  let pauses = 0
  let eagerUntil: number | undefined
  let immediate: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  return {
    later: (attempt) => {
      // allow time: see above
      const now = performance.now()
      eagerUntil ??= now + eagerFor
      if (pauses < eagerTimes && now < eagerUntil) {
        immediate = setImmediate(attempt)
        return
      }
      pauses++
      eagerUntil = undefined
      // allow time: see above
      timer = setTimeout(attempt, pause())
    },
    reset: () => {
      pauses = 0
      eagerUntil = undefined
    },
    cancel: () => {
      clearImmediate(immediate)
      clearTimeout(timer)
    },
  }
}

/**
 * Runs `body`, at once if it can, and again until no other connection is in its way. Interruption ends the waiting.
 * `isPutOff` may keep an attempt to call it later.
 */
export const whenFree = <A, E>(
  body: () => A,
  onError: (cause: unknown) => E,
  isPutOff?: (attempt: () => void) => boolean,
): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    const retries = makeRetries()
    let isOver = false
    const attempt = () => {
      if (isOver || isPutOff?.(attempt) === true) return
      let result: Effect.Effect<A, E>
      try {
        result = Effect.succeed(body())
      } catch (cause) {
        if (isBusy(cause)) return retries.later(attempt)
        result = Effect.fail(onError(cause))
      }
      resume(result)
    }
    attempt()
    return Effect.sync(() => {
      isOver = true
      retries.cancel()
    })
  })
