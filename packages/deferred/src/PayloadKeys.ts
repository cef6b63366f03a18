/**
 * The keys that payloads are encrypted with. Several at once, each with an id that stands in what it has encrypted, so
 * that they can be changed while records wait (`docs/codecs.md` says how).
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { fromBase64 } from "./internal/base64.ts"

/** @since 0.1.0 */
export interface PayloadKey {
  /** `[A-Za-z0-9_.-]{1,64}`: it stands in every record, so it is not secret. It never gets another key. */
  readonly id: string
  /** 32 bytes, by chance: AES-256. */
  readonly key: Redacted.Redacted<Uint8Array>
}

/**
 * There are no keys, or one of them cannot be used. The message has no key in it.
 *
 * @since 0.1.0
 */
export class InvalidPayloadKeys extends Schema.TaggedError<InvalidPayloadKeys>()("InvalidPayloadKeys", {
  /** What is wrong and what to do. */
  reason: Schema.String,
}) {
  override get message() {
    return `the keys that payloads are encrypted with: ${this.reason}`
  }
}

const size = 32
const makeOne = "A good one: `openssl rand -base64 32`."

/**
 * Checks keys: at least one, each id once, each of exactly 32 bytes.
 *
 * @since 0.1.0
 */
export const check = (
  keys: ReadonlyArray<PayloadKey>,
): Effect.Effect<ReadonlyArray<PayloadKey>, InvalidPayloadKeys> => {
  const refuse = (reason: string) => Effect.fail(new InvalidPayloadKeys({ reason }))
  if (keys.length === 0) return refuse(`there is none. ${makeOne}`)
  const ids = new Set<string>()
  for (const { id, key } of keys) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(id)) {
      return refuse(`the id ${JSON.stringify(id)} must be 1 to 64 letters, digits, dots, dashes or underscores`)
    }
    if (ids.has(id)) return refuse(`there are two with the id ${id}; a record could not say which it needs`)
    const { length } = Redacted.value(key)
    if (length !== size) return refuse(`${id} has ${length} bytes, and must have exactly ${size}. ${makeOne}`)
    ids.add(id)
  }
  return Effect.succeed(keys)
}

/**
 * Reads keys as configuration has them: `id:key` with the key in base64 (either alphabet), several by commas.
 *
 * @since 0.1.0
 */
export const parse = (text: Redacted.Redacted<string>): Effect.Effect<ReadonlyArray<PayloadKey>, InvalidPayloadKeys> =>
  Effect.suspend(() => {
    const keys: Array<PayloadKey> = []
    const parts = Redacted.value(text).split(",")
    for (const [index, part] of parts.entries()) {
      if (part.trim() === "") continue
      // Never the text itself: whatever is wrong with it, it may be a key.
      const which = `number ${index + 1} of ${parts.length}`
      const at = part.indexOf(":")
      if (at < 0) return Effect.fail(new InvalidPayloadKeys({ reason: `${which} must be written id:key` }))
      const written = part
        .slice(at + 1)
        .trim()
        .replaceAll("-", "+")
        .replaceAll("_", "/")
        .replace(/=+$/, "")
      const key = fromBase64(written.padEnd(Math.ceil(written.length / 4) * 4, "="))
      if (key === undefined) {
        return Effect.fail(new InvalidPayloadKeys({ reason: `the key of ${which} must be base64. ${makeOne}` }))
      }
      keys.push({ id: part.slice(0, at).trim(), key: Redacted.make(key) })
    }
    return check(keys)
  })

/**
 * The keys of the program's configuration: `OUTLIVE_PAYLOAD_KEYS`, or another name, as `parse` reads them.
 *
 * @since 0.1.0
 */
export const fromConfig = (
  name = "OUTLIVE_PAYLOAD_KEYS",
): Effect.Effect<ReadonlyArray<PayloadKey>, InvalidPayloadKeys> =>
  Effect.gen(function* () {
    const read = yield* Effect.result(Config.Redacted(name))
    if (Result.isSuccess(read)) return yield* parse(read.success)
    return yield* Effect.fail(new InvalidPayloadKeys({ reason: `${name} is not set. Set it to id:key. ${makeOne}` }))
  })
