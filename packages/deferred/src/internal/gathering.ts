/**
 * Gathering calls into batches: a call waits for the exit of its item in the batch that it became part of.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { TaskContext } from "../TaskContext.ts"

export interface Gathered {
  readonly payload: unknown
  readonly context: TaskContext["Service"]
}

interface Waiting extends Gathered {
  readonly resume: (exit: Exit.Exit<unknown, unknown>) => void
}

interface Batch {
  readonly items: Set<Waiting>
  /** Runs the batch, once it has begun. */
  fiber: Fiber.Fiber<ReadonlyArray<Exit.Exit<unknown, unknown>>, unknown> | undefined
  /** Waits for more, until then. */
  timer: Fiber.Fiber<void> | undefined
}

/** Gives the function to call for each item. What runs is interrupted with the scope. */
export const makeGathering = Effect.fnUntraced(function* (options: {
  readonly run: (
    items: ReadonlyArray<Gathered>,
  ) => Effect.Effect<ReadonlyArray<Exit.Exit<unknown, unknown>>, unknown, unknown>
  readonly max: number
  /** Milliseconds. */
  readonly within: number
}): Effect.fn.Return<
  (payload: unknown, context: TaskContext["Service"]) => Effect.Effect<unknown, unknown>,
  never,
  Scope.Scope
> {
  const { max, run, within } = options
  const services = Context.omit(Scope.Scope, Tracer.ParentSpan)(yield* Effect.context<never>())
  const batches = new Set<Batch>()
  /** The one that takes more items. */
  let open: Batch | undefined
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const batch of batches) stop(batch)
    }),
  )

  const stop = (batch: Batch) => {
    if (open === batch) open = undefined
    batches.delete(batch)
    batch.timer?.interruptUnsafe()
    batch.fiber?.interruptUnsafe()
  }
  const begin = (batch: Batch) => {
    if (open === batch) open = undefined
    batch.timer?.interruptUnsafe()
    // Those who are there now: whoever leaves later leaves the others to it.
    const items = [...batch.items]
    const work = Effect.scoped(Effect.suspend(() => run(items))) as Effect.Effect<
      ReadonlyArray<Exit.Exit<unknown, unknown>>,
      unknown
    >
    batch.fiber = Effect.runForkWith(services)(work)
    batch.fiber.addObserver((exit) => {
      batches.delete(batch)
      const all = exitsOf(exit, items.length)
      items.forEach((item, index) => {
        batch.items.delete(item)
        item.resume(typeof all === "function" ? all(index) : all)
      })
    })
  }
  const gather = (): Batch => {
    const batch: Batch = { items: new Set(), fiber: undefined, timer: undefined }
    batches.add(batch)
    const wait = within === 0 ? Effect.yieldNow : Effect.sleep(within)
    batch.timer = Effect.runForkWith(services)(wait)
    batch.timer.addObserver((exit) => {
      if (Exit.isSuccess(exit) && open === batch) begin(batch)
    })
    return batch
  }

  return (payload, context) =>
    Effect.callback((resume) => {
      open ??= gather()
      const batch = open
      const item: Waiting = { payload, context, resume }
      batch.items.add(item)
      if (batch.items.size >= max) begin(batch)
      return Effect.sync(() => {
        batch.items.delete(item)
        if (batch.items.size === 0) stop(batch)
      })
    })
})

/** The exit of each item: its own, or that of the whole. */
const exitsOf = (
  exit: Exit.Exit<ReadonlyArray<Exit.Exit<unknown, unknown>>, unknown>,
  count: number,
): Exit.Exit<never, unknown> | ((index: number) => Exit.Exit<unknown, unknown>) => {
  if (Exit.isFailure(exit)) return Exit.failCause(exit.cause)
  const exits = exit.value
  if (exits.length === count) return (index) => exits[index] ?? Exit.die(new Error("the batch handler gave a hole"))
  return Exit.die(new Error(`the batch handler gave ${exits.length} exits for ${count} items`))
}
