/**
 * BullMQ's keys in Redis, and the steps of a move, each of which happens as a whole: a job that is being moved is in none of its
 * lists, where a worker could take it, and in a hash of our own, where the next run finds it.
 */
import * as Effect from "effect/Effect"
import type { Redis, RedisError } from "effect/persistence/Redis"
import type { Job } from "../../Import.ts"

/** Where a job waits. */
export interface Place {
  readonly key: "wait" | "paused" | "prioritized" | "delayed"
  readonly id: string
  /** Of one in a sorted set. */
  readonly score?: string | undefined
}

export interface Found {
  readonly job: Job
  /** It waits for others, or others for it: a parent, a schedule. */
  readonly isDependent: boolean
}

const fields = [
  "name",
  "data",
  "opts",
  "timestamp",
  "priority",
  "atm",
  "attemptsMade",
  "parentKey",
  "rjk",
  "deid",
] as const
const beside = ["", ":logs", ":dependencies", ":processed", ":failed", ":unsuccessful"]

/** Out of its list, into the hash; 0 when somebody else took it. */
const takeScript = `
local removed
if ARGV[3] == "" then removed = redis.call("LREM", KEYS[1], -1, ARGV[1]) else removed = redis.call("ZREM", KEYS[1], ARGV[1]) end
if removed == 0 then return 0 end
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
return 1`

/** Out of the hash, back to where it was, where it comes next; workers are told. */
const giveBackScript = `
if redis.call("HDEL", KEYS[2], ARGV[1]) == 0 then return 0 end
if ARGV[2] == "" then redis.call("RPUSH", KEYS[1], ARGV[1]) else redis.call("ZADD", KEYS[1], ARGV[2], ARGV[1]) end
if redis.call("HEXISTS", KEYS[4], "paused") == 0 then redis.call("ZADD", KEYS[3], 0, "0") end
return 1`

/** For good. */
const finishScript = `
if redis.call("GET", KEYS[2]) == ARGV[1] then redis.call("DEL", KEYS[2]) end
for index = 3, #KEYS do redis.call("DEL", KEYS[index]) end
return redis.call("HDEL", KEYS[1], ARGV[1])`

export const makeBullMq = (redis: Redis["Service"], prefix: string, queue: string) => {
  const key = (name: string) => `${prefix}:${queue}:${name}`
  const moving = key("outlive-moving")
  const run = (script: string, keys: ReadonlyArray<string>, args: ReadonlyArray<string>) =>
    redis.send<number>("EVAL", script, String(keys.length), ...keys, ...args)
  const count = (command: "LLEN" | "ZCARD", name: string) => Effect.map(redis.send(command, key(name)), Number)
  const listed = (name: "wait" | "paused") =>
    Effect.map(redis.send<ReadonlyArray<string>>("LRANGE", key(name), "0", "-1"), (ids) =>
      // The last is the next. Old versions keep markers among the ids.
      [...ids].reverse().flatMap((id): ReadonlyArray<Place> => (id.startsWith("0:") ? [] : [{ key: name, id }])),
    )
  const sorted = (name: "prioritized" | "delayed") =>
    Effect.map(redis.send<ReadonlyArray<string>>("ZRANGE", key(name), "0", "-1"), (ids) =>
      ids.map((id): Place => ({ key: name, id })),
    )

  return {
    exists: Effect.map(redis.send("EXISTS", key("meta")), (found) => Number(found) === 1),
    /** In the order in which its workers would take them. */
    waiting: Effect.map(
      Effect.all([listed("wait"), listed("paused"), sorted("prioritized"), sorted("delayed")]),
      (places) => places.flat(),
    ),
    /** What a run that was cut off had taken. */
    moving: Effect.map(redis.send<ReadonlyArray<string>>("HVALS", moving), (texts) =>
      texts.map((text) => JSON.parse(text) as Place),
    ),
    running: count("LLEN", "active"),
    failed: count("ZCARD", "failed"),
    parents: count("ZCARD", "waiting-children"),
    /** The job, `undefined` when it is gone. */
    read: Effect.fnUntraced(function* (place: Place) {
      const values = yield* redis.send<ReadonlyArray<string | null>>("HMGET", key(place.id), ...fields)
      const row = Object.fromEntries(fields.map((field, index) => [field, values[index] ?? undefined]))
      if (row.name === undefined || row.data === undefined) return undefined
      const score =
        place.score ?? (place.key === "delayed" ? yield* scoreOf(redis, key("delayed"), place.id) : undefined)
      const createdAt = Number(row.timestamp)
      return {
        job: {
          id: place.id,
          name: row.name,
          data: parse(row.data),
          // There the lowest number comes first, and none before all of them.
          priority: 0 - Number(row.priority ?? 0),
          // The lowest twelve bits are to keep those of a millisecond apart.
          eta: place.key === "delayed" && score !== undefined ? Math.floor(Number(score) / 4096) : createdAt,
          createdAt,
          attempts: Number(row.atm ?? row.attemptsMade ?? 0),
          source: { queue, opts: parse(row.opts ?? "{}"), deduplicationId: row.deid },
        },
        isDependent: row.parentKey !== undefined || row.rjk !== undefined,
      } satisfies Found
    }),
    /** Gives where it was; `undefined` when somebody else was faster. */
    take: Effect.fnUntraced(function* (place: Place) {
      const isSorted = place.key === "prioritized" || place.key === "delayed"
      const score = isSorted ? ((yield* scoreOf(redis, key(place.key), place.id)) ?? "") : ""
      const from: Place = isSorted ? { ...place, score } : place
      const taken = yield* run(takeScript, [key(place.key), moving], [place.id, JSON.stringify(from), score])
      return Number(taken) === 1 ? from : undefined
    }),
    giveBack: ({ id, key: name, score }: Place) =>
      run(giveBackScript, [key(name), moving, key("marker"), key("meta")], [id, score ?? ""]),
    finish: ({ job }: Found) => {
      const duplicates = key(`de:${job.source.deduplicationId ?? ""}`)
      return run(finishScript, [moving, duplicates, ...beside.map((suffix) => `${key(job.id)}${suffix}`)], [job.id])
    },
    /** Of a job that is gone: nothing is left to move. */
    forget: ({ id }: Place) => redis.send("HDEL", moving, id),
  }
}

const scoreOf = (redis: Redis["Service"], key: string, id: string): Effect.Effect<string | undefined, RedisError> =>
  Effect.map(redis.send<string | number | null>("ZSCORE", key, id), (score) =>
    score === null ? undefined : String(score),
  )

/** What is not JSON stays text, which the mapping will refuse. */
const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
