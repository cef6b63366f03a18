/**
 * From jobs of another queue to records: all of a batch in one call, and one by one when one of them is refused.
 */
import { DeferLimits, type DeferOptions } from "@outlive/deferred/DeferOptions"
import type * as Task from "@outlive/deferred/Task"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Move, Moved, MoveOptions } from "../../Import.ts"

/** A job whose data could be read. */
export interface Item {
  readonly move: Move
  readonly payload: unknown
  readonly options: MoveOptions
}

export type Refused = { readonly refused: string }

/** What is wrong with one job stops none of the others. */
export const orRefused = <A, R>(
  effect: Effect.Effect<A, { readonly message: string }, R>,
): Effect.Effect<{ readonly value: A } | Refused, never, R> =>
  Effect.match(effect, {
    onSuccess: (value) => ({ value }),
    onFailure: ({ message }) => ({ refused: message }),
  })

const optionsOf = ({ move, options }: Item): DeferOptions => ({
  priority: move.job.priority,
  unique: false,
  ...options,
  eta: DateTime.makeUnsafe(move.job.eta),
  name: move.name,
  onDuplicate: "ignore",
  tombstone: "30 days",
})

const movedOf = (ref: { readonly outcome: "Inserted" | "Existing" | "Replaced" }): Moved =>
  ref.outcome === "Existing" ? "Already" : "Moved"

type AnyTask = Task.Task<string, Schema.Top, Schema.Top, Schema.Top>

/** What became of each, in the order given. */
export const store = Effect.fnUntraced(function* (
  task: AnyTask,
  read: ReadonlyArray<{ readonly value: Item } | Refused>,
): Effect.fn.Return<ReadonlyArray<Moved>, TaskQueueError, TaskQueue | unknown> {
  const items = read.flatMap((each) => ("value" in each ? [each.value] : []))
  const outcomes = yield* storeAll(task, items).pipe(
    Effect.updateService(DeferLimits, (limits) => ({ ...limits, maxDelay: Duration.infinity })),
  )
  let next = 0
  return read.map((each) => ("value" in each ? outcomes[next++]! : each))
})

const storeAll = (task: AnyTask, items: ReadonlyArray<Item>) => {
  const together = task.deferAll(
    items.map(({ payload }) => payload),
    (_, index) => optionsOf(items[index]!),
  )
  return Effect.map(together, (outcomes) =>
    outcomes.map(
      (outcome): Moved => (outcome._tag === "Deferred" ? movedOf(outcome.ref) : { refused: outcome.error.message }),
    ),
  ).pipe(
    // One that is refused refuses all, and nothing has been stored: which one it is shows one by one.
    Effect.catchIf(
      (error) => error._tag !== "TaskQueueError",
      () => Effect.forEach(items, (item) => storeOne(task, item)),
    ),
  )
}

const storeOne = (task: AnyTask, item: Item) =>
  task.defer(item.payload, optionsOf(item)).pipe(
    Effect.map(movedOf),
    Effect.catchIf(
      (error) => error._tag !== "TaskQueueError",
      ({ message }) => Effect.succeed<Moved>({ refused: message }),
    ),
  )
