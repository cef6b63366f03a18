/**
 * What SQLite's errors mean, for people and for callers.
 */
import { TaskQueueError } from "@outlive/deferred/TaskQueue"

/** SQLite's primary result codes that mean something of their own here. */
export const Code = {
  busy: 5,
  readOnly: 8,
  io: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  constraint: 19,
  notADatabase: 26,
} as const

/** The primary result code; `undefined` when this is no error of SQLite. */
export const codeOf = (cause: unknown): number | undefined =>
  cause instanceof Error && "errcode" in cause && typeof cause.errcode === "number" ? cause.errcode & 0xff : undefined

/** Another connection has the lock: not an error, only a time to wait. */
export const isBusy = (cause: unknown): boolean => codeOf(cause) === Code.busy

const sentence = (file: string, code: number | undefined, text: string): string => {
  switch (code) {
    case Code.full:
      return `there is no room for ${file}: free space on its disk, then call again`
    case Code.readOnly:
      return `${file} is read-only now: give this process the right to write it and its folder`
    case Code.io:
      return `the disk below ${file} failed (${text})`
    case Code.corrupt:
    case Code.notADatabase:
      return `${file} is damaged (${text}): restore it from a backup, or save what is left with sqlite3's .recover`
    default:
      return `SQLite refused a call on ${file}: ${text}`
  }
}

export const failure = (operation: string, file: string, cause: unknown): TaskQueueError => {
  const code = codeOf(cause)
  return new TaskQueueError({
    operation,
    message: sentence(file, code, cause instanceof Error ? cause.message : String(cause)),
    isRetryable: code === Code.full || code === Code.io || code === Code.readOnly || code === Code.busy,
    cause,
  })
}
