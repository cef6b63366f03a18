/**
 * From a delivery to the attempt that it asks for: what a sender that keeps count says itself, else what the headers of App
 * Engine and of Cloud Tasks say (Q100-Q105, C19). They are read only when their sender is known: they prove nothing.
 */
import { Undecodable } from "@outlive/deferred/Outcome"
import type { Given } from "@outlive/deferred/TaskAttempt"
import { TaskId } from "@outlive/deferred/TaskId"
import type { AttemptFailure } from "@outlive/deferred/TaskRecord"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Sender } from "../../PushAuthenticator.ts"
import type { Delivery, NotADelivery } from "../../PushDelivery.ts"

type Header = (name: string) => string | undefined

export const givenOf = (options: {
  readonly delivery: Delivery
  readonly sender: Sender
  readonly header: Header
  readonly now: number
  /** Milliseconds that a sender waits which does not say how long. */
  readonly deadline: number
}): Given => {
  const { delivery, now, sender } = options
  const { enqueuedAt, headers, id, name, payload, queue, task, timeout, version } = delivery
  const record = { id, task, version, queue, name, payload, headers, enqueuedAt, timeout }
  const counted = delivery.attempt
  if (counted !== undefined) {
    const { crashes, deadline, firstAttemptAt, number, previousFailure } = counted
    return {
      ...record,
      eta: delivery.eta,
      attempt: number,
      crashes,
      firstAttemptAt,
      previousFailure,
      until: now + deadline,
      undecodable: contradiction(sender, id, number),
    }
  }
  const told = sender.attempt === undefined ? metadataOf(options.header, now) : { attempt: sender.attempt }
  return {
    ...record,
    eta: told.eta ?? delivery.eta,
    attempt: told.attempt,
    crashes: 0,
    // Nobody says when that was: at the first eta, or as late after it as the queue was.
    firstAttemptAt: told.attempt === 1 ? now : Math.min(now, delivery.eta),
    previousFailure: told.previousFailure,
    until: now + options.deadline,
    retries: { own: delivery.retry },
    undecodable: contradiction(sender, id, told.attempt),
  }
}

/** A signed request says who it is twice. Two answers are none. */
const contradiction = (sender: Sender, id: string, attempt: number): Undecodable | undefined =>
  (sender.id === undefined || sender.id === id) && (sender.attempt === undefined || sender.attempt === attempt)
    ? undefined
    : new Undecodable({
        message: `it was signed as attempt ${sender.attempt} of ${sender.id}, and its body is attempt ${attempt} of ${id}`,
      })

interface Metadata {
  readonly attempt: number
  readonly eta?: number | undefined
  readonly previousFailure?: AttemptFailure | undefined
}

const metadataOf = (header: Header, now: number): Metadata => {
  const read = (name: string, form: RegExp): string | undefined =>
    [header(`x-cloudtasks-${name}`), header(`x-appengine-${name}`)].find(
      (value) => value !== undefined && form.test(value),
    )
  const number = (name: string) => Number(read(name, /^[0-9]{1,9}$/) ?? 0)
  const eta = read("tasketa", /^[0-9]{1,12}(\.[0-9]{1,9})?$/)
  const attempt = number("taskretrycount") + 1
  const status = read("taskpreviousresponse", /^[1-5][0-9]{2}$/)
  const why = read("taskretryreason", /^[\x20-\x7e]{1,200}$/)
  return {
    attempt,
    eta: eta === undefined ? undefined : Math.floor(Number(eta) * 1_000),
    previousFailure:
      status === undefined && why === undefined
        ? undefined
        : {
            attempt: Math.max(1, attempt - 1),
            at: now,
            kind: "failure",
            tag: "PushFailure",
            message: [status === undefined ? "no answer" : `answered with ${status}`, why].filter(Boolean).join(": "),
          },
  }
}

/** Of a body that is not a delivery, as much as there is of one. */
export const givenOfUnreadable = (options: {
  readonly body: Uint8Array
  readonly error: NotADelivery
  readonly sender: Sender
  readonly id: TaskId
  readonly now: number
}): Given => ({
  id: Option.getOrElse(asTaskId(options.sender.id), () => options.id),
  task: options.error.task ?? "(not a delivery)",
  version: 1,
  queue: "default",
  name: undefined,
  payload: JSON.stringify(new TextDecoder().decode(options.body)),
  headers: {},
  enqueuedAt: options.now,
  eta: options.now,
  attempt: Math.max(1, options.sender.attempt ?? 1),
  crashes: 0,
  firstAttemptAt: options.now,
  timeout: undefined,
  previousFailure: undefined,
  until: options.now,
  undecodable: new Undecodable({ message: options.error.message }),
})

const asTaskId = Schema.decodeUnknownOption(TaskId)
