/**
 * How a Postgres server carries out claims and settlements when a hundred thousand records wait, or a million: by index, in their order,
 * looking at little more than what it gives. The server itself says so: `auto_explain` logs the plan of every statement.
 */
import { PgClient } from "@effect/sql-pg"
import { afterAll, assert, beforeAll, describe, it, vi } from "@effect/vitest"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Effect, Layer, ManagedRuntime } from "effect"
import { clientAt } from "./postgres/database.ts"
import { claim, idOf, newSchema, now, record, records, succeed } from "./postgres/records.ts"
import { type Server, startServer, whyNoServer } from "./postgres/server.ts"

/** `PLANS_AT=1000000` looks at a million: the plans are the same, and storing them takes a minute or two. */
const total = Number(process.env.PLANS_AT ?? 120_000)
const schema = "plans"

let server: Server
// One connection for all, so that its plans are those that it made when there was next to nothing.
const runtime = ManagedRuntime.make(
  Layer.effect(
    TaskQueue.TaskQueue,
    Effect.flatMap(TaskQueuePostgres.make({ schema, listen: false }), TaskQueue.make),
  ).pipe(Layer.provideMerge(Layer.unwrap(Effect.sync(() => clientAt(server.url, { maxConnections: 1 }))))),
)
beforeAll(
  async () => {
    if (whyNoServer !== undefined) {
      console.warn(`\nTESTS OF PLANS ON POSTGRES ARE LEFT OUT: ${whyNoServer}\n`)
      return
    }
    // Nobody cleans up behind the claims, as when they come faster than a vacuum, and statistics are never right.
    server = await startServer(["autovacuum=off", "fsync=off"])
    await runtime.runPromise(fill)
  },
  Math.max(120_000, total),
)
afterAll(async () => {
  if (whyNoServer !== undefined) return
  await runtime.dispose()
  await server.close()
})
const test = (sentence: string, body: Effect.Effect<unknown, unknown, TaskQueue.TaskQueue | PgClient.PgClient>) => {
  it.effect(
    sentence,
    () => Effect.flatMap(runtime.contextEffect, (services) => Effect.provideContext(body, services)),
    120_000,
  )
}
const query = (text: string) => Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(text).values)

/** Keys with and without limits and order, and records that wait for members or for the holder of their unique key. */
const useTogether = Effect.fnUntraced(function* (driver: TaskQueue.Driver, round: number) {
  const unique = { key: "latest", while: ["waiting", "running"], latest: { spacing: 1 } } as const
  for (const queue of Object.keys(limitsOf)) {
    yield* driver.configure({ queue, limits: { byKey: { ...byKey, ...limitsOf[queue] } }, now })
    const given = [
      record(1, { key: "a", keep: 0 }),
      record(2, { key: "b", memberOf: idOf(4) }),
      record(3, { memberOf: idOf(4), unique }),
      record(4, { join: { total: 2, onFailure: "cancelSiblings", afterwards: round % 2 === 0 ? "run" : "end" } }),
    ]
    yield* driver.enqueue({ records: given.map((each) => ({ ...each, queue })), now })
    for (let found = 1; found > 0; ) {
      const { records } = yield* claimSome(driver, queue)
      yield* driver.enqueue({ records: [record(5, { queue, unique })], now })
      const ends = records.map(({ id, token }, index) =>
        index === 1 && round % 4 === 1
          ? ({ id, token, _tag: "Bury", reason: "Crashed", result: undefined, failure: undefined } as const)
          : ({ id, token, _tag: "Succeed", result: undefined } as const),
      )
      yield* driver.settle({ settlements: ends, now })
      found = records.length
    }
    yield* driver.remove({ ids: [1, 2, 3, 4, 5].map(idOf) })
  }
  yield* driver.prune({ now, deadBefore: 0, limit: 10 })
})

const byKey = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }
const limitsOf: Record<string, object> = {
  // Two tasks: the general way. All others are of one.
  keyed: {},
  even: {},
  slots: { maxConcurrent: 1, rate: 100, burst: 2 },
  ordered: { ordered: true },
}

