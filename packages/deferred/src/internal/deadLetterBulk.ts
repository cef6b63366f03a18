/**
 * Doing something to many dead letters, in batches.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { DeadLetterFilter } from "../DeadLetterFilter.ts"
import type { TaskId } from "../TaskId.ts"
import { TaskQueue, type TaskQueueError } from "../TaskQueue.ts"
import { batch, filtersOf, invalid, pageOf } from "./deadLetters.ts"

/** Which dead letters to do it to. */
export type Selection = TaskId | Iterable<TaskId> | DeadLetterFilter | "all"

/** Does something to what is selected. */
export const bulk = Effect.fnUntraced(function* (
  selection: Selection,
  { limit = Number.POSITIVE_INFINITY }: { readonly limit?: number | undefined } = {},
  apply: (queue: TaskQueue["Service"]) => Apply<TaskQueueError>,
) {
  const queue = yield* TaskQueue
  if (selection === "all") return yield* forFilter(queue, {}, yield* checkedLimit(limit), apply(queue))
  if (typeof selection === "string") return yield* forIds([selection], apply(queue))
  if (Symbol.iterator in selection) return yield* forIds(selection, apply(queue))
  const { endedAfter, endedBefore, queue: name, reason, tag, task } = selection
  if ([endedAfter, endedBefore, name, reason, tag, task].every((said) => said === undefined)) {
    return yield* invalid("filter", `says nothing, which would be all of them: to mean that, say "all"`)
  }
  return yield* forFilter(queue, selection, yield* checkedLimit(limit), apply(queue))
})

const checkedLimit = (limit: number) =>
  limit >= 1 && (Number.isInteger(limit) || limit === Number.POSITIVE_INFINITY)
    ? Effect.succeed(limit)
    : invalid("limit", `must be a whole number of at least 1, and is ${limit}`)

export const redriveSome =
  (queue: TaskQueue["Service"]): Apply<TaskQueueError> =>
  (ids) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.map(queue.redrive({ ids, now }), (outcomes) =>
        outcomes.map((outcome) => (outcome === "Redriven" ? "Done" : outcome)),
      ),
    )

export const removeSome =
  (queue: TaskQueue["Service"]): Apply<TaskQueueError> =>
  (ids) =>
    Effect.map(queue.remove({ ids, only: "dead" }), (outcomes) =>
      outcomes.map((outcome): Done => {
        if (outcome === "Removed") return "Done"
        return outcome === "NotFound" ? "NotFound" : "NotDead"
      }),
    )

/** What one call did to one record. */
type Done = "Done" | "NotDead" | "NotFound"

/** Does something to some records, and says in their order what it did. */
type Apply<E> = (ids: ReadonlyArray<TaskId>) => Effect.Effect<ReadonlyArray<Done>, E>

interface Tally {
  done: number
  readonly notDead: Array<TaskId>
  readonly notFound: Array<TaskId>
}

const empty = (): Tally => ({ done: 0, notDead: [], notFound: [] })

/** Does something to each of these records, once, in batches. */
const forIds = Effect.fnUntraced(function* <E>(ids: Iterable<TaskId>, apply: Apply<E>) {
  const distinct = [...new Set(ids)]
  const tally = empty()
  for (let start = 0; start < distinct.length; start += batch) {
    yield* forBatch(distinct.slice(start, start + batch), apply, tally)
  }
  return tally
})

/**
 * Does something to what is dead now and matches, in batches. It goes through the records once, in the order of
 * pages, and past what died after it began: a record that dies again meanwhile is not met a second time.
 */
const forFilter = Effect.fnUntraced(function* <E>(
  queue: TaskQueue["Service"],
  filter: DeadLetterFilter,
  limit: number,
  apply: Apply<E>,
) {
  const begun = yield* Clock.currentTimeMillis
  const filters = (yield* filtersOf(filter, begun)).map((one) => ({
    ...one,
    endedBefore: Math.min(begun + 1, one.endedBefore ?? Number.POSITIVE_INFINITY),
  }))
  const tally = empty()
  let cursor: string | undefined
  do {
    const now = yield* Clock.currentTimeMillis
    const page = yield* pageOf(queue, { filters, cursor, limit: Math.min(batch, limit - tally.done), now })
    const ids = page.records.map((record) => record.id)
    if (ids.length > 0) yield* forBatch(ids, apply, tally)
    cursor = page.cursor
  } while (cursor !== undefined && tally.done < limit)
  return tally
})

const forBatch = <E>(ids: ReadonlyArray<TaskId>, apply: Apply<E>, tally: Tally): Effect.Effect<void, E> =>
  Effect.map(apply(ids), (outcomes) => {
    ids.forEach((id, index) => {
      if (outcomes[index] === "Done") tally.done++
      else tally[outcomes[index] === "NotDead" ? "notDead" : "notFound"].push(id)
    })
  })
