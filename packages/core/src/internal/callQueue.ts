/**
 * The line of calls behind `CallQueue`.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { NotDone, type Result, ResultTimeout } from "../BackgroundCall.ts"
import type {
  CallFailed,
  CallItem,
  CallQueue,
  CallQueueClosed,
  CallQueueFull,
  Options,
  PostOptions,
} from "../CallQueue.ts"
import { exceptionOf, type Options as ReadOptions, readResult, statusOf } from "./result.ts"

interface Failures {
  readonly full: (capacity: number) => CallQueueFull
  readonly closed: () => CallQueueClosed
  readonly failed: (cause: unknown) => CallFailed
}

interface Item {
  /** With the caller's services already provided. */
  readonly effect: Effect.Effect<unknown, unknown>
  readonly ended: Deferred.Deferred<unknown, unknown>
  readonly tellsReceiver: boolean
  state: "queued" | "running" | "withdrawn" | "ended"
  exit: Exit.Exit<unknown, unknown> | undefined
}

const failures = {
  notDone: () => new NotDone({ call: "in a queue" }),
  timedOut: (timeout: number) => new ResultTimeout({ call: "in a queue", timeout }),
}

export const makeCallQueue = Effect.fnUntraced(function* (
  options: Options | undefined,
  errors: Failures,
): Effect.fn.Return<CallQueue, never, Scope.Scope> {
  const capacity = options?.capacity ?? Number.POSITIVE_INFINITY
  // Sets keep the order of insertion, and any member leaves in one step.
  const queued = new Set<Item>()
  const receivers = new Set<Deferred.Deferred<Item, CallQueueClosed>>()
  const waitingForRoom = new Set<Deferred.Deferred<void, CallQueueClosed>>()
  const collected = new Set<{ readonly item: Item; readonly handle: CallItem<unknown, unknown> }>()
  let running = 0
  let closed = false

  const end = (item: Item, exit: Exit.Exit<unknown, unknown>, state: Item["state"] = "ended") => {
    item.state = state
    item.exit = exit
    Deferred.doneUnsafe(item.ended, exit)
  }
  /** Lets the next who waits for room in, as often as there is room. */
  const roomMade = () => {
    for (const waiter of waitingForRoom) {
      if (queued.size + granted >= capacity) return
      waitingForRoom.delete(waiter)
      granted++
      Deferred.doneUnsafe(waiter, Exit.void)
    }
  }
  /** Room that was promised to somebody who has not put his call in yet. */
  let granted = 0

  const leave = (item: Item) => {
    queued.delete(item)
    roomMade()
  }
  const enter = (item: Item) => {
    const next = receivers.values().next()
    if (next.done) queued.add(item)
    else {
      receivers.delete(next.value)
      // From here on the receiver owns it.
      item.state = "running"
      running++
      Deferred.doneUnsafe(next.value, Exit.succeed(item))
    }
  }
  const takeNow = (): Item | undefined => {
    const next = queued.values().next()
    if (next.done) return undefined
    leave(next.value)
    next.value.state = "running"
    running++
    return next.value
  }

  const run = (item: Item): Effect.Effect<void, CallFailed> =>
    Effect.onExit(item.effect, (exit) =>
      Effect.sync(() => {
        running--
        end(item, exit)
      }),
    ).pipe(
      Effect.matchCauseEffect({
        onSuccess: () => Effect.void,
        onFailure: (cause): Effect.Effect<void, CallFailed> => {
          if (item.tellsReceiver) return Effect.fail(errors.failed(Cause.squash(cause)))
          // The call's failure is its caller's; an interruption is this fiber's own.
          return Cause.hasInterruptsOnly(cause) ? Effect.interruptible(Effect.void) : Effect.void
        },
      }),
    )

  const receiveOne: Effect.Effect<void, CallFailed | CallQueueClosed> = Effect.suspend(() => {
    const item = takeNow()
    if (item !== undefined) return run(item)
    if (closed) return Effect.fail(errors.closed())
    const turn = Deferred.makeUnsafe<Item, CallQueueClosed>()
    receivers.add(turn)
    return Effect.uninterruptibleMask((restore) =>
      restore(Deferred.await(turn)).pipe(
        Effect.onInterrupt(() =>
          Effect.suspend(() => {
            if (receivers.delete(turn)) return Effect.void
            // A call was handed over to a receiver that is gone: back to the front of the line.
            return Effect.map(Effect.option(Deferred.await(turn)), (handed) => {
              if (handed._tag === "Some") putBack(handed.value)
            })
          }),
        ),
        Effect.flatMap((handed) => restore(run(handed))),
      ),
    )
  })
  const putBack = (item: Item) => {
    running--
    item.state = "queued"
    const others = [...queued]
    queued.clear()
    for (const each of [item, ...others]) enter(each)
  }

  const receive: Effect.Effect<number, CallFailed> = Effect.gen(function* () {
    let count = 0
    for (let item = takeNow(); item !== undefined; item = takeNow()) {
      yield* run(item)
      count++
    }
    return count
  })

  /** Puts a call in line, waiting for room when asked to. */
  const post = (
    effect: Effect.Effect<unknown, unknown, unknown>,
    post: PostOptions | undefined,
  ): Effect.Effect<Item, CallQueueFull | CallQueueClosed, unknown> =>
    Effect.contextWith((services: Context.Context<unknown>): Effect.Effect<Item, CallQueueFull | CallQueueClosed> => {
      const failIn = post?.failIn ?? "caller"
      const put = Effect.sync(() => {
        const item: Item = {
          effect: Effect.provideContext(effect, services),
          ended: Deferred.makeUnsafe(),
          tellsReceiver: failIn === "receiver" || failIn === "both",
          state: "queued",
          exit: undefined,
        }
        enter(item)
        return item
      })
      if (closed) return Effect.fail(errors.closed())
      if (queued.size + granted < capacity) return put
      if (post?.whenFull !== "wait") return Effect.fail(errors.full(capacity))
      const room = Deferred.makeUnsafe<void, CallQueueClosed>()
      waitingForRoom.add(room)
      return Effect.uninterruptibleMask((restore) =>
        restore(Deferred.await(room)).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              if (waitingForRoom.delete(room)) return
              granted--
              roomMade()
            }),
          ),
          Effect.flatMap(() => {
            granted--
            return put
          }),
        ),
      )
    })

  const withdraw = (item: Item): boolean => {
    if (item.state !== "queued" || !queued.has(item)) return false
    leave(item)
    end(item, Exit.interrupt(), "withdrawn")
    return true
  }
  /** What the caller may know of the end. */
  const shown = (item: Item, post: PostOptions | undefined): Exit.Exit<unknown, unknown> | undefined => {
    const hidden = post?.failIn === "receiver" || post?.failIn === "neither"
    // R29: a failure that is not the caller's is not kept for it.
    return hidden && item.exit !== undefined && Exit.isFailure(item.exit) ? Exit.succeed(undefined) : item.exit
  }
  const handleOf = (item: Item, post: PostOptions | undefined): CallItem<unknown, unknown> => {
    const pending = {
      poll: () => shown(item, post),
      await: Effect.map(Effect.exit(Deferred.await(item.ended)), () => shown(item, post) ?? Exit.void),
    }
    return {
      isDone: Effect.sync(() => item.exit !== undefined),
      status: Effect.sync(() => {
        if (item.state === "queued" || item.state === "withdrawn") return item.state
        return statusOf(item.exit)
      }),
      // Its overloads are one function of its options.
      result: ((given?: ReadOptions) => readResult(pending, given, failures)) as Result<unknown, unknown>,
      exception: Effect.sync(() => exceptionOf(shown(item, post))),
      withdraw: Effect.sync(() => withdraw(item)),
    }
  }

  type CallOptions = PostOptions & ReadOptions
  const call = (
    effect: Effect.Effect<unknown, unknown, unknown>,
    given?: CallOptions,
  ): Effect.Effect<unknown, unknown, unknown> =>
    Effect.flatMap(post(effect, given), (item) => {
      const hidden = given?.failIn === "receiver" || given?.failIn === "neither"
      if (given === undefined || (given.timeout === undefined && given.orElse === undefined && !hidden)) {
        return Effect.onInterrupt(Deferred.await(item.ended), () => Effect.sync(() => withdraw(item)))
      }
      // A failure hidden from the caller is its fallback's turn all the same (R27, R30).
      const pending = { poll: () => item.exit, await: Effect.exit(Deferred.await(item.ended)) }
      const orElse =
        given.orElse === undefined
          ? undefined
          : () => {
              withdraw(item)
              return given.orElse?.()
            }
      return readResult(
        pending,
        { timeout: given.timeout, orElse },
        {
          ...failures,
          timedOut: (timeout) => {
            withdraw(item)
            return failures.timedOut(timeout)
          },
        },
      ).pipe(
        // Closed is not a failure of the call: no fallback hides it.
        Effect.andThen((value) => (item.exit !== undefined && closedBefore(item) ? item.exit : Effect.succeed(value))),
        Effect.onInterrupt(() => Effect.sync(() => withdraw(item))),
      )
    })
  const closedItems = new WeakSet<Item>()
  const closedBefore = (item: Item) => closedItems.has(item)

  const send = (effect: Effect.Effect<unknown, unknown, unknown>, given?: PostOptions) =>
    Effect.map(post(effect, given), (item) => ({ item, handle: handleOf(item, given) }))

  const refuse = () => {
    closed = true
    for (const waiter of waitingForRoom) Deferred.doneUnsafe(waiter, Exit.fail(errors.closed()))
    waitingForRoom.clear()
    for (const receiver of receivers) Deferred.doneUnsafe(receiver, Exit.fail(errors.closed()))
    receivers.clear()
  }
  const close = Effect.sync(() => {
    refuse()
    for (const item of queued) {
      closedItems.add(item)
      end(item, Exit.fail(errors.closed()))
    }
    queued.clear()
  })

  // A call that fails in its receiver ends that receiver: another takes its place (R23, R28).
  const consumer: Effect.Effect<void> = Effect.forever(receiveOne).pipe(
    Effect.catchTag("CallFailed", () => Effect.void),
    Effect.andThen(Effect.suspend(() => consumer)),
    Effect.catchTag("CallQueueClosed", () => Effect.void),
  )
  for (let n = 0; n < (options?.consumers ?? 0); n++) yield* Effect.forkScoped(consumer)
  yield* Effect.addFinalizer(() => close)

  const queue = {
    call,
    send: (effect: Effect.Effect<unknown, unknown, unknown>, given?: PostOptions) =>
      Effect.map(send(effect, given), ({ handle }) => handle),
    collect: (effect: Effect.Effect<unknown, unknown, unknown>, given?: PostOptions) =>
      Effect.map(send(effect, given), (posted) => {
        collected.add(posted)
        return posted.handle
      }),
    nextCollected: Effect.sync(() => {
      const found = [...collected].filter(({ item }) => item.exit !== undefined)
      for (const each of found) collected.delete(each)
      return found.map(({ handle }) => handle)
    }),
    receive,
    receiveOne,
    size: Effect.sync(() => queued.size),
    isIdle: Effect.sync(() => queued.size === 0 && running === 0 && collected.size === 0),
    close,
    closeAndReceive: Effect.andThen(Effect.sync(refuse), receive),
  }
  // The typed surface is `CallQueue`: effects of any types go in, and come out as themselves.
  return queue as unknown as CallQueue
})
