/**
 * The instance: this running process, whether it may go on after a request was answered, and how it ends.
 *
 * A *frontend* may be frozen or killed once its request is answered (serverless functions, request-based CPU), so it may
 * not start background threads; a *backend* may.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * Background work was asked for on a frontend (B8, B15).
 *
 * @since 0.1.0
 */
export class FrontendsNotSupported extends Schema.TaggedError<FrontendsNotSupported>()("FrontendsNotSupported", {
  /** The instance's id. */
  instance: Schema.String,
  /** What kind of place it runs in. */
  host: Schema.String,
  /** The way out on that host. */
  hint: Schema.String,
}) {
  override get message() {
    return `instance ${this.instance} is a frontend (${this.host}): it may be stopped once its request is answered, so it runs no background work. ${this.hint}`
  }
}

/**
 * The instance has begun to end: nothing new is started.
 *
 * @since 0.1.0
 */
export class ShuttingDown extends Schema.TaggedError<ShuttingDown>()("ShuttingDown", {
  instance: Schema.String,
}) {
  override get message() {
    return `instance ${this.instance} is shutting down and starts nothing new`
  }
}

/** The kind of place a process runs in, and its own way out when it is a frontend. @since 0.1.0 */
export interface Host {
  readonly name: string
  readonly hint: string
}

/** What became of one hook. @since 0.1.0 */
export interface HookReport {
  readonly name: string
  /** `timedOut`: it was interrupted at the end of the grace period, or there was no time left for it. */
  readonly outcome: "done" | "failed" | "timedOut"
}

/** What a shutdown did. @since 0.1.0 */
export interface ShutdownReport {
  readonly instance: string
  readonly took: Duration.Duration
  /** In the order they ran: last registered first. */
  readonly hooks: ReadonlyArray<HookReport>
}

/**
 * @since 0.1.0
 */
