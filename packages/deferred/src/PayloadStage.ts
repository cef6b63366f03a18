/**
 * One step that a `PayloadCodec` takes with what is written of payloads and results: `PayloadCodec.compression` and
 * `PayloadCodec.encryption` make two, and applications can have their own.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * What a body is, for stages that bind it to its place. A body is read by somebody who knows the same of it, or not at all.
 *
 * @since 0.1.0
 */
export interface About {
  readonly part: "payload" | "result" | "note"
  /** The name that its record has: the task's, or one of its aliases. */
  readonly task: string
  readonly version: number
  /**
   * Which record it belongs to: `id` and the record's id. A payload that was deferred with a name has `name` and its queue
   * and name instead, one of the latest of its key (`latest`) `name latest` and the key: they may come to be stored under the
   * id of the record that they replace. A note has its key, too.
   */
  readonly owner: string
  /** The steps that were taken before this one. */
  readonly steps: ReadonlyArray<string>
}

/**
 * The header under which a record that is kept without its name (a dead letter of a push endpoint, say) still has it, as
 * `queue/name`: its payload is bound to that. Records of the latest of a key have `latest` and the key there, if the queue
 * has a codec.
 *
 * @since 0.1.0
 */
export const deferredAsHeader = "outlive-deferred-as"

/** What a stage made of a body. @since 0.1.0 */
export interface Encoded {
  readonly body: Uint8Array
  /** What `decode` needs to know again, in the clear: `[A-Za-z0-9_.-]{1,64}`. */
  readonly hint?: string | undefined
}

/**
 * The stage cannot do it. The reason goes on where "the payload" ends (`was encrypted with a key that ...`), says what to
 * do, and has nothing of the content in it: it is written down in the clear.
 *
 * @since 0.1.0
 */
export class StageError extends Schema.TaggedError<StageError>()("StageError", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

/**
 * A step there and back. It waits for nobody outside this process: what it needs (keys, say) it has before it is made.
 *
 * @since 0.1.0
 */
export interface Stage {
  /** `[a-z][a-z0-9-]{0,31}`: it stands in every text that the stage has changed, so it never gets another meaning. */
  readonly name: string
  /** `undefined`: this body stays as it is. */
  readonly encode: (body: Uint8Array, about: About) => Effect.Effect<Encoded | undefined, StageError>
  readonly decode: (body: Uint8Array, hint: string | undefined, about: About) => Effect.Effect<Uint8Array, StageError>
  /** Texts that this stage has not changed are refused. Default: they are read. */
  readonly required?: boolean | undefined
}
