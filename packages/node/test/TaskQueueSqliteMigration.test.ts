/** Files that an older version of the package wrote. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import { unlimited } from "@outlive/deferred/KeyLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { TaskState } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { record } from "./records.ts"

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

/** What version 2 did to that, word by word. */
const version2 = `ALTER TABLE outlive_records ADD COLUMN unique_key TEXT;
  ALTER TABLE outlive_records ADD COLUMN unique_while INTEGER;
  ALTER TABLE outlive_records ADD COLUMN holds_key INTEGER;
  ALTER TABLE outlive_records ADD COLUMN payload_ref TEXT;
  ALTER TABLE outlive_records ADD COLUMN progress TEXT;
  CREATE UNIQUE INDEX outlive_unique_keys ON outlive_records (task, unique_key) WHERE holds_key = 1;
  CREATE INDEX outlive_payload_refs ON outlive_records (payload_ref) WHERE payload_ref IS NOT NULL;
  DROP INDEX outlive_dead;
  DROP INDEX outlive_prunable;
  UPDATE outlive_records SET prune_at = ended_at WHERE state = 4;
  CREATE INDEX outlive_prunable ON outlive_records (state, prune_at) WHERE prune_at IS NOT NULL;
  DROP INDEX outlive_ended;
  CREATE INDEX outlive_ended ON outlive_records (queue, task, state, ended_at) WHERE state >= 2;
  CREATE INDEX outlive_dead_letters ON outlive_records (queue, task, reason,
    CASE WHEN json_valid(failure) THEN CASE json_type(failure, '$.tag') WHEN 'text' THEN failure ->> '$.tag' END END, ended_at) WHERE state = 4;
  CREATE TABLE outlive_attempts (
    seq INTEGER NOT NULL,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL NOT NULL,
    outcome TEXT NOT NULL,
    failure TEXT,
    PRIMARY KEY (seq, token)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outlive_executed (
    second INTEGER NOT NULL,
    queue TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (second, queue)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outlive_workers (
    id TEXT PRIMARY KEY,
    until REAL NOT NULL,
    info TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outlive_departed ON outlive_workers (until);
  CREATE TABLE outlive_payloads (
    ref TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    body TEXT NOT NULL
  ) STRICT;
  CREATE INDEX outlive_put ON outlive_payloads (at, ref);
  ALTER TABLE outlive_queues ADD COLUMN ageing REAL;`

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
    insert(db, rows)
    db.prepare("INSERT INTO outlive_names (queue, name, id) VALUES ('queue', 'mine', ?)").run(idOf(0))
    db.exec("INSERT INTO outlive_queues VALUES ('queue', 0, 2.5, 7, 9, 7, 0)")
    db.close()
  }),
)

/** One that version 2 had brought forward, with more rows, and ageing in its queue. */
const file2 = Effect.tap(oldFile, (filename) =>
  Effect.sync(() => {
    const db = new DatabaseSync(filename)
    db.exec(`${version2}; UPDATE outlive_schema SET version = 2; UPDATE outlive_queues SET ageing = 60`)
    insert(
      db,
      [
        { state: 0, payload: '"unique"', unique_key: "one", unique_while: 3, holds_key: 1, payload_ref: "here" },
        {
          state: 1,
          payload: '"with progress"',
          attempt: 1,
          token: 1,
          worker: "old",
          started_at: 7,
          lease_until: now + 500,
          progress: "5",
        },
      ],
      rows.length,
    )
    db.exec("INSERT INTO outlive_attempts VALUES (2, 1, 1, 'old', 5, 6, 'Retry', NULL)")
    db.close()
  }),
)

const insert = (db: DatabaseSync, rows: ReadonlyArray<Record<string, number | string>>, from = 0) => {
  rows.forEach((row, index) => {
    const whole: Record<string, number | string> = {
      id: idOf(from + index),
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
    db.prepare(`INSERT INTO outlive_records (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`).run(
      ...Object.values(whole),
    )
  })
}

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

describe("a file of an older version", () => {
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
      const limits = { paused: false, rate: 2.5, burst: 7, maxConcurrent: 9, ageing: undefined, byKey: unlimited }
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
        pausedUntil: undefined,
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

  it.effect("goes on where it was when version 2 wrote it, and takes what that did not know", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueueSqlite.make({ filename: yield* file2 })
      const { records } = yield* driver.find({ limit: 100, now })
      assert.deepStrictEqual(
        records.slice(rows.length).map(({ key, join, memberOf, payloadRef, progress, uniqueKey }) => {
          return { key, join, memberOf, payloadRef, progress, uniqueKey }
        }),
        [
          {
            key: undefined,
            join: undefined,
            memberOf: undefined,
            payloadRef: "here",
            progress: undefined,
            uniqueKey: "one",
          },
          {
            key: undefined,
            join: undefined,
            memberOf: undefined,
            payloadRef: undefined,
            progress: "5",
            uniqueKey: undefined,
          },
        ],
      )
      assert.deepStrictEqual(yield* driver.limits({ queue: "queue" }), {
        paused: false,
        rate: 2.5,
        burst: 7,
        maxConcurrent: 9,
        ageing: 60,
        byKey: unlimited,
      })
      assert.include(yield* counts(driver), "ready   2")
      assert.lengthOf((yield* driver.ledger({ ids: [idOf(1)] }))[0]!, 1)
      const unique = { key: "one", while: ["waiting", "running"] } as const
      const join = { total: 1, onFailure: "continue", afterwards: "run" } as const
      const outcomes = yield* driver.enqueue({
        records: [
          record(90, { unique }),
          record(91, { unique: { ...unique, latest: {} } }),
          record(92, { key: "k" }),
          record(93, { key: "k", memberOf: idOf(94) }),
          record(94, { join }),
        ],
        now,
      })
      assert.deepStrictEqual(
        outcomes.map((outcome) => outcome._tag),
        ["Existing", "Replaced", "Inserted", "Inserted", "Inserted"],
      )
      const claimed = yield* claim(driver, now)
      assert.deepStrictEqual(
        claimed.records.map(({ id }) => id),
        [1, 92, 7, 93].map(idOf),
      )
      yield* driver.settle({
        settlements: claimed.records.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
        now: now + 1,
      })
      assert.deepStrictEqual(
        (yield* driver.get({ ids: [idOf(94)], now: now + 1 })).map((record) => record && [record.state, record.join]),
        [["ready", { ...join, succeeded: 1, cancelled: 0, dead: 0 }]],
      )
    }),
  )

  for (const [version, file] of [
    [1, oldFile],
    [2, file2],
  ] as const) {
    it.effect(
      `of version ${version} is brought forward once, whoever else opens it at the same moment, and is sound then`,
      () =>
        Effect.gen(function* () {
          const filename = yield* file
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
          assert.strictEqual(db.prepare("SELECT version FROM outlive_schema").get()?.version, 4)
          const fresh = yield* newFile
          yield* Effect.scoped(TaskQueueSqlite.make({ filename: fresh }))
          const other = new DatabaseSync(fresh)
          const schema = (db: DatabaseSync) =>
            db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").all().map(Object.values)
          const flat = (schema: ReadonlyArray<ReadonlyArray<unknown>>) =>
            schema.map((row) => row.map((text) => String(text).replace(/\s+/g, " ")))
          assert.deepStrictEqual(flat(schema(db)), flat(schema(other)))
          db.close()
          other.close()
        }),
    )
  }
})
