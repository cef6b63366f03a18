/**
 * A delivery: one attempt of a task record on its way to a `PushHandler`, as the JSON body of a request. All that the
 * receiver acts upon is in the body, which the signature covers; headers repeat some of it for logs and proxies.
 *
 * @since 0.1.0
 */
import { namePattern, queuePattern } from "@outlive/deferred/DeferOptions"
import { messageOf } from "@outlive/deferred/Outcome"
import { TaskId } from "@outlive/deferred/TaskId"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** The media type of a delivery. @since 0.1.0 */
export const contentType = "application/json"

/** Where deliveries go when nobody says otherwise (D3). @since 0.1.0 */
export const defaultPath = "/_ah/queue/deferred"

const Millis = Schema.Finite.check(Schema.isBetween({ minimum: -8.64e15, maximum: 8.64e15 }))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

const Head = Schema.Struct({
  /** The version of this form. */
  outlive: Schema.Literal(1),
  id: TaskId,
  /** Control characters are none of a task's name, and not every database can store them. */
  task: Schema.String.check(Schema.isPattern(/^[^\p{Cc}]{1,500}$/u)),
  version: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_147_483_647 })),
  queue: Schema.String.check(Schema.isPattern(queuePattern)),
  name: Schema.optionalKey(Schema.String.check(Schema.isPattern(namePattern))),
  headers: Schema.Record(Schema.String, Schema.String),
  enqueuedAt: Millis,
  eta: Millis,
  /** Milliseconds that the task's handler may take, when the record says so. */
  timeout: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  /** The record's own retry policy (`RetryPolicy.toJson`), where the receiver decides on retries: where `attempt` is not said. */
  retry: Schema.optionalKey(Schema.String),
  /** What only a sender that keeps count knows. Else the headers of App Engine or Cloud Tasks tell. */
  attempt: Schema.optionalKey(
    Schema.Struct({
      number: Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)),
      crashes: Count,
      firstAttemptAt: Millis,
      /** Milliseconds that the sender waits for an answer. */
      deadline: Schema.Finite.check(Schema.isGreaterThan(0)),
      previousFailure: Schema.optionalKey(
        Schema.Struct({
          attempt: Schema.Finite,
          at: Schema.Finite,
          kind: Schema.Literals(["failure", "defect", "timeout", "crash"]),
          tag: Schema.String,
          message: Schema.String,
        }),
      ),
    }),
  ),
  /** The sender reads the answer and keeps a dead letter itself: the receiver need not. */
  keepsDead: Schema.optionalKey(Schema.Boolean),
})

/** All of a delivery but its payload. @since 0.1.0 */
export type Head = typeof Head.Type

/** @since 0.1.0 */
export interface Delivery extends Head {
  /** JSON text. */
  readonly payload: string
}

/**
 * The body is not a delivery. The message says what is wrong with it.
 *
 * @since 0.1.0
 */
export class NotADelivery extends Schema.TaggedError<NotADelivery>()("NotADelivery", {
  message: Schema.String,
  /** The task it names, if that can be read. */
  task: Schema.optionalKey(Schema.String),
}) {}

/**
 * The first delivery of a record that is given to somebody else's queue (Google Cloud Tasks, say), as its body: attempts
 * are counted there.
 *
 * @since 0.1.0
 */
export const fromRecord = (record: NewRecord, now: number): Delivery => ({
  outlive: 1,
  id: record.id,
  task: record.task,
  version: record.version,
  queue: record.queue,
  ...(record.name === undefined ? {} : { name: record.name }),
  headers: record.headers,
  enqueuedAt: now,
  eta: record.eta,
  ...(record.timeout === undefined ? {} : { timeout: record.timeout }),
  ...(record.retry === undefined ? {} : { retry: record.retry }),
  payload: record.payload,
})

/** The body of a delivery: JSON. @since 0.1.0 */
export const encode = ({ payload, ...head }: Delivery): string =>
  `${JSON.stringify(head).slice(0, -1)},"payload":${payload}}`

const decodeHead = Schema.decodeUnknownEffect(Head)

/** Bytes that are no text are not quietly taken for other ones. */
const utf8 = new TextDecoder("utf-8", { fatal: true })

/** Reads a body. @since 0.1.0 */
export const decode = (body: Uint8Array): Effect.Effect<Delivery, NotADelivery> =>
  Effect.suspend(() => {
    let json: unknown
    try {
      json = JSON.parse(utf8.decode(body))
    } catch (error) {
      return Effect.fail(new NotADelivery({ message: `the body is not JSON in UTF-8: ${messageOf(error)}` }))
    }
    if (typeof json !== "object" || json === null || !Object.hasOwn(json, "payload")) {
      return Effect.fail(new NotADelivery({ message: "the body is not an object with a payload", ...named(json) }))
    }
    const payload = JSON.stringify((json as { readonly payload: unknown }).payload)
    return Effect.matchEffect(decodeHead(json), {
      onSuccess: (head) => Effect.succeed({ ...head, payload }),
      onFailure: ({ message }) => Effect.fail(new NotADelivery({ message, ...named(json) })),
    })
  })

const named = (json: unknown): { readonly task?: string } =>
  typeof json === "object" && json !== null && "task" in json && typeof json.task === "string"
    ? { task: json.task.replaceAll(/\p{Cc}/gu, "?").slice(0, 200) }
    : {}
