/**
 * What a schema has for keys, from its second version on.
 *
 * Records with a key are in indexes of their own: a claim that goes by the queue's order never meets them. What a claim by
 * turns goes by is in `turns`, a row for every run of a key (its records of one task, target, version and priority). Only
 * claims write it, under the lock of the queue's row: everybody else says in `arrivals` where they should look again, which
 * makes nobody wait for a transaction that is long in committing.
 */
import { mark } from "./runsSql.ts"

/** How `turns.state` says it. Of an idle one nothing waits; one set aside has nothing to start yet, a blocked one may not. */
export const Turn = { idle: 0, due: 1, aside: 2, blocked: 3 } as const

export const keyTables = (schema: string): ReadonlyArray<string> => [
  `ALTER TABLE ${schema}.records ADD COLUMN key text COLLATE "C"`,
  `CREATE INDEX waiting_by_key ON ${schema}.records
    (queue, key, task, ${mark("")}, version, (-priority), eta, seq) WHERE state = 0 AND key IS NOT NULL`,
  // That the place is above 0 is always so: who looks for the first of a key says it, and nobody else gets this index.
  `CREATE INDEX inserted_by_key ON ${schema}.records (queue, key, seq) WHERE state = 0 AND key IS NOT NULL AND seq > 0`,
  `CREATE INDEX running_by_key ON ${schema}.records (queue, key, lease_until) WHERE state = 1 AND key IS NOT NULL`,
  // The limits that each key has, and the queue's virtual time: NULL until it had a record with a key. `arrived_from`: what
  // transactions before this one said in `arrivals` has been seen to.
  `ALTER TABLE ${schema}.queues
    ADD COLUMN paused_until double precision,
    ADD COLUMN key_max_concurrent double precision,
    ADD COLUMN key_rate double precision,
    ADD COLUMN key_burst double precision NOT NULL DEFAULT 5,
    ADD COLUMN key_ordered boolean NOT NULL DEFAULT false,
    ADD COLUMN turn_time double precision,
    ADD COLUMN unkeyed_place double precision NOT NULL DEFAULT 0,
    ADD COLUMN arrived_from xid8 NOT NULL DEFAULT '0'`,
  // What is said for one key alone, until when it is paused, and its token bucket: NULL is full.
  `CREATE TABLE ${schema}.keys (
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    max_concurrent double precision,
    rate double precision,
    burst double precision,
    weight double precision,
    paused_until double precision,
    tokens double precision,
    tokens_at double precision,
    forget_at double precision,
    PRIMARY KEY (queue, key)
  ) WITH (fillfactor = 50)`,
  `CREATE INDEX holding_keys ON ${schema}.queues (queue) WHERE key_max_concurrent IS NOT NULL OR key_ordered`,
  `CREATE INDEX holding_key ON ${schema}.keys (queue) WHERE max_concurrent IS NOT NULL`,
  // From when on nothing may be known of a key any more, as far as can be said without looking.
  `CREATE INDEX forgettable ON ${schema}.keys (forget_at) WHERE forget_at IS NOT NULL`,
  // The runs of a queue, of all its keys together. No turn that is due has a place before `swept`, besides those at -Infinity.
  `CREATE TABLE ${schema}.lanes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    mark text COLLATE "C" NOT NULL,
    version double precision NOT NULL,
    rank double precision NOT NULL,
    swept double precision NOT NULL,
    UNIQUE (queue, task, mark, version, rank)
  ) WITH (fillfactor = 50)`,
  // No record of the run that waits is before its (eta, seq).
  `CREATE TABLE ${schema}.turns (
    lane bigint NOT NULL,
    place double precision NOT NULL,
    next_at double precision,
    eta double precision NOT NULL,
    seq bigint NOT NULL,
    state smallint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, key, lane)
  ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000)`,
  `CREATE INDEX due ON ${schema}.turns (lane, place, key) WHERE state = ${Turn.due}`,
  `CREATE INDEX aside ON ${schema}.turns (lane, next_at) WHERE state >= ${Turn.aside}`,
  `CREATE INDEX idle ON ${schema}.turns (queue, place) WHERE state = ${Turn.idle}`,
  // Where claims of a queue should look again: at a run of a key, at whatever held a key back, or, without one, all keys. And
  // what they should do about a record: see to what follows another; cancel, for a reason, it or its members from a place on.
  `CREATE TABLE ${schema}.arrivals (
    at double precision,
    version double precision,
    rank double precision,
    seq bigint,
    id uuid,
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C",
    task text COLLATE "C",
    mark text COLLATE "C",
    reason text,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
  ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`,
  // By transaction: whoever looks begins behind the remains of what was seen to.
  `CREATE INDEX arrived ON ${schema}.arrivals (queue, xid) WHERE id IS NULL`,
  `CREATE INDEX left_over ON ${schema}.arrivals (queue) WHERE id IS NOT NULL`,
]
