/**
 * The keys that deliveries are signed with. Several at once, each with an id, so that they can be changed while tasks are
 * on their way: senders sign with the first, receivers accept them all.
 *
 * To change a key: add the new one at the end everywhere, then move it to the front everywhere, then take the old one out.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** @since 0.1.0 */
export interface PushKey {
  /** `[A-Za-z0-9_.-]{1,64}`: it goes with every signature, so it is not secret. */
  readonly id: string
  readonly secret: Redacted.Redacted<Uint8Array>
}

/**
 * @since 0.1.0
 */
export class PushKeys extends Context.Service<
  PushKeys,
  {
    /** The key to sign with. */
    readonly signing: PushKey
    /** The secret of a key by its id. */
    readonly secret: (id: string) => Redacted.Redacted<Uint8Array> | undefined
  }
>()("outlive/node/PushKeys") {}

/**
 * There are no keys, or one of them cannot be used. The message has no secret in it.
 *
 * @since 0.1.0
 */
export class InvalidPushKeys extends Schema.TaggedError<InvalidPushKeys>()("InvalidPushKeys", {
  /** What is wrong and what to do. */
  reason: Schema.String,
}) {
  override get message() {
    return `the keys that deliveries are signed with: ${this.reason}`
  }
}

/** Bytes: what HMAC-SHA-256 itself gives; a longer secret makes nothing safer, a shorter one does the opposite. */
const shortest = 32

/**
 * Checks keys: at least one, each id once, each secret of 32 bytes or more.
 *
 * @since 0.1.0
 */
export const make = (keys: ReadonlyArray<PushKey>): Effect.Effect<PushKeys["Service"], InvalidPushKeys> => {
  const refuse = (reason: string) => Effect.fail(new InvalidPushKeys({ reason }))
  const signing = keys[0]
  if (signing === undefined) return refuse(`there is none, and nothing is sent or accepted unsigned. ${makeOne}`)
  const secrets = new Map<string, Redacted.Redacted<Uint8Array>>()
  for (const { id, secret } of keys) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(id)) {
      return refuse(`the id ${JSON.stringify(id)} must be 1 to 64 letters, digits, dots, dashes or underscores`)
    }
    if (secrets.has(id)) return refuse(`there are two with the id ${id}; a signature could not say which it is of`)
    const { length } = Redacted.value(secret)
    if (length < shortest) {
      return refuse(`the secret of ${id} has ${length} bytes, and must have ${shortest} or more. ${makeOne}`)
    }
    secrets.set(id, secret)
  }
  return Effect.succeed(PushKeys.of({ signing, secret: (id) => secrets.get(id) }))
}

const makeOne = "A good one: `openssl rand -base64 32`."

/** @since 0.1.0 */
export const layer = (keys: ReadonlyArray<PushKey>): Layer.Layer<PushKeys, InvalidPushKeys> =>
  Layer.effect(PushKeys, make(keys))

/**
 * Reads keys as configuration has them: `id:secret` with the secret in base64 (either alphabet), several by commas, the
 * one to sign with first.
 *
 * @since 0.1.0
 */
export const parse = (text: Redacted.Redacted<string>): Effect.Effect<ReadonlyArray<PushKey>, InvalidPushKeys> =>
  Effect.suspend(() => {
    const keys: Array<PushKey> = []
    const parts = Redacted.value(text).split(",")
    for (const [index, part] of parts.entries()) {
      if (part.trim() === "") continue
      const at = part.indexOf(":")
      const secret = part.slice(at + 1).trim()
      // Never the text itself: whatever is wrong with it, it may be a secret.
      const which = `number ${index + 1} of ${parts.length}`
      if (at < 0) return Effect.fail(new InvalidPushKeys({ reason: `${which} must be written id:secret` }))
      if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(secret)) {
        return Effect.fail(new InvalidPushKeys({ reason: `the secret of ${which} must be base64. ${makeOne}` }))
      }
      keys.push({ id: part.slice(0, at).trim(), secret: Redacted.make(Buffer.from(secret, "base64")) })
    }
    return Effect.succeed(keys)
  })

/**
 * The keys of the program's configuration: `OUTLIVE_PUSH_KEYS`, or another name. A program without them does not start.
 *
 * @example
 * ```ts
 * import * as PushKeys from "@outlive/node/PushKeys"
 *
 * // OUTLIVE_PUSH_KEYS=2026b:5Y0H...,2026a:9xqL...
 * const Keys = PushKeys.layerConfig()
 * ```
 *
 * @since 0.1.0
 */
export const layerConfig = (name = "OUTLIVE_PUSH_KEYS"): Layer.Layer<PushKeys, InvalidPushKeys> =>
  Layer.effect(
    PushKeys,
    Effect.gen(function* () {
      const read = yield* Effect.result(Config.Redacted(name))
      if (Result.isFailure(read)) {
        const reason = `${name} is not set, and nothing is sent or accepted unsigned. Set it to id:secret. ${makeOne}`
        return yield* Effect.fail(new InvalidPushKeys({ reason }))
      }
      return yield* Effect.flatMap(parse(read.success), make)
    }),
  )
