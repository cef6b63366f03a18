/**
 * From payloads and options to stored records.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type DeferOptions, TaskAlreadyExists, TombstonedTask } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { EnqueueOutcome, TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { NewRecord } from "../TaskRecord.ts"
import { successAtOnce } from "./atOnce.ts"
import { enqueueMerged, isMerged } from "./merging.ts"
import {
  type Deferrer,
  type Draft,
  deferrerOf,
  type RecordError,
  recordOfDraft,
  toDraft,
  toRecord,
} from "./newRecord.ts"
import { discard, isSmall, storeApart } from "./payloads.ts"
import { makeRef } from "./taskRef.ts"

export { type Deferrer, deferrerOf, toRecord } from "./newRecord.ts"

export const defer = (task: Task.Any, input: unknown, options: DeferOptions) =>
  Effect.contextWith((context: Context.Context<TaskQueue>) => {
    const deferrer = deferrerOf(context, task)
    if (isMerged(task, options)) return deferMerged(deferrer, input, options)
    const record = toRecord(deferrer, input, options)
    const known = successAtOnce(record)
    return known === undefined ? storeLater(deferrer, record) : store(deferrer, known.value)
  })

const storeLater = (deferrer: Deferrer, record: Effect.Effect<NewRecord, RecordError, unknown>) =>
  Effect.flatMap(record, (made) => store(deferrer, made))

const store = (deferrer: Deferrer, made: NewRecord) => {
  const { now, payloadLimit, queue } = deferrer
  if (queue.payloads === undefined || isSmall(made.payload, payloadLimit)) return enqueue(deferrer, made)
  return enqueueLater(deferrer, storeApart(queue, made, payloadLimit, now))
}

const enqueueLater = (deferrer: Deferrer, record: Effect.Effect<NewRecord, TaskQueueError>) =>
  Effect.flatMap(record, (stored) => enqueue(deferrer, stored))

const enqueue = (deferrer: Deferrer, record: NewRecord) =>
  Effect.flatMap(deferrer.queue.enqueue({ records: [record], now: deferrer.now }), (outcomes) =>
    answered(deferrer, record, outcomes[0]),
  )

const deferMerged = (deferrer: Deferrer, input: unknown, options: DeferOptions) =>
  Effect.flatMap(toDraft(deferrer, input, options), (draft) =>
    Effect.flatMap(enqueueMerged(deferrer, draft), ({ outcome, record }) => answered(deferrer, record, outcome)),
  )

/** The handle on what became of a record. */
const answered = ({ queue, task }: Deferrer, record: NewRecord, outcome: EnqueueOutcome | undefined) => {
  if (outcome !== undefined) queue.events.deferred(record, outcome)
  if (outcome?._tag === "Inserted") return Effect.succeed(makeRef(queue, task, outcome.id, "Inserted"))
  const error = refusal(record, outcome)
  const answer = error === undefined ? Effect.succeed(deferredRef(queue, task, outcome)) : Effect.fail(error)
  return isUnused(record, outcome) ? Effect.andThen(discard(queue, [record.payloadRef]), answer) : answer
}

type OptionsOf = (input: unknown, index: number) => DeferOptions

export const deferAll = Effect.fnUntraced(function* (task: Task.Any, inputs: Iterable<unknown>, optionsOf: OptionsOf) {
  const deferrer = deferrerOf(yield* Effect.context<TaskQueue>(), task)
  if (task.settings.latest?.merge !== undefined) return yield* deferOneByOne(deferrer, inputs, optionsOf)
  const { now, payloadLimit, queue } = deferrer
  const made: Array<NewRecord> = []
  for (const input of inputs) {
    const record = toRecord(deferrer, input, optionsOf(input, made.length))
    const atOnce = successAtOnce(record)
    made.push(atOnce === undefined ? yield* record : atOnce.value)
  }
  // Not before all of them are known to be good: nothing is put for a call that is refused.
  const records: Array<NewRecord> = []
  for (const each of made) {
    const record = storeApart(queue, each, payloadLimit, now)
    const atOnce = successAtOnce(record)
    records.push(atOnce === undefined ? yield* record : atOnce.value)
  }
  const outcomes = yield* queue.enqueue({ records, now })
  const unused = records.filter((record, index) => isUnused(record, outcomes[index]))
  yield* discard(
    queue,
    unused.map(({ payloadRef }) => payloadRef),
  )
  for (const [index, outcome] of outcomes.entries()) queue.events.deferred(records[index]!, outcome)
  return records.map((record, index) => itemOf(deferrer, record, outcomes[index]))
})

/** What is merged with what waits must know that first, what the items before it made included. */
const deferOneByOne = Effect.fnUntraced(function* (
  deferrer: Deferrer,
  inputs: Iterable<unknown>,
  optionsOf: OptionsOf,
) {
  const { now, payloadLimit, queue, task } = deferrer
  const drafts: Array<Draft> = []
  for (const input of inputs) drafts.push(yield* toDraft(deferrer, input, optionsOf(input, drafts.length)))
  for (const draft of drafts) yield* recordOfDraft(deferrer, draft)
  const items: Array<Item> = []
  for (const draft of drafts) {
    const { outcome, record } = isMerged(task, draft.options)
      ? yield* enqueueMerged(deferrer, draft)
      : yield* enqueueOne(deferrer, yield* storeApart(queue, yield* recordOfDraft(deferrer, draft), payloadLimit, now))
    if (outcome !== undefined) queue.events.deferred(record, outcome)
    if (isUnused(record, outcome)) yield* discard(queue, [record.payloadRef])
    items.push(itemOf(deferrer, record, outcome))
  }
  return items
})

const enqueueOne = ({ now, queue }: Deferrer, record: NewRecord) =>
  Effect.map(queue.enqueue({ records: [record], now }), ([outcome]) => ({ record, outcome }))

type Item = ReturnType<typeof itemOf>

const itemOf = ({ queue, task }: Deferrer, record: NewRecord, outcome: EnqueueOutcome | undefined) => {
  const error = refusal(record, outcome)
  return error === undefined
    ? { _tag: "Deferred" as const, ref: deferredRef(queue, task, outcome) }
    : { _tag: "Refused" as const, error }
}

/** Its body was put apart for a record which the queue did not take. */
const isUnused = (
  record: NewRecord,
  outcome: EnqueueOutcome | undefined,
): record is NewRecord & { readonly payloadRef: string } =>
  record.payloadRef !== undefined && outcome?._tag !== "Inserted" && outcome?._tag !== "Replaced"

const refusal = (
  record: NewRecord,
  outcome: EnqueueOutcome | undefined,
): TaskAlreadyExists | TombstonedTask | undefined => {
  const name = record.name ?? ""
  if (outcome?._tag === "Duplicate") return new TaskAlreadyExists({ queue: record.queue, name, id: outcome.id })
  if (outcome?._tag === "Tombstoned") return new TombstonedTask({ queue: record.queue, name, until: outcome.until })
  return undefined
}

const deferredRef = (queue: TaskQueue["Service"], task: Task.Any, outcome: EnqueueOutcome | undefined) => {
  if (outcome === undefined || !("id" in outcome) || outcome._tag === "Duplicate") {
    throw new Error(`the driver ${queue.name} gave no outcome for a record`)
  }
  return makeRef(queue, task, outcome.id, outcome._tag)
}
