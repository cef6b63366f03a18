/** How SQLite goes about each statement, and what the queue does when there is no room. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { Filter } from "@outlive/deferred/TaskQueue"
import { Effect } from "effect"
import { makeCancel, makeRedrive } from "../src/internal/sqlite/cancel.ts"
import { makeClaim } from "../src/internal/sqlite/claim.ts"
import { makeCounts } from "../src/internal/sqlite/counts.ts"
import { makeEnding } from "../src/internal/sqlite/ending.ts"
import { makeEnqueue } from "../src/internal/sqlite/enqueue.ts"
import { makeExecuted } from "../src/internal/sqlite/executed.ts"
import { ExpectedClaim } from "../src/internal/sqlite/expectedClaim.ts"
import { failure } from "../src/internal/sqlite/failure.ts"
import { makeEndedGroups, makeFind, makeGet, makePayloadRefs } from "../src/internal/sqlite/find.ts"
import { type GroupCommit, makeGroupCommit } from "../src/internal/sqlite/groupCommit.ts"
import { makeJoinRows } from "../src/internal/sqlite/joinRows.ts"
import { makeJoins } from "../src/internal/sqlite/joins.ts"
import { makeKeyRows } from "../src/internal/sqlite/keyLimits.ts"
import { makeLanes } from "../src/internal/sqlite/lanes.ts"
import { makeLedger, makeReadLedger } from "../src/internal/sqlite/ledger.ts"
import { makeLimits } from "../src/internal/sqlite/limits.ts"
import { makeLine } from "../src/internal/sqlite/line.ts"
import { makeOwnClaims } from "../src/internal/sqlite/ownClaims.ts"
import { makePayloads } from "../src/internal/sqlite/payloads.ts"
import { makePlacing } from "../src/internal/sqlite/placing.ts"
import { makePlainRows } from "../src/internal/sqlite/plainRows.ts"
import { makeProgress } from "../src/internal/sqlite/progress.ts"
import { makePrune } from "../src/internal/sqlite/prune.ts"
import { makePurge, makeRemove } from "../src/internal/sqlite/remove.ts"
import { makeRounds } from "../src/internal/sqlite/rounds.ts"
import { migrate } from "../src/internal/sqlite/schema.ts"
import { makeExtend, makeSettle } from "../src/internal/sqlite/settle.ts"
import { makeStart } from "../src/internal/sqlite/start.ts"
import { makeKeyStatistics, makeStatistics } from "../src/internal/sqlite/statistics.ts"
import { makeSuccesses } from "../src/internal/sqlite/successes.ts"
import { makeTakeBack } from "../src/internal/sqlite/takeBack.ts"
import { Touched } from "../src/internal/sqlite/touched.ts"
import { makeTurns } from "../src/internal/sqlite/turns.ts"
import { makeKeys } from "../src/internal/sqlite/unique.ts"
import { makeWorkers } from "../src/internal/sqlite/workers.ts"
import { record as sample } from "./records.ts"

const newDatabase = Effect.acquireRelease(
  Effect.sync(() => {
    const db = new DatabaseSync(":memory:")
    migrate(db, 0)
    return db
  }),
  (db) => Effect.sync(() => db.close()),
)

/** For statements that are only prepared. */
const noCommits: GroupCommit = { write: () => Effect.never, read: () => Effect.never, close: Effect.void }

/** The parts of a queue, as `makeCalls` puts them together. */
const makeParts = (db: DatabaseSync) => {
  const touched = new Touched()
  const limits = makeLimits(db, touched)
  const line = makeLine(db)
  const turns = makeTurns(db, { line, touched })
  const joinRows = makeJoinRows(db)
  const keyRows = makeKeyRows(db)
  const keys = makeKeys(db, { touched, turns })
  const ledger = makeLedger(db)
  const ending = makeEnding(db, { joinRows, keys, ledger, limits, line, touched, turns })
  const joins = makeJoins(db, { ending, joinRows, touched, turns })
  const placing = makePlacing(db, { joinRows, keys, ledger, limits, line, touched, turns })
  const plainRows = makePlainRows(db, touched)
  const lanes = makeLanes(db)
  const executed = makeExecuted(db)
  const ownClaims = makeOwnClaims()
  return {
    ...{
      ending,
      executed,
      expectedClaim: new ExpectedClaim(),
      joinRows,
      joins,
      keyRows,
      keys,
      lanes,
      ledger,
      limits,
      line,
    },
    ...{ ownClaims, placing, plainRows, touched, turns },
    enqueue: makeEnqueue(db, { joinRows, joins, keys, placing, plainRows }),
    progress: makeProgress(db, touched),
    rounds: makeRounds(db, { keyRows, lanes, limits, line, turns }),
    takeBack: makeTakeBack(db, ending, joins),
    start: makeStart(db, { keys, ownClaims, tallies: joinRows.tally }),
    succeed: makeSuccesses(db, { limits, touched }),
    tallies: joinRows.tally,
  }
}

