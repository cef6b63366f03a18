/**
 * Group commit: all calls of one turn of the event loop, from any number of fibers, become one transaction, and each
 * call returns after its commit. One fsync then serves them all.
 */
import type { DatabaseSync } from "node:sqlite"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { isBusy } from "./failure.ts"

export interface GroupCommit {
  /** Runs `body` in the next turn's transaction. Interrupted before that, it never runs. */
  readonly write: <A>(operation: string, body: () => A) => Effect.Effect<A, TaskQueueError>
  /** Runs `body` at once, on what is committed. */
  readonly read: <A>(operation: string, body: () => A) => Effect.Effect<A, TaskQueueError>
  /** Refuses new calls and waits until those that are pending are committed. */
  readonly close: Effect.Effect<void>
}

interface Call {
  readonly operation: string
  readonly body: () => unknown
  readonly resume: (exit: Exit.Exit<unknown, TaskQueueError>) => void
  /** It was in a group of which some call failed: it gets a transaction of its own. */
  alone: boolean
}

/** How long one transaction runs before the rest is left to the next turn: what waits for the event loop waits as long. */
const budget = 5

/** Milliseconds until a busy database is tried again: chosen anew each time, so that processes do not march in step. */
const busyDelay = (): number => 1 + Math.random() * 4

const closed = (operation: string): TaskQueueError =>
  new TaskQueueError({ operation, message: "the task queue is closed", isRetryable: false })

/**
 * Waits for another process's lock. That process lives by the machine's clock, so the wait does too: under a test clock
 * it would never end.
 */
// allow time: see above
const later = (retry: () => void): NodeJS.Timeout => setTimeout(retry, busyDelay())

/** Runs `body` until no other connection is in its way. */
export const whenFree = <A, E>(body: () => A, onError: (cause: unknown) => E): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    let timer: NodeJS.Timeout | undefined
    const attempt = () => {
      try {
        resume(Effect.succeed(body()))
      } catch (cause) {
        if (isBusy(cause)) timer = later(attempt)
        else resume(Effect.fail(onError(cause)))
      }
    }
    attempt()
    return Effect.sync(() => clearTimeout(timer))
  })

export const makeGroupCommit = (options: {
  readonly db: DatabaseSync
  readonly failure: (operation: string, cause: unknown) => TaskQueueError
  /** Tells what the transaction changed. */
  readonly committed: () => void
  /** Forgets it. */
  readonly rolledBack: () => void
}): GroupCommit => {
  const { committed, db, failure, rolledBack } = options
  const begin = db.prepare("BEGIN IMMEDIATE")
  const commit = db.prepare("COMMIT")
  let pending: Array<Call> = []
  let isScheduled = false
  let isClosed = false
  let whenEmpty: (() => void) | undefined

  const schedule = () => {
    if (isScheduled) return
    isScheduled = true
    setImmediate(turn)
  }
  const turn = () => {
    isScheduled = false
    if (pending.length > 0) transaction()
    if (pending.length === 0) whenEmpty?.()
    else if (!isScheduled) schedule()
  }
  const retryLater = () => {
    isScheduled = true
    later(turn)
  }

  /** One transaction of what may go together; what is left stays pending. */
  const transaction = () => {
    try {
      begin.run()
    } catch (cause) {
      if (isBusy(cause)) return retryLater()
      const calls = pending
      pending = []
      for (const call of calls) call.resume(Exit.fail(failure(call.operation, cause)))
      return
    }
    const calls = pending
    // allow time: how long this transaction holds the lock is a matter of the machine, not of the program's clock
    const start = performance.now()
    const results: Array<unknown> = []
    try {
      do {
        results.push(calls[results.length]!.body())
      } while (
        results.length < calls.length &&
        !calls[results.length - 1]!.alone &&
        !calls[results.length]!.alone &&
        // allow time: as above
        performance.now() - start < budget
      )
      commit.run()
    } catch (cause) {
      if (db.isTransaction) db.exec("ROLLBACK")
      rolledBack()
      if (isBusy(cause)) return retryLater()
      const group = calls.slice(0, Math.min(results.length + 1, calls.length))
      if (group.length === 1) {
        pending = calls.slice(1)
        group[0]!.resume(Exit.fail(failure(group[0]!.operation, cause)))
      } else for (const call of group) call.alone = true
      return
    }
    pending = calls.slice(results.length)
    committed()
    for (let index = 0; index < results.length; index++) calls[index]!.resume(Exit.succeed(results[index]))
  }

  return {
    write: <A>(operation: string, body: () => A) =>
      Effect.callback<A, TaskQueueError>((resume) => {
        if (isClosed) return resume(Effect.fail(closed(operation)))
        const call: Call = {
          operation,
          body,
          resume: resume as (exit: Exit.Exit<unknown, TaskQueueError>) => void,
          alone: false,
        }
        pending.push(call)
        schedule()
        return Effect.sync(() => {
          const index = pending.indexOf(call)
          if (index >= 0) pending.splice(index, 1)
        })
      }),
    read: (operation, body) =>
      Effect.suspend(() =>
        isClosed ? Effect.fail(closed(operation)) : whenFree(body, (cause) => failure(operation, cause)),
      ),
    close: Effect.callback<void>((resume) => {
      isClosed = true
      if (pending.length === 0) return resume(Effect.void)
      whenEmpty = () => resume(Effect.void)
    }),
  }
}
