/**
 * ready ──► running, as functions of the schema.
 */

import { arrivedFrom } from "./arrivalsSql.ts"
import { startEvenTurns } from "./evenTurnsSql.ts"
import { isThere, plpgsql } from "./functions.ts"
import { claimedColumns, claimedList, claimedTypes } from "./row.ts"
import { firstOf, headsOf, inRun, runLists, runNames, runsOf, runTypes, unnestRuns } from "./runsSql.ts"
import { start } from "./startSql.ts"
import { startTurns, turnVariables } from "./turnsSql.ts"

const runs = (prefix: string) => runNames.map((name) => `${prefix}${name}`)
/** Reads runs into the lists that are called so. */
const into = (prefix: string): string =>
  `SELECT ${runNames.map((name) => `array_agg(run.${name})`).join(", ")} INTO ${runs(prefix).join(", ")}`

/** How many pages of an index this transaction has looked at so far. */
const pagesOf = (schema: string, index: string): string =>
  `pg_stat_get_xact_blocks_fetched('${schema}.${index}'::regclass)`

/** What a claim says besides the records: in its last row, as JSON. */
export const answer: ReadonlyArray<readonly [name: string, type: string]> = [
  ["next_at", "double precision"],
  ["waiting_queues", "text[]"],
  ["ended_ids", "uuid[]"],
  ["cancelling_ids", "uuid[]"],
  ["progressed_ids", "uuid[]"],
  // How many pages of the index were looked at for leases that expired, and for the heads of each queue.
  ["took_back_pages", "bigint"],
  ["walked_pages", "bigint[]"],
  ["counts", "bigint[]"],
  // What is known of heads now; `run_queue` is the queue's place from 1.
  ["run_queue", "integer[]"],
  ...runTypes.map(([name, type]) => [`run_${name}`, `${type}[]`] as const),
]

/** Does what earlier calls left to a claim of the queue. */
const doLeft = (schema: string): string => `SELECT * INTO did FROM ${schema}.do_left(p_queues[i], p_now, NULL);
      e := did.e;
      PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
      waiting_queues := waiting_queues || e.waiting;
      ended_ids := ended_ids || e.ended;
      cancelling_ids := cancelling_ids || e.cancelling;
      progressed_ids := progressed_ids || e.progressed;
      IF did.is_left THEN earliest := least(earliest, p_now + ${soon}); END IF;
      has_arrivals := true;`

/**
 * The end of the first lease of each queue, from queue to queue by the index: of all queues, also of those that nobody claims
 * from any more.
 */
const firstLeases = (schema: string): string => `WITH RECURSIVE running (queue, lease_until) AS (
      (SELECT r.queue, r.lease_until FROM ${schema}.records r WHERE r.state = 1 ORDER BY r.queue, r.lease_until LIMIT 1)
      UNION ALL
      SELECT following.* FROM running CROSS JOIN LATERAL (
        SELECT r.queue, r.lease_until FROM ${schema}.records r WHERE r.state = 1 AND r.queue > running.queue
        ORDER BY r.queue, r.lease_until LIMIT 1
      ) following
    )
    SELECT array_agg(running.queue), array_agg(running.lease_until) INTO lease_queues, leases FROM running;`

/** What may start of the queue, by `limits`: how many more at once, and how many by all that is said of it. */
const allow = (schema: string): string => `IF limits.queue IS NULL THEN
        slots := 'Infinity';
        may := 'Infinity';
      ELSE
        allowance := ${schema}.allowance(limits, p_now);
        limits := allowance.limits;
        slots := allowance.slots;
        may := allowance.allowed;
      END IF;`

/**
 * Walks to the heads of the queue. Most are one run of one task, which two short statements find sooner than the one that
 * finds all.
 */
