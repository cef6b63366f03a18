/** Files that an older version of the package wrote. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { TaskState } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"

/** What version 1 made of a new file, word by word. */
const version1 = `CREATE TABLE outlive_records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    version REAL NOT NULL,
    target TEXT,
    state INTEGER NOT NULL,
    priority REAL NOT NULL,
    eta REAL NOT NULL,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    max_crashes REAL NOT NULL,
    keep REAL NOT NULL,
    tombstone REAL NOT NULL,
    enqueued_at REAL NOT NULL,
    expires_at REAL,
    lease REAL,
    timeout REAL,
    lease_until REAL,
    worker TEXT,
    started_at REAL,
    first_attempt_at REAL,
    ended_at REAL,
    prune_at REAL,
    reason TEXT,
    cancel_requested TEXT,
    name TEXT,
    retry TEXT,
    headers TEXT,
    payload TEXT NOT NULL,
    result TEXT,
    failure TEXT
  ) STRICT;
  CREATE INDEX outlive_waiting ON outlive_records (queue, task, target, version, priority DESC, eta) WHERE state = 0;
  CREATE INDEX outlive_running ON outlive_records (queue, lease_until) WHERE state = 1;
  CREATE INDEX outlive_expiring ON outlive_records (expires_at)
    WHERE state = 0 AND expires_at IS NOT NULL AND first_attempt_at IS NULL;
  CREATE INDEX outlive_ended ON outlive_records (queue, task, state, reason) WHERE state >= 2;
  CREATE INDEX outlive_prunable ON outlive_records (prune_at) WHERE prune_at IS NOT NULL;
  CREATE INDEX outlive_dead ON outlive_records (ended_at) WHERE state = 4;
  CREATE TABLE outlive_names (
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    until REAL,
    PRIMARY KEY (queue, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outlive_tombstones ON outlive_names (until) WHERE until IS NOT NULL;
  CREATE TABLE outlive_queues (
    queue TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    rate REAL,
    burst REAL NOT NULL,
    max_concurrent REAL,
    tokens REAL NOT NULL,
    tokens_at REAL NOT NULL
  ) STRICT, WITHOUT ROWID;`

const newFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  ),
  (path) => join(path, "queue.db"),
)

const idOf = (number: number) => `00000000-0000-7000-8000-${String(number).padStart(12, "0")}` as TaskId
const now = 1_000_000
const failure = JSON.stringify({ attempt: 1, at: 5, kind: "failure", tag: "NoRoute", message: "no" })

/** Rows as version 1 wrote them, one in each state of a life. */
const rows: ReadonlyArray<Record<string, number | string>> = [
  { state: 0, payload: '"scheduled"', eta: now + 1000, name: "mine" },
  { state: 0, payload: '"tried"', attempt: 1, token: 1, first_attempt_at: 5, started_at: 5, failure },
  { state: 1, payload: '"running"', attempt: 1, token: 3, worker: "old", started_at: 7, lease_until: now + 500 },
  { state: 2, payload: '"done"', attempt: 2, token: 2, started_at: 7, ended_at: 8, prune_at: now, result: "1" },
  { state: 3, payload: '"cancelled"', ended_at: 9, keep: 1e9, prune_at: now + 1e9 },
  { state: 4, payload: '"dead"', attempt: 3, token: 3, started_at: 7, ended_at: 10, reason: "Crashed", failure },
  { state: 4, payload: '"odd"', token: 1, ended_at: 11, reason: "Undecodable", failure: "not JSON" },
]

const states: ReadonlyArray<TaskState> = ["ready", "running", "succeeded", "cancelled", "dead"]