export class Instance extends Context.Service<
  Instance,
  {
    readonly id: string
    readonly kind: "frontend" | "backend"
    readonly host: Host
    /** How many threads may be alive at once: default 10 (B16), 0 for none, `Infinity` for no limit. */
    readonly threadLimit: number
    /**
     * Launches a thread outside of whatever the host ties to its caller, such as Node's async-local storage. Elsewhere it
     * just calls.
     */
    readonly detached: <A>(launch: () => A) => A
    /** Tells a host that can wait (`waitUntil`) of a thread that has begun. */
    readonly carry: ((ended: Effect.Effect<void>) => void) | undefined
    /** Set before the first hook runs (B51). */
    readonly isShuttingDown: Effect.Effect<boolean>
    /** What is left of the grace period; none when not shutting down (B56). */
    readonly remainingShutdownTime: Effect.Effect<Option.Option<Duration.Duration>>
    /**
     * Registers a hook for as long as the scope is open. Any number may be registered (B50 allowed one); they run one
     * after the other, the last registered first, all within the grace period. A hook that fails or hangs does not
     * stop the others. One registered after shutdown began is not run.
     */
    readonly onShutdown: (name: string, hook: Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Ends the instance: sets the flag, runs the hooks, says what happened. Asked for again it gives the same report.
     * Interrupting a caller does not stop it. A hard stop of the process runs no hooks (B52).
     */
    readonly shutdown: Effect.Effect<ShutdownReport>
  }
>()("outlive/core/Instance") {}

/** @since 0.1.0 */
export interface Options {
  /** Default: eight random hex digits. */
  readonly id?: string | undefined
  /** Threads alive at once: default 10 (B16), 0 for none, `Infinity` for no limit. */
  readonly threadLimit?: number | undefined
  /** How long all shutdown hooks together may take. Default 30 seconds (B53). */
  readonly grace?: Duration.Input | undefined
  /** For people: where this runs. */
  readonly host?: Host | undefined
  /** Default: just calls. */
  readonly detached?: (<A>(launch: () => A) => A) | undefined
  /** Default: tells nobody. */
  readonly carry?: ((ended: Effect.Effect<void>) => void) | undefined
}

/**
 * Makes an instance of either kind. Times are by the `Clock` of this place.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  kind: "frontend" | "backend",
  options?: Options,
): Effect.fn.Return<Instance["Service"]> {
  const random = yield* Random.Random
  const base = yield* Effect.context<never>()
  const id =
    options?.id ??
    Math.floor(random.nextDoubleUnsafe() * 0x100000000)
      .toString(16)
      .padStart(8, "0")
  const threadLimit = options?.threadLimit ?? 10
  if (!(threadLimit >= 0) || (threadLimit !== Number.POSITIVE_INFINITY && !Number.isInteger(threadLimit))) {
    return yield* Effect.die(
      new Error(`Instance: threadLimit must be a whole number from 0 on, or Infinity, and is ${threadLimit}`),
    )
  }
  const grace = Duration.toMillis(Duration.fromInputUnsafe(options?.grace ?? "30 seconds"))
  const hooks = new Set<Hook>()
  const report = yield* Deferred.make<ShutdownReport>()
  let deadline: number | undefined

  const run = Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    const reports: Array<HookReport> = []
    for (const hook of [...hooks].reverse()) reports.push(yield* runHook(hook, deadline ?? begun))
    const took = Duration.millis((yield* Clock.currentTimeMillis) - begun)
    return { instance: id, took, hooks: reports }
  })

  return Instance.of({
    id,
    kind,
    host: options?.host ?? { name: kind === "backend" ? "process" : "frontend", hint: defaultHint },
    threadLimit,
    detached: options?.detached ?? ((launch) => launch()),
    carry: options?.carry,
    isShuttingDown: Effect.sync(() => deadline !== undefined),
    remainingShutdownTime: Effect.clockWith((clock) =>
      Effect.sync(() =>
        deadline === undefined
          ? Option.none()
          : Option.some(Duration.millis(Math.max(0, deadline - clock.currentTimeMillisUnsafe()))),
      ),
    ),
    onShutdown: (name, hook) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const registered: Hook = { name, hook }
            hooks.add(registered)
            return registered
          }),
          (registered) => Effect.sync(() => hooks.delete(registered)),
        ),
      ),
    shutdown: Effect.clockWith((clock) => {
      if (deadline === undefined) {
        deadline = clock.currentTimeMillisUnsafe() + grace
        // Detached, with the instance's own context: whoever asked may be interrupted, the end goes on.
        Effect.runForkWith(base)(Deferred.into(run, report))
      }
      return Deferred.await(report)
    }),
  })
})

/**
 * A process that may do background work. Closing the layer runs no hooks: what registered them has its own scope.
 *
 * @example
 * ```ts
 * import * as Instance from "@outlive/core/Instance"
 *
 * const Backend = Instance.layerBackend({ threadLimit: 50, grace: "20 seconds" })
 * ```
 *
 * @since 0.1.0
 */
export const layerBackend = (options?: Options): Layer.Layer<Instance> =>
  Layer.effect(Instance, make("backend", options))

/**
 * A process that may not: starting a thread or a worker fails with `FrontendsNotSupported`.
 *
 * @since 0.1.0
 */
export const layerFrontend = (options?: Options): Layer.Layer<Instance> =>
  Layer.effect(Instance, make("frontend", options))

/**
 * Fails on a frontend.
 *
 * @since 0.1.0
 */
export const requireBackend: Effect.Effect<void, FrontendsNotSupported, Instance> = Effect.flatMap(
  Instance,
  ({ host, id, kind }) =>
    kind === "backend"
      ? Effect.void
      : Effect.fail(new FrontendsNotSupported({ instance: id, host: host.name, hint: host.hint })),
)

const defaultHint = "Run it on a backend, or have tasks delivered to it as requests."

interface Hook {
  readonly name: string
  readonly hook: Effect.Effect<void>
}

/** Runs a hook in a fiber of its own, so that one that cannot be interrupted does not hold up the others either. */
const runHook = Effect.fnUntraced(function* ({ hook, name }: Hook, deadline: number): Effect.fn.Return<HookReport> {
  const fiber = yield* Effect.forkDetach(hook, { startImmediately: true })
  const left = Math.max(0, deadline - (yield* Clock.currentTimeMillis))
  const exit = yield* Effect.timeoutOption(Fiber.await(fiber), left)
  if (Option.isNone(exit)) {
    fiber.interruptUnsafe()
    yield* Effect.logWarning(`shutdown hook ${name} did not end within the grace period`)
    return { name, outcome: "timedOut" }
  }
  if (exit.value._tag === "Success") return { name, outcome: "done" }
  yield* Effect.logError(`shutdown hook ${name} failed`, exit.value.cause)
  return { name, outcome: "failed" }
})
