/**
 * ready ──► running, as functions of the schema.
 */
import { holdsIn } from "./endingSql.ts"
import { plpgsql } from "./functions.ts"
import { columns, columnTypes } from "./row.ts"
import { inRun, runLists, runNames, runTypes, unnestRuns } from "./runsSql.ts"

const runs = (prefix: string) => runNames.map((name) => `${prefix}${name}`)
/** Reads runs into the lists that are called so. */
const into = (prefix: string): string =>
  `SELECT ${runNames.map((name) => `array_agg(run.${name})`).join(", ")} INTO ${runs(prefix).join(", ")}`

/** How many pages of an index this transaction has looked at so far. */
const pagesOf = (schema: string, index: string): string =>
  `pg_stat_get_xact_blocks_fetched('${schema}.${index}'::regclass)`

/** What a claim says besides the records, in its last row. */
export const answer: ReadonlyArray<readonly [name: string, type: string]> = [
  ["next_at", "double precision"],
  ["waiting_queues", "text[]"],
  ["ended_ids", "uuid[]"],
  // How many pages of the index were looked at for leases that expired, and for the heads of each queue.
  ["took_back_pages", "bigint"],
  ["walked_pages", "bigint[]"],
  ["counts", "bigint[]"],
  // What is known of heads now; `run_queue` is the queue's place from 1.
  ["run_queue", "integer[]"],
  ...runTypes.map(([name, type]) => [`run_${name}`, `${type}[]`] as const),
]

