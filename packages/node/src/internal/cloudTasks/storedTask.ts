/**
 * From a task of Cloud Tasks back to what is known of its record.
 */
import type { protos } from "@google-cloud/tasks"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { AttemptFailure, TaskRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PushDelivery from "../../PushDelivery.ts"
import { headers } from "./newTask.ts"
import { toMillis } from "./times.ts"

export type Task = protos.google.cloud.tasks.v2beta3.ITask

/** What the headers say: there without the body, too. `undefined`: another program made it. */
export interface Label {
  readonly id: TaskId
  readonly task: string
  readonly queue: string
  readonly name: string | undefined
}

export const labelOf = ({ httpRequest }: Task): Label | undefined => {
  const found = new Map(Object.entries(httpRequest?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]))
  const id = found.get(headers.id)
  const task = found.get(headers.task)
  const queue = found.get(headers.queue)
  if (id === undefined || task === undefined || queue === undefined) return undefined
  return { id: id as TaskId, task: decodeURIComponent(task), queue, name: found.get(headers.name) }
}

/** There are no others: what has ended is gone. */
export type StoredState = "scheduled" | "ready" | "running"

/** An attempt that was dispatched and not answered yet runs. */
export const stateOf = ({ lastAttempt, scheduleTime }: Task, now: number): StoredState => {
  if (lastAttempt?.dispatchTime && !lastAttempt.responseTime) return "running"
  return (toMillis(scheduleTime) ?? 0) > now ? "scheduled" : "ready"
}

/** The record of a task in full view; `undefined` when another program made it. */
export const recordOf = (stored: Task, now: number): Effect.Effect<TaskRecord | undefined> => {
  const body = stored.httpRequest?.body
  if (labelOf(stored) === undefined || body === null || body === undefined) return Effect.undefined
  return Effect.map(Effect.option(PushDelivery.decode(Buffer.from(body as Uint8Array))), (decoded) => {
    if (Option.isNone(decoded)) return undefined
    const { enqueuedAt, headers, id, name, payload, queue, task, timeout, version } = decoded.value
    const state = stateOf(stored, now)
    const startedAt = toMillis(stored.lastAttempt?.dispatchTime)
    return {
      id,
      task,
      version,
      queue,
      state,
      payload,
      payloadRef: undefined,
      headers,
      priority: 0,
      eta: toMillis(stored.scheduleTime) ?? decoded.value.eta,
      name,
      uniqueKey: undefined,
      key: undefined,
      memberOf: undefined,
      join: undefined,
      target: undefined,
      expiresAt: undefined,
      retry: undefined,
      timeout,
      lease: undefined,
      maxCrashes: 0,
      keep: 0,
      enqueuedAt,
      attempt: stored.dispatchCount ?? 0,
      crashes: 0,
      firstAttemptAt: toMillis(stored.firstAttempt?.dispatchTime),
      startedAt,
      worker: undefined,
      leaseUntil:
        state === "running" && startedAt !== undefined
          ? startedAt + (toMillis(stored.dispatchDeadline) ?? 0)
          : undefined,
      cancelRequested: undefined,
      endedAt: undefined,
      reason: undefined,
      result: undefined,
      failure: failureOf(stored),
      progress: undefined,
    } satisfies TaskRecord
  })
}

/** The status of the last answer; Cloud Tasks keeps no other word of it (C18). */
const failureOf = ({ lastAttempt, responseCount }: Task): string | undefined => {
  const at = toMillis(lastAttempt?.responseTime)
  const code = lastAttempt?.responseStatus?.code ?? 0
  if (at === undefined || code === 0) return undefined
  const failure: AttemptFailure = {
    attempt: responseCount ?? 0,
    at,
    kind: "failure",
    tag: "PushFailure",
    message: lastAttempt?.responseStatus?.message ?? `status ${code}`,
  }
  return JSON.stringify(failure)
}
