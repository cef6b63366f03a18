/**
 * Claiming by turns, as functions of the schema: how the keys of a queue share what it may start (`TaskQueue.Driver.claim`).
 * All of it is under the lock of the queue's row, so that no two claims of a queue do this at once.
 *
 * A turn that is due may start something, as far as is known, and is in the index `due` by its place. A place before the
 * virtual time is as good as the virtual time itself: such turns are at `-Infinity`, where they are in the order of their
 * keys. So the first turns of a lane are the first of either. Of each, the first records are looked at, as many as may be
 * among those that start; a turn that has nothing to start is set aside until its time has come, or until somebody says that
 * it is to be looked at again.
 */
import { isThere, plpgsql } from "./functions.ts"
import { slack } from "./keysSql.ts"
import { Turn } from "./keyTables.ts"
import { claimedColumns, claimedList } from "./row.ts"
import { inRun, mark, runLists, unnestRuns } from "./runsSql.ts"
import { start } from "./startSql.ts"

/** What was looked at: a record that may start, with its tag; one that may not now; or, without one, a turn that has none. */
const candidate = [
  ["key", `text COLLATE "C"`],
  // Its turn: its number among those looked at, and its row. None when there is no key.
  ["turn", "bigint"],
  ["at", "tid"],
  ["record", "tid"],
  ["eta", "double precision"],
  ["seq", "bigint"],
  // NULL: it may not start now. `nth`: of its key, from 0.
  ["tag", "double precision"],
  ["nth", "bigint"],
  ["base", "double precision"],
  ["stride", "double precision"],
  // Whether its turn has nothing to start now, and whether there may be more than was looked at.
  ["is_idle", "boolean"],
  ["is_more", "boolean"],
  // What the key may start, NULL: any number. When it may again, if it may nothing now.
  ["slots", "double precision"],
  ["tokens", "double precision"],
  ["tokens_at", "double precision"],
  ["rate", "double precision"],
  ["burst", "double precision"],
  ["cap", "double precision"],
  ["opens_at", "double precision"],
] as const

export const turnTypes = (schema: string): ReadonlyArray<string> => [
  `CREATE TYPE ${schema}.candidate AS (${candidate.map((column) => column.join(" ")).join(", ")})`,
]

/** When tokens will be there, given when there were how many: a whole one, or as many as there are at the most. */
const tokenAt = (of: string, count: string): string => `ceil(${of}.tokens_at + (${count}) * 1000 / ${of}.rate)`

/** By how much a start moves a key on; not nothing for who weighs next to everything, nor what no number can be. */
const stride = "CASE WHEN k.weight IS NULL THEN 1 ELSE greatest(1 / greatest(k.weight, 1e-200), 1e-9) END"

