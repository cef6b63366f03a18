/**
 * The threads of an instance: permits, launch, end.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type {
  AnyThread,
  BackgroundThread,
  BackgroundThreads,
  LimitReached,
  Options,
  Refusal,
} from "../BackgroundThread.ts"
import { FrontendsNotSupported, type Instance, ShuttingDown } from "../Instance.ts"
import { detach } from "./ambient.ts"
import { Current, Thread } from "./thread.ts"
import { makeThreadEvents } from "./threadEvents.ts"

export const makeThreads = Effect.fnUntraced(function* (
  instance: Instance["Service"],
  limitReached: (limit: number, active: number) => LimitReached,
): Effect.fn.Return<BackgroundThreads["Service"], never, Scope.Scope> {
  const application = yield* Effect.context<never>()
  const clock = Context.get(application, Clock.Clock)
  const events = makeThreadEvents(application)
  const limit = instance.threadLimit
  const alive = new Map<number, AnyThread>()
  // Not a Semaphore: its releases copy the set of its waiters, and a permit here must be taken and used in one step.
  const waiters = new Set<Deferred.Deferred<void>>()
  const empty = yield* Latch.make(true)
  let active = 0
  let count = 0
  let closed = false

  // A creator starts many threads from one context more often than not: they share what is left of it.
  const lines = detach(application, application)
  const contexts = new WeakMap<Context.Context<never>, Context.Context<never>>()
  const detached = (creator: Context.Context<never>) => {
    let context = contexts.get(creator)
    if (context === undefined) {
      context = detach(creator, application)
      contexts.set(creator, context)
    }
    return context
  }

  const release = () => {
    const next = waiters.values().next()
    if (next.done) active--
    else {
      // The permit changes hands: nobody can come in between.
      waiters.delete(next.value)
      Deferred.doneUnsafe(next.value, Exit.void)
    }
  }

  const launch = <A, E>(
    creator: Context.Context<never>,
    effect: Effect.Effect<A, E>,
    options: Options<E> | undefined,
  ): BackgroundThread<A, E> => {
    const id = ++count
    const name = options?.name ?? `thread-${id}`
    const thread = new Thread<A, E>(id, name, options?.daemon ?? false, clock.currentTimeMillisUnsafe())
    const work = options?.restart === undefined ? effect : restarting(effect, options.restart, failedOnce(thread))
    alive.set(id, thread)
    empty.closeUnsafe()
    events.started(thread, active)
    const context = Context.add(detached(creator), Current, Option.some(thread))
    const program = traced(Effect.scoped(work), name, creator, application)
    const fiber = instance.detached(() => Effect.runForkWith(context)(program))
    thread.runsIn(fiber)
    if (instance.carry !== undefined) instance.carry(Effect.asVoid(Fiber.await(fiber)))
    // Not a finalizer of the effect: a fiber that is interrupted before its first step runs none.
    fiber.addObserver((exit) => ended(thread, exit))
    return thread
  }
  const failedOnce =
    <A, E>(thread: Thread<A, E>) =>
    (cause: Cause.Cause<E>) => {
      thread.failure = cause
      events.restarted(thread, cause)
    }
  const ended = <A, E>(thread: Thread<A, E>, exit: Exit.Exit<A, E>) => {
    alive.delete(thread.id)
    release()
    events.ended(thread, exit, clock.currentTimeMillisUnsafe() - thread.begun, active)
    thread.notify(exit)
    if (alive.size === 0) empty.openUnsafe()
    if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) || thread.observed) return
    // Whoever was about to wait for it gets a turn to do so before it counts as unhandled.
    const report = Effect.suspend(() =>
      thread.observed
        ? Effect.void
        : Effect.logError(`background thread ${thread.name} failed and nobody waited for it`, exit.cause),
    )
    Effect.runForkWith(lines)(Effect.andThen(Effect.yieldNow, report))
  }

  const refusal = Effect.map(instance.isShuttingDown, (ending): Exclude<Refusal, LimitReached> | undefined => {
    if (ending || closed) return new ShuttingDown({ instance: instance.id })
    if (instance.kind === "backend") return undefined
    return new FrontendsNotSupported({
      instance: instance.id,
      host: instance.host.name,
      hint: instance.host.hint,
    })
  })

  /** Takes a permit, waiting in line when asked to, and launches with it: one step, or nothing. */
  const start = <A, E>(
    creator: Context.Context<never>,
    effect: Effect.Effect<A, E>,
    options: Options<E> | undefined,
  ): Effect.Effect<BackgroundThread<A, E>, Refusal> =>
    Effect.flatMap(refusal, (refused): Effect.Effect<BackgroundThread<A, E>, Refusal> => {
      const refuse = (reason: Refusal) => {
        events.refused(options?.name, reason._tag)
        return Effect.fail(reason)
      }
      if (refused !== undefined) return refuse(refused)
      if (active < limit) {
        active++
        return Effect.succeed(launch(creator, effect, options))
      }
      if (options?.whenFull !== "wait" || limit === 0) return refuse(limitReached(limit, active))
      const turn = Deferred.makeUnsafe<void>()
      waiters.add(turn)
      return Effect.uninterruptibleMask((restore) =>
        restore(Deferred.await(turn)).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              // Not in line any more: the permit was handed over already, and goes on to the next.
              if (!waiters.delete(turn)) release()
            }),
          ),
          Effect.andThen(refusal),
          Effect.flatMap((now) => {
            if (now === undefined) return Effect.succeed(launch(creator, effect, options))
            release()
            return refuse(now)
          }),
        ),
      )
    })

  const interruptAll = (which: (thread: AnyThread) => boolean) =>
    Effect.forEach([...alive.values()].filter(which), (thread) => thread.interrupt, {
      concurrency: "unbounded",
      discard: true,
    })
  const drain = Effect.gen(function* () {
    const left = Option.getOrElse(yield* instance.remainingShutdownTime, () => Duration.zero)
    yield* Effect.forkChild(interruptAll((thread) => thread.daemon))
    // The last tenth is for the finalizers of those that did not end by themselves.
    const waited = yield* Effect.timeoutOption(empty.await, Duration.times(left, 0.9))
    if (Option.isSome(waited)) return
    yield* Effect.logWarning(
      `interrupting ${alive.size} background threads at the end of the grace period: ` +
        [...alive.values()]
          .map((thread) => thread.name)
          .slice(0, 10)
          .join(", "),
    )
    yield* interruptAll(() => true)
  })
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closed = true
      // A shutdown that has begun drains first: the program that a signal interrupts closes its layers meanwhile. Who
      // has not ended within the grace period is not waited for again.
      return Effect.flatMap(instance.isShuttingDown, (ending) =>
        ending
          ? Effect.andThen(
              instance.shutdown,
              Effect.forkDetach(
                interruptAll(() => true),
                { startImmediately: true },
              ),
            )
          : interruptAll(() => true),
      )
    }),
  )
  yield* instance.onShutdown("background threads", drain)

  return {
    limit,
    available: Effect.sync(() => Math.max(0, limit - active)),
    threads: Effect.sync(() => [...alive.values()]),
    awaitEmpty: empty.await,
    events: events.subscribe,
    start: <A, E, R>(effect: Effect.Effect<A, E, R>, options?: Options<E>) =>
      Effect.contextWith((creator: Context.Context<Exclude<R, Scope.Scope>>) =>
        // What R names is in the creator's context, and the scope is the thread's own.
        start(creator as Context.Context<never>, effect as Effect.Effect<A, E>, options),
      ),
  }
})

