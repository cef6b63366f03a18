/** Who committed hears of it when the disk has it, and nobody else waits for that. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import { Effect, Exit, Fiber } from "effect"
import { ExpectedClaim } from "../src/internal/sqlite/expectedClaim.ts"
import { atOnce, makeGroupCommit } from "../src/internal/sqlite/groupCommit.ts"
import { makeWalSync } from "../src/internal/sqlite/walSync.ts"

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})
const turns = Effect.repeat(turn, { times: 7 })

/** Commits whose syncs end when the test says so. */
const setup = Effect.gen(function* () {
  const db = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(":memory:")),
    (db) => Effect.sync(() => db.close()),
  )
  db.exec("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
  const insert = db.prepare("INSERT INTO numbers (number) VALUES (?)")
  const syncs: Array<(error: unknown) => void> = []
  const told: Array<string> = []
  const expectedClaim = new ExpectedClaim()
  const commits = makeGroupCommit({
    db,
    failure: (operation, cause) => new TaskQueueError({ operation, message: String(cause), isRetryable: false, cause }),
    beforeCommit: () => undefined,
    committed: () => () => told.push("committed"),
    rolledBack: () => undefined,
    sync: { afterSync: (done) => syncs.push(done), close: () => undefined },
    expectedClaim,
  })
  const put = (number: number) => commits.write("put", () => atOnce(() => insert.run(number).changes))
  /** A call after which a queue has something, and one that claims that and finds no more. */
  const fill = commits.write("fill", () => atOnce(() => expectedClaim.told([{ _tag: "Waiting", queues: ["some"] }])))
  const claim = commits.write("claim", () => atOnce(() => expectedClaim.made("some", true)))
  const toDisk = Effect.andThen(
    turns,
    Effect.sync(() => syncs.shift()?.(null)),
  )
  /** A claim that found too little, and is on the disk. */
  const claimShort = Effect.all([claim, toDisk], { concurrency: 2 })
  return { syncs, told, put, fill, claim, claimShort, close: commits.close, db }
})

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-wal-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true })),
)

describe("a commit that waits for the disk", () => {
  it.live("is acknowledged and told of when it is synced, and not before", () =>
    Effect.gen(function* () {
      const { put, syncs, told } = yield* setup
      const fiber = yield* Effect.forkChild(put(1), { startImmediately: true })
      yield* turns
      assert.strictEqual(syncs.length, 1)
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(told, [])
      syncs[0]?.(null)
      assert.strictEqual(Number(yield* Fiber.join(fiber)), 1)
      assert.deepStrictEqual(told, ["committed"])
    }).pipe(Effect.scoped),
  )

  it.live("does not keep the next one from being committed", () =>
    Effect.gen(function* () {
      const { db, put, syncs } = yield* setup
      const first = yield* Effect.forkChild(put(1), { startImmediately: true })
      yield* turns
      const second = yield* Effect.forkChild(put(2), { startImmediately: true })
      yield* turns
      assert.strictEqual(Number(db.prepare("SELECT count(*) AS count FROM numbers").get()?.count), 2)
      assert.strictEqual(syncs.length, 2)
      for (const done of syncs) done(null)
      yield* Fiber.join(first)
      yield* Fiber.join(second)
    }).pipe(Effect.scoped),
  )

  it.live("fails when it is not known to be on the disk", () =>
    Effect.gen(function* () {
      const { put, syncs, told } = yield* setup
      const fiber = yield* Effect.forkChild(Effect.exit(put(1)), { startImmediately: true })
      yield* turns
      syncs[0]?.(new Error("the disk is gone"))
      const exit = yield* Fiber.join(fiber)
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "the disk is gone")
      assert.deepStrictEqual(told, [])
    }).pipe(Effect.scoped),
  )

  it.live("is waited for at the close", () =>
    Effect.gen(function* () {
      const { close, put, syncs } = yield* setup
      const fiber = yield* Effect.forkChild(put(1), { startImmediately: true })
      yield* turns
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* turns
      assert.isUndefined(closing.pollUnsafe())
      syncs[0]?.(null)
      yield* Fiber.join(closing)
      yield* Fiber.join(fiber)
    }).pipe(Effect.scoped),
  )
})

describe("a commit that sets off a claim of this process", () => {
  it.live("is synced with that, and both are told then", () =>
    Effect.gen(function* () {
      const { claim, claimShort, fill, syncs } = yield* setup
      yield* claimShort
      const filling = yield* Effect.forkChild(fill, { startImmediately: true })
      yield* turn
      const claiming = yield* Effect.forkChild(claim, { startImmediately: true })
      yield* turn
      assert.strictEqual(syncs.length, 1)
      assert.isUndefined(filling.pollUnsafe())
      assert.isUndefined(claiming.pollUnsafe())
      syncs[0]?.(null)
      yield* Fiber.join(filling)
      yield* Fiber.join(claiming)
      yield* turns
      assert.strictEqual(syncs.length, 1)
    }).pipe(Effect.scoped),
  )

  it.live("fails with it", () =>
    Effect.gen(function* () {
      const { claim, claimShort, fill, syncs } = yield* setup
      yield* claimShort
      const calls = yield* Effect.forkChild(
        Effect.all([fill, Effect.andThen(turn, claim)].map(Effect.exit), { concurrency: 2 }),
      )
      yield* turns
      for (const done of syncs) done(new Error("the disk is gone"))
      assert.deepStrictEqual((yield* Fiber.join(calls)).map(Exit.isFailure), [true, true])
    }).pipe(Effect.scoped),
  )

  it.live("does not wait long for it, and only once", () =>
    Effect.gen(function* () {
      const { claimShort, fill, syncs } = yield* setup
      yield* claimShort
      const first = yield* Effect.forkChild(fill, { startImmediately: true })
      yield* turns
      assert.strictEqual(syncs.length, 1)
      const second = yield* Effect.forkChild(fill, { startImmediately: true })
      yield* turn
      assert.strictEqual(syncs.length, 2)
      for (const done of syncs) done(null)
      yield* Fiber.join(first)
      yield* Fiber.join(second)
    }).pipe(Effect.scoped),
  )
})

describe("the sync of a log", () => {
  it.live("serves all that was committed before it, and calls back once for each", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "some.db")
      writeFileSync(`${file}-wal`, "frames")
      const sync = yield* Effect.acquireRelease(
        Effect.sync(() => makeWalSync(file)),
        (sync) => Effect.sync(sync.close),
      )
      const errors = yield* Effect.callback<ReadonlyArray<unknown>>((resume) => {
        const seen: Array<unknown> = []
        for (let index = 0; index < 50; index++) {
          sync.afterSync((error) => {
            seen.push(error)
            if (seen.length === 50) resume(Effect.succeed(seen))
          })
        }
      })
      assert.isTrue(errors.every((error) => error === null))
    }).pipe(Effect.scoped),
  )

  it.live("says so when there is no log", () =>
    Effect.gen(function* () {
      const sync = makeWalSync(join(yield* folder, "none.db"))
      const error = yield* Effect.callback<unknown>((resume) => {
        sync.afterSync((error) => resume(Effect.succeed(error)))
      })
      assert.include(String(error), "none.db-wal")
    }).pipe(Effect.scoped),
  )
})
