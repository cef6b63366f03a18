/**
 * AES-256-GCM by the web platform's cryptography. A body is the initialization vector (12 bytes by chance, anew each
 * time), what is encrypted, and the tag (16 bytes).
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { InvalidPayloadKeys, type PayloadKey } from "../PayloadKeys.ts"
import { type About, type Stage, StageError } from "../PayloadStage.ts"
import { bytesOf, type CryptoKey, platform } from "./webPlatform.ts"

const ivSize = 12

export const makeEncryption = Effect.fnUntraced(function* (options: {
  readonly keys: ReadonlyArray<PayloadKey>
  readonly write: string
  readonly required: boolean
}) {
  const { crypto } = platform
  const subtle = crypto?.subtle
  if (crypto === undefined || subtle === undefined) {
    const reason = "there is no crypto.subtle here, which browsers give to pages of https only"
    return yield* Effect.fail(new InvalidPayloadKeys({ reason }))
  }
  const keys = new Map<string, CryptoKey>()
  for (const { id, key } of options.keys) {
    const bytes = Redacted.value(key)
    keys.set(id, yield* Effect.promise(() => subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"])))
  }
  const { write } = options
  const writing = keys.get(write)
  if (writing === undefined) {
    const reason = `none has the id ${JSON.stringify(write)}, which is to write; there are ${[...keys.keys()].join(", ")}`
    return yield* Effect.fail(new InvalidPayloadKeys({ reason }))
  }

  return {
    name: "aes-256-gcm",
    required: options.required,
    encode: (body, about) =>
      Effect.promise(() => {
        const iv = crypto.getRandomValues(new Uint8Array(ivSize))
        const algorithm = { name: "AES-GCM", iv, additionalData: bindingOf(write, about) } as const
        return subtle.encrypt(algorithm, writing, body).then((sealed) => {
          const all = new Uint8Array(ivSize + sealed.byteLength)
          all.set(iv)
          all.set(new Uint8Array(sealed), ivSize)
          return { body: all, hint: write }
        })
      }),
    decode: (body, id = "", about) => {
      const key = keys.get(id)
      if (key === undefined) {
        const known = [...keys.keys()].join(", ")
        const reason = `was encrypted with the key ${id}, and the keys known here are ${known}: add it to those of PayloadCodec.encryption`
        return Effect.fail(new StageError({ reason }))
      }
      const iv = body.subarray(0, ivSize)
      const algorithm = { name: "AES-GCM", iv, additionalData: bindingOf(id, about) } as const
      return Effect.tryPromise({
        try: () => subtle.decrypt(algorithm, key, body.subarray(ivSize)).then((opened) => new Uint8Array(opened)),
        catch: () => closed(id),
      })
    },
  } satisfies Stage
})

const closed = (id: string) =>
  new StageError({
    reason: `does not open with the key ${id}: it was changed, or it belongs to another record, task or version, or ${id} was another key where it was written`,
  })

/** What is encrypted opens for the same part of the same record only, coded in the same way. */
const bindingOf = (key: string, { owner, part, steps, task, version }: About): Uint8Array =>
  bytesOf(JSON.stringify(["outlive", part, task, version, owner, steps, key]))