/** Again after a failure or a defect, never after an interruption. */
const restarting = <A, E>(
  effect: Effect.Effect<A, E>,
  schedule: Schedule.Schedule<unknown, Cause.Cause<E>>,
  restarted: (cause: Cause.Cause<E>) => void,
): Effect.Effect<A, E> => {
  let failure: Cause.Cause<E> | undefined
  const again = Effect.suspend(() => {
    if (failure !== undefined) restarted(failure)
    return Effect.tapError(Effect.sandbox(effect), (cause) =>
      Effect.sync(() => {
        failure = cause
      }),
    )
  })
  return Effect.catch(
    Effect.retry(again, { schedule, while: (cause) => !Cause.hasInterruptsOnly(cause) }),
    Effect.failCause,
  )
}

/**
 * A span of its own, linked to the creator's. None where nobody could see it: the creator has no span and the tracer is
 * Effect's own, which keeps nothing. A span costs as much as five threads.
 */
const traced = <A, E>(
  effect: Effect.Effect<A, E>,
  name: string,
  creator: Context.Context<never>,
  application: Context.Context<never>,
): Effect.Effect<A, E> => {
  const span = Context.getOrUndefined(creator, Tracer.ParentSpan)
  if (span === undefined && !application.mapUnsafe.has(Tracer.Tracer.key)) return effect
  return Effect.withSpan(effect, `thread ${name}`, {
    root: true,
    links: span === undefined ? [] : [{ span, attributes: {} }],
    captureStackTrace: false,
  })
}