const walk = (schema: string): string => {
  const only = { task: "p_tasks[1]", target: "NULL", max_version: "p_versions[1]" }
  const first = (into: string, and?: string) => firstOf(schema, "p_queues[i]", (part) => only[part], into, and)
  return `is_one := false;
        IF cardinality(p_tasks) = 1 AND cardinality(p_targets) = 0 THEN
          v_task := NULL;
          v_eta := NULL;
          ${first("INTO head")};
          is_one := NOT FOUND;
          IF NOT is_one THEN
            PERFORM FROM (${first("", "(r.version, -r.priority) > (head.version, head.rank)")}) following;
            is_one := NOT FOUND;
            IF is_one THEN
              v_task := p_tasks;
              v_target := ARRAY[NULL::text];
              v_version := ARRAY[head.version];
              v_rank := ARRAY[head.rank];
              v_eta := ARRAY[head.eta];
              v_seq := ARRAY[head.seq];
            END IF;
          END IF;
        END IF;
        IF NOT is_one THEN
          ${into("v_")} FROM ${runsOf(schema, "p_queues[i]")};
        END IF;`
}

/** Looks where the runs begin now. */
const lookAgain = (schema: string): string => `IF cardinality(v_task) = 1 THEN
          SELECT r.eta, r.seq INTO head FROM ${inRun(schema, "p_queues[i]", (part) => `v_${part}[1]`)} ORDER BY r.eta, r.seq LIMIT 1;
          IF FOUND THEN
            v_eta := ARRAY[head.eta];
            v_seq := ARRAY[head.seq];
          ELSE
            v_task := NULL;
            v_eta := NULL;
          END IF;
        ELSE
          ${into("v_")} FROM ${headsOf(schema, "p_queues[i]", "v_")};
        END IF;`

/** Before its first record with a key nothing in a queue is held back by one, so what says that it no longer is means nothing. */
const awaitKeys = (schema: string): string => `DELETE FROM ${schema}.arrivals WHERE ctid = ANY (ARRAY(
        SELECT a.ctid FROM ${schema}.arrivals a WHERE a.queue = p_queues[i] AND a.id IS NULL AND a.task IS NULL
        LIMIT 1000 FOR UPDATE SKIP LOCKED
      ));
      has_arrivals := EXISTS (
        SELECT FROM ${schema}.arrivals a WHERE a.queue = p_queues[i] AND a.id IS NULL AND a.task IS NOT NULL
      );
      -- Another claim may have taken them in the meantime, the first of the queue.
      SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i];`

/** Milliseconds after which a claim looks again for what others had locked. */
const soon = 100

/**
 * How a claim starts records of a queue that has had keys: the turns are looked at, and moved on, under the lock of the queue.
 * `turn_at` is when that may give something again, besides what has no key.
 */
const startByTurns = (
  schema: string,
): string => `lanes := ${schema}.known_lanes(p_queues[i], p_tasks, p_versions, p_targets);
        turn_at := CASE WHEN has_arrivals THEN p_now ELSE ${schema}.next_turn(lanes, p_now, false) END;
        IF least(may, p_limits[i]) >= 1 AND (turn_at <= p_now OR v_task IS NOT NULL) THEN
          IF limits.turn_time IS NULL THEN
            INSERT INTO ${schema}.queues AS q (queue, paused, burst, tokens, tokens_at, turn_time)
            VALUES (p_queues[i], false, 5, 0, p_now, 0)
            ON CONFLICT (queue) DO UPDATE SET turn_time = coalesce(q.turn_time, 0);
          END IF;
          SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i] FOR UPDATE;
          ${allow(schema)}
          IF has_arrivals THEN
            has_arrivals := ${schema}.take_arrivals(limits, p_now);
            lanes := ${schema}.known_lanes(p_queues[i], p_tasks, p_versions, p_targets);
          END IF;
          PERFORM ${schema}.wake_turns(lanes, limits.turn_time, p_now);
          allowed := floor(least(may, p_limits[i], 100000));
          turn_at := p_now;
          is_limited := limits.key_max_concurrent IS NOT NULL OR limits.key_rate IS NOT NULL OR limits.key_ordered
            OR EXISTS (SELECT FROM ${schema}.keys k WHERE k.queue = limits.queue);
          IF allowed >= 1 AND v_task IS NULL AND NOT is_limited AND cardinality(lanes) = 1
            AND NOT EXISTS (SELECT FROM ${schema}.lanes l WHERE l.queue = limits.queue AND l.id <> lanes[1].id) THEN
            ${startEvenTurns(schema)}
            IF started > 0 AND has_arrivals IS NOT TRUE THEN turn_at := ${schema}.next_turn(lanes, p_now, false); END IF;
          END IF;
          IF allowed >= 1 AND started = 0 THEN
            -- One more than may start: so it is known whether there is more.
            SELECT * INTO candidates, tids, possible FROM ${schema}.look_turns(
              limits, p_queues[i], lanes, is_limited, allowed::bigint + 1, p_now, ${runs("v_").join(", ")});
            IF tids IS NOT NULL THEN
              ${startTurns(schema)}
            END IF;
            IF has_arrivals IS NOT TRUE AND possible <= started THEN
              turn_at := ${schema}.next_turn(lanes, p_now, true);
            END IF;
          END IF;
        END IF;`

