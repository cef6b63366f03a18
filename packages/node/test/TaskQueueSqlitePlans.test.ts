/** How SQLite goes about each statement, and what the queue does when there is no room. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Effect } from "effect"
import { makeCancel, makeRedrive } from "../src/internal/sqlite/cancel.ts"
import { makeClaim } from "../src/internal/sqlite/claim.ts"
import { makeEnding } from "../src/internal/sqlite/ending.ts"
import { makeEnqueue } from "../src/internal/sqlite/enqueue.ts"
import { failure } from "../src/internal/sqlite/failure.ts"
import { makeCounts, makeGet } from "../src/internal/sqlite/find.ts"
import { makeGroupCommit } from "../src/internal/sqlite/groupCommit.ts"
import { makeLanes } from "../src/internal/sqlite/lanes.ts"
import { makeLimits } from "../src/internal/sqlite/limits.ts"
import { makePrune, makePurge, makeRemove } from "../src/internal/sqlite/remove.ts"
import { migrate } from "../src/internal/sqlite/schema.ts"
import { makeExtend, makeSettle } from "../src/internal/sqlite/settle.ts"
import { makeTakeBack } from "../src/internal/sqlite/takeBack.ts"
import { Touched } from "../src/internal/sqlite/touched.ts"

const newDatabase = Effect.acquireRelease(
  Effect.sync(() => {
    const db = new DatabaseSync(":memory:")
    migrate(db, 0)
    return db
  }),
  (db) => Effect.sync(() => db.close()),
)

const record = (number: number, payload: string): NewRecord => ({
  id: `00000000-0000-7000-8000-${String(number).padStart(12, "0")}` as TaskId,
  task: "task",
  version: 1,
  queue: "queue",
  payload,
  headers: {},
  priority: 0,
  eta: 0,
  onDuplicate: "fail",
  tombstone: 0,
  maxCrashes: 3,
  keep: 0,
})

describe("the statements", () => {
  it.effect("of transactions search by an index and sort nothing, so their cost does not grow with the queue", () =>
    Effect.gen(function* () {
      const db = yield* newDatabase
      const plain = db.prepare.bind(db)
      const statements = new Set<string>()
      db.prepare = (sql) => {
        statements.add(sql)
        return plain(sql)
      }
      const touched = new Touched()
      const limits = makeLimits(db, touched)
      const ending = makeEnding(db, limits, touched)
      makeEnqueue(db, touched)
      makeClaim(db, makeLanes(db), limits, makeTakeBack(db, ending))
      makeExtend(db)
      makeSettle(db, ending)
      makeCancel(db, ending, touched)
      makeRedrive(db, touched)
      makeRemove(db)
      makePurge(db)
      makePrune(db)
      makeGet(db)
      assert.isAbove(statements.size, 25)
      for (const sql of statements) {
        const plan = plain(`EXPLAIN QUERY PLAN ${sql}`).all()
        for (const { detail } of plan) assert.notMatch(String(detail), /SCAN (records|names|queues)|TEMP B-TREE/, sql)
      }
    }),
  )

  it.effect("of a count read what waits and what has ended from an index alone", () =>
    Effect.gen(function* () {
      const db = yield* newDatabase
      const plain = db.prepare.bind(db)
      const plans: Array<string> = []
      db.prepare = (sql) => {
        plans.push(
          ...plain(`EXPLAIN QUERY PLAN ${sql}`)
            .all()
            .map(({ detail }) => String(detail)),
        )
        return plain(sql)
      }
      makeCounts(db)({}, 0)
      for (const index of ["waiting", "ended"]) assert.include(plans, `SCAN records USING COVERING INDEX ${index}`)
    }),
  )
})

describe("a full disk", () => {
  it.effect("fails what does not fit with a sentence, and goes on with what does", () =>
    Effect.gen(function* () {
      const db = yield* newDatabase
      db.exec("PRAGMA max_page_count = 60")
      const touched = new Touched()
      const enqueue = makeEnqueue(db, touched)
      const commits = makeGroupCommit({
        db,
        failure: (operation, cause) => failure(operation, "queue.db", cause),
        committed: () => touched.take(),
        rolledBack: () => touched.take(),
      })
      const sizes = [10, 1_000_000, 10, 10]
      const exits = yield* Effect.forEach(
        sizes,
        (size, index) => Effect.result(commits.write("enqueue", () => enqueue([record(index, "x".repeat(size))], 0))),
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(
        exits.map((exit) => exit._tag),
        ["Success", "Failure", "Success", "Success"],
      )
      const error = yield* Effect.flip(commits.write("enqueue", () => enqueue([record(9, "x".repeat(1_000_000))], 0)))
      assert.isTrue(error.isRetryable)
      assert.strictEqual(error.message, "there is no room for queue.db: free space on its disk, then call again")
      assert.strictEqual(
        makeGet(db)(
          [0, 1, 2, 3].map((id) => record(id, "").id),
          0,
        ).filter(Boolean).length,
        3,
      )
    }),
  )
})