/** The first turns of the lanes, with what their keys may do. */
const turns = (schema: string): string => `turn AS (
    SELECT l.task, l.mark, l.version, l.rank, due.*, dense_rank() OVER (ORDER BY due.base, due.key) AS nth_key
    FROM unnest(p_lanes) AS l CROSS JOIN LATERAL (
      (SELECT t.ctid AS at, t.key, p.turn_time AS base, t.eta, t.seq FROM ${schema}.turns t
        WHERE t.lane = l.id AND t.state = ${Turn.due} AND t.place = '-Infinity' ORDER BY t.key LIMIT most_keys)
      UNION ALL
      (SELECT t.ctid, t.key, t.place, t.eta, t.seq FROM ${schema}.turns t
        WHERE t.lane = l.id AND t.state = ${Turn.due} AND t.place >= p.turn_time ORDER BY t.place, t.key LIMIT most_keys)
    ) due
  ),
  known AS (
    SELECT turn.*, ${stride} AS stride, k.paused_until, coalesce(k.max_concurrent, p.key_max_concurrent) AS most,
      nullif(coalesce(k.rate, p.key_rate), 'Infinity') AS rate, coalesce(k.burst, p.key_burst) AS burst,
      k.tokens AS had, k.tokens_at AS had_at
    FROM turn LEFT JOIN LATERAL (
      SELECT * FROM ${schema}.keys k WHERE is_limited AND k.queue = p.queue AND k.key = turn.key
    ) k ON true
    WHERE turn.nth_key <= most_keys
  ),
  counted AS (
    SELECT known.*, most - busy.running AS slots, greatest(p_now + 1, busy.free_at) AS free_at, busy.running,
      CASE WHEN rate IS NOT NULL THEN
        CASE WHEN had IS NULL THEN burst ELSE least(burst, had + greatest(0, p_now - had_at) * rate / 1000) END END AS tokens,
      greatest(p_now, had_at) AS tokens_at
    FROM known LEFT JOIN LATERAL (
      SELECT count(*) AS running, min(r.lease_until) AS free_at FROM ${schema}.records r
      WHERE r.state = 1 AND r.key IS NOT NULL AND r.queue = p.queue AND r.key = known.key
        AND (known.most < 'Infinity' OR p.key_ordered)
    ) busy ON is_limited
  ),
  allowed AS MATERIALIZED (
    SELECT row_number() OVER () AS turn, counted.*,
      CASE WHEN paused_until > p_now OR rate = 0 OR (p.key_ordered AND running > 0) THEN 0
        ELSE greatest(0, least(p_count, slots, CASE WHEN rate IS NOT NULL THEN ${schema}.available(tokens) END)) END AS cap,
      -- Whoever waits for an end is looked at again when a lease should have ended, at the latest.
      CASE WHEN slots < 1 OR (p.key_ordered AND running > 0) THEN free_at
        WHEN rate = 0 THEN NULL
        WHEN rate IS NOT NULL AND ${schema}.available(tokens) < 1 THEN greatest(paused_until, ${tokenAt("counted", "1 - tokens")})
        ELSE paused_until END AS opens_at
    FROM counted
  )`

/**
 * How far the records of each key need be looked at, if there are enough of them: to a tag that is large enough for all that
 * start. It is at most the first tag of the last key of so many; and, counting that a key has `(tag - base) / stride` below a
 * tag and one at its base, that of which all have so many together. Where there are not enough, it is looked further.
 */
const depths = `level AS (
    SELECT enough.tag + (reach - 1) * (enough.tag - enough.first + enough.stride) AS tag FROM (
      SELECT least(
        max(base) FILTER (WHERE nth_key = p_count),
        (p_count * cardinality(p_lanes) + sum(base / stride)) / sum(1 / stride)
      ) AS tag, min(base) AS first, max(stride) AS stride FROM allowed WHERE cap >= 1
    ) enough
  ),
  measured AS (
    SELECT allowed.*, level.tag AS level,
      least(cap, greatest(1, floor((level.tag - allowed.base) / allowed.stride + 1e-9) + 1)) AS depth
    FROM allowed CROSS JOIN level
  )`

/** The first records of each turn, and one more by which to know when it has its next. */
const firstRecords = (schema: string): string => `seen AS (
    SELECT m.*, r.record, r.r_eta, r.r_seq, r.r_eta <= p_now AS is_ready, r.place, r.place > m.depth AS is_more
    FROM measured m LEFT JOIN LATERAL (
      SELECT each.*, row_number() OVER () AS place FROM (
        SELECT r.ctid AS record, r.eta AS r_eta, r.seq AS r_seq FROM ${schema}.records r
        WHERE r.state = 0 AND r.key IS NOT NULL AND r.queue = p.queue AND r.key = m.key AND r.task = m.task
          AND ${mark("r.")} = m.mark AND r.version = m.version AND -r.priority = m.rank AND (r.eta, r.seq) >= (m.eta, m.seq)
          AND r.eta < 'Infinity' AND (r.bury_at IS NULL OR r.bury_at > p_now)
        ORDER BY r.eta, r.seq LIMIT m.depth::bigint + 1
      ) each
    ) r ON m.cap >= 1
  )`

