/**
 * Records that wait for each other: made one by one, stored in one call.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type DeferOptions, InvalidTaskOptions, NotInTransaction } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { Item } from "../TaskFanOut.ts"
import { type TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { NewRecord } from "../TaskRecord.ts"
import { successAtOnce } from "./atOnce.ts"
import { type Deferrer, deferrerOf, type RecordError, toRecord } from "./newRecord.ts"
import { storeApart } from "./payloads.ts"

/** A checked record that is stored in any case: it takes nobody's place, and nobody is there instead of it. */
export const memberRecord = (
  deferrer: Deferrer,
  input: unknown,
  options: DeferOptions,
): Effect.Effect<NewRecord, RecordError, unknown> => {
  const problem = problemOf(deferrer.task, options)
  return problem === undefined ? toRecord(deferrer, input, options) : Effect.fail(problem)
}

/** Types say so already, of the options; JavaScript does not. */
const problemOf = ({ settings, taskName }: Task.Any, options: DeferOptions): InvalidTaskOptions | undefined => {
  const refuse = (field: string, reason: string) => new InvalidTaskOptions({ task: taskName, field, reason })
  if (options.name !== undefined) return refuse("name", "is not for a record that belongs to others")
  const isFree = options.unique === false
  if (options.unique !== undefined && !isFree) return refuse("unique", whyNoKey)
  if (settings.unique !== undefined && !isFree) return refuse("unique", whyNoKey)
  if (options.latest !== undefined && options.latest !== false) return refuse("latest", whyNoKey)
  if (settings.latest !== undefined && !isFree && options.latest !== false) return refuse("latest", whyNoKey)
  return undefined
}

const whyNoKey =
  "is not for a record that belongs to others, which must be there in any case: say unique: false if the task has a key"

/** One record after the other, each on the spot when nothing of it has to be waited for. */
export const recordsOf = Effect.fnUntraced(function* (
  call: Call,
  items: Iterable<Item<Task.Any>>,
  change: (record: NewRecord, index: number) => NewRecord,
): Effect.fn.Return<Array<NewRecord>, RecordError, unknown> {
  const deferrerOf = deferrersOf(call)
  const records: Array<NewRecord> = []
  for (const { options, payload, task } of items) {
    const made = memberRecord(deferrerOf(task), payload, options ?? {})
    const atOnce = successAtOnce(made)
    records.push(change(atOnce === undefined ? yield* made : atOnce.value, records.length))
  }
  return records
})

/** Stores all of them, or none. */
export const enqueueTogether = Effect.fnUntraced(function* (
  { now, payloadLimit, queue }: Call,
  made: ReadonlyArray<NewRecord>,
): Effect.fn.Return<void, TaskQueueError> {
  if (!queue.capabilities.claims) return yield* Effect.fail(notHere(queue))
  // Not before all of them are known to be good: nothing is put for a call that is refused.
  const records: Array<NewRecord> = []
  for (const each of made) {
    const record = storeApart(queue, each, payloadLimit, now)
    const atOnce = successAtOnce(record)
    records.push(atOnce === undefined ? yield* record : atOnce.value)
  }
  const outcomes = yield* queue.enqueue({ records, now })
  for (const [index, outcome] of outcomes.entries()) queue.events.deferred(records[index]!, outcome)
})

const notHere = ({ name }: TaskQueue["Service"]): TaskQueueError =>
  new TaskQueueError({
    operation: "enqueue",
    message: `${name} delivers each task by itself and knows of none that waits for others: keep groups and chains in a queue of your own`,
    isRetryable: false,
    reason: "NotSupported",
  })

/** Fails outside of a transaction of the application; `task` is for people. */
export const requireTransaction = Effect.fnUntraced(function* ({ queue }: Call, task: string) {
  const isInside = queue.inTransaction === undefined ? false : yield* queue.inTransaction
  if (!isInside) yield* Effect.fail(new NotInTransaction({ task, driver: queue.name }))
})

/** What one call takes from its context, for records of whichever tasks. */
export type Call = Omit<Deferrer, "task">

export const callOf = (context: Context.Context<TaskQueue>): Call => deferrerOf(context, noTask)

/** Each task's deferrer is the call with the task; nobody reads it here. */
const noTask = undefined as unknown as Task.Any

/** The deferrers of a call; in most of them one task comes after the same. */
const deferrersOf = (call: Call): ((task: Task.Any) => Deferrer) => {
  let last: Deferrer | undefined
  return (task) => {
    if (last?.task !== task) last = { ...call, task }
    return last
  }
}

/** With headers of ours, which a deferral cannot have. */
export const withHeaders = (record: NewRecord, headers: Readonly<Record<string, string>>): NewRecord => ({
  ...record,
  headers: { ...record.headers, ...headers },
})
