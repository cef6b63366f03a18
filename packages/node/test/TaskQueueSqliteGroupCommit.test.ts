/** Calls of one turn of the event loop as one transaction, and what becomes of them when it does not succeed. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import { Effect, Exit, Fiber } from "effect"
import { atOnce, makeGroupCommit } from "../src/internal/sqlite/groupCommit.ts"

/** A table of numbers, and how often what happened to transactions. */
const setup = Effect.gen(function* () {
  const db = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(":memory:")),
    (db) => Effect.sync(() => db.close()),
  )
  // Only COMMIT finds that a number has no parent, as it finds that a disk is full.
  db.exec(`CREATE TABLE parents (number INTEGER PRIMARY KEY);
    CREATE TABLE numbers (number INTEGER PRIMARY KEY, parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`)
  const insert = db.prepare("INSERT INTO numbers (number, parent) VALUES (?, ?)")
  const count = db.prepare("SELECT count(*) AS count FROM numbers")
  const seen = { committed: 0, rolledBack: 0 }
  /** Called at the end of each transaction. */
  const late: { beforeCommit?: () => void } = {}
  const commits = makeGroupCommit({
    db,
    failure: (operation, cause) => new TaskQueueError({ operation, message: String(cause), isRetryable: false, cause }),
    beforeCommit: () => late.beforeCommit?.(),
    committed: () => () => seen.committed++,
    rolledBack: () => seen.rolledBack++,
  })
  return {
    seen,
    late,
    insert: (number: number) => insert.run(number, null),
    ...commits,
    put: (number: number, parent: number | null = null) =>
      commits.write("put", () =>
        atOnce(() => {
          insert.run(number, parent)
          return number
        }),
      ),
    /** One record a step, until told to stop; without other turns nobody can, so not for ever. */
    putSlowly: (from: number, goOn: () => boolean) =>
      commits.write("putSlowly", function* () {
        let number = from
        while (goOn() && number - from < 300_000) {
          insert.run(number++, null)
          yield
        }
        return number - from
      }),
    count: commits.read("count", () => (count.get() as { readonly count: number }).count),
  }
})

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.all(effects.map(Effect.exit), { concurrency: "unbounded" })
const tags = (exits: ReadonlyArray<Exit.Exit<unknown, unknown>>) => exits.map((exit) => exit._tag)
const numbers = (length: number) => Array.from({ length }, (_, index) => index)
/** A turn of the event loop, with its timers and its I/O. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => setImmediate(() => resume(Effect.void)))
})
const start = Effect.forkChild({ startImmediately: true })

describe("group commit", () => {
  it.effect("makes a handful of transactions of a thousand calls from a thousand fibers", () =>
    Effect.gen(function* () {
      const { count, put, seen } = yield* setup
      const results = yield* Effect.forEach(numbers(1000), (number) => put(number), { concurrency: "unbounded" })
      assert.deepStrictEqual(results, numbers(1000))
      assert.strictEqual(yield* count, 1000)
      assert.isAtMost(seen.committed, 5)
    }),
  )

  it.effect("fails a call whose commit fails, alone and once, and goes on with the others", () =>
    Effect.gen(function* () {
      const { count, put, seen } = yield* setup
      const exits = yield* all([put(0), put(1, 404), put(2), put(3, 404), put(4)])
      assert.deepStrictEqual(tags(exits), ["Success", "Failure", "Success", "Failure", "Success"])
      assert.strictEqual(yield* count, 3)
      // The group, and each of the two alone.
      assert.deepStrictEqual(seen, { committed: 3, rolledBack: 3 })
    }),
  )

  it.effect("fails every call when every commit fails", () =>
    Effect.gen(function* () {
      const { count, put } = yield* setup
      assert.deepStrictEqual(
        new Set(tags(yield* all(numbers(20).map((number) => put(number, 404))))),
        new Set(["Failure"]),
      )
      assert.strictEqual(yield* count, 0)
    }),
  )

  it.effect(
    "lets other things happen while one call takes long, shows nothing of it before its end, and then all",
    () =>
      Effect.gen(function* () {
        const { count, put, putSlowly, seen } = yield* setup
        let goesOn = true
        const slow = yield* start(putSlowly(0, () => goesOn))
        yield* turn
        yield* turn
        const reading = yield* start(count)
        const beside = yield* start(put(-1))
        yield* turn
        assert.isUndefined(slow.pollUnsafe())
        assert.isUndefined(reading.pollUnsafe())
        assert.isUndefined(beside.pollUnsafe())
        goesOn = false
        const written = yield* Fiber.join(slow)
        assert.isAbove(written, 1)
        yield* Fiber.join(beside)
        assert.include([written, written + 1], yield* Fiber.join(reading))
        assert.strictEqual(yield* count, written + 1)
        assert.strictEqual(seen.rolledBack, 0)
      }),
  )

  it.effect("takes back all of a call that fails after some turns", () =>
    Effect.gen(function* () {
      const { count, putSlowly } = yield* setup
      let goesOn = true
      const slow = yield* start(
        putSlowly(0, () => {
          if (goesOn) return true
          throw new Error("enough")
        }),
      )
      yield* turn
      yield* turn
      goesOn = false
      assert.isTrue(Exit.isFailure(yield* Fiber.await(slow)))
      assert.strictEqual(yield* count, 0)
    }),
  )

  it.effect("writes once for all calls of a transaction what is to be written before its commit", () =>
    Effect.gen(function* () {
      const { count, insert, late, put, seen } = yield* setup
      let times = 0
      late.beforeCommit = () => {
        insert(1000 + times++)
      }
      yield* all(numbers(10).map((number) => put(number)))
      assert.strictEqual(times, seen.committed)
      assert.strictEqual(yield* count, 10 + times)
      assert.isBelow(times, 10)
    }),
  )

  it.effect("changes nothing when that fails, and says so to the call that it was for", () =>
    Effect.gen(function* () {
      const { count, late, put } = yield* setup
      late.beforeCommit = () => {
        throw new Error("no")
      }
      assert.deepStrictEqual(tags(yield* all([put(0), put(1)])), ["Failure", "Failure"])
      assert.strictEqual(yield* count, 0)
    }),
  )

  it.effect("withdraws calls that are interrupted before their turn, and no others", () =>
    Effect.gen(function* () {
      const { count, put } = yield* setup
      const fibers = yield* Effect.forEach(numbers(100), (number) => start(put(number)))
      yield* Fiber.interruptAll(fibers.filter((_, index) => index % 2 === 0))
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 50)
      assert.strictEqual(yield* count, 50)
    }),
  )

  it.effect("finishes a call that is interrupted in the middle", () =>
    Effect.gen(function* () {
      const { count, putSlowly, put } = yield* setup
      let goesOn = true
      const slow = yield* start(putSlowly(0, () => goesOn))
      yield* turn
      yield* turn
      const later = yield* start(put(-1))
      yield* Fiber.interruptAll([slow, later])
      goesOn = false
      yield* put(-2)
      assert.isAbove(yield* count, 1)
      assert.strictEqual(yield* put(-1), -1)
    }),
  )

  it.effect("waits at its close for what is pending, also in the middle of it", () =>
    Effect.gen(function* () {
      const { close, put, putSlowly, seen } = yield* setup
      let goesOn = true
      const slow = yield* start(putSlowly(0, () => goesOn))
      yield* turn
      yield* turn
      const last = yield* start(put(-1))
      const closing = yield* start(close)
      yield* turn
      assert.isUndefined(closing.pollUnsafe())
      goesOn = false
      yield* Fiber.join(closing)
      assert.isAbove(seen.committed, 0)
      yield* Fiber.join(slow)
      assert.strictEqual(yield* Fiber.join(last), -1)
      assert.strictEqual((yield* Effect.flip(put(-2))).message, "the task queue is closed")
    }),
  )
})
