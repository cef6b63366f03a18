/**
 * Looking at what Cloud Tasks holds: what waits and what runs. What has ended is gone.
 */

import type { QueueStatistics } from "@outlive/deferred/QueueLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Count, Filter, FindParams, Page, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { TaskRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import { type Call, failure, Status } from "./grpc.ts"
import { namedTask, type Place, queuePath, taskPath, unnamedTask } from "./names.ts"
import { notSupported } from "./notSupported.ts"
import { type Label, labelOf, recordOf, stateOf, type Task } from "./storedTask.ts"
import { toMillis } from "./times.ts"

/** Lookups at once. */
const atOnce = 32
/** Cloud Tasks' largest page (C15). */
const largestPage = 1000

type View = "BASIC" | "FULL"

export const makeLook = (call: Call, place: Place) => {
  const pathOf = (operation: string, queue: string): Effect.Effect<string, TaskQueueError> =>
    Object.hasOwn(place.queues, queue)
      ? Effect.succeed(queuePath(place, place.queues[queue]!))
      : Effect.fail(
          notSupported(operation, `the queue ${queue} has no Cloud Tasks queue: name one in the layer's queues`),
        )

  const queuesOf = ({ queue }: Filter): ReadonlyArray<string> =>
    queue === undefined ? Object.keys(place.queues) : Object.hasOwn(place.queues, queue) ? [queue] : []

  const getTask = (operation: string, path: string, view: View): Effect.Effect<Task | undefined, TaskQueueError> =>
    call((client, options) => client.getTask({ name: path, responseView: view }, options)).pipe(
      Effect.catchIf(
        ({ status }) => status === Status.notFound,
        () => Effect.undefined,
      ),
      Effect.mapError((error) => failure(operation, path, error)),
    )

  /** The task of a record, and its path. Both that it may be are looked for, in all queues. */
  const locate = Effect.fnUntraced(function* (operation: string, id: TaskId, view: View) {
    // Several of our queues may be one of Cloud Tasks.
    const queues = [...new Set(Object.values(place.queues))]
    const paths = [unnamedTask(id), namedTask(id)].flatMap((task) =>
      queues.map((queue) => taskPath(place, queue, task)),
    )
    const found = yield* Effect.forEach(paths, (path) => getTask(operation, path, view), { concurrency: "unbounded" })
    const index = found.findIndex((task) => task !== undefined && labelOf(task)?.id === id)
    const task = found[index]
    return task === undefined ? undefined : { path: paths[index]!, task }
  })

  const get = Effect.fnUntraced(function* (ids: ReadonlyArray<TaskId>, now: number) {
    return yield* Effect.forEach(
      ids,
      (id) =>
        Effect.flatMap(locate("get", id, "FULL"), (found) =>
          found === undefined ? Effect.undefined : recordOf(found.task, now),
        ),
      { concurrency: atOnce },
    )
  })

  const page = (operation: string, queue: string, view: View, pageSize: number, pageToken: string | undefined) => {
    const parent = queuePath(place, place.queues[queue]!)
    return call((client, options) =>
      // With the answer as it came: the client would follow the pages by itself.
      client
        .listTasks({ parent, responseView: view, pageSize, ...(pageToken === undefined ? {} : { pageToken }) }, options)
        .then(([tasks, , answer]) => [{ tasks, next: answer?.nextPageToken || undefined }] as const),
    ).pipe(Effect.mapError((error) => failure(operation, parent, error)))
  }

  /** A page in Cloud Tasks' own order (C15), which may change between pages. */
  const find = Effect.fnUntraced(function* (params: FindParams): Effect.fn.Return<Page, TaskQueueError> {
    const queues = queuesOf(params)
    if (hasNone(params)) return { records: [], cursor: undefined }
    let { queue, token } = cursorOf(params.cursor)
    const records: Array<TaskRecord> = []
    while (queue < queues.length && records.length < params.limit) {
      const size = Math.min(largestPage, params.limit - records.length)
      const { next, tasks } = yield* page("find", queues[queue]!, "FULL", size, token)
      for (const task of tasks) {
        if (!matches(labelOf(task), queues[queue]!, params)) continue
        const record = yield* recordOf(task, params.now)
        if (record !== undefined && (params.state === undefined || params.state === record.state)) records.push(record)
      }
      token = next
      if (next === undefined) queue++
    }
    return { records, cursor: queue < queues.length ? JSON.stringify({ queue, token }) : undefined }
  })

  const counts = Effect.fnUntraced(function* (
    params: Filter & { readonly now: number },
  ): Effect.fn.Return<ReadonlyArray<Count>, TaskQueueError> {
    const found = new Map<string, Count>()
    if (hasNone(params)) return []
    for (const queue of queuesOf(params)) {
      let token: string | undefined
      do {
        const { next, tasks } = yield* page("counts", queue, "BASIC", largestPage, token)
        for (const stored of tasks) {
          const label = labelOf(stored)
          const state = stateOf(stored, params.now)
          if (!matches(label, queue, params) || (params.state !== undefined && params.state !== state)) continue
          const { task } = label
          const key = `${queue}\n${task}\n${state}`
          const count = (found.get(key)?.count ?? 0) + 1
          found.set(key, { queue, task, state, reason: undefined, tag: undefined, count })
        }
        token = next
      } while (token !== undefined)
    }
    return [...found.values()]
  })

  /** Cloud Tasks' own estimates; how much of what waits is ready is estimated by one page of it. */
  const statistics = Effect.fnUntraced(function* (
    queue: string,
    now: number,
  ): Effect.fn.Return<QueueStatistics, TaskQueueError> {
    const path = yield* pathOf("statistics", queue)
    const answer = yield* call((client, options) =>
      client.getQueue({ name: path, readMask: { paths: ["stats"] } }, options),
    ).pipe(Effect.mapError((error) => failure("statistics", path, error)))
    const { tasks, next } = yield* page("statistics", queue, "BASIC", largestPage, undefined)
    const inFlight = Number(answer.stats?.concurrentDispatchesCount ?? 0)
    const waiting = tasks.filter((task) => stateOf(task, now) !== "running")
    const ready = waiting.filter((task) => stateOf(task, now) === "ready").length
    const executedLastMinute = Number(answer.stats?.executedLastMinuteCount ?? 0)
    if (next === undefined) {
      const etas = waiting.map(({ scheduleTime }) => toMillis(scheduleTime) ?? now)
      return {
        waiting: waiting.length,
        ready,
        oldestEta: etas.length === 0 ? undefined : Math.min(...etas),
        inFlight,
        executedLastMinute,
        nextTokenAt: undefined,
        pausedUntil: undefined,
      }
    }
    const estimate = Math.max(0, Number(answer.stats?.tasksCount ?? 0) - inFlight)
    return {
      waiting: estimate,
      ready: Math.round((estimate * ready) / Math.max(1, waiting.length)),
      oldestEta: toMillis(answer.stats?.oldestEstimatedArrivalTime),
      inFlight,
      executedLastMinute,
      nextTokenAt: undefined,
      pausedUntil: undefined,
    }
  })

  return { pathOf, locate, get, find, counts, statistics }
}

/** What only records that have ended, or belong to others, can have. */
const hasNone = ({ endedAfter, endedBefore, memberOf, reason, state, tag }: Filter): boolean =>
  [endedAfter, endedBefore, memberOf, reason, tag].some((each) => each !== undefined) ||
  (state !== undefined && !["scheduled", "ready", "running"].includes(state))

const matches = (label: Label | undefined, queue: string, { namePrefix, task }: Filter): label is Label =>
  label !== undefined &&
  // Several of our queues may be one of Cloud Tasks.
  label.queue === queue &&
  (task === undefined || label.task === task) &&
  (namePrefix === undefined || label.name?.startsWith(namePrefix) === true)

const cursorOf = (cursor: string | undefined): { queue: number; token: string | undefined } =>
  cursor === undefined
    ? { queue: 0, token: undefined }
    : (JSON.parse(cursor) as { queue: number; token: string | undefined })
