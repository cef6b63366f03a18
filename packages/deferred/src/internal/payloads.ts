/**
 * Payloads stored apart: put by `defer`, loaded by whoever runs a record, swept up when no record refers to them.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { PayloadTooLarge } from "../DeferOptions.ts"
import { PayloadMissing } from "../Outcome.ts"
import type { PayloadStoreError } from "../PayloadStore.ts"
import { type TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { NewRecord, TaskRecord } from "../TaskRecord.ts"

type Queue = TaskQueue["Service"]

const failed = (error: PayloadStoreError): TaskQueueError => {
  const { cause, isRetryable, message, operation } = error
  const why = cause === undefined ? {} : { cause }
  return new TaskQueueError({ operation: `payloads.${operation}`, message, isRetryable, ...why })
}

/** Bytes in UTF-8. */
export const sizeOf = (text: string): number => {
  let size = text.length
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit < 0x80) continue
    // Each half of a surrogate pair counts two of its four bytes.
    size += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2
  }
  return size
}

/** Whether a payload need not be counted to know that it is not large: no character has more than three bytes a unit. */
export const isSmall = (payload: string, limit: number): boolean => payload.length * 3 <= limit

/** Whether a payload has to be stored apart. */
const isLarge = (payload: string, limit: number): boolean => !isSmall(payload, limit) && sizeOf(payload) > limit

/** Why a record can be stored nowhere. */
export const tooLarge = (
  queue: Queue,
  { payload, task }: NewRecord,
  payloadLimit: number,
): PayloadTooLarge | undefined => {
  const limit = queue.payloads === undefined ? payloadLimit : Math.max(payloadLimit, queue.payloads.limit)
  return isLarge(payload, limit) ? new PayloadTooLarge({ task, size: sizeOf(payload), limit }) : undefined
}

/** The record as it is enqueued: with its payload, or with a reference to it in the store. It is not too large. */
export const storeApart = (
  queue: Queue,
  record: NewRecord,
  payloadLimit: number,
  now: number,
): Effect.Effect<NewRecord, TaskQueueError> => {
  const { id, payload } = record
  if (queue.payloads === undefined || !isLarge(payload, payloadLimit)) return Effect.succeed(record)
  return queue.payloads
    .put({ ref: id, body: payload, now })
    .pipe(Effect.as({ ...record, payload: "", payloadRef: id }), Effect.mapError(failed))
}

/** Removes the bodies of records that were not stored after all. What is left behind by a failure here is swept up. */
export const discard = (queue: Queue, refs: ReadonlyArray<string>): Effect.Effect<void> =>
  queue.payloads === undefined || refs.length === 0
    ? Effect.void
    : Effect.catch(queue.payloads.remove({ refs }), (error) =>
        Effect.logDebug(`a payload that is not needed could not be removed yet: ${error.message}`),
      )

/** The payload of a record, wherever it is. */
export const loadPayload = (
  queue: Queue,
  record: Pick<TaskRecord, "payload" | "payloadRef">,
): Effect.Effect<string, PayloadMissing | TaskQueueError> => {
  const { payload, payloadRef } = record
  if (payloadRef === undefined) return Effect.succeed(payload)
  const missing = Effect.fail(new PayloadMissing({ ref: payloadRef }))
  if (queue.payloads === undefined) return missing
  return queue.payloads.get({ ref: payloadRef }).pipe(
    Effect.mapError(failed),
    Effect.flatMap((body) => (body === undefined ? missing : Effect.succeed(body))),
  )
}

/** How long after it was put a body may be without a record: what `defer` puts it needs some time to refer to. */
const grace = 3_600_000
const batch = 500

/** Removes the bodies that no record refers to; how many. */
export const sweep = Effect.fnUntraced(function* (queue: Queue): Effect.fn.Return<number, TaskQueueError> {
  const store = queue.payloads
  if (store === undefined) return 0
  const before = (yield* Clock.currentTimeMillis) - grace
  let removed = 0
  let cursor: string | undefined
  do {
    const page = yield* Effect.mapError(store.list({ before, cursor, limit: batch }), failed)
    const used = yield* queue.payloadRefs({ refs: page.refs })
    const refs = page.refs.filter((_, index) => used[index] === false)
    if (refs.length > 0) yield* Effect.mapError(store.remove({ refs }), failed)
    removed += refs.length
    cursor = page.cursor
  } while (cursor !== undefined)
  return removed
})
