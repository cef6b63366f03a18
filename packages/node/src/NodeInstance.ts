/**
 * The instance of a Node process: a frontend on hosts that stop a process once its request is answered, else a backend
 * that ends in order on SIGTERM and SIGINT.
 *
 * @since 0.1.0
 */
import { AsyncResource } from "node:async_hooks"
import * as Instance from "@outlive/core/Instance"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import { detectFrontend, type Environment } from "./internal/host.ts"

/**
 * `OUTLIVE_INSTANCE` says something that is neither `frontend` nor `backend`.
 *
 * @since 0.1.0
 */
export class InvalidInstanceKind extends Schema.TaggedError<InvalidInstanceKind>()("InvalidInstanceKind", {
  value: Schema.String,
}) {
  override get message() {
    return `OUTLIVE_INSTANCE must be "frontend" or "backend", and is ${JSON.stringify(this.value)}`
  }
}

/** @since 0.1.0 */
export interface Options extends Pick<Instance.Options, "id" | "threadLimit" | "grace"> {
  /** What this process is, whatever the host looks like. Default: `OUTLIVE_INSTANCE`, else what is detected. */
  readonly kind?: "frontend" | "backend" | undefined
  /** Default: `process.env`. */
  readonly env?: Environment | undefined
  /**
   * The signals that begin the shutdown; a second one ends the process at once. Default SIGTERM and SIGINT; none for a
   * program that handles signals itself.
   */
  readonly signals?: ReadonlyArray<NodeJS.Signals> | undefined
}

/**
 * The instance of this process.
 *
 * - An explicit `kind` wins, then the variable `OUTLIVE_INSTANCE`, then the host: AWS Lambda, Vercel, Netlify, Azure
 *   Functions, Cloud Functions, Cloud Run and App Engine standard are frontends, recognised by the environment variables
 *   they document. Whether Cloud Run or App Engine keep the CPU on cannot be seen from inside: say so with
 *   `OUTLIVE_INSTANCE=backend`.
 * - On a backend the first SIGTERM or SIGINT starts `shutdown` and logs what was left when it is done; the program's own
 *   interruption (`NodeRuntime.runMain`) closes the layers after it, and closing this layer waits for the shutdown. A
 *   second signal ends the process at once, with 128 + the signal's number, as a shell would report it.
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Instance.Instance, InvalidInstanceKind> =>
  Layer.effect(
    Instance.Instance,
    Effect.gen(function* () {
      const env = options?.env ?? process.env
      const host = detectFrontend(env)
      const kind = options?.kind ?? (yield* kindOf(env, host))
      const instance = yield* Instance.make(kind, {
        ...options,
        detached: outside(),
        host: kind === "backend" ? undefined : (host ?? told),
      })
      if (kind === "backend") yield* onSignals(instance, options?.signals ?? ["SIGTERM", "SIGINT"])
      return instance
    }),
  )

/**
 * The instance of one request on a host that has a `waitUntil`: it may start threads, and the host is told of each, so
 * that it lets the process live until they have ended (within the host's own limit, after which they are lost). No
 * signals are listened to: such hosts send none that matter.
 *
 * @example
 * ```ts
 * import * as NodeInstance from "@outlive/node/NodeInstance"
 *
 * declare const request: { readonly waitUntil: (promise: Promise<unknown>) => void }
 * const OfThisRequest = NodeInstance.layerWaitUntil({ waitUntil: (promise) => request.waitUntil(promise) })
 * ```
 *
 * @since 0.1.0
 */
export const layerWaitUntil = (
  options: Pick<Instance.Options, "id" | "threadLimit" | "grace"> & {
    readonly waitUntil: (ended: Promise<void>) => void
  },
): Layer.Layer<Instance.Instance> =>
  Layer.effect(
    Instance.Instance,
    Effect.suspend(() =>
      Instance.make("backend", {
        ...options,
        detached: outside(),
        carry: (ended) => options.waitUntil(Effect.runPromise(ended)),
        host: detectFrontend(process.env),
      }),
    ),
  )

/** Launches from here, not from the caller: a fiber takes the async-local storage of the place where it is launched along. */
const outside = (): (<A>(launch: () => A) => A) => {
  const root = new AsyncResource("outlive/NodeInstance")
  return (launch) => root.runInAsyncScope(launch)
}

/**
 * How a service ends: an orderly stop by a signal is exit code 0, one that left something behind (a shutdown hook that
 * failed or did not end in time) is 1, everything else as Effect has it. For `NodeRuntime.runMain({ teardown })`.
 *
 * @since 0.1.0
 */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    ? onExit(Number(process.exitCode ?? 0))
    : Runtime.defaultTeardown(exit, onExit)

const told: Instance.Host = {
  name: "told to be a frontend",
  hint: "It was told so by its `kind` or by OUTLIVE_INSTANCE; have tasks delivered as requests, or run the work on a backend.",
}

const kindOf = (
  env: Environment,
  host: Instance.Host | undefined,
): Effect.Effect<"frontend" | "backend", InvalidInstanceKind> => {
  const value = env.OUTLIVE_INSTANCE
  if (value === undefined || value === "") return Effect.succeed(host === undefined ? "backend" : "frontend")
  if (value === "frontend" || value === "backend") return Effect.succeed(value)
  return Effect.fail(new InvalidInstanceKind({ value }))
}

const numbers: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 }

const onSignals = Effect.fnUntraced(function* (
  instance: Instance.Instance["Service"],
  signals: ReadonlyArray<NodeJS.Signals>,
) {
  const context = yield* Effect.context<never>()
  let first: NodeJS.Signals | undefined
  const shutdown = (signal: NodeJS.Signals) =>
    Effect.logInfo(`${signal}: instance ${instance.id} is shutting down; a second signal ends it at once`).pipe(
      Effect.andThen(instance.shutdown),
      Effect.flatMap((report) => {
        if (leftOf(report).length === 0) return Effect.logInfo(sentence(report))
        process.exitCode = 1
        return Effect.logWarning(sentence(report))
      }),
    )
  const listener = (signal: NodeJS.Signals) => {
    if (first === undefined) {
      first = signal
      Effect.runForkWith(context)(shutdown(signal))
    } else process.exit(128 + (numbers[signal] ?? 0))
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      // Before those of the program's runner: what it then interrupts already sees that the instance is ending.
      for (const signal of signals) process.prependListener(signal, listener)
    }),
    () =>
      // What was begun by a signal is waited for, so that the process does not end in the middle of it.
      Effect.andThen(
        Effect.suspend(() => (first === undefined ? Effect.void : Effect.asVoid(instance.shutdown))),
        Effect.sync(() => {
          for (const signal of signals) process.off(signal, listener)
        }),
      ),
  )
})

const leftOf = ({ hooks }: Instance.ShutdownReport): ReadonlyArray<string> =>
  hooks.filter((hook) => hook.outcome !== "done").map((hook) => `${hook.name} (${hook.outcome})`)

const sentence = (report: Instance.ShutdownReport): string => {
  const left = leftOf(report)
  const seconds = (Duration.toMillis(report.took) / 1000).toFixed(1)
  return left.length === 0
    ? `instance ${report.instance} shut down in ${seconds} s, nothing was left`
    : `instance ${report.instance} shut down in ${seconds} s, left: ${left.join(", ")}`
}
