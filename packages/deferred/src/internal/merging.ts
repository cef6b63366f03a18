/**
 * Deferring what is merged with what waits: one payload is made of the two, and stored only if what waits is still what was
 * read. Else somebody else's deferral or attempt came first, and it is tried again with what is there then.
 */
import * as Effect from "effect/Effect"
import { type DeferOptions, InvalidTaskOptions } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { TaskId } from "../TaskId.ts"
import type { EnqueueOutcome } from "../TaskQueue.ts"
import type { NewRecord, TaskRecord, Unique } from "../TaskRecord.ts"
import { type Deferrer, type Draft, type RecordError, recordOfDraft } from "./newRecord.ts"
import { discard, loadPayload, storeApart } from "./payloads.ts"
import { readPayload } from "./storedText.ts"

/** Whether a deferral is merged with what waits for the same key. */
export const isMerged = ({ settings }: Task.Any, options: DeferOptions): boolean =>
  settings.latest?.merge !== undefined && options.latest !== false && options.unique === undefined

/** No payload is empty: with this a record takes nobody's place. */
const nobodys = ""

/** Enqueues until it is stored, or until a record has the key whose place nobody takes. */
export const enqueueMerged = Effect.fnUntraced(function* (
  deferrer: Deferrer,
  draft: Draft,
): Effect.fn.Return<
  { readonly record: NewRecord; readonly outcome: EnqueueOutcome | undefined },
  RecordError,
  unknown
> {
  const { now, payloadLimit, queue } = deferrer
  let merged = draft
  let expects = nobodys
  let hadEnded: TaskId | undefined
  // Not bounded, and needs no bound: in each turn but the last, somebody else's deferral or attempt came first.
  while (true) {
    const made = yield* recordOfDraft(deferrer, { ...merged, unique: expecting(merged.unique, expects) })
    const record = yield* storeApart(queue, made, payloadLimit, now)
    const [outcome] = yield* queue.enqueue({ records: [record], now })
    if (outcome?._tag !== "Existing") return { record, outcome }
    const [found] = yield* queue.get({ ids: [outcome.id], now })
    const ended = found?.endedAt === undefined ? undefined : found.id
    // One that has just ended has given up its key, and one that is there again keeps it.
    const stays = isKept(found, record) || (ended !== undefined && ended === hadEnded)
    if (stays) return { record, outcome }
    if (record.payloadRef !== undefined) yield* discard(queue, [record.payloadRef])
    hadEnded = ended
    const waits = found !== undefined && (found.state === "scheduled" || found.state === "ready")
    merged = waits ? yield* mergedWith(deferrer, draft, found) : draft
    expects = waits ? storedOf(found) : nobodys
  }
})

const expecting = (unique: Unique | undefined, expects: string): Unique | undefined =>
  unique === undefined ? undefined : { ...unique, latest: { ...unique.latest, expects } }

const storedOf = ({ payload, payloadRef }: TaskRecord): string => payloadRef ?? payload

/** It is not replaced, whatever is expected: by its name, or since others count on it. */
const isKept = (found: TaskRecord | undefined, { name, queue, unique }: NewRecord): boolean => {
  if (found === undefined) return false
  if (found.memberOf !== undefined || found.join !== undefined) return true
  if (name === undefined) return false
  // The name is looked at first, and may stand against the key.
  return (found.name === name && found.queue === queue) || storedOf(found) === unique?.latest?.expects
}

/** The draft with a payload made of the one that waits and its own. */
const mergedWith = Effect.fnUntraced(function* (
  { queue, task }: Deferrer,
  draft: Draft,
  found: TaskRecord,
): Effect.fn.Return<Draft, RecordError, unknown> {
  const { codec, latest } = task.settings
  const invalid = (reason: string) => new InvalidTaskOptions({ task: task.taskName, field: "latest.merge", reason })
  const waiting = yield* loadPayload(queue, found).pipe(
    Effect.flatMap((stored) => readPayload(queue.codec, stored, found)),
    Effect.flatMap((text) => codec.decodePayload(found.version, text)),
    // Read while somebody replaced it, or lost for good: what is given counts then.
    Effect.catchIf(
      (error) => error._tag === "PayloadMissing",
      () => Effect.undefined,
    ),
    Effect.catchTag("Undecodable", ({ message }) =>
      Effect.fail(invalid(`cannot be given what waits (${found.id}): ${message}`)),
    ),
  )
  if (waiting === undefined) return draft
  const merged = yield* Effect.try({
    try: () => latest?.merge?.(waiting as never, draft.payload as never),
    catch: (error) => invalid(`must give a payload, and threw ${String(error)}`),
  })
  return { ...draft, payload: yield* codec.makePayload(merged) }
})
