/**
 * What becomes of payloads, results and notes between a program and its queue: compressed, encrypted, whatever stages are given.
 *
 * It is provided to the layer of the queue, as a `PayloadStore` is: then all that goes through that queue is coded, by
 * whoever it is deferred, and read again by whoever has the queue. Who has a queue without one, or records without their
 * queue (a `PushHandler`, `Task.payloadOf`), takes the codec of its own context.
 *
 * Covered are payloads, results (the typed successes and errors of records that are kept) and notes (`TaskNotes`). Not covered, and readable
 * for whoever reads the database: names, queues, unique keys, headers, progress, and of failures the tag and the message
 * (`AttemptFailure`), which are for people, filters and ledgers. `docs/codecs.md` says more.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { makeCodec, problemOf } from "./internal/codec.ts"
import { makeCompression } from "./internal/compression.ts"
import { makeEncryption } from "./internal/encryption.ts"
import * as PayloadKeys from "./PayloadKeys.ts"
import type { About, Stage, StageError } from "./PayloadStage.ts"

/**
 * The text of a payload or of an exit (JSON) to what is stored, and back.
 *
 * @since 0.1.0
 */
export interface PayloadCodec {
  /** The text as it is stored: JSON text, too. */
  readonly encode: (text: string, about: Place) => Effect.Effect<string, StageError>
  /** The text that was stored. The error says what is wrong and what to do, and has nothing of the content in it. */
  readonly decode: (stored: string, about: Place) => Effect.Effect<string, StageError>
}

/** What a text is: see `PayloadStage.About`. @since 0.1.0 */
export type Place = Omit<About, "steps">

/**
 * Default: none. What is deferred is stored as it is, and what was coded cannot be read.
 *
 * @since 0.1.0
 */
export const PayloadCodec = Context.Reference<PayloadCodec | undefined>("outlive/deferred/PayloadCodec", {
  defaultValue: () => undefined,
})

/**
 * A codec cannot be made of these stages, or a stage of these options.
 *
 * @since 0.1.0
 */
export class InvalidPayloadCodec extends Schema.TaggedError<InvalidPayloadCodec>()("InvalidPayloadCodec", {
  reason: Schema.String,
}) {
  override get message() {
    return `PayloadCodec: ${this.reason}`
  }
}

/**
 * A codec of stages, taken in this order and back in the other one: compression before encryption, since what is
 * encrypted does not get any smaller.
 *
 * The steps stand in each text that was changed. So stages may come, change their order, and stop being written: what was
 * stored is read as long as the stages that it names are there. Texts without a step are read as they are, unless a stage
 * is `required`.
 *
 * Fails with `InvalidPayloadCodec` when a name is not one, or is that of two stages.
 *
 * @since 0.1.0
 */
export const make = (stages: ReadonlyArray<Stage>): Effect.Effect<PayloadCodec, InvalidPayloadCodec> => {
  const reason = problemOf(stages)
  return reason === undefined ? Effect.succeed(makeCodec(stages)) : Effect.fail(new InvalidPayloadCodec({ reason }))
}

/**
 * The codec of a program.
 *
 * @example
 * ```ts
 * import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
 * import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
 * import { Layer } from "effect"
 *
 * // OUTLIVE_PAYLOAD_KEYS=2026-11:5Y0H...,2026-05:9xqL...
 * const Codec = PayloadCodec.layer([PayloadCodec.compression(), PayloadCodec.encryptionConfig()])
 * const Queue = TaskQueueMemory.layer.pipe(Layer.provide(Codec))
 * ```
 *
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  stages: ReadonlyArray<Stage | Effect.Effect<Stage, E, R>>,
): Layer.Layer<never, E | InvalidPayloadCodec, R> =>
  Layer.effect(
    PayloadCodec,
    Effect.flatMap(
      Effect.forEach(stages, (stage) => (Effect.isEffect(stage) ? stage : Effect.succeed(stage))),
      make,
    ),
  )

/** @since 0.1.0 */
export interface CompressionOptions {
  /** Bytes of UTF-8 up to which a text stays as it is: it costs time, and saves little. Default 1,024. */
  readonly above?: number | undefined
  /**
   * Bytes that a text may have when it is unpacked: more is not packed, and a text that unpacks to more, which somebody
   * else must have written, is refused before it fills the memory. Default 64 MiB.
   */
  readonly limit?: number | undefined
}

/**
 * Compression by `deflate` (RFC 1950), where it saves something: bodies are stored in base64, which costs a third again.
 * What is too large for a record is what is stored, so a payload that compresses well may be larger than
 * `DeferLimits.payloadLimit`.
 *
 * Not together with secrets that must not be told from the size of what is stored.
 *
 * @since 0.1.0
 */
export const compression = (options?: CompressionOptions): Stage =>
  makeCompression({ above: options?.above ?? 1024, limit: options?.limit ?? 67_108_864 })

/** @since 0.1.0 */
export interface EncryptionOptions {
  readonly keys: ReadonlyArray<PayloadKeys.PayloadKey>
  /** The id of the key that writes. Default: the first. All of them read. */
  readonly write?: string | undefined
  /**
   * Whether what is not encrypted is refused: else somebody who can write to the database needs no key to make a payload.
   * For when all that was deferred before has ended. What SQL functions defer, and what push targets that are no
   * `PushHandler` answer, is not encrypted. Default `false`.
   */
  readonly required?: boolean | undefined
}

/**
 * Encryption by AES-256-GCM. Every text has an initialization vector of its own, by chance, and is bound to its task,
 * version and record (`PayloadStage.About`): in the place of another one it does not open. The id of the key stands beside it,
 * in the clear. One key is good for four thousand million texts (NIST SP 800-38D, 8.3): then take a new one.
 *
 * A payload that does not open (its key is not known, or it was changed or moved) is a dead letter `Undecodable`; a
 * result that does not open is a `SchemaError` of `ref.await`.
 *
 * Fails with `InvalidPayloadKeys`: no keys, an id twice, a key that has not exactly 32 bytes, no `crypto.subtle`.
 *
 * @since 0.1.0
 */
export const encryption = (options: EncryptionOptions): Effect.Effect<Stage, PayloadKeys.InvalidPayloadKeys> =>
  Effect.flatMap(PayloadKeys.check(options.keys), (keys) =>
    makeEncryption({ keys, write: options.write ?? keys[0]!.id, required: options.required ?? false }),
  )

/**
 * As `encryption`, with the keys of the program's configuration (`PayloadKeys.fromConfig`): of `OUTLIVE_PAYLOAD_KEYS`, or
 * another name.
 *
 * @since 0.1.0
 */
export const encryptionConfig = (
  options?: Omit<EncryptionOptions, "keys"> & { readonly name?: string | undefined },
): Effect.Effect<Stage, PayloadKeys.InvalidPayloadKeys> =>
  Effect.flatMap(PayloadKeys.fromConfig(options?.name), (keys) => encryption({ ...options, keys }))
