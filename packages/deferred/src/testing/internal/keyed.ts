/**
 * Records and calls for the chapters on keys.
 */
import * as Effect from "effect/Effect"
import type { KeyLimits, KeyOverride } from "../../KeyLimits.ts"
import { TaskQueue } from "../../TaskQueue.ts"
import type { NewRecord } from "../../TaskRecord.ts"
import { type ClaimOptions, claim, enqueue } from "./records.ts"

export const configureKey = (key: string, override: KeyOverride, now = 0) =>
  Effect.flatMap(TaskQueue, (queue) => queue.configureKey({ queue: "default", key, override, now }))

/** What each key may do; what is not said has no limit. */
export const configureByKey = (byKey: Partial<KeyLimits>, now = 0) =>
  Effect.flatMap(TaskQueue, (queue) =>
    queue.configure({
      queue: "default",
      limits: { byKey: { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false, ...byKey } },
      now,
    }),
  )

/** So many records of every key, one key after the other; "-" stands for records without one. */
export const fill = (count: number, keys: string, fields?: Partial<NewRecord>, now = 0) =>
  enqueue(
    [...keys].flatMap((key) => Array.from({ length: count }, () => (key === "-" ? { ...fields } : { ...fields, key }))),
    now,
  )

/** The keys of what a claim gives, in its order. */
export const turns = (limit: number, now = 0, options?: ClaimOptions) =>
  Effect.map(claim(now, { limit, lease: 1_000_000, ...options }), (records) =>
    records.map(({ key }) => key ?? "-").join(""),
  )

/** Claims of these tasks. */
export const known = (...names: ReadonlyArray<string>) => ({ tasks: names.map((name) => ({ name, maxVersion: 1 })) })
