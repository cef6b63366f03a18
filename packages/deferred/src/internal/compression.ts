/**
 * Deflate by the streams of the web platform.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type Stage, StageError } from "../PayloadStage.ts"
import { platform } from "./webPlatform.ts"

/** What the text around a body takes at the most, where it is the only step. */
const around = 64

/** How long a body is in base64. */
const inBase64 = (size: number): number => Math.ceil(size / 3) * 4

export const makeCompression = ({ above, limit }: { readonly above: number; readonly limit: number }): Stage => ({
  name: "deflate",
  encode: (body) =>
    body.length <= above || body.length > limit
      ? Effect.undefined
      : Effect.map(through(body, new platform.CompressionStream("deflate"), body.length), (packed) =>
          packed !== undefined && inBase64(packed.length) + around < body.length ? { body: packed } : undefined,
        ),
  decode: (body) =>
    Effect.flatMap(through(body, new platform.DecompressionStream("deflate"), limit), (text) =>
      text === undefined
        ? Effect.fail(
            new StageError({ reason: `unpacks to more than ${limit} bytes, the limit of PayloadCodec.compression` }),
          )
        : Effect.succeed(text),
    ),
})

/** `undefined`: it would be longer than `most`. It is read no further then. */
const through = (body: Uint8Array, by: object, most: number): Effect.Effect<Uint8Array | undefined, StageError> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    return Stream.fromReadableStream<Uint8Array, StageError>({
      evaluate: () => new platform.Blob([body]).stream().pipeThrough(by) as never,
      // What the platform says of it may quote it.
      onError: () => new StageError({ reason: "is damaged: it does not unpack" }),
    }).pipe(
      Stream.takeWhile((chunk) => {
        size += chunk.length
        chunks.push(chunk)
        return size <= most
      }),
      Stream.runDrain,
      Effect.map(() => (size > most ? undefined : joined(chunks, size))),
    )
  })

const joined = (chunks: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const all = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}
