/**
 * The tables of a task queue, as numbered migrations that only go forward; `outlive_schema` counts those that were applied.
 * All names begin with `outlive_`: the file may be an application's, with tables of its own, whose `user_version` and
 * `application_id` are not ours to use.
 *
 * Times and durations are REAL, which SQLite stores as small integers where it can: an INTEGER column would turn 1e18
 * into a number that JavaScript cannot read back exactly, and has no infinity.
 */
import type { DatabaseSync } from "node:sqlite"

/** How `records.state` says it. `scheduled` and `ready` are both waiting: the reader's clock tells them apart. */
export const State = { waiting: 0, running: 1, succeeded: 2, cancelled: 3, dead: 4 } as const

/**
 * The tag of a record's last failure; NULL when its text has none. As the index has it, so a query that wants the index
 * has to say it in these words.
 */
export const tagOfFailure =
  "CASE WHEN json_valid(failure) THEN CASE json_type(failure, '$.tag') WHEN 'text' THEN failure ->> '$.tag' END END"

const migrations: ReadonlyArray<string> = [
  // The indexes are partial, so a record is in few of them at a time: waiting in `waiting`, running in `running`.
  //
  // `waiting` has the lane first (queue, task, target, version: what decides who may claim), then the order of claims
  // (`seq`, the rowid, ends every index by itself): a claim seeks to the head of each lane, however long the lanes are.
  // `ended` has what `counts` groups by.
  `CREATE TABLE outlive_records (
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
  ) STRICT, WITHOUT ROWID;`,
  // Unique keys, payloads stored apart, progress, ledgers, statistics, workers.
  //
  // `unique_while` has the bit 1 << state for each state in which the record holds its key, `holds_key` says whether it
  // does: the index has nothing to do for records without keys, nor for those that have given theirs up.
  //
  // `attempts` has no trigger to delete what is of a deleted record: a trigger costs every delete much, also where there is
  // nothing to do.
  //
  // `prunable` has the time of dead letters too, which is that of their end, so that they need no index for it.
  //
  // `ended` has the groups that `counts` wants, and when; `dead_letters` those of dead letters.
  `ALTER TABLE outlive_records ADD COLUMN unique_key TEXT;
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
  CREATE INDEX outlive_dead_letters ON outlive_records (queue, task, reason, ${tagOfFailure}, ended_at) WHERE state = 4;
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
  ALTER TABLE outlive_queues ADD COLUMN ageing REAL;`,
]

/** The version of a file whose migrations have all been applied. */
export const latest = migrations.length

/** The version of a file, 0 of one that has no task queue. */
export const versionOf = (db: DatabaseSync): number => {
  const has = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'outlive_schema'").get()
  return has === undefined ? 0 : Number(db.prepare("SELECT version FROM outlive_schema").get()?.version)
}

/** Applies what the file lacks. The caller holds the write lock, so that of several processes one does it. */
export const migrate = (db: DatabaseSync, from: number): void => {
  for (const migration of migrations.slice(from)) db.exec(migration)
  if (from === 0) db.exec("CREATE TABLE outlive_schema (version INTEGER NOT NULL) STRICT")
  db.exec(
    from === 0 ? `INSERT INTO outlive_schema VALUES (${latest})` : `UPDATE outlive_schema SET version = ${latest}`,
  )
}
