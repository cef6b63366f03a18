/**
 * The keys of a record, by its task's functions or by its deferral: whom it is for, and what at most one of a task has.
 */
import { type DeferOptions, InvalidTaskOptions, type UniqueKey, type UniqueStates } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { Latest, Unique, UniqueWhile } from "../TaskRecord.ts"

const untilEnd: Unique["while"] = ["waiting", "running"]

/** As a queue writes it down: `scheduled` and `ready` are one there. */
export const uniqueWhile = (states: UniqueStates): ReadonlyArray<UniqueWhile> => [
  "waiting",
  ...states.filter((state) => state !== "scheduled" && state !== "ready"),
]

/** Whom a record is for. */
export const keyOf = (
  task: Task.Any,
  options: DeferOptions,
  payload: unknown,
): string | InvalidTaskOptions | undefined =>
  // Most have none: what follows is kept apart from that.
  options.key === false || (options.key === undefined && task.settings.key === undefined)
    ? undefined
    : checkedKey(task, options.key, payload)

const checkedKey = ({ settings, taskName }: Task.Any, own: string | undefined, payload: unknown) => {
  const key = made(taskName, "key", 255, () => (own === undefined ? settings.key?.(payload as never) : own))
  // Not every database can store these in a text, and drivers compare keys.
  return typeof key === "string" && (key.includes("\0") || !key.isWellFormed())
    ? new InvalidTaskOptions({ task: taskName, field: "key", reason: "must be Unicode text without the character 0" })
    : key
}

/** The unique key of a record, and what `latest` makes of it. */
export const uniqueOf = (
  task: Task.Any,
  options: DeferOptions,
  payload: unknown,
  latest: Latest | undefined,
): Unique | InvalidTaskOptions | undefined => {
  if (latest !== undefined) return latestKey(task, options, payload, latest)
  const own = options.unique
  return own === false || (own === undefined && task.settings.unique === undefined)
    ? undefined
    : uniqueKey(task, own, payload)
}

const latestKey = ({ settings, taskName }: Task.Any, options: DeferOptions, payload: unknown, latest: Latest) => {
  const own = options.latest === false ? undefined : options.latest?.key
  const key = made(taskName, "latest", 1000, () => (own === undefined ? settings.latest?.key(payload as never) : own))
  return typeof key === "string" ? { key, while: untilEnd, latest } : key
}

const uniqueKey = ({ settings, taskName }: Task.Any, own: UniqueKey | undefined, payload: unknown) => {
  const key = made(taskName, "unique", 1000, () =>
    own === undefined ? settings.unique?.key(payload as never) : own.key,
  )
  if (typeof key !== "string") return key
  const states = own?.while
  return { key, while: states === undefined ? (settings.unique?.while ?? untilEnd) : uniqueWhile(states) }
}

/** What a function of the application gives, if it is a key. */
const made = (
  task: string,
  field: "key" | "unique" | "latest",
  longest: number,
  make: () => unknown,
): string | InvalidTaskOptions => {
  const invalid = (reason: string) => new InvalidTaskOptions({ task, field, reason })
  let key: unknown
  try {
    key = make()
  } catch (error) {
    return invalid(`must give a key, and its function threw ${String(error)}`)
  }
  if (typeof key === "string" && key !== "" && key.length <= longest) return key
  return invalid(`must have a key of 1 to ${longest.toLocaleString("en")} characters, and has ${quote(String(key))}`)
}

/** A text of the application in a sentence. */
export const quote = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
