/**
 * defer ──► scheduled | ready.
 */
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Driver, EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import { type Calls, changesOf, type Ends, endNames, endsOf } from "./calls.ts"
import { makeGroup } from "./groupCalls.ts"
import { isRare, newColumns, rareNames } from "./newRow.ts"
import { floats, integers } from "./row.ts"

interface Item {
  readonly record: NewRecord
  /** The call that it came with. */
  readonly call: ReadonlyArray<NewRecord>
  readonly now: number
}

export const makeEnqueue = Effect.fnUntraced(function* (calls: Calls, by: string) {
  const parameters = Array.from({ length: newColumns.length + 4 }, (_, index) => `$${index + 1}`)
  const text = `SELECT ord, outcome, existing, until, ${endNames("e")} FROM ${calls.schema}.enqueue(${parameters.join(", ")})`

  const enqueue = Effect.fnUntraced(function* (items: ReadonlyArray<Item>) {
    const records = items.map(({ record }) => record)
    const hasRare = records.some(isRare)
    const hasJoins = hasRare && records.some(({ join }) => join !== undefined)
    const rows = yield* calls.run("enqueue", text, [
      ...newColumns.map(([name, , of]) => of(hasRare || !rareNames.has(name) ? records : [])),
      integers(hasJoins ? depthsOf(items) : []),
      integers(hasJoins ? placesOf(items) : []),
      floats(items.map(({ now }) => now)),
      by,
    ])
    const outcomes = records.map(({ id }): EnqueueOutcome => ({ _tag: "Inserted", id }))
    let ends: Ends = {}
    for (const [place, outcome, existing, until, ...more] of rows) {
      if (place === null) ends = endsOf(more)
      else {
        const _tag = outcome as EnqueueOutcome["_tag"]
        outcomes[Number(place) - 1] = outcomeOf(_tag, existing as TaskId, until as number)
      }
    }
    const queues = new Set((ends.waiting ?? []) as ReadonlyArray<string>)
    outcomes.forEach(({ _tag }, index) => {
      if (_tag === "Inserted" || _tag === "Replaced") queues.add(records[index]!.queue)
    })
    yield* calls.publish(changesOf({ ...ends, waiting: [...queues] }))
    return outcomes
  })
  const group = yield* makeGroup("enqueue", calls, enqueue, ({ record }) => record.payload.length)
  const driver: Driver["enqueue"] = ({ now, records }) =>
    group(records.map((record) => ({ record, call: records, now })))
  return driver
})

const outcomeOf = (_tag: EnqueueOutcome["_tag"], id: TaskId, until: number): EnqueueOutcome =>
  _tag === "Tombstoned" ? { _tag, until } : { _tag, id }

/** A number for each call. */
const placesOf = (items: ReadonlyArray<Item>): ReadonlyArray<number> => {
  const places = new Map<Item["call"], number>()
  return items.map(({ call }) => {
    const place = places.get(call) ?? places.size
    places.set(call, place)
    return place
  })
}

/** How many of what is enqueued wait for a record, one for the other. */
const depthsOf = (items: ReadonlyArray<Item>): ReadonlyArray<number | null> => {
  const joins = new Map(
    items.flatMap(({ record }) => (record.join === undefined ? [] : [[record.id, record.memberOf] as const])),
  )
  const depths = new Map<TaskId, number>()
  const depthOf = (id: TaskId): number => {
    // Down to one whose depth is known, and up again: a chain may be longer than the stack.
    const chain = new Set<TaskId>()
    let at: TaskId | undefined = id
    while (at !== undefined && joins.has(at) && !depths.has(at) && !chain.has(at)) {
      chain.add(at)
      at = joins.get(at)
    }
    let depth = at === undefined ? -1 : (depths.get(at) ?? -1)
    for (const each of [...chain].reverse()) depths.set(each, ++depth)
    return depths.get(id) ?? 0
  }
  return items.map(({ record }) => (record.join === undefined ? null : depthOf(record.id)))
}
