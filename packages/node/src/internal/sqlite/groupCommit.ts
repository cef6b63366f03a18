/**
 * Group commit: all calls of one turn of the event loop, from any number of fibers, become one transaction, and each
 * call returns after its commit. One fsync then serves them all.
 */
import type { DatabaseSync } from "node:sqlite"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ExpectedClaim } from "./expectedClaim.ts"
import { isBusy } from "./failure.ts"
import type { WalSync } from "./walSync.ts"
import { makeRetries, whenFree } from "./whenFree.ts"

/** The work of a call in steps, each of which takes far less than a millisecond. */
export type Steps<A> = Generator<undefined, A, void>

/** Whether so many records begin another step: to look at the clock after every one would cost as much as some writes. */
export const isStep = (records: number): boolean => records % 8 === 0

/** Work that is one step. */
export const atOnce = function* <A>(body: () => A): Steps<A> {
  return body()
}

export interface GroupCommit {
  /**
   * Runs `body` in the next turn's transaction, anew if that has to be started again. Interrupted before that, it never
   * runs. When it takes long, other things of the process happen between its steps, though no other call.
   */
  readonly write: <A>(operation: string, body: () => Steps<A>) => Effect.Effect<A, TaskQueueError>
  /** Runs `body` at once, on what is committed. */
  readonly read: <A>(operation: string, body: () => A) => Effect.Effect<A, TaskQueueError>
  /** Refuses new calls and waits until those that are pending are committed. */
  readonly close: Effect.Effect<void>
}

interface Call {
  readonly operation: string
  readonly body: () => Steps<unknown>
  readonly resume: (exit: Exit.Exit<unknown, TaskQueueError>) => void
  /** It was in a group of which some call failed: it gets a transaction of its own. */
  alone: boolean
  /** Its caller was interrupted. */
  withdrawn: boolean
}

/** A transaction that has begun: these calls, each with its result when it has run. */
interface Transaction {
  readonly calls: Array<Call>
  readonly results: Array<unknown>
  /** Of the last call, while it has no result. */
  steps: Steps<unknown> | undefined
  /** Its time is over: what runs is run to its end, and nothing more is begun. */
  isFull: boolean
}

/** Milliseconds of one turn: what waits for the event loop waits as long. */
const budget = 5

/** Turns of the event loop in which an expected claim comes: that of the hint, that of the claim, and one more. */
const turnsToClaim = 3

const closed = (operation: string): TaskQueueError =>
  new TaskQueueError({ operation, message: "the task queue is closed", isRetryable: false })

