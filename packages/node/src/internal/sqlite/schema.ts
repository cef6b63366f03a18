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
 * How `turns.state` says it: something may be startable; nothing is before `next_at`; nothing is before `next_at` or, without
 * one, before something of the key ends; nothing waits.
 */
export const TurnState = { due: 1, later: 2, blocked: 3, idle: 4 } as const

/**
 * The tag of a record's last failure; NULL when its text has none. As the index has it, so a query that wants the index
 * has to say it in these words.
 */
export const tagOfFailure =
  "CASE WHEN json_valid(failure) THEN CASE json_type(failure, '$.tag') WHEN 'text' THEN failure ->> '$.tag' END END"

/**
 * A condition: the records of a turn, which wait or run, that are in the state after it. As `tagOfFailure`, it has the
 * words of the index.
 */
export const ofTurn = (turn: string): string =>
  `outlive_records.state <= 1 AND outlive_records.turn > 0 AND outlive_records.turn = ${turn} AND outlive_records.state =`

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
  // Keys, joins, and records of which the latest wins.
  //
  // `waiting` has only records without a key; those with one are in `keyed`, by their turn, which others have none (0): an
  // index has to say that with a number, or it is not all that a query needs. A turn is a key's lane: where it
  // stands among the turns of other keys in that lane (`TurnState`, `place`) is one entry of `turn_order`, so that a claim
  // seeks to the first of them, however many keys there are. `keyed` has also what runs of a turn, and the table `line` what
  // waits of it in the order of insertion, where a queue is told to keep to that: every index of `records` costs all of them.
  // A record that has ended may speak of a turn that is forgotten.
  //
  // Of a key there is a row in `keys` only while something is known of it; `until` is when to look whether that is over.
  //
  // A record that is held back has the eta that it wants in `wanted_eta`, and none by its own `eta`; `follows` is the seq of
  // the one for whose end it waits to take its place, which `followers` knows. What a join has counted is apart from its record, which may be large.
  // `cancelling` says of which joins members are still to be cancelled: those after a seq.
  `ALTER TABLE outlive_records ADD COLUMN key TEXT;
  ALTER TABLE outlive_records ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE outlive_records ADD COLUMN member_of TEXT;
  ALTER TABLE outlive_records ADD COLUMN is_join INTEGER;
  ALTER TABLE outlive_records ADD COLUMN follows INTEGER;
  ALTER TABLE outlive_records ADD COLUMN wanted_eta REAL;
  ALTER TABLE outlive_records ADD COLUMN due_by REAL;
  DROP INDEX outlive_waiting;
  CREATE INDEX outlive_waiting ON outlive_records (queue, task, target, version, priority DESC, eta)
    WHERE state = 0 AND turn = 0;
  CREATE INDEX outlive_keyed ON outlive_records (turn, state, priority DESC, eta) WHERE state <= 1 AND turn > 0;
  CREATE INDEX outlive_members ON outlive_records (member_of) WHERE member_of IS NOT NULL;
  CREATE TABLE outlive_followers (holder INTEGER PRIMARY KEY, follower INTEGER NOT NULL) STRICT;
  CREATE TABLE outlive_lanes (
    lane INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    target TEXT NOT NULL,
    version REAL NOT NULL,
    UNIQUE (queue, task, target, version)
  ) STRICT;
  CREATE TABLE outlive_turns (
    turn INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    place REAL NOT NULL,
    next_at REAL,
    UNIQUE (queue, key, lane)
  ) STRICT;
  CREATE INDEX outlive_turn_order ON outlive_turns (lane, state, place, key);
  CREATE INDEX outlive_turn_times ON outlive_turns (lane, next_at) WHERE next_at IS NOT NULL;
  CREATE TABLE outlive_line (
    turn INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (turn, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outlive_keys (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    max_concurrent REAL,
    rate REAL,
    burst REAL,
    weight REAL,
    paused_until REAL,
    tokens REAL,
    tokens_at REAL,
    until REAL,
    PRIMARY KEY (queue, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outlive_known ON outlive_keys (until) WHERE until IS NOT NULL;
  ALTER TABLE outlive_queues ADD COLUMN paused_until REAL;
  ALTER TABLE outlive_queues ADD COLUMN fair_time REAL;
  ALTER TABLE outlive_queues ADD COLUMN plain_place REAL NOT NULL DEFAULT 0;
  ALTER TABLE outlive_queues ADD COLUMN key_max_concurrent REAL;
  ALTER TABLE outlive_queues ADD COLUMN key_rate REAL;
  ALTER TABLE outlive_queues ADD COLUMN key_burst REAL NOT NULL DEFAULT 5;
  ALTER TABLE outlive_queues ADD COLUMN key_ordered INTEGER NOT NULL DEFAULT 0;
  CREATE TABLE outlive_joins (
    id TEXT PRIMARY KEY,
    total REAL NOT NULL,
    on_failure TEXT NOT NULL,
    afterwards TEXT NOT NULL,
    is_held INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    dead INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outlive_cancelling (
    id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    after INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outlive_paces (
    task TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (task, unique_key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outlive_paced ON outlive_paces (until);`,
  // It means nothing, and keeps pages from being split: see `insertion`.
  "ALTER TABLE outlive_records ADD COLUMN room TEXT",
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
