/**
 * Moves the elements of an Effect `PersistedQueue` over to tasks, out of whichever store the context has: in memory, in SQL or
 * in Redis. Or, with `idle: "forever"`, goes on to do so, as an adaptor: those who still `offer` need not change yet.
 *
 * An element is taken as a worker takes it, and is completed when its record is stored. The record is named by the queue and the
 * element's id, so one that comes again, because the process died in between or its lock ran out, is known. What cannot be moved is
 * given back at the end, without having cost an attempt. See `Import` for all imports.
 *
 * The store does not say what it has, only what is due: delayed elements and those between two attempts are moved when they
 * become due. When an element was offered, and by when it is due, the store does not say either: its `createdAt` and `eta` are
 * the time it was taken.
 *
 * Effect's persistence modules are unstable: a minor release of `effect` may change them, and then this.
 *
 * @since 0.1.0
 */
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { type PersistedQueueError, PersistedQueueStore } from "effect/persistence/PersistedQueue"
import * as Scope from "effect/Scope"
import type { Report, Target } from "./Import.ts"
import { makeTally, recordName } from "./internal/import/tally.ts"

/** @since 0.1.0 */
export interface Options<R> {
  /** The name of the `PersistedQueue`. */
  readonly name: string
  /** What its elements become. `Import.to(task, { from, payload })` with the queue's schema as `from`. */
  readonly to: Target<R>
  /**
   * It is empty when nothing came for so long. More than the store's `pollInterval`. Default 5 seconds. `"forever"`: never, the
   * effect ends by interruption only.
   */
  readonly idle?: Duration.Input | "forever" | undefined
  /** How many elements are moved at the same time. Default 1, which keeps their order. */
  readonly concurrency?: number | undefined
}

/**
 * Moves them, and says what it did. Interrupted or killed, it leaves each element there or here; run it again for the rest.
 *
 * Fails with `PersistedQueueError` when the store does, with `TaskQueueError` when the task queue does: what was taken by then is
 * given back.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as Import from "@outlive/node/Import"
 * import * as ImportPersistedQueue from "@outlive/node/ImportPersistedQueue"
 * import { Schema } from "effect"
 *
 * class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
 *
 * const program = ImportPersistedQueue.run({ name: "mails", to: Import.to(Mail) })
 * ```
 *
 * @since 0.1.0
 */
export const run = <R>(
  options: Options<R>,
): Effect.Effect<Report, PersistedQueueError | TaskQueueError, PersistedQueueStore | TaskQueue | R> =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* PersistedQueueStore
      const { name, to } = options
      const idle = options.idle ?? "5 seconds"
      const tally = makeTally(false)
      // Given back at once they would be taken again at once.
      const refused: Array<Scope.Closeable> = []
      yield* Effect.addFinalizer(() => Effect.forEach(refused, giveBack, { discard: true }))

      const take = (scope: Scope.Scope) => {
        const taken = Scope.provide(store.take({ name, ...untouched }), scope)
        return idle === "forever" ? Effect.asSome(taken) : Effect.timeoutOption(taken, idle)
      }
      /** Whether there was one. */
      const moveOne = Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const taken = yield* Effect.onError(restore(take(scope)), () => giveBack(scope))
          if (Option.isNone(taken)) {
            yield* giveBack(scope)
            return false
          }
          const now = yield* Clock.currentTimeMillis
          const { attempts, element, id } = taken.value
          const job = {
            id,
            name,
            data: element,
            priority: 0,
            eta: now,
            createdAt: now,
            attempts: attempts - 1,
            source: {},
          }
          const move = { job, name: recordName("persisted", name, id) }
          const [outcome] = yield* Effect.onError(restore(to.move([move])), () => giveBack(scope))
          tally.moved(job, outcome ?? { refused: "it has no outcome" })
          if (typeof outcome === "string") yield* Scope.close(scope, Exit.void)
          else refused.push(scope)
          return true
        }),
      )
      const moveAll = Effect.repeat(moveOne, { while: (found) => found })
      const concurrency = options.concurrency ?? 1
      yield* Effect.forEach(Array.from({ length: concurrency }), () => moveAll, { concurrency, discard: true })
      return tally.report()
    }),
  )

/** As after an interruption, which counts no attempt. */
const giveBack = (scope: Scope.Closeable): Effect.Effect<void> => Scope.close(scope, Exit.interrupt())

/** Nothing fails here, as far as the store can see. */
const untouched = { maxAttempts: 2_147_483_647, retryDelay: () => Effect.succeed(Duration.zero) }
