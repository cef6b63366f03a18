/**
 * Where payloads that are too large for a record are stored apart: the record then has a reference (`payloadRef`), and the
 * worker loads the payload when the attempt begins (rows D20-D27, repaired: the payload goes when its record has gone, and
 * one that is missing makes a dead letter).
 *
 * A driver brings a store of its own, in its own storage; a `PayloadStore` in the context where the driver's layer is
 * built comes before it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/**
 * The store failed. What was asked may have happened or not: every method can be called again.
 *
 * @since 0.1.0
 */
export class PayloadStoreError extends Schema.TaggedError<PayloadStoreError>()("PayloadStoreError", {
  /** The store's method. */
  operation: Schema.String,
  message: Schema.String,
  /** Whether the same call may work later without anybody mending anything. */
  isRetryable: Schema.Boolean,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/**
 * Bodies by reference. A body is put before the record that refers to it and removed some time after that record has gone,
 * by the sweep of any worker: so a record never refers to a body that is not there yet, and what a crash leaves behind is
 * swept up.
 *
 * @since 0.1.0
 */
export class PayloadStore extends Context.Service<
  PayloadStore,
  {
    /** Bytes of UTF-8 that a body may have; more is refused at `defer` with `PayloadTooLarge`. */
    readonly limit: number
    /** Stores a body under a reference that is new; the same again changes nothing. */
    readonly put: (params: {
      readonly ref: string
      readonly body: string
      readonly now: number
    }) => Effect.Effect<void, PayloadStoreError>
    readonly get: (params: { readonly ref: string }) => Effect.Effect<string | undefined, PayloadStoreError>
    /** References that are not there do not matter. */
    readonly remove: (params: { readonly refs: ReadonlyArray<string> }) => Effect.Effect<void, PayloadStoreError>
    /** References put before a time, a page at a time in any order that stays; `cursor` is where the page before ended. */
    readonly list: (params: {
      readonly before: number
      readonly cursor?: string | undefined
      readonly limit: number
    }) => Effect.Effect<
      { readonly refs: ReadonlyArray<string>; readonly cursor: string | undefined },
      PayloadStoreError
    >
  }
>()("outlive/deferred/PayloadStore") {}

/**
 * A store in memory. `limit` in bytes; default 16 MiB.
 *
 * @since 0.1.0
 */
export const makeMemory = (options?: { readonly limit?: number | undefined }): PayloadStore["Service"] => {
  const bodies = new Map<string, { readonly body: string; readonly at: number }>()
  return PayloadStore.of({
    limit: options?.limit ?? 16_777_216,
    put: ({ body, now, ref }) =>
      Effect.sync(() => {
        if (!bodies.has(ref)) bodies.set(ref, { body, at: now })
      }),
    get: ({ ref }) => Effect.sync(() => bodies.get(ref)?.body),
    remove: ({ refs }) =>
      Effect.sync(() => {
        for (const ref of refs) bodies.delete(ref)
      }),
    list: ({ before, cursor, limit }) =>
      Effect.sync(() => {
        const refs = [...bodies]
          .filter(([ref, { at }]) => at < before && (cursor === undefined || ref > cursor))
          .map(([ref]) => ref)
          .sort()
          .slice(0, limit)
        return { refs, cursor: refs.length < limit ? undefined : refs.at(-1) }
      }),
  })
}

/** As `makeMemory`, for as long as the layer lives. @since 0.1.0 */
export const layerMemory = (options?: { readonly limit?: number | undefined }): Layer.Layer<PayloadStore> =>
  Layer.sync(PayloadStore, () => makeMemory(options))
