/**
 * What is written of a record and read from it, through the codec at hand: with none, and with texts that no stage has
 * changed, on the spot.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { Undecodable } from "../Outcome.ts"
import { type PayloadCodec as Codec, PayloadCodec } from "../PayloadCodec.ts"
import { deferredAsHeader, type StageError } from "../PayloadStage.ts"
import { TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { NewRecord, TaskRecord } from "../TaskRecord.ts"
import { makeCodec } from "./codec.ts"
import { isCoded } from "./codedText.ts"

/** What a payload is bound to; what of it is not known does not open. */
export interface PayloadOf extends Pick<NewRecord, "version"> {
  readonly id?: NewRecord["id"] | undefined
  readonly task?: string | undefined
  readonly queue?: string | undefined
  readonly name?: string | undefined
  readonly headers?: NewRecord["headers"] | undefined
}

export type ResultOf = Pick<TaskRecord, "id" | "task" | "version">

type MaybeCodec = Codec | undefined

const noStages = makeCodec([])

/** Nothing is to be done with it. */
export const isPlain = (codec: MaybeCodec, text: string): boolean => codec === undefined && !isCoded(text)

export const storePayload = (
  codec: MaybeCodec,
  text: string,
  record: PayloadOf,
): Effect.Effect<string, TaskQueueError> =>
  isPlain(codec, text) ? Effect.succeed(text) : store(codec ?? noStages, text, payloadPlace(record))

export const readPayload = (
  codec: MaybeCodec,
  stored: string,
  record: PayloadOf,
): Effect.Effect<string, Undecodable> =>
  isPlain(codec, stored)
    ? Effect.succeed(stored)
    : Effect.mapError(
        (codec ?? noStages).decode(stored, payloadPlace(record)),
        ({ reason }) => new Undecodable({ message: `the payload ${reason}` }),
      )

export const storeResult = (
  codec: MaybeCodec,
  text: string,
  record: ResultOf,
): Effect.Effect<string, TaskQueueError> =>
  isPlain(codec, text) ? Effect.succeed(text) : store(codec ?? noStages, text, resultPlace(record))

export const readResult = (
  codec: MaybeCodec,
  stored: string,
  record: ResultOf,
): Effect.Effect<string, Schema.SchemaError> =>
  isPlain(codec, stored)
    ? Effect.succeed(stored)
    : Effect.mapError((codec ?? noStages).decode(stored, resultPlace(record)), schemaError)

/** What is kept of a note (`TaskNotes`), which is a JSON value in a text of its own. */
export const storeNote = (
  codec: MaybeCodec,
  key: string,
  value: unknown,
  record: ResultOf,
): Effect.Effect<unknown, TaskQueueError> => {
  const text = JSON.stringify(value)
  return isPlain(codec, text)
    ? Effect.succeed(value)
    : Effect.map(store(codec ?? noStages, text, notePlace(key, record)), (stored) => JSON.parse(stored) as unknown)
}

export const readNote = (
  codec: MaybeCodec,
  key: string,
  found: unknown,
  record: ResultOf,
): Effect.Effect<unknown, Undecodable> => {
  if (found === undefined) return Effect.undefined
  const stored = JSON.stringify(found)
  return isPlain(codec, stored)
    ? Effect.succeed(found)
    : Effect.mapBoth((codec ?? noStages).decode(stored, notePlace(key, record)), {
        onSuccess: (text) => JSON.parse(text) as unknown,
        onFailure: ({ reason }) => new Undecodable({ message: `the note ${key} ${reason}` }),
      })
}

/**
 * The queue of a context, with the codec there if it has none of its own: one that was provided beside the queue, and not
 * to it, is not left out in silence.
 */
export const queueIn = (context: Context.Context<TaskQueue>): TaskQueue["Service"] => {
  const queue = serviceIn(context)
  if (queue.codec !== undefined) return queue
  const codec = codecIn(context)
  return codec === undefined ? queue : { ...queue, codec }
}

const serviceIn = Context.get(TaskQueue)
const codecIn = Context.get(PayloadCodec)

export const queueHere: Effect.Effect<TaskQueue["Service"], never, TaskQueue> = Effect.contextWith(
  (context: Context.Context<TaskQueue>) => Effect.succeed(queueIn(context)),
)

/** For who has a record and maybe not its queue: the codec of the context, else that of the queue in it. */
export const codecHere: Effect.Effect<MaybeCodec> = Effect.contextWith((context: Context.Context<never>) => {
  const own = Context.get(context, PayloadCodec)
  return Effect.succeed(own ?? Context.getOrUndefined(context as Context.Context<TaskQueue>, TaskQueue)?.codec)
})

const store = (codec: Codec, text: string, place: Parameters<Codec["encode"]>[1]) =>
  Effect.mapError(codec.encode(text, place), ({ reason }) => {
    const message = `the ${place.part} of task ${place.task} ${reason}`
    return new TaskQueueError({ operation: "codec.encode", message, isRetryable: false })
  })

/**
 * A record that is deferred with a name, or as the latest of its key, may be stored under another id than its own (that of
 * the record it replaces), so its payload is bound to the name or the key.
 */
const payloadPlace = ({ headers, id, name, queue, task, version }: PayloadOf) => ({
  part: "payload" as const,
  task: task ?? "",
  version,
  owner: keptName(headers) ?? (name === undefined ? `id ${id ?? "not known"}` : `name ${queue ?? "not known"}/${name}`),
})

const keptName = (headers: PayloadOf["headers"]): string | undefined => {
  const kept = headers?.[deferredAsHeader]
  return kept === undefined ? undefined : `name ${kept}`
}

const resultPlace = ({ id, task, version }: ResultOf) => ({
  part: "result" as const,
  task,
  version,
  owner: `id ${id}`,
})

const notePlace = (key: string, { id, task, version }: ResultOf) => ({
  part: "note" as const,
  task,
  version,
  owner: `id ${id} ${key}`,
})

const schemaError = ({ reason }: StageError): Schema.SchemaError =>
  new Schema.SchemaError(new SchemaIssue.InvalidValue({ message: `the result ${reason}` }))
