/**
 * Calls that are part of a transaction of the application: on its connection, at once, and told of when it is committed.
 */
import type { Change, TaskQueueError } from "@outlive/deferred/TaskQueue"
import { TaskQueueError as Failure } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient, SqlError } from "effect/sql"
import type { SqliteClient } from "../../SqliteClient.ts"
import type { Calls, Hooks } from "./calls.ts"
import { failure } from "./failure.ts"
import type { GroupCommit } from "./groupCommit.ts"

type Client = SqliteClient["Service"]

export const isInTransaction = (client: SqlClient.SqlClient): Effect.Effect<boolean> =>
  Effect.map(Effect.serviceOption(client.transactionService), Option.isSome)

/** Each call in a savepoint: one that fails leaves nothing behind, also when the application goes on all the same. */
export const joinedCommits =
  (client: Client, publish: (changes: ReadonlyArray<Change>) => void) =>
  (hooks: Hooks): Pick<GroupCommit, "write" | "read"> => {
    const db = client.database
    const attempt = <A>(operation: string, body: () => A): Effect.Effect<A, TaskQueueError> =>
      Effect.try({ try: body, catch: (cause) => failure(operation, client.file, cause) })
    return {
      read: attempt,
      write: (operation, body) =>
        Effect.tap(
          attempt(operation, () => {
            db.exec("SAVEPOINT outlive_call")
            try {
              const steps = body()
              let step = steps.next()
              while (step.done !== true) step = steps.next()
              hooks.beforeCommit()
              db.exec("RELEASE outlive_call")
              return step.value
            } catch (cause) {
              hooks.rolledBack()
              // Gone with the whole transaction, after the errors that SQLite thinks are grave.
              if (db.isTransaction) db.exec("ROLLBACK TO outlive_call; RELEASE outlive_call")
              throw cause
            }
          }),
          () => {
            const changes = hooks.committed()
            return changes.length === 0 ? Effect.void : client.afterCommit(Effect.sync(() => publish(changes)))
          },
        ),
    }
  }

/** Calls of `joined` where they are made in a transaction of the client, else of `own`. */
export const either = (client: Client, own: Calls, joined: Calls): Calls => {
  const choose = <Args extends ReadonlyArray<unknown>, A, E>(
    ours: (...args: Args) => Effect.Effect<A, E>,
    theirs: (...args: Args) => Effect.Effect<A, E>,
  ) => {
    return (...args: Args): Effect.Effect<A, E> =>
      Effect.flatMap(isInTransaction(client), (isInside) => (isInside ? theirs(...args) : ours(...args)))
  }
  const { payloads, ...methods } = own
  const chosen = Object.entries(methods).map(([name, method]) => [
    name,
    choose(method as never, joined[name as keyof typeof methods] as never),
  ])
  return {
    ...Object.fromEntries(chosen),
    payloads: payloads && {
      ...payloads,
      put: choose(payloads.put, joined.payloads?.put ?? payloads.put),
      get: choose(payloads.get, joined.payloads?.get ?? payloads.get),
      remove: choose(payloads.remove, joined.payloads?.remove ?? payloads.remove),
    },
  } as Calls
}

/** An effect in a transaction of the client; that it could not be committed is a failure of the queue. */
export const inTransaction =
  (client: Client) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | TaskQueueError, R> =>
    Effect.mapError(
      // The effect may fail with a SqlError of its own, which is not the transaction's.
      client.withTransaction(Effect.mapError(effect, (error) => new Own(error))),
      (error) => (error instanceof Own ? error.error : uncommitted(error)),
    )

class Own<E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

const uncommitted = (error: SqlError.SqlError): TaskQueueError =>
  new Failure({
    operation: "transaction",
    message: `the transaction was not committed: ${error.message}`,
    isRetryable: error.isRetryable,
    cause: error,
  })