/**
 * Starts the first ready records of one run, as most claims do: they are locked on the way along the index, and those that
 * others are starting passed over. They are given in the order in which they were found: an UPDATE returns what it was
 * joined to as that comes.
 */
const startRun = (schema: string): string => `RETURN QUERY
            WITH taken AS MATERIALIZED (
              SELECT r.ctid AS tid FROM ${inRun(schema, "p_queues[i]", (part) => `v_${part}[1]`)}
                AND r.eta <= p_now
                -- What this claim had no time to bury must not be claimed either.
                AND (r.bury_at IS NULL OR r.bury_at > p_now)
              ORDER BY r.eta, r.seq LIMIT allowed::bigint
              FOR UPDATE SKIP LOCKED
            )
            UPDATE ${schema}.records AS r SET ${start("r")}
            FROM taken WHERE r.ctid = taken.tid AND r.state::integer = 0
            RETURNING NULL, ${claimedColumns("r")}`

/**
 * Starts the first of the runs' ready records in a queue without keys. More are looked at than are wanted, because others may
 * be starting some of them at this moment: these are passed over, not waited for.
 */
const startInOrder = (schema: string): string => `RETURN QUERY
            WITH head AS (
              SELECT ready.tid, ready.seq, CASE WHEN limits.ageing IS NULL THEN run.rank ELSE ready.eta + run.rank * limits.ageing END AS place,
                CASE WHEN limits.ageing IS NULL THEN ready.eta END AS then_place
              FROM ${unnestRuns("v_")} CROSS JOIN LATERAL (
                SELECT r.ctid AS tid, r.seq, r.eta FROM ${inRun(schema, "p_queues[i]")}
                  AND r.eta <= p_now
                  -- What this claim had no time to bury must not be claimed either.
                  AND (r.bury_at IS NULL OR r.bury_at > p_now)
                ORDER BY r.eta, r.seq LIMIT looked
              ) ready
              ORDER BY place, then_place, ready.seq LIMIT looked
            ),
            taken AS MATERIALIZED (
              SELECT r.ctid AS tid, head.place, head.then_place, head.seq FROM head
                JOIN ${schema}.records r ON r.ctid = head.tid AND r.state::integer = 0
              ORDER BY head.place, head.then_place, head.seq LIMIT wanted
              FOR UPDATE OF r SKIP LOCKED
            ),
            begun AS (
              UPDATE ${schema}.records AS r SET ${start("r")}
              FROM taken WHERE r.ctid = taken.tid AND r.state::integer = 0
              RETURNING ${claimedColumns("r")}, taken.place, taken.then_place, taken.seq
            )
            SELECT NULL, ${claimedList("begun")} FROM begun ORDER BY begun.place, begun.then_place, begun.seq`

