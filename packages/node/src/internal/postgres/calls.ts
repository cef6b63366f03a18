/**
 * Calls of the functions of the schema, and of statements on its tables: in the caller's transaction when it is in one, on
 * a connection of the pool when not.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Change, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import { codeOf, failure, isUndone } from "./failure.ts"
import { quoted } from "./migrations.ts"
import type { Row } from "./row.ts"

export interface Calls {
  /** As it stands in SQL. */
  readonly schema: string
  /** Whether the caller is in a transaction of this client. */
  readonly isInTransaction: Effect.Effect<boolean>
  /** Runs an effect in a transaction, which calls inside it join. */
  readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | TaskQueueError, R>
  /** Runs one statement and gives its rows; again when the server undid it for the sake of another's. */
  readonly run: (
    operation: string,
    text: string,
    parameters: ReadonlyArray<unknown>,
  ) => Effect.Effect<ReadonlyArray<Row>, TaskQueueError>
  /** The same for a statement that gives one row. */
  readonly one: (
    operation: string,
    text: string,
    parameters: ReadonlyArray<unknown>,
  ) => Effect.Effect<Row, TaskQueueError>
  /** Tells of changes of this process: at once, or when the transaction that the caller is in is committed. */
  readonly publish: (changes: ReadonlyArray<Change>) => Effect.Effect<void>
}

/** How often a statement that was undone is tried in all. */
const times = 10

/** Milliseconds, more from time to time, and never the same for two who were in each other's way. */
const pause = (attempt: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // allow time: the server lives by the machine's clock; under a test clock the wait would never end
    const timer = setTimeout(() => resume(Effect.void), Math.random() * 2 ** attempt)
    return Effect.sync(() => clearTimeout(timer))
  })

export const makeCalls = (options: {
  readonly sql: PgClient
  readonly schema: string
  readonly publish: (changes: ReadonlyArray<Change>) => void
}): Calls => {
  const { publish, schema, sql } = options
  const isInTransaction = Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome)

  const attempt = (
    text: string,
    parameters: ReadonlyArray<unknown>,
    before: number,
  ): Effect.Effect<ReadonlyArray<Row>, SqlError> =>
    Effect.catchIf(
      sql.unsafe(text, parameters).values,
      (error) => before + 1 < times && isUndone(error),
      (error) =>
        // In a transaction of the caller only the caller can try again: the server takes nothing more in this one.
        Effect.flatMap(isInTransaction, (isIn) =>
          isIn ? Effect.fail(error) : Effect.andThen(pause(before), attempt(text, parameters, before + 1)),
        ),
    )
  // After a failover the address is the new primary's, and the connections of the pool are still the old one's: each ends
  // itself with the first thing that it refuses, and the pool makes a new one.
  const leave = Effect.ignore(sql.unsafe("SELECT pg_terminate_backend(pg_backend_pid())"))
  const run: Calls["run"] = (operation, text, parameters) =>
    attempt(text, parameters, 0).pipe(
      Effect.tapError((error) =>
        codeOf(error) === "25006"
          ? Effect.flatMap(isInTransaction, (isIn) => (isIn ? Effect.void : leave))
          : Effect.void,
      ),
      Effect.mapError((error) => failure(operation, schema, error)),
    )
  return {
    schema: quoted(schema),
    isInTransaction,
    transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.mapError(
        sql.withTransaction(Effect.mapError(effect, (error) => new Own(error))),
        (error: Own<E> | SqlError) => (error instanceof Own ? error.error : failure("transaction", schema, error)),
      ),
    run,
    one: (operation, text, parameters) => Effect.map(run(operation, text, parameters), ([row]) => row ?? []),
    publish: (changes) => (changes.length === 0 ? Effect.void : sql.afterCommit(Effect.sync(() => publish(changes)))),
  }
}

/** What failed in a transaction, told from the failure of the transaction, which may be of the same class. */
class Own<E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

/** What a call changed, as its function says it: lists, or nothing. */
export interface Ends {
  readonly waiting?: unknown
  readonly ended?: unknown
  readonly cancelling?: unknown
  readonly progressed?: unknown
}

const endFields = ["waiting", "ended", "cancelling", "progressed"] as const

/** What is read of a column of the type `ends`. */
export const endNames = (column: string): string => endFields.map((name) => `(${column}).${name}`).join(", ")

export const endsOf = (row: Row): Ends => Object.fromEntries(endFields.map((name, index) => [name, row[index]]))

/** What a call changed, told by what its function says of it. */
export const changesOf = (told: Ends): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  const add = (values: unknown, make: (values: never) => Change) => {
    if (Array.isArray(values) && values.length > 0) changes.push(make(values as never))
  }
  add(told.waiting, (queues) => ({ _tag: "Waiting", queues }))
  add(told.ended, (ids) => ({ _tag: "Ended", ids }))
  add(told.cancelling, (ids) => ({ _tag: "CancelRequested", ids }))
  add(told.progressed, (ids) => ({ _tag: "Progress", ids }))
  return changes
}