/** The first record of each key in the order of insertion, where it is of the turn's run. */
const firstInserted = (schema: string): string => `seen AS (
    SELECT m.*, r.record, r.r_eta, r.r_seq, r.r_eta <= p_now AND r.is_alive AS is_ready, 1 AS place, false AS is_more
    FROM measured m LEFT JOIN LATERAL (
      SELECT first.* FROM (
        SELECT r.ctid AS record, r.eta AS r_eta, r.seq AS r_seq, r.task, ${mark("r.")} AS mark, r.version, -r.priority AS rank,
          r.bury_at IS NULL OR r.bury_at > p_now AS is_alive
        FROM ${schema}.records r
        WHERE r.state = 0 AND r.key IS NOT NULL AND r.seq > 0 AND r.queue = p.queue AND r.key = m.key
        ORDER BY r.seq LIMIT 1
      ) first
      WHERE first.task = m.task AND first.mark = m.mark AND first.version = m.version AND first.rank = m.rank
    ) r ON m.cap >= 1
  )`

/** What may start, with its tag: of the keys, and of the records without one. */
const candidates = (schema: string, found: string): string => `WITH ${turns(schema)},
  ${depths},
  ${found},
  numbered AS (
    SELECT seen.*, CASE WHEN is_ready THEN count(*) FILTER (WHERE is_ready) OVER (
      PARTITION BY key ORDER BY rank, r_eta, r_seq ROWS UNBOUNDED PRECEDING) - 1 END AS nth
    FROM seen
  ),
  unkeyed AS (
    SELECT ready.*, row_number() OVER (ORDER BY ready.place, ready.then_place, ready.seq) - 1 AS nth FROM (
      SELECT r.*, CASE WHEN p.ageing IS NULL THEN run.rank ELSE r.eta + run.rank * p.ageing END AS place,
        CASE WHEN p.ageing IS NULL THEN r.eta END AS then_place
      FROM ${unnestRuns("p_")} CROSS JOIN LATERAL (
        SELECT r.ctid AS record, r.seq, r.eta FROM ${inRun(schema)}
          AND r.eta <= p_now AND (r.bury_at IS NULL OR r.bury_at > p_now)
        ORDER BY r.eta, r.seq LIMIT p_count
      ) r
      ORDER BY place, then_place, r.seq LIMIT p_count
    ) ready
  ),
  every AS (
    SELECT key, turn, at, record, r_eta AS eta, r_seq AS seq, CASE WHEN nth < cap THEN base + nth * stride END AS tag,
      nth, base, stride, cap < 1 OR record IS NULL OR (place = 1 AND NOT is_ready) AS is_idle, is_more,
      slots, tokens, tokens_at, rate, burst, cap, opens_at, level, nth_key, is_more AND is_ready AND depth < cap AS is_cut
    FROM numbered
    UNION ALL
    SELECT '', NULL, NULL, record, eta, seq, own.base + nth, nth, own.base, 1, false, false,
      NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false
    FROM unkeyed CROSS JOIN (SELECT greatest(p.unkeyed_place, p.turn_time) AS base) own
  )
  SELECT array_agg(ROW(${candidate.map(([name]) => `every.${name}`).join(", ")})::${schema}.candidate
      ORDER BY every.tag, every.key, every.nth),
    array_agg(every.record ORDER BY every.tag, every.key, every.nth) FILTER (WHERE every.tag IS NOT NULL), count(every.tag),
    count(*) FILTER (WHERE every.tag <= every.level OR every.turn IS NULL) >= p_count,
    bool_or(every.is_cut), bool_or(every.is_idle), max(every.nth_key) >= most_keys
  INTO candidates, tids, possible, is_enough, is_cut, has_idle, has_more_keys FROM every`

/** A time that was said to come, by rounding not before now. */
const ahead = (time: string): string =>
  `CASE WHEN ${time} > p_now THEN ${time} WHEN ${time} IS NOT NULL THEN p_now + 1 END`

/** Sets aside the turns that were found to have nothing to start. */
const setAside = (schema: string): string => `UPDATE ${schema}.turns t SET
        state = CASE WHEN c.cap < 1 OR waits.is_behind THEN ${Turn.blocked}
          WHEN c.eta IS NULL THEN ${Turn.idle} ELSE ${Turn.aside} END,
        next_at = CASE WHEN c.cap < 1 THEN ${ahead("c.opens_at")} ELSE ${ahead("c.eta")} END,
        eta = CASE WHEN c.cap < 1 OR p.key_ordered THEN t.eta ELSE coalesce(c.eta, 'Infinity') END,
        seq = CASE WHEN c.cap < 1 OR p.key_ordered THEN t.seq ELSE coalesce(c.seq, 0) END
      FROM unnest(candidates) AS c CROSS JOIN LATERAL (
        SELECT p.key_ordered AND ${isThere(`${schema}.records r
          WHERE r.state = 0 AND r.key IS NOT NULL AND r.seq > 0 AND r.queue = p.queue AND r.key = c.key`)} AS is_behind
      ) waits
      WHERE c.is_idle AND t.ctid = c.at`

