/**
 * From items to a group: one record more than there are items, all stored in one call.
 */
import * as Effect from "effect/Effect"
import { InvalidTaskOptions, queuePattern } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { EachOptions, Item, ItemOptions, Options } from "../TaskFanOut.ts"
import type { TaskQueue } from "../TaskQueue.ts"
import type { Join, NewRecord } from "../TaskRecord.ts"
import { emptyGroup, makeGroup } from "./fanOutRef.ts"
import { groupTask, indexHeader, membersHeader, nobody } from "./groups.ts"
import {
  type Call,
  callOf,
  enqueueTogether,
  memberRecord,
  recordsOf,
  requireTransaction,
  withHeaders,
} from "./members.ts"
import { toMillis } from "./millis.ts"
import { makeRef } from "./taskRef.ts"

type AnyOptions = Options<Task.Any, boolean | undefined>

/** Payloads of one task, or items; then the options. */
export const all = (first: Task.Any | Iterable<Item<Task.Any>>, second?: unknown, third?: unknown) =>
  "taskName" in first
    ? group(itemsOf(first, second as Iterable<unknown>, third as EachOptions<unknown> | undefined), third as AnyOptions)
    : group(first, second as AnyOptions)

/** Payloads of one task as items. */
const itemsOf = function* (
  task: Task.Any,
  payloads: Iterable<unknown>,
  options: EachOptions<unknown> | undefined,
): Generator<Item<Task.Any>> {
  const each = options?.each
  let index = 0
  for (const payload of payloads) {
    const own: ItemOptions | undefined = typeof each === "function" ? each(payload, index++) : each
    yield { task, payload: payload as never, options: own }
  }
}

const group = Effect.fnUntraced(function* (items: Iterable<Item<Task.Any>>, options: AnyOptions = {}) {
  const call = callOf(yield* Effect.context<TaskQueue>())
  const { onDone } = options
  const { queue } = call
  if (options.requireTransaction === true) yield* requireTransaction(call, onDone?.task.taskName ?? groupTask)
  const own =
    onDone === undefined
      ? yield* groupRecord(call, options)
      : yield* memberRecord({ ...call, task: onDone.task }, onDone.payload, onDone.options ?? {})
  const tasks = new Set<Task.Any>()
  const members = yield* recordsOf(call, noted(items, tasks), (record, index) => ({
    ...withHeaders(record, { [indexHeader]: `${index}` }),
    memberOf: own.id,
  }))
  const total = members.length
  const done = onDone === undefined ? {} : { done: makeRef(queue, onDone.task, own.id, "Inserted") }
  if (total === 0) {
    if (onDone !== undefined)
      yield* enqueueTogether(call, [withHeaders(own, { [membersHeader]: JSON.stringify(nobody) })])
    return { ...emptyGroup(own.id), ...done }
  }
  const onFailure = options.onFailure ?? "continue"
  const afterwards = onDone === undefined ? "end" : "run"
  const join: Join = { total, onFailure, afterwards }
  const name = onDone === undefined ? (options.queue ?? members[0]!.queue) : own.queue
  yield* enqueueTogether(call, [{ ...own, join, queue: name }, ...members])
  return { ...makeGroup(queue, [...tasks], own.id, total, afterwards), ...done }
})

/** The items, with note taken of whose they are. */
const noted = function* (items: Iterable<Item<Task.Any>>, tasks: Set<Task.Any>): Generator<Item<Task.Any>> {
  for (const item of items) {
    tasks.add(item.task)
    yield item
  }
}

/** A record that only counts. */
const groupRecord = (
  { now, queue, random }: Call,
  { keep = "1 day", queue: name = "default" }: AnyOptions,
): Effect.Effect<NewRecord, InvalidTaskOptions> => {
  const refuse = (field: string, reason: string) =>
    Effect.fail(new InvalidTaskOptions({ task: groupTask, field, reason }))
  if (!queuePattern.test(name)) {
    return refuse("queue", `must match ${queuePattern.source}, and is ${JSON.stringify(name)}`)
  }
  const kept = toMillis(keep)
  if (!(kept >= 0)) return refuse("keep", "must not be negative")
  return Effect.succeed({
    id: queue.nextId(now, random),
    task: groupTask,
    version: 1,
    queue: name,
    payload: "null",
    headers: {},
    priority: 0,
    eta: now,
    onDuplicate: "fail",
    tombstone: 0,
    maxCrashes: 0,
    keep: kept,
  })
}
