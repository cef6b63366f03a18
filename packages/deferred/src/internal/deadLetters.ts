/**
 * Dead letters below their types: which records a filter means, and reading them page by page.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type DeadLetterFilter, InvalidDeadLetterFilter, type Moment } from "../DeadLetterFilter.ts"
import * as Task from "../Task.ts"
import type { Filter, TaskQueue } from "../TaskQueue.ts"
import type { TaskRecord } from "../TaskRecord.ts"

/** Bounds how long one call may hold a driver. */
export const batch = 500

/** The driver's filters that together are a person's: one for each name of the task. */
export const filtersOf = Effect.fnUntraced(function* (filter: DeadLetterFilter, now: number) {
  const common = {
    queue: filter.queue,
    state: "dead" as const,
    reason: filter.reason,
    tag: filter.tag,
    endedAfter: yield* momentOf("endedAfter", filter.endedAfter, now),
    endedBefore: yield* momentOf("endedBefore", filter.endedBefore, now),
  }
  return namesOf(filter.task).map((task): Filter => ({ ...common, task }))
})

const namesOf = (task: string | Task.Any | undefined): ReadonlyArray<string | undefined> =>
  Task.isTask(task) ? [...new Set([task.taskName, ...task.settings.aliases])] : [task]

const momentOf = Effect.fnUntraced(function* (field: string, moment: Moment | undefined, now: number) {
  if (moment === undefined) return undefined
  if (DateTime.isDateTime(moment)) return moment.epochMilliseconds
  const ago = yield* finite(field, moment)
  // Ends are whole milliseconds: one is at or after a time exactly when it is so for the next whole one. The calendar
  // begins where a DateTime can begin.
  return Math.max(-8.64e15, Math.ceil(now - ago))
})

/** The filter with its times ago as points in time, so that they stay where they are from page to page. */
export const pinned = Effect.fnUntraced(function* (filter: DeadLetterFilter) {
  const now = yield* Clock.currentTimeMillis
  const pin = (field: "endedAfter" | "endedBefore") =>
    Effect.map(momentOf(field, filter[field], now), (at) => (at === undefined ? undefined : DateTime.makeUnsafe(at)))
  return { ...filter, endedAfter: yield* pin("endedAfter"), endedBefore: yield* pin("endedBefore") }
})

/** The milliseconds of a finite duration. */
export const finite = (field: string, input: Duration.Input): Effect.Effect<number, InvalidDeadLetterFilter> => {
  const duration = Duration.fromInput(input)
  return Option.isSome(duration) && Duration.isFinite(duration.value)
    ? Effect.succeed(Duration.toMillis(duration.value))
    : invalid(field, `must be a finite duration, and is ${String(input)}`)
}

export const invalid = (field: string, reason: string): Effect.Effect<never, InvalidDeadLetterFilter> =>
  Effect.fail(new InvalidDeadLetterFilter({ field, reason }))

/** One page over all filters, the first filter's records first. A cursor names the filter and where in it. */
export const pageOf = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  {
    cursor,
    filters,
    limit,
    now,
  }: {
    readonly filters: ReadonlyArray<Filter>
    readonly cursor: string | undefined
    readonly limit: number
    readonly now: number
  },
) {
  let { after, at } = yield* placeOf(cursor, filters.length)
  const records: Array<TaskRecord> = []
  for (; at < filters.length; at++, after = undefined) {
    if (records.length === limit) return { records, cursor: `${at}:` }
    const page = yield* queue.find({ ...filters[at], cursor: after, limit: limit - records.length, now })
    records.push(...page.records)
    if (page.cursor !== undefined) return { records, cursor: `${at}:${page.cursor}` }
  }
  return { records, cursor: undefined }
})

const placeOf = (
  cursor: string | undefined,
  filters: number,
): Effect.Effect<{ readonly at: number; readonly after: string | undefined }, InvalidDeadLetterFilter> => {
  if (cursor === undefined) return Effect.succeed({ at: 0, after: undefined })
  const [, at, after] = cursor.match(/^(\d{1,4}):(.*)$/s) ?? []
  return at !== undefined && Number(at) < filters
    ? Effect.succeed({ at: Number(at), after: after === "" ? undefined : after })
    : invalid("cursor", `must come from a page of the same filter, and is ${JSON.stringify(cursor)}`)
}