/** Three tasks with three priorities, names, expiry and ended records: what a queue has. */
const fill = Effect.gen(function* () {
  const driver = yield* TaskQueue.TaskQueue
  for (let times = 0; times < 8; times++) {
    yield* driver.enqueue({
      records: records(4, (number) => ({ unique: { key: `${number}`, while: ["waiting"] } })),
      now,
    })
    const { records: claimed } = yield* claim(driver)
    yield* driver.extend({ leases: claimed, until: now, now })
    yield* claim(driver)
    yield* succeed(driver, (yield* claim(driver, { now: now + 1 })).records)
    yield* driver.remove({ ids: claimed.map(({ id }) => id) })
    yield* useTogether(driver, times)
  }
  yield* driver.configure({
    queue: "limited",
    limits: { rate: 1_000_000, burst: 1_000_000, maxConcurrent: 1_000_000 },
    now,
  })
  for (let from = 10; from < total; from += 5000) {
    const some = Array.from({ length: 5000 }, (_, index) => {
      const number = from + index
      return record(number, {
        task: ["task", "more", "unknown"][number % 3]!,
        priority: Math.floor(number / 3) % 3,
        queue: number % 10 === 0 ? "limited" : "queue",
        name: number % 100 === 0 ? `name-${number}` : undefined,
        expiresAt: number % 50 === 0 ? now + 1_000_000 : undefined,
        eta: number % 7 === 0 ? now + 500_000 : 0,
      })
    })
    yield* driver.enqueue({ records: some, now })
  }
})

const tasks = ["task", "more"].map((name) => ({ name, maxVersion: 1 }))
const claimSome = (driver: TaskQueue.Driver, queue = "queue", limit = 50, known = tasks) =>
  driver.claim({ queues: [{ name: queue, limit }], tasks: known, targets: ["t"], lease: 60_000, worker: "worker", now })

interface Plan {
  readonly text: string
  readonly rows: ReadonlyArray<number>
}

/** The plans of all statements, those in functions too, that the effect has the server carry out. */
const plansOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  yield* query("LOAD 'auto_explain'")
  for (const setting of [
    "log_analyze = on",
    "log_nested_statements = on",
    "log_timing = off",
    "log_min_duration = 0",
  ]) {
    yield* query(`SET auto_explain.${setting}`)
  }
  const from = server.log().length
  yield* effect
  const log = server.log().slice(from)
  yield* query("SET auto_explain.log_min_duration = -1")
  // A new entry begins with its time, what follows it is indented.
  return log
    .split(/^(?=\d{4}-)/m)
    .filter((entry) => entry.includes("plan:"))
    .map((entry): Plan => {
      const text = entry.slice(entry.lastIndexOf("\n\t", entry.search(/cost=/)))
      return {
        text,
        rows: [...text.matchAll(/actual rows=([\d.]+) loops=(\d+)/g)].map(
          ([, rows, loops]) => Number(rows) * Number(loops),
        ),
      }
    })
})

const expectByIndex = (plans: ReadonlyArray<Plan>, mostRows: number) => {
  assert.isAtLeast(plans.length, 2)
  assert.isTrue(plans.some(({ text }) => /Index (Only )?Scan using (waiting|records_pkey)/.test(text)))
  for (const { rows, text } of plans) {
    assert.notMatch(text, /Seq Scan|Bitmap|Hash Join|Merge Join/)
    assert.isAtMost(Math.max(0, ...rows), mostRows, text)
  }
}

/** Pages of the index that a claim has to know, which the effect has the server look at. */
const pagesOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const read = Effect.andThen(
    query("SELECT pg_stat_force_next_flush()"),
    Effect.map(
      query(
        `SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_indexes WHERE indexrelid = '${schema}.waiting'::regclass`,
      ),
      (rows) => Number(rows[0]?.[0]),
    ),
  )
  const before = yield* read
  yield* effect
  return (yield* read) - before
})

