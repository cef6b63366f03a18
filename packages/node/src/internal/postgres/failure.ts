/**
 * What Postgres's errors mean, for people and for callers.
 */
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { SqlError } from "effect/sql/SqlError"

/** The SQLSTATE; `undefined` when the server did not answer with one. */
export const codeOf = (error: SqlError): string | undefined => {
  const { cause } = error.reason
  // A broken connection has a code too, but no severity.
  const isAnswer = typeof cause === "object" && cause !== null && "code" in cause && "severity" in cause
  return isAnswer && typeof cause.code === "string" ? cause.code : undefined
}

/** What the server said, or what went wrong with the connection. */
export const textOf = (error: SqlError): string => {
  const { cause } = error.reason
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message
}

/**
 * The transaction was undone for the sake of another one: a deadlock, a serialization failure, two that made the same key
 * unique at the same moment. The same again will do.
 */
export const isUndone = (error: SqlError): boolean => ["40P01", "40001", "23505"].includes(codeOf(error) ?? "")

/** Besides those that Effect knows: shut down, starting, out of connections, memory or disk, a lock not given, a standby. */
const passing = /^(08|53|57P|58|55P03$|25006$|40)/

const sentence = (error: SqlError, schema: string): string => {
  const code = codeOf(error)
  const text = textOf(error)
  switch (code) {
    case "42P01":
    case "42883":
    case "3F000":
      return `the schema "${schema}" has no task queue, or one of another version (${text}): run TaskQueuePostgres.migrate`
    case "42501":
      return `this role may not use the schema "${schema}" (${text}): grant it what it needs`
    case "25006":
      return `the server is read-only (a standby?): connect to the primary`
    case "53100":
      return `the disk of the server is full (${text})`
    case undefined:
      return error.reason._tag === "ConnectionError"
        ? `the server does not answer (${text}): what was asked may have happened or not`
        : text
    default:
      return `the server refused a call on "${schema}": ${text} (SQLSTATE ${code})`
  }
}

export const failure = (operation: string, schema: string, error: SqlError): TaskQueueError =>
  new TaskQueueError({
    operation,
    message: sentence(error, schema),
    isRetryable: error.isRetryable || isUndone(error) || passing.test(codeOf(error) ?? ""),
    cause: error,
  })