/** The candidates that were started. */
const chosen = `FROM unnest(candidates) WITH ORDINALITY AS c
    WHERE c.ordinality <= until AND c.ordinality <> ALL (others)`

/** The variables of `startTurns`. */
export const turnVariables = (schema: string): ReadonlyArray<string> => [
  `candidates ${schema}.candidate[];`,
  // The records of those that may start, and how many these are.
  "tids tid[];",
  "possible bigint;",
  "places bigint[];",
  // The place of the last that starts, and those before it that do not.
  "until bigint;",
  "others bigint[];",
  "new_time double precision;",
  "new_place double precision;",
]

/**
 * Starts the first candidates, at most so many as are allowed, and moves their turns and the time on. What others have locked at
 * this moment is passed over. Says in `started` how many it were.
 */
export const startTurns = (schema: string): string => `places := ARRAY(
                SELECT c.place FROM unnest(tids) WITH ORDINALITY AS c (tid, place)
                  JOIN ${schema}.records r ON r.ctid = c.tid AND r.state::integer = 0
                ORDER BY c.place LIMIT allowed::bigint
                FOR UPDATE OF r SKIP LOCKED
              );
              started := cardinality(places);
              IF started > 0 THEN
                until := places[started];
                others := '{}';
                IF until > started THEN
                  others := ARRAY(SELECT n FROM generate_series(1, until) AS n EXCEPT SELECT unnest(places));
                END IF;
                new_time := greatest(limits.turn_time, (candidates[until]).tag);
                RETURN QUERY
                  WITH marked AS MATERIALIZED (
                    SELECT c.*, c.ordinality <= until AND c.ordinality <> ALL (others) AS is_started
                    FROM unnest(candidates) WITH ORDINALITY AS c
                  ),
                  begun AS (
                    UPDATE ${schema}.records AS r SET ${start("r")}
                    FROM marked m WHERE m.is_started AND r.ctid = m.record AND r.state::integer = 0
                    RETURNING ${claimedColumns("r")}, m.ordinality
                  ),
                  -- What is left of each turn, of what was looked at.
                  turn AS (
                    SELECT m.at, sum((count(*) FILTER (WHERE m.is_started))::integer) OVER (PARTITION BY m.key) AS count,
                      min(m.eta) FILTER (WHERE NOT m.is_started) AS eta, min(m.seq) FILTER (WHERE NOT m.is_started) AS seq,
                      bool_or(m.is_more) AS is_more, bool_or(m.is_idle) AS is_idle, max(m.base) AS base, max(m.stride) AS stride,
                      max(m.slots) AS slots, max(m.tokens) AS tokens, max(m.tokens_at) AS tokens_at, max(m.rate) AS rate
                    FROM marked m WHERE m.at IS NOT NULL GROUP BY m.key, m.at
                  ),
                  left_over AS (
                    SELECT turn.*, CASE WHEN limits.key_ordered OR slots - count < 1 THEN p_now + p_lease
                      WHEN rate IS NOT NULL AND ${schema}.available(tokens - count) < 1
                      THEN ${tokenAt("turn", "1 - (tokens - count)")} END AS opens_at
                    FROM turn WHERE count > 0 AND NOT is_idle
                  ),
                  moved AS (
                    UPDATE ${schema}.turns t SET place = greatest(n.base + n.count * n.stride, new_time), state = n.state,
                      next_at = CASE n.state WHEN ${Turn.blocked} THEN ${ahead("n.opens_at")} WHEN ${Turn.aside} THEN n.eta END,
                      eta = CASE n.state WHEN ${Turn.idle} THEN 'Infinity' ELSE coalesce(n.eta, t.eta) END,
                      seq = CASE n.state WHEN ${Turn.idle} THEN 0 ELSE coalesce(n.seq, t.seq) END
                    FROM (
                      SELECT o.*, CASE WHEN o.eta IS NULL AND NOT o.is_more AND NOT limits.key_ordered THEN ${Turn.idle}
                        WHEN o.opens_at IS NOT NULL THEN ${Turn.blocked}
                        WHEN o.eta > p_now THEN ${Turn.aside} ELSE ${Turn.due} END AS state
                      FROM left_over o
                    ) n
                    WHERE t.ctid = n.at
                  )
                  SELECT NULL, ${claimedList("begun")} FROM begun ORDER BY begun.ordinality;
                new_place := limits.unkeyed_place;
                IF v_task IS NOT NULL THEN
                  new_place := coalesce((SELECT min(c.base) + count(*) ${chosen} AND c.key = '' HAVING count(*) > 0), new_place);
                END IF;
                IF new_time > limits.turn_time OR new_place > limits.unkeyed_place THEN
                  UPDATE ${schema}.queues SET turn_time = new_time, unkeyed_place = new_place WHERE queue = limits.queue;
                END IF;
                -- A key has the same place in all its lanes, those that were not looked at, too.
                IF cardinality(lanes) > 1
                  OR EXISTS (SELECT FROM ${schema}.lanes l WHERE l.queue = limits.queue AND l.id <> lanes[1].id) THEN
                  UPDATE ${schema}.turns t SET place = k.place FROM (
                    SELECT o.tid, ahead.place FROM (
                      SELECT c.key, greatest(new_time, min(c.base) + count(*) * min(c.stride)) AS place ${chosen} GROUP BY c.key
                    ) ahead CROSS JOIN LATERAL (
                      SELECT o.ctid AS tid FROM ${schema}.turns o
                      WHERE o.queue = limits.queue AND o.key = ahead.key AND o.place < ahead.place OFFSET 0
                    ) o
                  ) k
                  WHERE t.ctid = k.tid;
                END IF;
                IF is_limited AND EXISTS (SELECT FROM unnest(candidates) AS c WHERE c.rate IS NOT NULL) THEN
                  INSERT INTO ${schema}.keys AS e (queue, key, tokens, tokens_at, forget_at)
                  SELECT limits.queue, c.key, min(c.tokens) - count(*), min(c.tokens_at),
                    min(c.tokens_at) + (min(c.burst) - min(c.tokens) + count(*)) * 1000 / min(c.rate) + ${slack}
                  ${chosen} AND c.rate IS NOT NULL GROUP BY c.key ORDER BY c.key
                  ON CONFLICT (queue, key) DO UPDATE SET tokens = excluded.tokens, tokens_at = excluded.tokens_at,
                    forget_at = excluded.forget_at;
                END IF;
              END IF;`