/** A file of version 1 with these rows, and limits of its queue. */
const oldFile = Effect.tap(newFile, (filename) =>
  Effect.sync(() => {
    const db = new DatabaseSync(filename)
    db.exec(
      `PRAGMA journal_mode = WAL; ${version1}; CREATE TABLE outlive_schema (version INTEGER NOT NULL) STRICT; INSERT INTO outlive_schema VALUES (1)`,
    )
    rows.forEach((row, index) => {
      const whole: Record<string, number | string> = {
        id: idOf(index),
        queue: "queue",
        task: "task",
        version: 1,
        priority: 0,
        eta: 3,
        token: 0,
        attempt: 0,
        crashes: 0,
        max_crashes: 3,
        keep: 1000,
        tombstone: 0,
        enqueued_at: 2,
        ...row,
      }
      const columns = Object.keys(whole)
      db.prepare(
        `INSERT INTO outlive_records (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
      ).run(...Object.values(whole))
    })
    db.prepare("INSERT INTO outlive_names (queue, name, id) VALUES ('queue', 'mine', ?)").run(idOf(0))
    db.exec("INSERT INTO outlive_queues VALUES ('queue', 0, 2.5, 7, 9, 7, 0)")
    db.close()
  }),
)

const claim = (driver: TaskQueue.Driver, now: number) =>
  driver.claim({
    queues: [{ name: "queue", limit: 100 }],
    tasks: [{ name: "task", maxVersion: 1 }],
    targets: [],
    lease: 1000,
    worker: "new",
    now,
  })
const counts = (driver: TaskQueue.Driver, filter: TaskQueue.Filter = {}) =>
  Effect.map(driver.counts({ ...filter, now }), (counts) =>
    counts.map(({ count, reason, state, tag }) => [state, reason, tag, count].join(" ")).sort(),
  )

describe("a file of version 1", () => {
  it.effect("has all its records when it is opened, and then all that is new", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* oldFile })
      const { records } = yield* driver.find({ limit: 100, now })
      assert.deepStrictEqual(
        records.map(({ id, payload, payloadRef, progress, state, uniqueKey }) => ({
          id,
          payload,
          payloadRef,
          progress,
          state,
          uniqueKey,
        })),
        rows.map(({ payload, state }, index) => ({
          id: idOf(index),
          payload: payload as string,
          payloadRef: undefined,
          progress: undefined,
          state: index === 0 ? "scheduled" : states[state as number]!,
          uniqueKey: undefined,
        })),
      )
      assert.deepStrictEqual(yield* counts(driver), [
        "cancelled   1",
        "dead Crashed NoRoute 1",
        "dead Undecodable  1",
        "ready   1",
        "running   1",
        "scheduled   1",
        "succeeded   1",
      ])
      const limits = { paused: false, rate: 2.5, burst: 7, maxConcurrent: 9, ageing: undefined }
      assert.deepStrictEqual(yield* driver.limits({ queue: "queue" }), limits)
      // What nobody wrote down then is not known.
      assert.deepStrictEqual(yield* driver.ledger({ ids: records.map(({ id }) => id) }), Array(rows.length).fill([]))
      assert.deepStrictEqual(yield* driver.statistics({ queue: "queue", now }), {
        waiting: 2,
        ready: 1,
        oldestEta: 3,
        inFlight: 1,
        executedLastMinute: 0,
        nextTokenAt: now,
      })
    }),
  )

  it.effect("goes on where it was: leases hold, names are taken, what is over is pruned", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* oldFile })
      assert.deepStrictEqual(yield* driver.extend({ leases: [{ id: idOf(2), token: 3 }], until: now + 900, now }), [
        "Extended",
      ])
      const { records } = yield* claim(driver, now)
      assert.deepStrictEqual(
        records.map(({ attempt, id, token }) => ({ id, attempt, token })),
        [{ id: idOf(1), attempt: 2, token: 2 }],
      )
      yield* driver.settle({
        settlements: [
          { id: idOf(1), token: 2, _tag: "Retry", eta: now, failure },
          { id: idOf(2), token: 3, _tag: "Bury", reason: "PermanentFailure", result: undefined, failure },
        ],
        now: now + 1,
      })
      const ledgers = yield* driver.ledger({ ids: [idOf(1), idOf(2)] })
      assert.deepStrictEqual(
        ledgers.map((attempts) => attempts.map(({ outcome, startedAt, worker }) => [worker, startedAt, outcome])),
        [[["new", now, "Retry"]], [["old", 7, "Bury"]]],
      )
      const content = { task: "task", version: 1, queue: "queue", payload: "{}", headers: {}, priority: 0, eta: 0 }
      const record = { ...content, onDuplicate: "fail", tombstone: 0, maxCrashes: 0, keep: 0 } as const
      const named = { ...record, id: idOf(90), name: "mine" }
      assert.deepStrictEqual(yield* driver.enqueue({ records: [named], now }), [{ _tag: "Duplicate", id: idOf(0) }])
      // The succeeded one by its time, the dead letter by that of its end, which version 1 kept elsewhere.
      assert.strictEqual(yield* driver.prune({ now, deadBefore: 11, limit: 10 }), 2)
      assert.deepStrictEqual(
        (yield* driver.get({ ids: [3, 4, 5, 6].map(idOf), now })).map((record) => record?.state),
        [undefined, "cancelled", undefined, "dead"],
      )
      assert.deepStrictEqual(yield* driver.redrive({ ids: [idOf(6)], now }), ["Redriven"])
      assert.strictEqual(yield* driver.prune({ now: Number.MAX_VALUE, deadBefore: 0, limit: 10 }), 1)
    }),
  )

  it.effect("is brought forward once, whoever else opens it at the same moment, and is sound then", () =>
    Effect.gen(function* () {
      const filename = yield* oldFile
      yield* Effect.scoped(
        Effect.gen(function* () {
          const drivers = yield* Effect.all(
            Array.from({ length: 4 }, () => TaskQueueSqlite.make({ filename })),
            { concurrency: "unbounded" },
          )
          for (const driver of drivers) assert.lengthOf(yield* counts(driver), 7)
        }),
      )
      const db = new DatabaseSync(filename)
      assert.deepStrictEqual(db.prepare("PRAGMA integrity_check").all().map(Object.values), [["ok"]])
      assert.strictEqual(db.prepare("SELECT version FROM outlive_schema").get()?.version, 2)
      const fresh = yield* newFile
      yield* Effect.scoped(TaskQueueSqlite.make({ filename: fresh }))
      const other = new DatabaseSync(fresh)
      const schema = (db: DatabaseSync) =>
        db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").all().map(Object.values)
      assert.deepStrictEqual(schema(db), schema(other))
      db.close()
      other.close()
    }),
  )
})