const record = (number: number, payload: string) => sample(number, { payload, keep: 0 })

/** A database, and how each statement that is prepared from now on is gone about. */
const newPlans = Effect.gen(function* () {
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
  return { db, plans }
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
      const parts = makeParts(db)
      makeClaim(db, parts)
      makeExtend(db)
      makeSettle(db, parts)
      makeCancel(parts.joins)
      makeRedrive(db, parts)
      makeRemove(db, parts)
      makePurge(db, parts)
      makePrune(db, parts)
      makeGet(db, parts.tallies)
      makeReadLedger(db)
      makePayloadRefs(db)
      makeEndedGroups(db)
      makeStatistics(db, parts.limits, parts.executed)
      makeKeyStatistics(db, parts.limits, parts.keyRows)
      makePayloads(db, noCommits)
      assert.isAbove(statements.size, 120)
      const tables = /SCAN outlive_|TEMP B-TREE/
      for (const sql of statements) {
        assert.notMatch(sql, /LIMIT \?\d*(?![\d ])/, "is prepared anew for every limit")
        const plan = plain(`EXPLAIN QUERY PLAN ${sql}`).all()
        for (const { detail } of plan) assert.notMatch(String(detail), tables, sql)
      }
    }),
  )

  it.effect("of a count read what waits and what has ended from an index alone", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      makeCounts(db, makeEndedGroups(db))({}, 0)
      for (const index of ["waiting", "ended"])
        assert.include(plans, `SCAN outlive_records USING COVERING INDEX outlive_${index}`)
      // Of each group of dead letters one record is read, for the tag.
      assert.include(plans, "SCAN outlive_records USING INDEX outlive_dead_letters")
      // Only what runs is sorted: it is not much.
      assert.strictEqual(plans.filter((plan) => plan.includes("TEMP B-TREE")).length, 1)
    }),
  )

  it.effect("of a count of what ended in a time look at what ended then, and at nothing else", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      db.exec(`INSERT INTO outlive_records (id, queue, task, version, state, priority, eta, token, attempt, crashes, max_crashes,
        keep, tombstone, enqueued_at, ended_at, payload) VALUES ('1', 'q', 't', 1, 2, 0, 0, 1, 1, 0, 1, 1, 1, 0, 5, '')`)
      const groups = makeEndedGroups(db)
      plans.length = 0
      const counts = makeCounts(db, groups)({ endedAfter: 1, endedBefore: 10 }, 0)
      assert.deepStrictEqual(counts, [
        { queue: "q", task: "t", state: "succeeded", reason: undefined, tag: undefined, count: 1 },
      ])
      const seek =
        "SEARCH outlive_records USING COVERING INDEX outlive_ended (queue=? AND task=? AND state=? AND ended_at>? AND ended_at<?)"
      assert.include(plans, seek)
    }),
  )

  it.effect("of a page of dead letters, running records, and of what ended in a time use the index that has them", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      const find = makeFind(
        db,
        () => [{ queue: "q", task: "t", state: 2 }],
        () => undefined,
      )
      const indexed = (filter: Filter) => {
        plans.length = 0
        find({ ...filter, limit: 10, now: 0 })
        return plans.find((plan) => plan.includes("records"))
      }
      const dead = { queue: "q", task: "t", reason: "Crashed", tag: "Crashed", endedAfter: 5 } as const
      assert.strictEqual(
        indexed(dead),
        "SEARCH outlive_records USING INDEX outlive_dead_letters (queue=? AND task=? AND reason=? AND <expr>=? AND ended_at>?)",
      )
      assert.strictEqual(indexed({ state: "dead" }), "SCAN outlive_records USING COVERING INDEX outlive_dead_letters")
      assert.strictEqual(
        indexed({ state: "running", queue: "q" }),
        "SEARCH outlive_records USING COVERING INDEX outlive_running (queue=?)",
      )
      assert.strictEqual(
        indexed({ endedAfter: 5, endedBefore: 9 }),
        "SEARCH outlive_records USING COVERING INDEX outlive_ended (queue=? AND task=? AND state=? AND ended_at>? AND ended_at<?)",
      )
      // In order, until the page is full.
      assert.strictEqual(indexed({ queue: "q" }), "SEARCH outlive_records USING INTEGER PRIMARY KEY (rowid>?)")
    }),
  )

  it.effect("of statistics read from indexes alone, of unique keys and references from theirs", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      const touched = new Touched()
      makeStatistics(db, makeLimits(db, touched), makeExecuted(db))
      makeKeys(db, { touched, turns: makeTurns(db, { line: makeLine(db), touched }) })
      makePayloadRefs(db)
      makeWorkers(db)
      for (const plan of [
        "SEARCH outlive_records USING COVERING INDEX outlive_waiting (queue=?)",
        "SEARCH outlive_records USING COVERING INDEX outlive_running (queue=?)",
        "SEARCH outlive_executed USING PRIMARY KEY (second=? AND queue=?)",
        "SEARCH outlive_records USING INDEX outlive_unique_keys (task=? AND unique_key=?)",
        "SEARCH outlive_records USING COVERING INDEX outlive_payload_refs (payload_ref=?)",
      ]) {
        assert.include(plans, plan)
      }
    }),
  )
})

