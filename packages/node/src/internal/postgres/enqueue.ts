/**
 * defer ──► scheduled | ready.
 */
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Driver, EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"
import { makeGroup } from "./groupCalls.ts"
import { floats, newColumns } from "./row.ts"

interface Item {
  readonly record: NewRecord
  readonly now: number
}

export const makeEnqueue = Effect.fnUntraced(function* (calls: Calls, by: string) {
  const parameters = Array.from({ length: newColumns.length + 2 }, (_, index) => `$${index + 1}`)
  const text = `SELECT ord, outcome, existing, until FROM ${calls.schema}.enqueue(${parameters.join(", ")})`

  const enqueue = Effect.fnUntraced(function* (items: ReadonlyArray<Item>) {
    const records = items.map(({ record }) => record)
    const rows = yield* calls.run("enqueue", text, [
      ...newColumns.map(([, , of]) => of(records)),
      floats(items.map(({ now }) => now)),
      by,
    ])
    const outcomes = records.map(({ id }): EnqueueOutcome => ({ _tag: "Inserted", id }))
    for (const [place, outcome, existing, until] of rows) {
      outcomes[Number(place) - 1] = outcomeOf(outcome as EnqueueOutcome["_tag"], existing as TaskId, until as number)
    }
    const queues = new Set<string>()
    outcomes.forEach(({ _tag }, index) => {
      if (_tag === "Inserted" || _tag === "Replaced") queues.add(records[index]!.queue)
    })
    yield* calls.publish(changesOf({ waiting: [...queues] }))
    return outcomes
  })
  const group = yield* makeGroup("enqueue", calls, enqueue, ({ record }) => record.payload.length)
  const driver: Driver["enqueue"] = ({ now, records }) => group(records.map((record) => ({ record, now })))
  return driver
})

const outcomeOf = (_tag: EnqueueOutcome["_tag"], id: TaskId, until: number): EnqueueOutcome =>
  _tag === "Tombstoned" ? { _tag, until } : { _tag, id }
