/** Schemas that an older version of the package made. */
import { readFileSync } from "node:fs"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { unlimited } from "@outlive/deferred/QueueLimits"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Effect } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { claim, idOf, newSchema, now, on, process, record, states, succeed } from "./postgres/records.ts"

const { client } = useDatabase()

/** What version 1 made, word by word, functions included. */
const version1 = (schema: string): string =>
  readFileSync(new URL("./postgres/version1.sql", import.meta.url), "utf8").replaceAll("version_one", schema)

const query = (text: string) => Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(text).values)

/** A schema of version 1 as programs left it: records in every state, names, limits, a payload of its own. */
const leftBehind = Effect.fnUntraced(function* (schema: string) {
  yield* query(`DO $migration$ BEGIN ${version1(schema)} END $migration$`)
  const enqueue = (
    number: number,
    more: { readonly name?: string; readonly key?: string; readonly target?: string },
  ) => {
    const text = (value: string | undefined) => (value === undefined ? "NULL::text[]" : `ARRAY['${value}']`)
    return query(`SELECT * FROM ${schema}.enqueue(ARRAY['${idOf(number)}']::uuid[], ARRAY['queue'], ARRAY['task'],
      ARRAY[1::double precision], ${text(more.target)}, ARRAY[0::double precision], ARRAY[${now}::double precision],
      ${text(more.name)}, ARRAY['fail'], ARRAY[0::double precision], ${text(more.key)}, ARRAY[3], NULL, NULL, NULL, NULL,
      ARRAY[3::double precision], ARRAY['Infinity'::double precision], NULL, ARRAY['{"n":${number}}'], NULL,
      ARRAY[${now}::double precision], 'old')`)
  }
  const take = (limit: number) =>
    query(`SELECT id, token FROM ${schema}.claim(ARRAY['queue'], ARRAY[${limit}::double precision], ARRAY['task'],
      ARRAY[1::double precision], ARRAY[]::text[], 1000, 'old', ${now}, 'old', true, ARRAY[true], ARRAY[]::integer[],
      ARRAY[]::text[], ARRAY[]::text[], ARRAY[]::double precision[], ARRAY[]::double precision[],
      ARRAY[]::double precision[], ARRAY[]::bigint[])`)
  const settle = (number: number, tag: string, reason: string) =>
    query(`SELECT * FROM ${schema}.settle(ARRAY['${idOf(number)}']::uuid[], ARRAY[1], ARRAY['${tag}'], NULL, ${reason},
      NULL, NULL, NULL, NULL, ARRAY[${now}::double precision], false, 1, 'old')`)
  for (let number = 1; number <= 3; number++) yield* enqueue(number, {})
  yield* take(3)
  yield* settle(1, "Succeed", "NULL")
  yield* settle(2, "Bury", "ARRAY['PermanentFailure']")
  yield* enqueue(4, { name: "n" })
  yield* enqueue(5, { key: "k" })
  yield* enqueue(6, { target: "t" })
  yield* query(`SELECT ${schema}.configure('queue', ARRAY['maxConcurrent'], NULL, NULL, NULL, 9, NULL, ${now}, 'old')`)
  yield* query(`INSERT INTO ${schema}.payloads (ref, at, body) VALUES ('ref', 0, 'body')`)
})

describe.skipIf(isMissing)("a schema of version 1", () => {
  it.effect("comes to the newest with all that is in it, and is used on", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      yield* Effect.provide(leftBehind(schema), client)
      const refused = yield* Effect.flip(process(client, { schema, migrations: "check" }))
      assert.match(refused.message, /is of version 1, and this program needs 2: run TaskQueuePostgres.migrate/)

      const { driver, services } = yield* process(client, { schema })
      assert.deepStrictEqual(yield* on(services)(query(`SELECT version FROM ${schema}.migrations`)), [[1], [2]])
      assert.deepStrictEqual(yield* states(driver), { ready: 3, running: 1, succeeded: 1, dead: 1 })
      assert.deepStrictEqual({ ...(yield* driver.limits({ queue: "queue" })) }, { ...unlimited, maxConcurrent: 9 })
      assert.strictEqual(yield* driver.payloads!.get({ ref: "ref" }), "body")
      const [old] = yield* driver.get({ ids: [idOf(3)], now })
      assert.deepInclude(old, {
        state: "running",
        payload: '{"n":3}',
        worker: "old",
        key: undefined,
        memberOf: undefined,
        join: undefined,
      })
      assert.deepStrictEqual(
        yield* driver.settle({
          settlements: [{ id: idOf(3), token: 1, _tag: "Retry", eta: now, failure: "{}" }],
          now,
        }),
        ["Settled"],
      )
      assert.deepStrictEqual(yield* driver.redrive({ ids: [idOf(2)], now }), ["Redriven"])
      const outcomes = yield* driver.enqueue({
        records: [
          record(7, { name: "n" }),
          record(8, { unique: { key: "k", while: ["waiting", "running"] } }),
          record(9, { key: "a" }),
        ],
        now,
      })
      assert.deepStrictEqual(outcomes, [
        { _tag: "Duplicate", id: idOf(4) },
        { _tag: "Existing", id: idOf(5) },
        { _tag: "Inserted", id: idOf(9) },
      ])
      const { records } = yield* claim(driver)
      assert.deepStrictEqual(records.map(({ id }) => id).sort(), [2, 3, 4, 5, 9].map(idOf))
      assert.strictEqual((yield* succeed(driver, records)).length, 5)
      assert.deepStrictEqual(yield* states(driver), { ready: 1, succeeded: 6 })
    }),
  )

  it.effect("comes to the newest by the text of what it lacks, too", () =>
    Effect.gen(function* () {
      const schema = newSchema()
      yield* Effect.provide(leftBehind(schema), client)
      const [, second] = TaskQueuePostgres.migrations({ schema })
      yield* Effect.provide(query(`DO $migration$ BEGIN ${second?.sql} END $migration$`), client)
      const { driver } = yield* process(client, { schema, migrations: "check" })
      assert.strictEqual((yield* claim(driver)).records.length, 2)
    }),
  )

  it.effect("has the tables, indexes and functions of a new one afterwards", () =>
    Effect.gen(function* () {
      const [upgraded, fresh] = [newSchema(), newSchema()]
      yield* Effect.provide(leftBehind(upgraded), client)
      yield* Effect.scoped(process(client, { schema: upgraded }))
      yield* Effect.scoped(process(client, { schema: fresh }))
      const made = (schema: string) =>
        Effect.map(
          query(`SELECT 'column ' || table_name || ' ' || column_name || ' ' || data_type FROM information_schema.columns
              WHERE table_schema = '${schema}'
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = '${schema}'
            UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = '${schema}'::regnamespace
            ORDER BY 1`),
          (rows) => rows.map(([text]) => String(text).replaceAll(schema, "schema")).sort(),
        )
      const both = yield* Effect.provide(Effect.all([made(upgraded), made(fresh)]), client)
      assert.isAbove(both[0].length, 100)
      assert.deepStrictEqual(both[0], both[1])
    }),
  )
})