describe.skipIf(whyNoServer !== undefined)(`with ${total} records`, () => {
  test(
    "claims, settles, extends and takes back by index, without sorting the queue",
    Effect.gen(function* () {
      const driver = yield* TaskQueue.TaskQueue
      let claimed: ReadonlyArray<TaskQueue.ClaimedRecord> = []
      const take = Effect.map(claimSome(driver), ({ records }) => {
        claimed = records
      })
      // Six runs, each of which is looked at for as many as are wanted and some more.
      expectByIndex(yield* plansOf(take), 6 * (50 + 16))
      assert.strictEqual(claimed.length, 50)
      expectByIndex(yield* plansOf(driver.extend({ leases: claimed, until: now + 1, now })), 50)
      expectByIndex(yield* plansOf(succeed(driver, claimed)), 100)
      expectByIndex(yield* plansOf(claimSome(driver, "limited")), 6 * (50 + 16))
      const { records } = yield* claim(driver, { limit: 20, lease: 10 })
      assert.strictEqual(records.length, 20)
      expectByIndex(yield* plansOf(claim(driver, { limit: 1, now: now + 10 })), 6 * (50 + 16))
    }),
  )

  test(
    "enqueues, cancels, redrives and prunes by index",
    Effect.gen(function* () {
      const driver = yield* TaskQueue.TaskQueue
      const added = Array.from({ length: 20 }, (_, index) =>
        record(3_000_000 + index, {
          name: index % 2 === 0 ? `new-${index}` : undefined,
          unique: { key: `${index}`, while: ["waiting"] },
          keep: 5,
          queue: "added",
        }),
      )
      const ids = added.map(({ id }) => id)
      const calls: ReadonlyArray<Effect.Effect<unknown, TaskQueue.TaskQueueError>> = [
        driver.enqueue({ records: added, now }),
        driver.enqueue({ records: added, now }),
        driver.cancel({ ids: ids.slice(0, 10), reason: "why", now }),
        driver.redrive({ ids, now }),
        driver.remove({ ids: ids.slice(10) }),
        driver.get({ ids, now }),
        driver.prune({ now: now + 10, deadBefore: now, limit: 100 }),
      ]
      for (const call of calls) {
        for (const { rows, text } of yield* plansOf(call)) {
          assert.notMatch(text, /Seq Scan on (records|names)/)
          assert.isAtMost(Math.max(0, ...rows), 50, text)
        }
      }
      const found = yield* driver.get({ ids, now })
      assert.isTrue(found.every((each) => each === undefined))
    }),
  )

  test(
    "gives page after page by index, in the order of ids, and counts what has ended by it",
    Effect.gen(function* () {
      const driver = yield* TaskQueue.TaskQueue
      yield* query(`VACUUM ANALYZE ${schema}.records`)
      let cursor: string | undefined
      const ids: Array<string> = []
      for (let page = 0; page < 3; page++) {
        const plans = yield* plansOf(
          Effect.map(driver.find({ limit: 50, now, cursor }), (found) => {
            cursor = found.cursor
            ids.push(...found.records.map(({ id }) => id))
          }),
        )
        for (const { rows, text } of plans) {
          assert.match(text, /Index Scan using records_pkey/)
          assert.notMatch(text, /Sort/)
          assert.isAtMost(Math.max(...rows), 51, text)
        }
      }
      assert.strictEqual(new Set(ids).size, 150)
      assert.deepStrictEqual(ids, ids.toSorted())
      for (const [state, index] of [
        ["succeeded", "ended"],
        ["dead", "dead"],
      ] as const) {
        const [plan] = yield* plansOf(driver.counts({ state, now }))
        assert.match(plan!.text, new RegExp(`Index Only Scan using ${index} `))
      }
    }),
  )

  for (const queue of Object.keys(limitsOf)) {
    test(
      `claims from a queue with many keys and settles by index, without sorting it: ${queue}`,
      Effect.gen(function* () {
        const driver = yield* TaskQueue.TaskQueue
        const from = 4_000_000 + Object.keys(limitsOf).indexOf(queue) * 100_000
        const many = Array.from({ length: 20_000 }, (_, index) =>
          record(from + index, {
            queue,
            key: `key-${index % 2000}`,
            task: queue === "keyed" && index < 10_000 ? "more" : "task",
          }),
        )
        yield* driver.enqueue({ records: many, now })
        // What arrived is looked at some thousand at once.
        for (let times = 0; times < 3; times++) yield* succeed(driver, (yield* claimSome(driver, queue, 10)).records)
        let claimed: ReadonlyArray<TaskQueue.ClaimedRecord> = []
        for (let times = 0; times < 3; times++) {
          const take = Effect.map(claimSome(driver, queue), ({ records }) => {
            claimed = records
          })
          expectByIndex(yield* plansOf(take), 6 * (50 + 16))
          assert.strictEqual(claimed.length, 50)
          assert.strictEqual(new Set(claimed.map(({ key }) => key)).size, 50)
          expectByIndex(yield* plansOf(succeed(driver, claimed)), 100)
        }
        const cancelled = many.slice(-20).map(({ id }) => id)
        for (const { text } of yield* plansOf(driver.cancel({ ids: cancelled, reason: "why", now }))) {
          assert.notMatch(text, /Seq Scan on (records|names|turns|arrivals)/)
        }
      }),
    )
  }

  test(
    "settles, cancels and releases what waits for others by index",
    Effect.gen(function* () {
      const driver = yield* TaskQueue.TaskQueue
      const count = 3000
      const join = (number: number, total: number, more: Partial<NewRecord>) =>
        record(number, { queue: "joins", join: { total, onFailure: "cancelSiblings", afterwards: "run" }, ...more })
      const members = Array.from({ length: count }, (_, index) =>
        record(5_000_100 + index, { queue: "joins", memberOf: idOf(5_000_001 + (index % 50)) }),
      )
      const inner = Array.from({ length: 50 }, (_, index) =>
        join(5_000_001 + index, count / 50, { memberOf: idOf(5_000_000) }),
      )
      const unique = Array.from({ length: 20 }, (_, index) =>
        record(5_100_000 + index, {
          queue: "joins",
          priority: 1,
          unique: { key: `latest-${index}`, while: ["waiting", "running"], latest: {} },
        }),
      )
      yield* driver.enqueue({ records: [join(5_000_000, 50, {}), ...inner, ...members, ...unique], now })
      const { records: holders } = yield* claimSome(driver, "joins", 20)
      yield* driver.enqueue({ records: unique.map((each, index) => ({ ...each, id: idOf(5_200_000 + index) })), now })
      expectByIndex(yield* plansOf(succeed(driver, holders)), 100)
      const { records: claimed } = yield* claimSome(driver, "joins", 60)
      expectByIndex(yield* plansOf(succeed(driver, claimed)), 200)
      const { records: failing } = yield* claimSome(driver, "joins", 2)
      const ends = failing.map(
        ({ id, token }) =>
          ({ id, token, _tag: "Bury", reason: "Crashed", result: undefined, failure: undefined }) as const,
      )
      for (const { rows, text } of yield* plansOf(driver.settle({ settlements: ends, now }))) {
        assert.notMatch(text, /Seq Scan on (records|names|joins|arrivals)/)
        assert.isAtMost(Math.max(0, ...rows), 100, text)
      }
    }),
  )

  // A server makes a plan when it is first asked, and keeps it: by what it knew then, of tables that were empty.
  const lots = 20_000
  const none = Effect.void
  for (const [when, known] of [
    ["nothing of the tables", () => none],
    ["that they are empty", (of) => query(`VACUUM ANALYZE ${of}.records, ${of}.names, ${of}.queues, ${of}.executed`)],
    ["of three records that have ended", (of) => query(`ANALYZE ${of}.records, ${of}.names, ${of}.queues`)],
  ] as ReadonlyArray<readonly [string, (schema: string) => Effect.Effect<unknown, unknown, PgClient.PgClient>]>) {
    test(
      `keeps to its indexes when it knew ${when} at first`,
      Effect.gen(function* () {
        const schema = newSchema()
        const driver = yield* TaskQueuePostgres.make({ schema, listen: false })
        const isThree = when.includes("three")
        const use = Effect.gen(function* () {
          const named = records(3, (number) => ({ name: `name-${number}`, keep: number === 0 ? 0 : 1_000_000 }))
          yield* driver.enqueue({ records: named, now })
          const { records: claimed } = yield* claim(driver)
          yield* driver.extend({ leases: claimed, until: now + 1000, now })
          const updates = claimed.map(({ id, token }) => ({ id, token, progress: "1" }))
          yield* driver.progress({ updates, now })
          yield* succeed(driver, claimed)
          yield* driver.prune({ now, deadBefore: 0, limit: 10 })
          const ids = claimed.map(({ id }) => id)
          yield* driver.get({ ids, now })
          yield* driver.ledger({ ids })
        })
        if (isThree) yield* use
        yield* known(schema)
        for (let times = 0; times < 3; times++) {
          yield* use
          yield* driver.remove({ ids: [0, 1, 2].map(idOf) })
        }
        const many = Array.from({ length: lots }, (_, index) =>
          record(10 + index, { name: `other-${index}`, keep: index % 2 === 0 ? 0 : 1_000_000 }),
        )
        yield* driver.enqueue({ records: many, now })
        yield* succeed(driver, (yield* claim(driver, { limit: lots / 2 })).records)
        for (const { rows, text } of yield* plansOf(use)) {
          assert.notMatch(text, /Seq Scan on (records|names)/)
          assert.isAtMost(Math.max(0, ...rows), 1100, text)
        }
      }).pipe(Effect.scoped),
    )
  }

  test(
    "claims as cheaply after many claims as before, though nothing cleaned up behind them",
    Effect.gen(function* () {
      const driver = yield* TaskQueue.TaskQueue
      const twenty = Effect.repeat(claimSome(driver, "queue", 5), { times: 19 })
      const before = yield* pagesOf(twenty)
      for (let claimed = 1000; claimed === 1000; ) {
        const { records } = yield* claimSome(driver, "queue", 1000)
        yield* succeed(driver, records)
        claimed = records.length
      }
      const again = Array.from({ length: 2000 }, (_, index) => record(2_000_000 + index))
      yield* driver.enqueue({ records: again, now })
      // Who comes with another list of tasks has to walk.
      const walk = yield* pagesOf(claimSome(driver, "queue", 5, [...tasks]))
      assert.isAbove(walk, 500)
      // Time, by which it is walked again now and then, stands still.
      const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now())
      const after = yield* Effect.ensuring(
        pagesOf(twenty),
        Effect.sync(() => clock.mockRestore()),
      )
      assert.isBelow(after, before + 2 * walk, `${before} pages before`)
      // Others with the same list, but without its target, are not led to what they may not claim.
      const targeted = Array.from({ length: 20 }, (_, index) => record(2_900_000 + index, { target: "t", priority: 8 }))
      yield* driver.enqueue({ records: targeted, now })
      const later = performance.now() + 200
      const future = vi.spyOn(performance, "now").mockReturnValue(later)
      const { records: mine } = yield* claimSome(driver, "queue", 3)
      assert.deepStrictEqual(
        mine.map(({ target }) => target),
        ["t", "t", "t"],
      )
      const others = { queues: [{ name: "queue", limit: 3 }], tasks, targets: [], lease: 60_000, worker: "other", now }
      const { records: theirs } = yield* Effect.ensuring(
        driver.claim(others),
        Effect.sync(() => future.mockRestore()),
      )
      assert.deepStrictEqual(
        theirs.map(({ target }) => target),
        [undefined, undefined, undefined],
      )
      yield* driver.remove({ ids: targeted.map(({ id }) => id) })
      // What comes in before the known heads is found all the same, a moment later.
      yield* driver.enqueue({ records: [record(3_000_000, { priority: 9 })], now })
      let found = false
      for (let times = 0; !found && times < 1000; times++) {
        const { records } = yield* claimSome(driver, "queue", 1)
        found = records.some(({ priority }) => priority === 9)
        yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 1)))
      }
      assert.isTrue(found)
    }),
  )
})
