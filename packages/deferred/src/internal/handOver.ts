/**
 * From the success of one task to the payload of the one that waits for it: written by whoever settles the success.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { DeferLimits, PayloadTooLarge } from "../DeferOptions.ts"
import { PermanentTaskFailure } from "../TaskFailure.ts"
import type { TaskId } from "../TaskId.ts"
import type { TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { TaskRecord } from "../TaskRecord.ts"
import { sizeOf } from "./payloads.ts"
import { readResult, storePayload } from "./storedText.ts"

/** What a record has that hands its success over: id, version and task of the record that it is for. */
const header = "outlive-then"

/** The record that a success is for: what its payload is bound to. */
export interface Next extends Pick<TaskRecord, "id" | "version" | "task"> {}

export const handsOverTo = ({ id, task, version }: Next): Readonly<Record<string, string>> => ({
  [header]: `${id} ${version} ${task}`,
})

/** Whether somebody waits for the success of a record. Nearly always the first look is the last. */
export const isLink = ({ headers }: Pick<TaskRecord, "headers">): boolean => headers[header] !== undefined

const nextOf = (text: string): Next => {
  const [id = "", version = "", ...task] = text.split(" ")
  return { id: id as TaskId, version: Number(version), task: task.join(" ") }
}

/** A success as its record and the one after it get it. */
interface Success {
  /** `undefined`: it is not kept. */
  readonly result: string | undefined
  readonly handOver: string | undefined
}

/**
 * The success of a record, encoded; without a `queue` it is settled elsewhere, by somebody who hands it over then. Fails with
 * `PayloadTooLarge` when it is more than can be deferred: what is handed over stays in the record.
 */
export const successOf = Effect.fnUntraced(function* <E, R>(
  record: Pick<TaskRecord, "id" | "task" | "version" | "headers">,
  keep: number,
  encode: () => Effect.Effect<string, E, R>,
  queue: Pick<TaskQueue["Service"], "codec" | "payloads"> | undefined,
): Effect.fn.Return<Success, E | PayloadTooLarge | Schema.SchemaError | TaskQueueError, R> {
  const hasNext = isLink(record)
  // Nobody can read a result that is not kept: it is not worth encoding.
  if (keep === 0 && !hasNext) return { result: undefined, handOver: undefined }
  const text = yield* encode()
  if (!hasNext || queue === undefined) return { result: text, handOver: undefined }
  return { result: keep === 0 ? undefined : text, handOver: yield* handOverOf(queue, record, text) }
})

const handOverOf = Effect.fnUntraced(function* (
  queue: Pick<TaskQueue["Service"], "codec" | "payloads">,
  record: Pick<TaskRecord, "id" | "task" | "version" | "headers">,
  result: string,
): Effect.fn.Return<string, PayloadTooLarge | Schema.SchemaError | TaskQueueError> {
  const { payloadLimit } = yield* DeferLimits
  const next = nextOf(record.headers[header] ?? "")
  const exit = JSON.parse(yield* readResult(queue.codec, result, record)) as { readonly value?: unknown }
  const payload = yield* storePayload(queue.codec, JSON.stringify(exit.value ?? null), next)
  const limit = Math.max(payloadLimit, queue.payloads?.limit ?? 0)
  const size = sizeOf(payload)
  if (size > limit) return yield* Effect.fail(new PayloadTooLarge({ task: next.task, size, limit }))
  return payload
})

/** Trying again would come to the same. */
export const permanent = (error: PayloadTooLarge): PermanentTaskFailure =>
  new PermanentTaskFailure({ message: `the success cannot be handed over: ${error.message}` })
