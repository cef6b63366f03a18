/**
 * From the tasks of a chain to its records, each of which waits for the one before it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Task from "../Task.ts"
import type * as TaskChain from "../TaskChain.ts"
import type { ItemOptions, MemberOptions } from "../TaskFanOut.ts"
import type { CancelOutcome, TaskQueue } from "../TaskQueue.ts"
import type { Join, NewRecord } from "../TaskRecord.ts"
import { handsOverTo } from "./handOver.ts"
import { callOf, enqueueTogether, memberRecord, requireTransaction, withHeaders } from "./members.ts"
import { makeRef } from "./taskRef.ts"

interface Link {
  readonly task: Task.Any
  readonly options: ItemOptions
}

export const make = (first: Task.Any) => chain([{ task: first, options: {} }])

const chain = (links: ReadonlyArray<Link>): unknown => ({
  tasks: links.map(({ task }) => task),
  to: (task: Task.Any, options: ItemOptions = {}) => chain([...links, { task, options }]),
  defer: (payload: unknown, options: FirstOptions = {}) => defer(links, payload, options),
})

type FirstOptions = TaskChain.Options<boolean | undefined>

/** Each link but the first waits for one. */
const join: Join = { total: 1, onFailure: "cancel", afterwards: "run" }

const defer = Effect.fnUntraced(function* (
  [first, ...rest]: ReadonlyArray<Link>,
  payload: unknown,
  { requireTransaction: isRequired, ...options }: FirstOptions,
) {
  const call = callOf(yield* Effect.context<TaskQueue>())
  const { queue } = call
  const task = first!.task
  if (isRequired === true) yield* requireTransaction(call, task.taskName)
  const records: Array<NewRecord> = [yield* memberRecord({ ...call, task }, payload, options as MemberOptions)]
  const { key } = records[0]!
  for (const link of rest) {
    const made = yield* memberRecord({ ...call, task: withoutPayload(link.task) }, undefined, link.options)
    const own = link.options.key === false ? undefined : (made.key ?? key)
    records.push({ ...made, key: own, join })
  }
  const linked = records.map((record, index) => {
    const next = records[index + 1]
    return next === undefined ? record : { ...withHeaders(record, handsOverTo(next)), memberOf: next.id }
  })
  yield* enqueueTogether(call, linked)
  const refs = records.map(({ id }, index) =>
    makeRef(queue, index === 0 ? task : rest[index - 1]!.task, id, "Inserted"),
  )
  const last = refs.at(-1)!
  return {
    id: last.id,
    links: refs,
    await: last.await,
    cancel: (cancelling?: { readonly reason?: string | undefined }) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.map(
          // The last one takes with it what it waits for: nothing begins meanwhile.
          queue.cancel({
            ids: refs.map(({ id }) => id).reverse(),
            reason: cancelling?.reason ?? "asked for",
            now,
          }),
          together,
        ),
      ),
  }
})

/** The task as it makes a record whose payload is not known yet, nor what is made of that. */
const withoutPayload = ({ settings, taskName }: Task.Any): Task.Any => {
  const { codec } = settings
  const blank = { makePayload: () => Effect.undefined, encodeMade: () => Effect.succeed("null") }
  return { taskName, settings: { ...settings, key: undefined, codec: { ...codec, ...blank } } } as unknown as Task.Any
}

/** What cancelling many comes to: what there was still to be done. */
const together = (outcomes: ReadonlyArray<CancelOutcome>): CancelOutcome =>
  (["Requested", "Cancelled", "TooLate"] as const).find((outcome) => outcomes.includes(outcome)) ?? "NotFound"
