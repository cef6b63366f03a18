/**
 * What queues say of keys, in code and in files: the same values under other names.
 */
import * as Result from "effect/Result"
import { type KeyLimits, type KeyOverride, unlimited } from "../KeyLimits.ts"
import type { Key } from "../QueueConfig.ts"
import { asText, compact, expecting, fields, listOf, numberFrom, type Read, truth, wholeFrom, wrong } from "./fields.ts"
import { rate, writeRate } from "./queueUnits.ts"

export const keyName: Read<string> = expecting("a key of 1 to 255 characters, without the character 0", (value) => {
  const name = asText(value)
  const isKey =
    typeof name === "string" && name !== "" && name.length <= 255 && name.isWellFormed() && !name.includes("\0")
  return isKey ? name : undefined
})

/** What leads away from the limits of all keys. */
export const orUnlimited =
  <A>(read: Read<A>): Read<A | number> =>
  (value, path) =>
    value === "unlimited"
      ? Result.succeed(Number.POSITIVE_INFINITY)
      : Result.mapError(read(value, path), (problem) => ({
          ...problem,
          reason: problem.reason.replace(/^must be /, "must be unlimited, or "),
        }))

/** Far enough for shares, and near enough for sums of its parts. */
export const weight: Read<number> = expecting("a number from 0.001 to 1000", (value) =>
  typeof value === "number" && value >= 0.001 && value <= 1000 ? value : undefined,
)

type Said<A> = { readonly [K in keyof A]?: A[K] | undefined }

export const keyLimitsOf = (said: Said<KeyLimits> | undefined): KeyLimits => ({
  maxConcurrent: said?.maxConcurrent,
  rate: said?.rate,
  burst: said?.burst ?? unlimited.burst,
  ordered: said?.ordered ?? false,
})

/** Without what is not said, so that two that say the same are the same. */
export const overrideOf = ({ burst, maxConcurrent, rate, weight }: KeyOverride): KeyOverride => ({
  ...(maxConcurrent !== undefined && { maxConcurrent }),
  ...(rate !== undefined && { rate }),
  ...(burst !== undefined && { burst }),
  ...(weight !== undefined && { weight }),
})

const byKeyFields = fields(
  { max_concurrent_requests: wholeFrom(1), rate, bucket_size: numberFrom(1), ordered: truth },
  { weight: "in keys, to single keys" },
)

/** `by_key` of a file. */
export const readByKey: Read<KeyLimits> = (value, path) =>
  Result.map(byKeyFields(value, path), (given) =>
    keyLimitsOf({
      maxConcurrent: given.max_concurrent_requests,
      rate: given.rate,
      burst: given.bucket_size,
      ordered: given.ordered,
    }),
  )

const keyFields = fields(
  {
    name: keyName,
    weight,
    max_concurrent_requests: orUnlimited(wholeFrom(1)),
    rate: orUnlimited(rate),
    bucket_size: numberFrom(1),
  },
  { ordered: "in by_key: all keys of a queue, or none" },
)

const readKey: Read<Key> = (value, path) =>
  Result.gen(function* () {
    const {
      bucket_size: burst,
      max_concurrent_requests: maxConcurrent,
      name,
      rate,
      weight,
    } = yield* keyFields(value, path)
    if (name === undefined) return yield* wrong([...path, "name"], "is missing: every key has one")
    return { name, ...overrideOf({ weight, maxConcurrent, rate, burst }) }
  })

/** `keys` of a file. */
export const readKeys: Read<ReadonlyArray<Key>> = (value, path) =>
  Result.gen(function* () {
    const keys = yield* listOf(readKey)(value, path)
    const twice = keys.findIndex(({ name }, index) => keys.findIndex((other) => other.name === name) < index)
    if (twice < 0) return keys
    return yield* wrong(
      [...path, twice, "name"],
      `must be there once, and is ${JSON.stringify(keys[twice]!.name)} again`,
    )
  })

/** `undefined`: there is nothing to say. */
export const writeByKey = ({ burst, maxConcurrent, ordered, rate }: KeyLimits): object | undefined => {
  const said = compact({
    max_concurrent_requests: maxConcurrent,
    rate: writeRate(rate),
    bucket_size: burst === unlimited.burst ? undefined : burst,
    ordered: ordered ? true : undefined,
  })
  return Object.keys(said).length === 0 ? undefined : said
}

export const writeKeys = (keys: ReadonlyArray<Key>): ReadonlyArray<object> | undefined =>
  keys.length === 0
    ? undefined
    : keys.map(({ burst, maxConcurrent, name, rate, weight }) =>
        compact({
          name,
          weight,
          max_concurrent_requests: maxConcurrent === Number.POSITIVE_INFINITY ? "unlimited" : maxConcurrent,
          rate: writeRate(rate),
          bucket_size: burst,
        }),
      )
