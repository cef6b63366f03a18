/**
 * Payloads that are too large for a record, in a table of their own: so a transaction that enqueues has them too.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { PayloadStore, PayloadStoreError } from "@outlive/deferred/PayloadStore"
import type { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type { Calls } from "./calls.ts"
import { texts } from "./row.ts"

/** Bytes. A row is read in one message, of which the client takes 16 MiB. */
const limit = 15 * 1024 * 1024

const asStoreError = <A>(effect: Effect.Effect<A, TaskQueueError>): Effect.Effect<A, PayloadStoreError> =>
  Effect.mapError(
    effect,
    ({ cause, isRetryable, message, operation }) =>
      new PayloadStoreError({ operation, message, isRetryable, ...(cause === undefined ? {} : { cause }) }),
  )

export const makePayloads = (calls: Calls): PayloadStore["Service"] => {
  const payloads = `${calls.schema}.payloads`
  return PayloadStore.of({
    limit,
    put: ({ body, now, ref }) =>
      asStoreError(
        Effect.asVoid(
          calls.run("put", `INSERT INTO ${payloads} (ref, at, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, [
            ref,
            PgTypes.float8(now),
            PgTypes.text(body),
          ]),
        ),
      ),
    get: ({ ref }) =>
      asStoreError(
        Effect.map(
          calls.run("get", `SELECT body FROM ${payloads} WHERE ref = $1`, [ref]),
          ([row]) => row?.[0] as string | undefined,
        ),
      ),
    remove: ({ refs }) =>
      asStoreError(Effect.asVoid(calls.run("remove", `DELETE FROM ${payloads} WHERE ref = ANY ($1)`, [texts(refs)]))),
    list: ({ before, cursor, limit }) =>
      asStoreError(
        Effect.map(
          calls.run("list", `SELECT ref FROM ${payloads} WHERE at < $1 AND ref > $2 ORDER BY ref LIMIT $3`, [
            PgTypes.float8(before),
            cursor ?? "",
            PgTypes.int8(BigInt(limit)),
          ]),
          (rows) => {
            const refs = rows.map(([ref]) => ref as string)
            return { refs, cursor: refs.length < limit ? undefined : refs.at(-1) }
          },
        ),
      ),
  })
}
