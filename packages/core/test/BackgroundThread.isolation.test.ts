import { readFileSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as effect from "effect"
import { Context, Effect, Layer, Logger, Option, Semaphore, Stream, TxRef } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"
import { isAmbient } from "../src/internal/ambient.ts"

const backend = BackgroundThread.BackgroundThreads.layer.pipe(Layer.provideMerge(Instance.layerBackend()))
const inThread = <A, E>(look: Effect.Effect<A, E>) =>
  Effect.flatMap(BackgroundThread.start(look), (thread) => thread.join())

describe("a thread does not take along", () => {
  it.effect("an open SQL transaction: what it writes stays when its creator's is rolled back", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE t (who TEXT)`
      const creator = sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`INSERT INTO t VALUES ('request')`
          const thread = yield* BackgroundThread.start(sql`INSERT INTO t VALUES ('thread')`)
          return yield* Effect.fail(thread)
        }),
      )
      const thread = yield* Effect.flip(creator)
      if ("await" in thread) yield* thread.await
      const rows = yield* sql<{ who: string }>`SELECT who FROM t`
      assert.deepStrictEqual(
        rows.map(({ who }) => who),
        ["thread"],
      )
    }).pipe(Effect.provide(sqlite), Effect.provide(backend)),
  )

  it.effect("the HTTP request it was started in", () =>
    Effect.gen(function* () {
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/index?user=ada"))
      const look = Effect.serviceOption(HttpServerRequest.HttpServerRequest)
      const provided = Effect.provideService(
        Effect.all({ here: look, there: inThread(look) }),
        HttpServerRequest.HttpServerRequest,
        request,
      )
      const { here, there } = yield* provided
      assert.isTrue(Option.isSome(here))
      assert.isTrue(Option.isNone(there))
      assert.isDefined(HttpServerResponse.empty())
    }).pipe(Effect.provide(backend)),
  )

  it.effect("an open transaction of memory: what it writes is seen although its creator's is not committed", () =>
    Effect.gen(function* () {
      const balance = yield* TxRef.make(0)
      const context = yield* Effect.context<BackgroundThread.BackgroundThreads>()
      yield* Effect.tx(
        Effect.gen(function* () {
          yield* TxRef.set(balance, 1)
          const seen = yield* Effect.provideContext(inThread(Effect.tx(TxRef.get(balance))), context)
          assert.strictEqual(seen, 0)
        }),
      )
      assert.strictEqual(yield* TxRef.get(balance), 1)
    }).pipe(Effect.provide(backend)),
  )

  it.effect("a logger that its creator gave itself: lines go where the application's go", () =>
    Effect.gen(function* () {
      const own: Array<unknown> = []
      const collect = Logger.make(({ message }) => {
        own.push(message)
      })
      yield* inThread(Effect.log("from the thread")).pipe(Effect.provide(Logger.layer([collect])))
      assert.deepStrictEqual(own, [])
    }).pipe(Effect.provide(backend)),
  )

  /**
   * When Effect adds a service or a reference, this fails: look at it, and put its key into `ambient.ts` when it belongs
   * to a request or to the application, else into `goesAlong.txt`.
   */
  it.live("anything of Effect that nobody has looked at", () =>
    Effect.gen(function* () {
      const families = (
        "ai cli cluster crypto devtools encoding eventlog graphql http http-api net observability persistence process " +
        "reactivity rpc schema socket sql workers workflow"
      ).split(" ")
      const modules = yield* Effect.promise(() => Promise.all(families.map((name) => import(`effect/${name}`))))
      const keys = new Set<string>()
      for (const barrel of [effect, ...modules]) {
        for (const module of Object.values<unknown>(barrel)) {
          if (typeof module !== "object" || module === null) continue
          for (const value of Object.values(module)) if (Context.isKey(value)) keys.add(value.key)
        }
      }
      const known = readFileSync(new URL("./goesAlong.txt", import.meta.url), "utf8").split("\n")
      const unknown = [...keys].filter((key) => !isAmbient(key) && !known.includes(key))
      assert.deepStrictEqual(unknown.sort(), [])
      // And nothing is listed that is gone or was classified otherwise.
      assert.deepStrictEqual(
        known.filter((key) => key !== "" && (!keys.has(key) || isAmbient(key))),
        [],
      )
    }),
  )
})

/** As much of a SqlClient over `node:sqlite` as these tests need. */
const sqlite = Layer.effect(
  SqlClient.SqlClient,
  Effect.gen(function* () {
    const database = new DatabaseSync(":memory:")
    const run = (text: string, params: ReadonlyArray<unknown>) =>
      Effect.try({
        try: () => database.prepare(text).all(...(params as Array<string>)),
        catch: (cause) =>
          new SqlError.SqlError({
            reason: SqlError.classifySqliteError(cause, { message: text, operation: "execute" }),
          }),
      })
    const connection: SqlConnection.Connection = {
      execute: (text, params) => run(text, params),
      executeRaw: (text, params) => run(text, params),
      executeValues: () => Effect.die("not used"),
      executeValuesUnprepared: () => Effect.die("not used"),
      executeUnprepared: (text, params) => run(text, params),
      executeStream: () => Stream.die("not used"),
    }
    return yield* SqlClient.make({
      ...SqlClient.makeSqliteAcquirers({
        connection: Effect.succeed(connection),
        semaphore: yield* Semaphore.make(1),
        isTransaction: () => database.isTransaction,
      }),
      compiler: Statement.makeCompilerSqlite(),
      driver: "node:sqlite",
      spanAttributes: [],
    })
  }),
).pipe(Layer.provide(Reactivity.layer))
