/**
 * Payloads stored apart, in the file of their records.
 */
import type { DatabaseSync } from "node:sqlite"
import { PayloadStore, PayloadStoreError } from "@outlive/deferred/PayloadStore"
import type { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { atOnce, type GroupCommit, type Steps } from "./groupCommit.ts"
import { limitTo } from "./limitTo.ts"

/** Bytes. A body is written in one piece while everything else waits: five milliseconds for each of its mebibytes. */
const limit = 16_777_216

/** Where a page ended. */
type Cursor = readonly [at: number, ref: string]

/** After all references put at no time. */
const start: Cursor = [Number.NEGATIVE_INFINITY, ""]

const failing =
  (operation: string) =>
  ({ cause, isRetryable, message }: TaskQueueError): PayloadStoreError =>
    new PayloadStoreError({ operation, message, isRetryable, ...(cause === undefined ? {} : { cause }) })

export const makePayloads = (
  db: DatabaseSync,
  commits: Pick<GroupCommit, "read" | "write">,
): PayloadStore["Service"] => {
  const put = db.prepare("INSERT INTO outlive_payloads (ref, at, body) VALUES (?, ?, ?) ON CONFLICT (ref) DO NOTHING")
  const get = db.prepare("SELECT body FROM outlive_payloads WHERE ref = ?")
  const remove = db.prepare("DELETE FROM outlive_payloads WHERE ref = ?")
  const list = db.prepare(
    `SELECT at, ref FROM outlive_payloads WHERE at < ? AND (at, ref) > (?, ?) ORDER BY at, ref ${limitTo()}`,
  )
  const write = <A>(operation: string, body: () => Steps<A>) =>
    Effect.mapError(commits.write(operation, body), failing(operation))
  const read = <A>(operation: string, body: () => A) =>
    Effect.mapError(commits.read(operation, body), failing(operation))

  return PayloadStore.of({
    limit,
    put: ({ body, now, ref }) =>
      write("put", () =>
        atOnce(() => {
          put.run(ref, now, body)
        }),
      ),
    get: ({ ref }) => read("get", () => (get.get(ref) as { readonly body: string } | undefined)?.body),
    remove: ({ refs }) =>
      write("remove", function* () {
        for (const ref of refs) {
          remove.run(ref)
          yield
        }
      }),
    list: ({ before, cursor, limit }) =>
      read("list", () => {
        const after = cursor === undefined ? start : (JSON.parse(cursor) as Cursor)
        const rows = list.all(before, ...after, limit) as unknown as ReadonlyArray<{ at: number; ref: string }>
        const last = rows.length < limit ? undefined : rows.at(-1)
        return {
          refs: rows.map(({ ref }) => ref),
          cursor: last === undefined ? undefined : JSON.stringify([last.at, last.ref] satisfies Cursor),
        }
      }),
  })
}
