import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import * as SqliteClient from "@outlive/node/SqliteClient"
import { Effect, Exit, Fiber, Latch, Layer, Stream } from "effect"
import { SqlClient } from "effect/sql"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-client-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)
/** A client of a new file with a table, and the file's name. */
const fresh = Effect.gen(function* () {
  const filename = join(yield* folder, "app.db")
  const context = yield* Layer.build(SqliteClient.layer({ filename }))
  const sql = yield* Effect.provideContext(SqlClient.SqlClient, context)
  yield* sql`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, friend INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)`
  return { sql, filename }
})
const names = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ name: string }>`SELECT name FROM users ORDER BY id`, (rows) => rows.map(({ name }) => name))

describe("SqliteClient", () => {
  it.live("writes what is committed and nothing of what is rolled back, savepoints too", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* fresh
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`INSERT INTO users (name) VALUES ('ada')`
          yield* Effect.exit(
            sql.withTransaction(Effect.andThen(sql`INSERT INTO users (name) VALUES ('bob')`, Effect.fail("no"))),
          )
          yield* sql`INSERT INTO users (name) VALUES ('cyd')`
        }),
      )
      yield* Effect.exit(
        sql.withTransaction(Effect.andThen(sql`INSERT INTO users (name) VALUES ('dan')`, Effect.interrupt)),
      )
      assert.deepStrictEqual(yield* names(sql), ["ada", "cyd"])
      const other = new DatabaseSync(filename)
      assert.strictEqual(other.prepare("SELECT count(*) AS n FROM users").get()?.n, 2)
      other.close()
    }).pipe(Effect.scoped),
  )

  it.live("keeps other fibers' statements out of a transaction", () =>
    Effect.gen(function* () {
      const { sql } = yield* fresh
      const [inside, go] = [yield* Latch.make(), yield* Latch.make()]
      const transaction = yield* Effect.forkChild(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`INSERT INTO users (name) VALUES ('ada')`
            yield* inside.open
            yield* go.await
            return yield* Effect.fail("rolled back")
          }),
        ),
      )
      yield* inside.await
      const outside = yield* Effect.forkChild(sql`INSERT INTO users (name) VALUES ('bob')`, { startImmediately: true })
      yield* Effect.yieldNow
      assert.isUndefined(outside.pollUnsafe())
      yield* go.open
      yield* Fiber.join(outside)
      yield* Effect.exit(Fiber.join(transaction))
      assert.deepStrictEqual(yield* names(sql), ["bob"])
    }).pipe(Effect.scoped),
  )

  it.live("waits for another connection's lock, and the event loop goes on", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* fresh
      const other = new DatabaseSync(filename)
      for (const write of [
        sql`INSERT INTO users (name) VALUES ('statement')`,
        sql.withTransaction(sql`INSERT INTO users (name) VALUES ('transaction')`),
      ]) {
        other.exec("BEGIN IMMEDIATE")
        const waiting = yield* Effect.forkChild(write, { startImmediately: true })
        yield* Effect.sleep("20 millis")
        assert.isUndefined(waiting.pollUnsafe())
        other.exec("COMMIT")
        yield* Fiber.join(waiting)
      }
      other.close()
      assert.deepStrictEqual(yield* names(sql), ["statement", "transaction"])
    }).pipe(Effect.scoped),
  )

  it.live("can be interrupted while it waits for a lock, and then has done nothing", () =>
    Effect.gen(function* () {
      const { filename, sql } = yield* fresh
      const other = new DatabaseSync(filename)
      other.exec("BEGIN IMMEDIATE")
      const waiting = yield* Effect.forkChild(sql`INSERT INTO users (name) VALUES ('ada')`, { startImmediately: true })
      yield* Effect.sleep("5 millis")
      yield* Fiber.interrupt(waiting)
      other.exec("COMMIT")
      other.close()
      assert.deepStrictEqual(yield* names(sql), [])
    }).pipe(Effect.scoped),
  )

  it.live("tells a duplicate from other errors, a duplicate primary key too", () =>
    Effect.gen(function* () {
      const { sql } = yield* fresh
      yield* sql`INSERT INTO users (id, name) VALUES (1, 'ada')`
      const reasonOf = (statement: Effect.Effect<unknown, { reason: { _tag: string } }>) =>
        Effect.map(Effect.flip(statement), ({ reason }) => reason._tag)
      assert.strictEqual(yield* reasonOf(sql`INSERT INTO users (name) VALUES ('ada')`), "UniqueViolation")
      assert.strictEqual(yield* reasonOf(sql`INSERT INTO users (id) VALUES (1)`), "UniqueViolation")
      assert.strictEqual(yield* reasonOf(sql`INSERT INTO users (id, friend) VALUES (2, 9)`), "ConstraintError")
      assert.strictEqual(yield* reasonOf(sql`SELECT nothing FROM nowhere`), "UnknownError")
    }).pipe(Effect.scoped),
  )

  it.live("is of use after a commit that failed", () =>
    Effect.gen(function* () {
      const { sql } = yield* fresh
      // A deferred foreign key is looked at by COMMIT.
      const exit = yield* Effect.exit(sql.withTransaction(sql`INSERT INTO users (name, friend) VALUES ('ada', 9)`))
      assert.isTrue(Exit.isFailure(exit))
      yield* sql.withTransaction(sql`INSERT INTO users (name) VALUES ('bob')`)
      assert.deepStrictEqual(yield* names(sql), ["bob"])
    }).pipe(Effect.scoped),
  )

  it.live("streams rows, also beside another use of the same statement", () =>
    Effect.gen(function* () {
      const { sql } = yield* fresh
      yield* sql`INSERT INTO users ${sql.insert([{ name: "a" }, { name: "b" }, { name: "c" }])}`
      const statement = () => sql<{ name: string }>`SELECT name FROM users ORDER BY id`
      // A stream has the connection until its end: only what is in the same transaction can be beside it.
      const streamed = yield* sql.withTransaction(
        Stream.runCollect(
          Stream.mapEffect(statement().stream, ({ name }) =>
            Effect.map(statement(), (rows) => `${name}${rows.length}`),
          ),
        ),
      )
      assert.deepStrictEqual(streamed, ["a3", "b3", "c3"])
      const failed = yield* Effect.flip(Stream.runDrain(sql`SELECT nothing FROM nowhere`.stream))
      assert.strictEqual(failed._tag, "SqlError")
    }).pipe(Effect.scoped),
  )

  it.live("keeps a bounded number of statements", () =>
    Effect.gen(function* () {
      const { sql } = yield* fresh
      for (let n = 0; n < 1200; n++) yield* sql.unsafe(`SELECT ${n} AS n`)
      const [row] = yield* sql<{ n: number }>`SELECT 7 AS n`
      assert.strictEqual(row?.n, 7)
    }).pipe(Effect.scoped),
  )

  it.live("says which file it cannot open, and leaves it as it is", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "text.db")
      writeFileSync(path, "this is no database, however long one looks at it".repeat(50))
      for (const filename of [path, join(path, "below", "a.db")]) {
        const error = yield* Effect.flip(Layer.build(SqliteClient.layer({ filename })))
        assert.include(error.message, filename)
      }
    }).pipe(Effect.scoped),
  )
})
