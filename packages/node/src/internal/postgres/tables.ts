/**
 * The tables of a task queue in a Postgres schema.
 *
 * Times and durations are `double precision`, as JavaScript has them: `keep` may be infinite. Text that is compared is in
 * the collation "C", which no upgrade of an operating system sorts anew.
 */

/** How `records.state` says it. `scheduled` and `ready` are both waiting: the reader's clock tells them apart. */
export const State = { waiting: 0, running: 1, succeeded: 2, cancelled: 3, dead: 4 } as const

/**
 * What decides who may claim a record comes first in the index of waiting ones (queue, task, target, version), then the
 * order of claims: a claim seeks to the head of each lane, however long the lanes are. The priority is negated because
 * only columns that go the same way can be sought together, and the target is `coalesce`d because "IS NULL" is no equality
 * to the planner when it looks for an order.
 */
export const lane = `queue, task, (coalesce(target, '')), version, (-priority), eta, seq`

/**
 * The indexes of the second version that are otherwise in the first. Ended records are in the index by which they are pruned,
 * with all that is counted: counting reads the index alone.
 */
export const changedIndexes = (schema: string): ReadonlyArray<string> => [
  ...["inserted", "waiting", "ended", "dead"].map((name) => `DROP INDEX ${schema}.${name}`),
  `CREATE INDEX waiting ON ${schema}.records (${lane}) WHERE state = 0 AND key IS NULL`,
  `CREATE INDEX ended ON ${schema}.records (prune_at, state, queue, task) WHERE state IN (2, 3)`,
  `CREATE INDEX dead ON ${schema}.records (ended_at, queue, task, reason, failure_tag) WHERE state = 4`,
]

// A record is written anew with each step from state to state. On the page on which it was, where there is room for that,
// this costs the log much less: it has what changed, and not the whole record.
//
// The indexes are partial, so a record is in few of them at a time: waiting in `waiting`, running in `running`. A record
// that is written anew has new entries in all its indexes, so what is rarely asked for has none.
// Indexes that the second version has no more, or has otherwise, are here as the first had them.
export const tables = (schema: string): ReadonlyArray<string> => [
  `CREATE TABLE ${schema}.records (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    priority double precision NOT NULL CHECK (priority > '-Infinity' AND priority < 'Infinity'),
    eta double precision NOT NULL,
    version double precision NOT NULL,
    keep double precision NOT NULL,
    tombstone double precision NOT NULL,
    max_crashes double precision NOT NULL,
    enqueued_at double precision NOT NULL,
    expires_at double precision,
    bury_at double precision,
    lease double precision,
    timeout double precision,
    lease_until double precision,
    started_at double precision,
    first_attempt_at double precision,
    ended_at double precision,
    prune_at double precision,
    token integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    state smallint NOT NULL DEFAULT 0,
    unique_while smallint,
    holds boolean,
    id uuid PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    target text COLLATE "C",
    name text COLLATE "C",
    unique_key text COLLATE "C",
    worker text,
    reason text,
    cancel_requested text,
    failure_tag text,
    retry text,
    headers text,
    payload text NOT NULL,
    payload_ref text COLLATE "C",
    result text,
    failure text,
    progress text,
    ledger jsonb
  ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05)`,
  `CREATE UNIQUE INDEX inserted ON ${schema}.records (seq)`,
  `CREATE INDEX waiting ON ${schema}.records (${lane}) WHERE state = 0`,
  // `bury_at` is `expires_at` for as long as it counts: until the record is started, or ends.
  `CREATE INDEX expiring ON ${schema}.records (bury_at) WHERE bury_at IS NOT NULL`,
  `CREATE INDEX running ON ${schema}.records (queue, lease_until) WHERE state = 1`,
  `CREATE UNIQUE INDEX holding ON ${schema}.records (task, unique_key) WHERE holds`,
  `CREATE INDEX ended ON ${schema}.records (prune_at, queue, task, state, reason, failure_tag) WHERE state >= 2`,
  `CREATE INDEX dead ON ${schema}.records (ended_at) WHERE state = 4`,
  `CREATE INDEX payload_refs ON ${schema}.records (payload_ref) WHERE payload_ref IS NOT NULL`,
  // Who has a name. Once its record has ended it stays taken until then.
  `CREATE TABLE ${schema}.names (
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    until double precision,
    PRIMARY KEY (queue, name)
  )`,
  `CREATE INDEX tombstones ON ${schema}.names (until) WHERE until IS NOT NULL`,
  // The limits of queues and their token buckets: a row for every queue that was ever configured.
  `CREATE TABLE ${schema}.queues (
    queue text COLLATE "C" PRIMARY KEY,
    paused boolean NOT NULL,
    rate double precision,
    burst double precision NOT NULL,
    max_concurrent double precision,
    ageing double precision,
    tokens double precision NOT NULL,
    tokens_at double precision NOT NULL
  ) WITH (fillfactor = 50)`,
  // Attempts settled, by the second. Who settles has a shard, so that nobody waits for another's transaction.
  `CREATE TABLE ${schema}.executed (
    queue text COLLATE "C" NOT NULL,
    second bigint NOT NULL,
    shard smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (queue, second, shard)
  ) WITH (fillfactor = 50)`,
  // Payloads that are too large for a record.
  `CREATE TABLE ${schema}.payloads (
    ref text COLLATE "C" PRIMARY KEY,
    at double precision NOT NULL,
    body text NOT NULL
  )`,
  `CREATE TABLE ${schema}.workers (
    id text COLLATE "C" PRIMARY KEY,
    until double precision NOT NULL,
    info text NOT NULL
  )`,
]