export const turnsFunctions = (schema: string): ReadonlyArray<string> => [
  // The candidates of a claim, the first of all with the smallest tags: `p_count` of those that may start now, if there are
  // so many. `p` is the queue as it was read under its lock.
  plpgsql({
    name: `${schema}.look_turns`,
    isInner: true,
    parameters: [
      `p ${schema}.queues`,
      "p_queue text",
      `p_lanes ${schema}.lanes[]`,
      // Whether anything may limit keys.
      "is_limited boolean",
      "p_count bigint",
      "p_now double precision",
      ...runLists("p_"),
      `OUT candidates ${schema}.candidate[]`,
      "OUT tids tid[]",
      "OUT possible bigint",
    ],
    returns: "record",
    body: `DECLARE
  most_keys bigint := p_count;
  reach double precision := 1;
  is_enough boolean;
  is_cut boolean;
  has_idle boolean;
  has_more_keys boolean;
BEGIN
  LOOP
    IF p.key_ordered THEN
      ${candidates(schema, firstInserted(schema))};
    ELSE
      ${candidates(schema, firstRecords(schema))};
    END IF;
    IF has_idle THEN ${setAside(schema)}; END IF;
    IF has_idle AND has_more_keys THEN
      -- Others may come before those that were found.
      most_keys := least(4 * most_keys, 10000);
    ELSE
      EXIT WHEN is_enough OR is_cut IS NOT TRUE;
      reach := 4 * reach;
    END IF;
  END LOOP;
END`,
  }),
]
