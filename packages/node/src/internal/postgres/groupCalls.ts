/**
 * Group commit: while a call is under way, and within one turn of the event loop, further calls of the same kind gather,
 * from any number of fibers; together they are the next statement and one commit. Each call returns after its commit.
 */
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Calls } from "./calls.ts"

interface Call<Item, A> {
  readonly items: ReadonlyArray<Item>
  readonly resume: (exit: Exit.Exit<ReadonlyArray<A>, TaskQueueError>) => void
  /** Its caller was interrupted. */
  withdrawn: boolean
}

/** What one statement is given at the most, unless a single call has more. */
const most = { items: 1000, characters: 4_000_000 }

/**
 * Merges calls of `run`, which is given the items of several calls and gives an answer for each. A call within a
 * transaction of its caller is part of that one, and of no group. Closing the scope waits for what was asked before.
 */
export const makeGroup = Effect.fnUntraced(function* <Item, A>(
  operation: string,
  calls: Calls,
  run: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<A>, TaskQueueError>,
  charactersOf: (item: Item) => number = () => 0,
): Effect.fn.Return<
  (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<A>, TaskQueueError>,
  never,
  Scope.Scope
> {
  // A statement for many callers is part of nobody's trace.
  const fork = Effect.runForkWith(Context.omit(Tracer.ParentSpan)(yield* Effect.context<never>()))
  let pending: Array<Call<Item, A>> = []
  let isScheduled = false
  let isBusy = false
  let isClosed = false
  let whenEmpty: (() => void) | undefined

  const schedule = () => {
    if (isScheduled || isBusy) return
    isScheduled = true
    setImmediate(turn)
  }
  const turn = () => {
    isScheduled = false
    pending = pending.filter((call) => !call.withdrawn)
    const group: Array<Call<Item, A>> = []
    let count = 0
    let characters = 0
    for (const call of pending) {
      count += call.items.length
      for (const item of call.items) characters += charactersOf(item)
      if (group.length > 0 && (count > most.items || characters > most.characters)) break
      group.push(call)
    }
    if (group.length === 0) return whenEmpty?.()
    pending = pending.slice(group.length)
    isBusy = true
    fork(Effect.withTracerEnabled(together(group), false)).addObserver((exit) => {
      isBusy = false
      // Only a defect: errors have gone to their callers.
      if (Exit.isFailure(exit)) for (const call of group) call.resume(Exit.failCause(exit.cause))
      if (pending.length > 0) schedule()
      else whenEmpty?.()
    })
  }

  const together = (group: ReadonlyArray<Call<Item, A>>): Effect.Effect<void> =>
    Effect.flatMap(Effect.exit(run(group.flatMap(({ items }) => items))), (exit) => {
      if (Exit.isSuccess(exit)) {
        let from = 0
        for (const { items, resume } of group) {
          resume(Exit.succeed(exit.value.slice(from, from + items.length)))
          from += items.length
        }
        return Effect.void
      }
      // What the others asked for is not to fail with a call that the server refuses.
      if (group.length > 1 && isRefusal(exit.cause)) {
        return Effect.forEach(group, (call) => together([call]), { discard: true })
      }
      for (const { resume } of group) resume(exit)
      return Effect.void
    })

  yield* Effect.addFinalizer(() =>
    Effect.callback<void>((resume) => {
      isClosed = true
      if (pending.length === 0 && !isBusy) return resume(Effect.void)
      whenEmpty = () => resume(Effect.void)
    }),
  )

  const gathered = (items: ReadonlyArray<Item>) =>
    Effect.callback<ReadonlyArray<A>, TaskQueueError>((resume) => {
      if (isClosed) return resume(Effect.fail(closed(operation)))
      const call: Call<Item, A> = { items, resume, withdrawn: false }
      pending.push(call)
      schedule()
      return Effect.sync(() => {
        // A statement that it is already in goes on.
        call.withdrawn = true
      })
    })

  return (items) =>
    items.length === 0
      ? Effect.succeed([])
      : Effect.flatMap(calls.isInTransaction, (isIn) => (isIn ? run(items) : gathered(items)))
})

const closed = (operation: string): TaskQueueError =>
  new TaskQueueError({ operation, message: "the task queue is closed", isRetryable: false })

const isRefusal = (cause: Cause.Cause<TaskQueueError>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && !reason.error.isRetryable)