describe("the statements of a queue with keys", () => {
  it.effect("seek to the turns that are first, and read their heads from an index alone", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      makeParts(db)
      for (const plan of [
        "SEARCH due USING COVERING INDEX outlive_turn_order (lane=? AND state=? AND place=? AND key>?)",
        "SEARCH due USING COVERING INDEX outlive_turn_order (lane=? AND state=? AND (place,key)>(?,?))",
        "SEARCH outlive_records USING COVERING INDEX outlive_keyed (turn=? AND state=?)",
        "SEARCH outlive_turns USING COVERING INDEX outlive_turn_times (lane=? AND next_at>?)",
        "SEARCH outlive_turns USING COVERING INDEX outlive_turn_times (lane=? AND next_at<?)",
        "SEARCH outlive_turns USING INDEX sqlite_autoindex_outlive_turns_1 (queue=? AND key=? AND lane=?)",
      ]) {
        assert.include(plans, plan)
      }
    }),
  )

  it.effect("count what waits from indexes alone, in the order of its groups", () =>
    Effect.gen(function* () {
      const { db, plans } = yield* newPlans
      const { executed, keyRows, limits } = makeParts(db)
      plans.length = 0
      makeCounts(db, makeEndedGroups(db))({ state: "ready" }, 0)
      makeStatistics(db, limits, executed)
      makeKeyStatistics(db, limits, keyRows)
      const ofRecords = plans.filter((plan) => plan.includes("outlive_records"))
      assert.isNotEmpty(ofRecords.filter((plan) => plan.includes("outlive_keyed")))
      for (const plan of ofRecords) assert.match(plan, /COVERING INDEX|outlive_ended/)
      assert.isUndefined(plans.find((plan) => plan.includes("TEMP B-TREE")))
    }),
  )
})

describe("a full disk", () => {
  it.effect("fails what does not fit with a sentence, and goes on with what does", () =>
    Effect.gen(function* () {
      const db = yield* newDatabase
      db.exec("PRAGMA max_page_count = 60")
      const { enqueue, plainRows, tallies, touched } = makeParts(db)
      const commits = makeGroupCommit({
        db,
        failure: (operation, cause) => failure(operation, "queue.db", cause),
        beforeCommit: plainRows.flush,
        committed: () => () => touched.take(),
        rolledBack: () => {
          plainRows.forget()
          touched.take()
        },
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
        makeGet(db, tallies)(
          [0, 1, 2, 3].map((id) => record(id, "").id),
          0,
        ).filter(Boolean).length,
        3,
      )
    }),
  )
})
