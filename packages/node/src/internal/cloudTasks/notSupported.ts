/**
 * What Cloud Tasks cannot do, and what to do instead.
 */
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"

export const notSupported = (operation: string, message: string): TaskQueueError =>
  new TaskQueueError({ operation, message, isRetryable: false, reason: "NotSupported" })

/** A method that it has nothing for. */
export const refuse = (operation: string, message: string): (() => Effect.Effect<never, TaskQueueError>) => {
  const refused = Effect.fail(notSupported(operation, message))
  return () => refused
}

const delivers =
  "Cloud Tasks delivers its tasks itself: serve PushHandler with the tasks, where the url of the queue points to"
const forgets = "Cloud Tasks forgets a task when it has ended"

export const instead = {
  claim: `nothing can be claimed from Cloud Tasks. ${delivers}`,
  extend: `there are no leases on tasks of Cloud Tasks: an attempt has until its dispatch deadline. ${delivers}`,
  settle: `attempts at tasks of Cloud Tasks are settled by the answer to their delivery. ${delivers}`,
  progress: "Cloud Tasks has no place for progress: let the handler write it where the application can read it",
  redrive: `${forgets}, dead letters too: defer it again`,
  ledger: `${forgets}, and keeps of attempts only their number and the last status: read the logs of its PushHandler`,
  await: `${forgets}, with its result: let the handler write what is waited for where the application can read it`,
  payloadRefs:
    "Cloud Tasks does not say which payloads its tasks refer to: a payload goes into the task, or does not fit",
  announce: `workers have nothing to claim from Cloud Tasks. ${delivers}`,
  workers: `Cloud Tasks has no workers to tell of. ${delivers}`,
  replace:
    "the content of a task of Cloud Tasks cannot be changed (C14), and its name stays taken when it is cancelled (C7): use another name",
  unique:
    "Cloud Tasks has no unique keys: make a name of the key, which also keeps away what comes after the record's end, for the tombstone",
  latest:
    "Cloud Tasks cannot change a task (C14): defer a task that looks what is to be done when it runs, and make a name of the key",
  key: "Cloud Tasks knows no keys within a queue: use a queue for each, or none (key: false)",
  join: "a task of Cloud Tasks cannot wait for others: let the last of them defer it",
  memberOf: "tasks of Cloud Tasks do not report to others",
  byKey: "Cloud Tasks knows no keys within a queue, and no order: use a queue for each key",
  pauseUntil: "Cloud Tasks pauses a queue until it is resumed: QueueConfig.pause, QueueConfig.resume",
  priority: "Cloud Tasks has no priorities: use a queue for each",
  expires: "Cloud Tasks does not drop what is late: let the handler look at TaskContext.eta",
  payloadRef:
    "a payload that is stored apart is not delivered by Cloud Tasks: make it smaller, or defer a reference to it",
  ageing: "Cloud Tasks has no priorities, so nothing to weigh waiting against",
} as const