export const claimFunctions = (schema: string): ReadonlyArray<string> => [
  // Starts the first of the runs' ready records, at most `p_count`. More are looked at, because others may be starting
  // some of them at this moment: these are passed over, not waited for.
  plpgsql({
    name: `${schema}.start_records`,
    parameters: [
      "p_queue text",
      ...runLists("p_"),
      "p_count bigint",
      "p_look bigint",
      "p_lease double precision",
      "p_worker text",
      "p_ageing double precision",
      "p_now double precision",
    ],
    returns: `TABLE (${columnTypes})`,
    body: `BEGIN
  RETURN QUERY
    WITH head AS (
      SELECT ready.tid, ready.seq, CASE WHEN p_ageing IS NULL THEN run.rank ELSE ready.eta + run.rank * p_ageing END AS place,
        CASE WHEN p_ageing IS NULL THEN ready.eta END AS then_place
      FROM ${unnestRuns("p_")} CROSS JOIN LATERAL (
        SELECT r.ctid AS tid, r.seq, r.eta FROM ${inRun(schema)}
          AND r.eta <= p_now
          -- What this claim had no time to bury must not be claimed either.
          AND (r.bury_at IS NULL OR r.bury_at > p_now)
        ORDER BY r.eta, r.seq LIMIT p_look
      ) ready
      ORDER BY place, then_place, ready.seq LIMIT p_look
    ),
    taken AS MATERIALIZED (
      SELECT r.ctid AS tid, head.place, head.then_place FROM head
        JOIN ${schema}.records r ON r.ctid = head.tid AND r.state::integer = 0
      ORDER BY head.place, head.then_place, head.seq LIMIT p_count
      FOR UPDATE OF r SKIP LOCKED
    ),
    started AS (
      UPDATE ${schema}.records AS r SET state = 1, worker = p_worker, started_at = p_now,
        first_attempt_at = coalesce(r.first_attempt_at, p_now), bury_at = NULL,
        lease_until = p_now + coalesce(r.lease, p_lease), attempt = r.attempt + 1, token = r.token + 1,
        holds = ${holdsIn("r", "1")}
      FROM taken WHERE r.ctid = taken.tid AND r.state::integer = 0
      RETURNING ${columns("r")}, taken.place, taken.then_place
    )
    SELECT ${columns("started")} FROM started ORDER BY started.place, started.then_place, started.seq;
END`,
  }),
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
    returns: `TABLE (${answer.map((column) => column.join(" ")).join(", ")}, ${columnTypes})`,
    body: `DECLARE
  limits ${schema}.queues;
  lease record;
  lease_queues text[];
  leases double precision[];
  allowance record;
  allowed double precision;
  started bigint;
  step bigint;
  i integer;
  token_at double precision;
  eta_at double precision;
  earliest double precision;
  pages bigint;
  ${runLists("v_").join(";\n  ")};
BEGIN
  walked_pages := array_fill(NULL::bigint, ARRAY[cardinality(p_queues)]);
  IF p_take_back THEN
    pages := ${pagesOf(schema, "running")};
    SELECT t.waiting, t.ended, t.queues, t.leases INTO waiting_queues, ended_ids, lease_queues, leases
    FROM ${schema}.take_back(p_now, p_by) t;
    took_back_pages := ${pagesOf(schema, "running")} - pages;
  END IF;
  -- Queues with limits come last: who claims from one waits for the commit of who did so before, and has others wait.
  FOR i IN
    SELECT q.place::integer FROM unnest(p_queues) WITH ORDINALITY AS q (queue, place)
      LEFT JOIN ${schema}.queues l ON l.queue = q.queue AND (l.rate IS NOT NULL OR l.max_concurrent IS NOT NULL)
    ORDER BY l.queue NULLS FIRST, q.place
  LOOP
    SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i];
    allowance := ${schema}.allowance(limits, p_now);
    started := 0;
    -- Nothing will start by itself: nothing need be known of what waits.
    IF allowance.slots >= 1 THEN
      IF p_walk[i] THEN
        pages := ${pagesOf(schema, "waiting")};
        ${into("v_")} FROM ${schema}.runs(p_queues[i], p_tasks, p_versions, p_targets) AS run;
        walked_pages[i] := ${pagesOf(schema, "waiting")} - pages;
      ELSE
        ${into("v_")} FROM unnest(p_run_queue, ${runs("p_run_").join(", ")}) AS run (queue, ${runNames.join(", ")})
        WHERE run.queue = i;
      END IF;
      IF least(allowance.allowed, p_limits[i]) >= 1 AND v_task IS NOT NULL THEN
        -- Limits hold over all claims: who starts something has to know what others started.
        IF limits.rate IS NOT NULL OR limits.max_concurrent IS NOT NULL THEN
          SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i] FOR UPDATE;
          allowance := ${schema}.allowance(limits, p_now);
        END IF;
        allowed := floor(least(allowance.allowed, p_limits[i], 100000));
        FOR pass IN 1 .. 2 LOOP
          EXIT WHEN allowed < 1;
          RETURN QUERY SELECT ${answer.map(([, type]) => `NULL::${type}`).join(", ")}, s.* FROM ${schema}.start_records(
            p_queues[i], ${runs("v_").join(", ")}, allowed::bigint - started,
            (allowed::bigint - started) + CASE pass WHEN 1 THEN 16 ELSE 4096 END, p_lease, p_worker, limits.ageing, p_now) AS s;
          GET DIAGNOSTICS step = ROW_COUNT;
          started := started + step;
          -- Few or none: either there are no more, or others were starting those that were looked at.
          EXIT WHEN started >= allowed;
        END LOOP;
      END IF;
      limits := allowance.limits;
      token_at := '-Infinity';
      IF limits.rate IS NOT NULL THEN
        IF started > 0 THEN
          limits.tokens := limits.tokens - started;
          UPDATE ${schema}.queues SET tokens = limits.tokens, tokens_at = limits.tokens_at WHERE queue = p_queues[i];
        END IF;
        token_at := ${schema}.next_token_at(limits);
      END IF;
      ${into("v_")} FROM ${schema}.heads(p_queues[i], ${runs("v_").join(", ")}) AS run;
      -- Without a free slot, never: the end of a lease or an attempt comes first.
      IF v_task IS NOT NULL THEN
        run_queue := run_queue || array_fill(i, ARRAY[cardinality(v_task)]);
        ${runNames.map((name) => `run_${name} := run_${name} || v_${name};`).join("\n        ")}
        IF token_at IS NOT NULL AND allowance.slots > started THEN
          eta_at := (SELECT min(eta) FROM unnest(v_eta) AS eta);
          earliest := least(earliest, greatest(p_now, eta_at, token_at));
        END IF;
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
  RETURN NEXT;
END`,
  }),
]