export const makeGroupCommit = (options: {
  readonly db: DatabaseSync
  readonly failure: (operation: string, cause: unknown) => TaskQueueError
  /** Writes what is best written once for all calls of a transaction. */
  readonly beforeCommit: () => void
  /** Takes what the transaction changed, and gives what tells it. */
  readonly committed: () => () => void
  /** Forgets it. */
  readonly rolledBack: () => void
  /** Where a commit does not wait for the disk itself, and its calls do. */
  readonly sync?: WalSync | undefined
  /** What a sync waits for. */
  readonly expectedClaim?: ExpectedClaim | undefined
}): GroupCommit => {
  const { beforeCommit, committed, db, expectedClaim, failure, rolledBack, sync } = options
  const begin = db.prepare("BEGIN IMMEDIATE")
  const commit = db.prepare("COMMIT")
  const retries = makeRetries()
  let pending: Array<Call> = []
  let open: Transaction | undefined
  /** Reads that came while a transaction is open: what is not committed is not to be seen. */
  let readers: Array<() => void> = []
  let isScheduled = false
  let hasWithdrawn = false
  let isClosed = false
  /** Transactions that are committed and wait for the disk. */
  let unsynced = 0
  /** What is to be called when it is known whether the disk has them, of those for which no sync has begun. */
  let uncovered: Array<(error: unknown) => void> = []
  let held: NodeJS.Immediate | undefined
  let whenEmpty: (() => void) | undefined

  const schedule = () => {
    if (isScheduled) return
    isScheduled = true
    setImmediate(turn)
  }
  const retryLater = () => {
    isScheduled = true
    retries.later(turn)
  }
  const turn = () => {
    isScheduled = false
    if (open !== undefined) goOn(open)
    else {
      if (hasWithdrawn) pending = pending.filter((call) => !call.withdrawn)
      hasWithdrawn = false
      if (pending.length > 0) start()
    }
    if (open !== undefined || pending.length > 0) schedule()
    else if (unsynced === 0) whenEmpty?.()
  }

  const start = () => {
    try {
      begin.run()
    } catch (cause) {
      if (isBusy(cause)) return retryLater()
      const calls = pending
      pending = []
      for (const call of calls) call.resume(Exit.fail(failure(call.operation, cause)))
      return
    }
    retries.reset()
    open = { calls: [], results: [], steps: undefined, isFull: false }
    goOn(open)
  }

  /** Runs the calls of a transaction and commits it, or leaves a call in the middle for the next turn. */
  const goOn = (transaction: Transaction) => {
    const { calls, results } = transaction
    // allow time: how long this holds the event loop is a matter of the machine, not of the program's clock
    const until = performance.now() + budget
    // allow time: as above
    const isOver = () => performance.now() >= until
    try {
      do {
        if (transaction.steps === undefined) {
          const call = pending[calls.length]!
          calls.push(call)
          transaction.steps = call.body()
        }
        let step = transaction.steps.next()
        while (step.done !== true && !isOver()) step = transaction.steps.next()
        if (isOver()) transaction.isFull = true
        if (step.done !== true) return
        results.push(step.value)
        transaction.steps = undefined
      } while (!transaction.isFull && mayFollow(calls.at(-1)!, pending[calls.length]))
      beforeCommit()
      commit.run()
    } catch (cause) {
      return rollBack(calls, cause)
    }
    open = undefined
    pending = pending.slice(calls.length)
    const tell = committed()
    const acknowledge = (error?: unknown) => {
      if (error !== null && error !== undefined) {
        for (const { operation, resume } of calls) resume(Exit.fail(failure(operation, error)))
      } else {
        tell()
        for (let index = 0; index < calls.length; index++) calls[index]!.resume(Exit.succeed(results[index]))
      }
    }
    if (sync === undefined) acknowledge()
    else {
      unsynced++
      uncovered.push((error) => {
        unsynced--
        acknowledge(error)
        if (open === undefined && pending.length === 0 && unsynced === 0) whenEmpty?.()
      })
    }
    if (expectedClaim?.isExpected() !== true) cover()
    else if (held === undefined) hold(turnsToClaim)
    letRead()
  }
  const cover = () => {
    const served = uncovered
    uncovered = []
    clearImmediate(held)
    held = undefined
    sync?.afterSync((error) => {
      for (const done of served) done(error)
    })
  }
  /** Waits for the claim that is expected, whose commit the sync is left to, for so many turns. */
  const hold = (turns: number) => {
    held = setImmediate(() => {
      if (turns > 1) return hold(turns - 1)
      expectedClaim?.giveUp()
      cover()
    })
  }
  const mayFollow = (last: Call, next: Call | undefined) =>
    next !== undefined && !last.alone && !next.alone && !next.withdrawn

  /** Which of the calls is to blame is found by giving each a transaction of its own. */
  const rollBack = (calls: ReadonlyArray<Call>, cause: unknown) => {
    open = undefined
    try {
      // SQLite itself may have done so, after the errors that it thinks are grave.
      if (db.isTransaction) db.exec("ROLLBACK")
    } catch (second) {
      cause = new AggregateError([cause, second], "neither the transaction nor its rollback succeeded")
    }
    rolledBack()
    if (isBusy(cause)) retryLater()
    else if (calls.length > 1) for (const call of calls) call.alone = true
    else {
      pending = pending.slice(1)
      for (const call of calls) call.resume(Exit.fail(failure(call.operation, cause)))
    }
    letRead()
  }
  const letRead = () => {
    const reads = readers
    readers = []
    for (const read of reads) read()
  }

  const write: GroupCommit["write"] = <A>(operation: string, body: () => Steps<A>) =>
    Effect.callback<A, TaskQueueError>((resume) => {
      if (isClosed) return resume(Effect.fail(closed(operation)))
      const call: Call = {
        operation,
        body,
        resume: resume as (exit: Exit.Exit<unknown, TaskQueueError>) => void,
        alone: false,
        withdrawn: false,
      }
      pending.push(call)
      schedule()
      return Effect.sync(() => {
        // A transaction that it is already in goes on.
        call.withdrawn = true
        hasWithdrawn = true
      })
    })

  return {
    write,
    read: (operation, body) =>
      Effect.suspend(() =>
        isClosed
          ? Effect.fail(closed(operation))
          : whenFree(
              body,
              (cause) => failure(operation, cause),
              (attempt) => open !== undefined && readers.push(attempt) > 0,
            ),
      ),
    close: Effect.callback<void>((resume) => {
      isClosed = true
      if (pending.length === 0 && unsynced === 0) return resume(Effect.void)
      whenEmpty = () => resume(Effect.void)
    }),
  }
}