export const claimFunctions = (schema: string): ReadonlyArray<string> => [
  // The rows that were started, and one more with the rest of the answer. The queues that `p_walk` does not name are
  // looked at from the heads that are given, and without `p_take_back` leases that expired stay for another claim.
  plpgsql({
    name: `${schema}.claim`,
    parameters: [
      "p_queues text[]",
      "p_limits double precision[]",
      "p_tasks text[]",
      "p_versions double precision[]",
      "p_targets text[]",
      "p_lease double precision",
      "p_worker text",
      "p_now double precision",
      "p_by text",
      "p_take_back boolean",
      "p_walk boolean[]",
      "p_run_queue integer[]",
      ...runLists("p_run_"),
    ],
    returns: `TABLE (answer text, ${claimedTypes})`,
    body: `DECLARE
  ${answer.map((column) => column.join(" ")).join(";\n  ")};
  limits ${schema}.queues;
  lease record;
  lease_queues text[];
  leases double precision[];
  allowance record;
  slots double precision;
  may double precision;
  part record;
  head record;
  is_one boolean;
  allowed double precision;
  started bigint;
  step bigint;
  wanted bigint;
  looked bigint;
  i integer;
  has_arrivals boolean;
  knows_heads boolean;
  did record;
  e ${schema}.ends;
  lanes ${schema}.lanes[];
  lane ${schema}.lanes;
  is_limited boolean;
  ${turnVariables(schema).join("\n  ")}
  turn_at double precision;
  token_at double precision;
  eta_at double precision;
  earliest double precision;
  pages bigint;
  ${runLists("v_").join(";\n  ")};
BEGIN
  walked_pages := array_fill(NULL::bigint, ARRAY[cardinality(p_queues)]);
  IF p_take_back THEN
    pages := ${pagesOf(schema, "running")};
    SELECT ${isThere(`${schema}.records r WHERE r.state = 1`)} AS are_leased, ${isThere(`${schema}.records r WHERE r.bury_at <= p_now`)} AS are_late
    INTO part;
    IF part.are_leased THEN
      ${firstLeases(schema)}
    END IF;
    IF part.are_late OR p_now >= ANY (leases) THEN
      e := ${schema}.take_back(p_now, p_by, lease_queues, leases);
      waiting_queues := e.waiting;
      ended_ids := e.ended;
      cancelling_ids := e.cancelling;
      progressed_ids := e.progressed;
    END IF;
    took_back_pages := ${pagesOf(schema, "running")} - pages;
  END IF;
  -- Queues with limits come last: who claims from one waits for the commit of who did so before, and has others wait.
  FOR part IN
    SELECT q.place::integer AS place, arrived.queue IS NOT NULL AS has_arrivals, left_over.queue IS NOT NULL AS has_left, l AS limits
    FROM unnest(p_queues) WITH ORDINALITY AS q (queue, place)
      LEFT JOIN ${schema}.queues l ON l.queue = q.queue
      LEFT JOIN LATERAL (
        SELECT a.queue FROM ${schema}.arrivals a
        WHERE a.queue = q.queue AND a.id IS NULL AND a.xid >= ${arrivedFrom("l")} LIMIT 1
      ) arrived ON true
      LEFT JOIN LATERAL (
        SELECT a.queue FROM ${schema}.arrivals a WHERE a.queue = q.queue AND a.id IS NOT NULL LIMIT 1
      ) left_over ON true
    ORDER BY CASE WHEN l.rate IS NOT NULL OR l.max_concurrent IS NOT NULL OR l.turn_time IS NOT NULL
      OR arrived.queue IS NOT NULL THEN q.queue COLLATE "C" END NULLS FIRST, q.place
  LOOP
    i := part.place;
    has_arrivals := part.has_arrivals;
    limits := part.limits;
    IF part.has_left THEN
      ${doLeft(schema)}
    END IF;
    IF has_arrivals AND limits.turn_time IS NULL THEN
      ${awaitKeys(schema)}
    END IF;
    ${allow(schema)}
    started := 0;
    knows_heads := false;
    turn_at := NULL;
    -- Nothing will start by itself: nothing need be known of what waits.
    IF slots >= 1 THEN
      IF p_walk[i] THEN
        pages := ${pagesOf(schema, "waiting")};
        ${walk(schema)}
        walked_pages[i] := ${pagesOf(schema, "waiting")} - pages;
      ELSE
        ${into("v_")} FROM unnest(p_run_queue, ${runs("p_run_").join(", ")}) AS run (queue, ${runNames.join(", ")})
        WHERE run.queue = i;
      END IF;
      IF limits.turn_time IS NOT NULL OR has_arrivals THEN
        ${startByTurns(schema)}
      ELSIF least(may, p_limits[i]) >= 1 AND v_task IS NOT NULL THEN
        -- Limits hold over all claims: who starts something has to know what others started.
        IF limits.rate IS NOT NULL OR limits.max_concurrent IS NOT NULL THEN
          SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i] FOR UPDATE;
          ${allow(schema)}
        END IF;
        allowed := floor(least(may, p_limits[i], 100000));
        IF allowed >= 1 AND cardinality(v_task) = 1 THEN
          ${startRun(schema)};
          GET DIAGNOSTICS started = ROW_COUNT;
        ELSE FOR pass IN 1 .. 2 LOOP
          EXIT WHEN allowed < 1;
          wanted := allowed::bigint - started;
          looked := wanted + CASE pass WHEN 1 THEN 16 ELSE 4096 END;
          ${startInOrder(schema)};
          GET DIAGNOSTICS step = ROW_COUNT;
          started := started + step;
          knows_heads := started < allowed;
          EXIT WHEN NOT knows_heads;
          -- Few or none: either there are no more, or others were starting those that were looked at.
          ${into("v_")} FROM ${headsOf(schema, "p_queues[i]", "v_")};
          EXIT WHEN v_task IS NULL OR NOT p_now >= ANY (v_eta);
        END LOOP; END IF;
      END IF;
      token_at := CASE WHEN limits.paused_until > p_now THEN limits.paused_until ELSE '-Infinity' END;
      IF limits.rate IS NOT NULL THEN
        IF started > 0 THEN
          limits.tokens := limits.tokens - started;
          UPDATE ${schema}.queues SET tokens = limits.tokens, tokens_at = limits.tokens_at WHERE queue = p_queues[i];
        END IF;
        token_at := greatest(token_at, ${schema}.next_token_at(limits));
      END IF;
      IF NOT knows_heads AND v_task IS NOT NULL THEN
        ${lookAgain(schema)}
      END IF;
      IF v_task IS NOT NULL THEN
        run_queue := run_queue || array_fill(i, ARRAY[cardinality(v_task)]);
        ${runNames.map((name) => `run_${name} := run_${name} || v_${name};`).join("\n        ")}
      END IF;
      -- Without a free slot, never: the end of a lease or an attempt comes first.
      IF token_at IS NOT NULL AND slots > started THEN
        IF coalesce(cardinality(v_eta), 0) <= 1 THEN eta_at := least(v_eta[1], turn_at);
        ELSE eta_at := least((SELECT min(eta) FROM unnest(v_eta) AS eta), turn_at); END IF;
        -- What is held back waits for no time.
        IF eta_at < 'Infinity' THEN earliest := least(earliest, greatest(p_now, eta_at, token_at)); END IF;
      END IF;
    END IF;
    counts[i] := started;
    -- Besides those that this claim gave.
    eta_at := leases[array_position(lease_queues, p_queues[i])];
    IF eta_at <= p_now THEN
      SELECT r.lease_until INTO eta_at FROM ${schema}.records r
      WHERE r.state = 1 AND r.queue = p_queues[i] AND r.lease_until >= eta_at ORDER BY r.lease_until LIMIT 1;
    END IF;
    IF eta_at IS NOT NULL THEN earliest := least(earliest, greatest(p_now, eta_at)); END IF;
  END LOOP;
  next_at := earliest;
  answer := json_build_array(${answer.map(([name]) => name).join(", ")})::text;
  RETURN NEXT;
END`,
  }),
]
