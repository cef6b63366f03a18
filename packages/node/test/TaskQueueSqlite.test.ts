/** What the SQLite driver promises beyond the contract: groups of calls, many processes, and files that are not its own. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it, vi } from "@effect/vitest"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { newFolder as folder, newFile, record as sample } from "./records.ts"

const record = (number: number, more?: Partial<NewRecord>) => sample(number, { keep: 1000, ...more })
const now = 1000
const claimAll = (driver: TaskQueue.Driver, limit = 1000) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: [{ name: "task", maxVersion: 1 }],
    targets: [],
    lease: 1000,
    worker: "worker",
    now,
  })
const countAll = (driver: TaskQueue.Driver) =>
  Effect.map(driver.counts({ now }), (counts) => counts.reduce((sum, { count }) => sum + count, 0))

describe("group commit", () => {
  it.effect("makes one transaction of all calls of one turn", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      // A turn has five milliseconds, which a busy machine may be away for.
      yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(performance, "now").mockReturnValue(performance.now())),
        (clock) => Effect.sync(() => clock.mockRestore()),
      )
      // One hint is published for one transaction.
      const changes = yield* driver.changes
      const hints = yield* Effect.forkChild(Stream.runCollect(Stream.take(changes, 2)))
      yield* Effect.forEach(
        Array.from({ length: 10 }, (_, index) => index),
        (index) => driver.enqueue({ records: [record(index, { queue: `queue-${index}` })], now }),
        { concurrency: "unbounded" },
      )
      yield* driver.enqueue({ records: [record(50)], now })
      const [first, second] = yield* Fiber.join(hints)
      assert.strictEqual(first?._tag === "Waiting" ? first.queues.length : undefined, 10)
      assert.deepStrictEqual(second, { _tag: "Waiting", queues: ["queue"] })
    }),
  )

  it.effect("fails a bad call alone, and changes nothing for it", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const exits = yield* Effect.forEach(
        [0, 1, 2, 3, 4],
        (index) => {
          // SQLite has no NaN, and refuses the NULL that comes of it.
          const bad = index === 2 ? [record(100 + index), record(200, { priority: Number.NaN })] : []
          return Effect.exit(driver.enqueue({ records: [...bad, record(index)], now }))
        },
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(
        exits.map((exit) => exit._tag),
        ["Success", "Success", "Failure", "Success", "Success"],
      )
      const error = yield* Effect.flip(driver.enqueue({ records: [record(200, { priority: Number.NaN })], now }))
      assert.strictEqual(error.operation, "enqueue")
      assert.isFalse(error.isRetryable)
      assert.match(error.message, /NOT NULL constraint failed: outlive_records.priority/)
      const found = yield* driver.find({ limit: 10, now })
      assert.deepStrictEqual(
        found.records.map(({ id }) => id),
        [0, 1, 3, 4].map((index) => record(index).id),
      )
    }),
  )

  it.effect("withdraws a call that is interrupted before its turn", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const started = Effect.forkChild({ startImmediately: true })
      const kept = yield* started(driver.enqueue({ records: [record(1)], now }))
      const interrupted = yield* started(driver.enqueue({ records: [record(2)], now }))
      yield* Fiber.interrupt(interrupted)
      yield* Fiber.join(kept)
      assert.strictEqual(yield* countAll(driver), 1)
    }),
  )

  it.effect("leaves what does not fit into a few milliseconds to later transactions, and forgets none", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const changes = yield* driver.changes
      let transactions = 0
      yield* Effect.forkChild(
        Stream.runForEach(changes, () => Effect.sync(() => transactions++)),
        {
          startImmediately: true,
        },
      )
      const calls = Array.from({ length: 100 }, (_, call) =>
        Array.from({ length: 200 }, (_, index) => record(call * 1000 + index)),
      )
      yield* Effect.forEach(calls, (records) => driver.enqueue({ records, now }), { concurrency: "unbounded" })
      yield* Effect.yieldNow
      assert.strictEqual(yield* countAll(driver), 20_000)
      assert.isAbove(transactions, 1)
    }),
  )

  it.effect("lets other things happen while one call brings very much, and has all of it or nothing", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* newFile })
      const records = Array.from({ length: 20_000 }, (_, index) => record(index))
      let turns = 0
      const count = () => {
        turns++
        next = setImmediate(count)
      }
      let next = setImmediate(count)
      yield* driver.enqueue({ records, now })
      clearImmediate(next)
      assert.isAbove(turns, 3)
      assert.strictEqual(yield* countAll(driver), 20_000)
      // The last one is bad.
      const bad = [
        ...Array.from({ length: 20_000 }, (_, index) => record(20_000 + index)),
        record(40_000, { eta: Number.NaN }),
      ]
      assert.strictEqual((yield* Effect.exit(driver.enqueue({ records: bad, now })))._tag, "Failure")
      assert.strictEqual(yield* countAll(driver), 20_000)
      assert.strictEqual(yield* driver.purge({ queue: "queue" }), 20_000)
      assert.strictEqual(yield* countAll(driver), 0)
    }),
  )

  it.effect("commits what is pending when its scope closes, and refuses calls after that", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const scope = yield* Scope.make()
      const driver = yield* Scope.provide(TaskQueueSqlite.make({ filename }), scope)
      const fiber = yield* Effect.forkChild(driver.enqueue({ records: [record(1)], now }), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(fiber), [{ _tag: "Inserted", id: record(1).id }])
      const write = yield* Effect.flip(driver.enqueue({ records: [record(2)], now }))
      const read = yield* Effect.flip(driver.get({ ids: [record(1).id], now }))
      assert.deepStrictEqual([write.message, read.message], Array(2).fill("the task queue is closed"))
      const again = yield* TaskQueueSqlite.make({ filename })
      assert.strictEqual(yield* countAll(again), 1)
    }),
  )
})

describe("two connections on one file", () => {
  it.effect("claim no record twice", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const left = yield* TaskQueueSqlite.make({ filename })
      const right = yield* TaskQueueSqlite.make({ filename })
      yield* left.enqueue({ records: Array.from({ length: 500 }, (_, index) => record(index)), now })
      const rounds = Effect.fnUntraced(function* (driver: TaskQueue.Driver) {
        const ids: Array<string> = []
        while (true) {
          const { records } = yield* claimAll(driver, 7)
          if (records.length === 0) return ids
          ids.push(...records.map(({ id }) => id))
        }
      })
      const [one, other] = yield* Effect.all([rounds(left), rounds(right)], { concurrency: "unbounded" })
      assert.strictEqual(new Set([...one, ...other]).size, 500)
      assert.strictEqual(one.length + other.length, 500)
      assert.isAbove(one.length, 0)
      assert.isAbove(other.length, 0)
    }),
  )

  it.effect("wait while the other has the lock, without blocking the process", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const driver = yield* TaskQueueSqlite.make({ filename })
      const other = new DatabaseSync(filename)
      other.exec("BEGIN IMMEDIATE")
      const fiber = yield* Effect.forkChild(driver.enqueue({ records: [record(1)], now }), { startImmediately: true })
      const opening = yield* Effect.forkChild(TaskQueueSqlite.make({ filename }), { startImmediately: true })
      // A few turns and timers of the event loop pass meanwhile.
      yield* TestClock.withLive(Effect.sleep("30 millis"))
      assert.isUndefined(fiber.pollUnsafe())
      assert.isUndefined(opening.pollUnsafe())
      assert.deepStrictEqual(yield* driver.get({ ids: [record(1).id], now }), [undefined])
      other.exec("COMMIT")
      other.close()
      yield* Fiber.join(fiber)
      const second = yield* Fiber.join(opening)
      assert.strictEqual(yield* countAll(second), 1)
    }),
  )

  it.effect("tell each other that something changed, and themselves what", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const left = yield* TaskQueueSqlite.make({ filename })
      const right = yield* TaskQueueSqlite.make({ filename })
      const here = yield* left.changes
      const there = yield* right.changes
      yield* left.enqueue({ records: [record(1)], now })
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(there, 1)))
      yield* TestClock.adjust("20 millis")
      assert.deepStrictEqual(yield* Fiber.join(seen), [{ _tag: "Elsewhere" }])
      const own = yield* Stream.runCollect(Stream.take(here, 1))
      assert.deepStrictEqual(own, [{ _tag: "Waiting", queues: ["queue"] }])
    }),
  )

  it.effect("tell each other at once where the system says that the file was written to", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const left = yield* TaskQueueSqlite.make({ filename })
      const right = yield* TaskQueueSqlite.make({ filename })
      const changes = yield* left.changes
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(changes, 1)))
      yield* right.enqueue({ records: [record(1)], now })
      // The clock, by which they look besides, stands still.
      assert.deepStrictEqual(yield* Fiber.join(seen), [{ _tag: "Elsewhere" }])
    }),
  )

  for (const synchronous of ["full", "normal"] as const) {
    it.effect(`tell each other at once with ${synchronous} also while nobody claims what was deferred here`, () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const left = yield* TaskQueueSqlite.make({ filename, synchronous })
        const right = yield* TaskQueueSqlite.make({ filename, synchronous })
        const changes = yield* left.changes
        const heard = yield* Effect.forkChild(
          Stream.runHead(Stream.filter(changes, (change) => change._tag === "Elsewhere")),
        )
        // Whoever found too little is expected to ask again.
        yield* claimAll(left)
        yield* left.enqueue({ records: [record(1)], now })
        for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
        yield* right.enqueue({ records: [record(2)], now })
        // The clock stands still.
        assert.strictEqual((yield* Fiber.join(heard))._tag, "Some")
      }),
    )
  }

  it.effect("say nothing to who came after the change", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const left = yield* TaskQueueSqlite.make({ filename })
      const right = yield* TaskQueueSqlite.make({ filename })
      yield* Effect.scoped(left.changes)
      yield* right.enqueue({ records: [record(1)], now })
      const changes = yield* left.changes
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(changes, 1)))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(seen.pollUnsafe())
      yield* right.enqueue({ records: [record(2)], now })
      yield* TestClock.adjust("20 millis")
      assert.deepStrictEqual(yield* Fiber.join(seen), [{ _tag: "Elsewhere" }])
    }),
  )

  it.live("are opened at the same moment on a new file", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const drivers = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, index) => index),
        () => TaskQueueSqlite.make({ filename }),
        { concurrency: "unbounded" },
      )
      yield* Effect.forEach(drivers, (driver, index) => driver.enqueue({ records: [record(index)], now }), {
        concurrency: "unbounded",
      })
      assert.strictEqual(yield* countAll(drivers[0]!), 8)
    }),
  )
})

describe("opening", () => {
  const failing = Effect.fnUntraced(function* (filename: string) {
    const error = yield* Effect.flip(Effect.scoped(TaskQueueSqlite.make({ filename })))
    assert.strictEqual(error.operation, "open")
    assert.isFalse(error.isRetryable)
    assert.include(error.message, filename)
    return error.message
  })
  const sql = (filename: string, text: string) => {
    const db = new DatabaseSync(filename)
    db.exec(text)
    db.close()
  }

  it.effect("refuses a file that is not a database, and leaves it as it was", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const content = "Dear diary, today I was nearly overwritten.\n".repeat(100)
      writeFileSync(filename, content)
      assert.include(yield* failing(filename), "not a SQLite database")
      assert.strictEqual(readFileSync(filename, "utf8"), content)
    }),
  )

  it.effect.each([
    ["with other tables", "CREATE TABLE users (id)", "tables users"],
    ["with another application_id", "PRAGMA application_id = 7", "application_id 7"],
    ["with a version of its own", "PRAGMA user_version = 3", "user_version 3"],
  ] as const)("refuses the database of another program, %s", ([, text, why]) =>
    Effect.gen(function* () {
      const filename = yield* newFile
      sql(filename, text)
      const before = readFileSync(filename)
      assert.include(yield* failing(filename), why)
      assert.isTrue(before.equals(readFileSync(filename)))
    }),
  )

  it.effect("refuses a file of a newer version of the package", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* Effect.scoped(TaskQueueSqlite.make({ filename }))
      sql(filename, "UPDATE outlive_schema SET version = 99")
      assert.include(yield* failing(filename), "a newer @outlive/node wrote it (version 99")
    }),
  )

  it.effect("opens an empty file, and its own again", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      writeFileSync(filename, "")
      const first = Effect.flatMap(TaskQueueSqlite.make({ filename }), (driver) =>
        driver.enqueue({ records: [record(1)], now }),
      )
      yield* Effect.scoped(first)
      assert.strictEqual(yield* countAll(yield* TaskQueueSqlite.make({ filename })), 1)
    }),
  )

  it.effect("says that the folder is missing", () =>
    Effect.gen(function* () {
      const path = yield* folder
      assert.include(yield* failing(join(path, "no", "queue.db")), `the folder ${join(path, "no")} does not exist`)
    }),
  )

  it.effect("says that it is a folder", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "queue.db")
      mkdirSync(path)
      assert.include(yield* failing(path), "it is a folder")
    }),
  )

  it.effect("says that the folder of the file is a file", () =>
    Effect.gen(function* () {
      const path = yield* folder
      writeFileSync(join(path, "file"), "")
      assert.include(yield* failing(join(path, "file", "queue.db")), "is a file, not a folder")
    }),
  )

  it.effect("refuses a queue in memory, which another driver is for", () =>
    Effect.gen(function* () {
      assert.include(yield* failing(":memory:"), "TaskQueueMemory")
    }),
  )

  // Root may write everything, so root gives that up for the moment.
  const asNobody = Effect.acquireRelease(
    Effect.sync(() => process.geteuid?.() === 0 && process.seteuid?.(65534)),
    () => Effect.sync(() => process.getuid?.() === 0 && process.seteuid?.(0)),
  )

  it.effect("says that a file is read-only", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const filename = join(path, "queue.db")
      yield* Effect.scoped(TaskQueueSqlite.make({ filename }))
      chmodSync(path, 0o777)
      chmodSync(filename, 0o444)
      const message = yield* Effect.scoped(Effect.andThen(asNobody, failing(filename)))
      assert.include(message, "it is read-only")
    }),
  )

  it.effect("says that the folder is read-only", () =>
    Effect.gen(function* () {
      const path = yield* folder
      chmodSync(path, 0o555)
      const message = yield* Effect.scoped(Effect.andThen(asNobody, failing(join(path, "queue.db"))))
      assert.include(message, "or not write its folder")
    }),
  )

  it.effect("says that the file may not be read", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const filename = join(path, "queue.db")
      yield* Effect.scoped(TaskQueueSqlite.make({ filename }))
      chmodSync(path, 0o777)
      chmodSync(filename, 0o000)
      const message = yield* Effect.scoped(Effect.andThen(asNobody, failing(filename)))
      assert.include(message, "may not read and write it")
    }),
  )
})
