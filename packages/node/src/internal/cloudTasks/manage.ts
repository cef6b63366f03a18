/**
 * Taking tasks back, and the settings of queues.
 */

import type { Queue } from "@outlive/deferred/QueueConfig"
import { type QueueLimits, unlimited } from "@outlive/deferred/QueueLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { CancelOutcome, RemoveOutcome, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import { type Call, failure, Status } from "./grpc.ts"
import type { makeLook } from "./look.ts"
import { instead, notSupported } from "./notSupported.ts"
import { stateOf, type Task } from "./storedTask.ts"

/** Cloud Tasks' bounds (C3): a queue with these says nothing that it does not say anyway. */
export const highestRate = 500
export const mostConcurrent = 5000
/** As the API's documentation has it for its newest version. */
const largestBurst = 500

const atOnce = 32

export const makeManage = (call: Call, look: ReturnType<typeof makeLook>) => {
  const { pathOf } = look

  const locateAll = (operation: string, ids: ReadonlyArray<TaskId>) =>
    Effect.forEach(ids, (id) => look.locate(operation, id, "BASIC"), { concurrency: atOnce })

  /** Whether there was something to delete. A task that has just ended is not there (C14). */
  const deleteTask = (operation: string, path: string): Effect.Effect<boolean, TaskQueueError> =>
    call((client, options) => client.deleteTask({ name: path }, options)).pipe(
      Effect.as(true),
      Effect.catchIf(
        ({ status }) => status === Status.notFound,
        ({ mayHaveHappened }) => Effect.succeed(mayHaveHappened),
      ),
      Effect.mapError((error) => failure(operation, path, error)),
    )

  type Located = { readonly path: string; readonly task: Task } | undefined
  const isRunning = (found: Located, now: number): boolean =>
    found !== undefined && stateOf(found.task, now) === "running"

  const cancel = Effect.fnUntraced(function* (
    ids: ReadonlyArray<TaskId>,
    now: number,
  ): Effect.fn.Return<ReadonlyArray<CancelOutcome>, TaskQueueError> {
    const found = yield* locateAll("cancel", ids)
    const running = found.findIndex((each) => isRunning(each, now))
    if (running >= 0) {
      const why =
        "Cloud Tasks cannot interrupt an attempt: cancel it between attempts, or let its handler look whether it is still wanted"
      return yield* Effect.fail(notSupported("cancel", `task ${ids[running]} is running, and ${why}`))
    }
    return yield* Effect.forEach(
      found,
      (each) =>
        each === undefined
          ? Effect.succeed("NotFound" as const)
          : Effect.map(deleteTask("cancel", each.path), (deleted) => (deleted ? "Cancelled" : "NotFound")),
      { concurrency: atOnce },
    )
  })

  const remove = Effect.fnUntraced(function* (
    ids: ReadonlyArray<TaskId>,
    now: number,
    only: "dead" | undefined,
  ): Effect.fn.Return<ReadonlyArray<RemoveOutcome>, TaskQueueError> {
    const found = yield* locateAll("remove", ids)
    return yield* Effect.forEach(
      found,
      (each) => {
        if (each === undefined) return Effect.succeed("NotFound" as const)
        // Dead letters are kept at the endpoint: what is here is none.
        if (only === "dead") return Effect.succeed("NotDead" as const)
        if (isRunning(each, now)) return Effect.succeed("Running" as const)
        return Effect.map(deleteTask("remove", each.path), (deleted) => (deleted ? "Removed" : "NotFound"))
      },
      { concurrency: atOnce },
    )
  })

  /** How many is Cloud Tasks' estimate from before. */
  const purge = Effect.fnUntraced(function* (queue: string): Effect.fn.Return<number, TaskQueueError> {
    const path = yield* pathOf("purge", queue)
    const failed = Effect.mapError((error: Parameters<typeof failure>[2]) => failure("purge", path, error))
    const { stats } = yield* failed(
      call((client, options) => client.getQueue({ name: path, readMask: { paths: ["stats"] } }, options)),
    )
    yield* failed(call((client, options) => client.purgeQueue({ name: path }, options)))
    return Math.max(0, Number(stats?.tasksCount ?? 0) - Number(stats?.concurrentDispatchesCount ?? 0))
  })

  const getQueue = (operation: string, path: string) =>
    call((client, options) => client.getQueue({ name: path }, options)).pipe(
      Effect.mapError((error) => failure(operation, path, error)),
    )

  const limits = Effect.fnUntraced(function* (queue: string): Effect.fn.Return<QueueLimits, TaskQueueError> {
    const { rateLimits, state } = yield* getQueue("limits", yield* pathOf("limits", queue))
    const rate = rateLimits?.maxDispatchesPerSecond ?? highestRate
    const concurrent = rateLimits?.maxConcurrentDispatches ?? mostConcurrent
    return {
      paused: state !== "RUNNING" && state !== 1,
      rate: rate >= highestRate ? undefined : rate,
      burst: rateLimits?.maxBurstSize ?? unlimited.burst,
      maxConcurrent: concurrent >= mostConcurrent ? undefined : concurrent,
      ageing: undefined,
      byKey: unlimited.byKey,
    }
  })

  const configure = Effect.fnUntraced(function* (
    queue: string,
    changed: Partial<QueueLimits>,
  ): Effect.fn.Return<void, TaskQueueError> {
    const path = yield* pathOf("configure", queue)
    const problem = problemOf(changed)
    if (problem !== undefined) return yield* Effect.fail(notSupported("configure", `queue ${queue}: ${problem}`))
    const send = (run: Parameters<Call>[0]) =>
      Effect.mapError(Effect.asVoid(call(run)), (error) => failure("configure", path, error))

    if (changed.paused === true) yield* send((client, options) => client.pauseQueue({ name: path }, options))
    if ("rate" in changed || "burst" in changed || "maxConcurrent" in changed) {
      // UpdateQueue would make the queue if there is none; and with a new rate comes a burst of Cloud Tasks' own choice.
      const { rateLimits } = yield* getQueue("configure", path)
      const rate = "rate" in changed ? (changed.rate ?? highestRate) : rateLimits?.maxDispatchesPerSecond
      const concurrent =
        "maxConcurrent" in changed ? (changed.maxConcurrent ?? mostConcurrent) : rateLimits?.maxConcurrentDispatches
      const wanted = {
        maxDispatchesPerSecond: rate ?? highestRate,
        maxBurstSize: changed.burst ?? rateLimits?.maxBurstSize ?? unlimited.burst,
        maxConcurrentDispatches: concurrent ?? mostConcurrent,
      }
      yield* send((client, options) =>
        client.updateQueue(
          { queue: { name: path, rateLimits: wanted }, updateMask: { paths: ["rate_limits"] } },
          options,
        ),
      )
    }
    if (changed.paused === false) yield* send((client, options) => client.resumeQueue({ name: path }, options))
  })

  return { cancel, remove, purge, limits, configure }
}

/** What Cloud Tasks has no word for. */
export const problemOf = (wanted: Partial<Omit<QueueLimits, "paused"> & Pick<Queue, "keys">>): string | undefined => {
  const { ageing, burst, byKey, keys = [], maxConcurrent, rate } = wanted
  if (ageing !== undefined) return instead.ageing
  if (keys.length > 0 || !Equal.equals(byKey ?? unlimited.byKey, unlimited.byKey)) return instead.byKey
  if (rate === 0) return "Cloud Tasks has no rate of 0: pause it"
  if (rate !== undefined && rate > highestRate)
    return `a rate of ${rate} is more than Cloud Tasks' ${highestRate} a second (C3)`
  if (burst !== undefined && (burst > largestBurst || !Number.isInteger(burst))) {
    return `a burst of ${burst} is not a whole number up to Cloud Tasks' ${largestBurst}`
  }
  if (maxConcurrent !== undefined && (maxConcurrent > mostConcurrent || !Number.isInteger(maxConcurrent))) {
    return `${maxConcurrent} at the same time is not a whole number up to Cloud Tasks' ${mostConcurrent} (C3)`
  }
  return undefined
}
