/**
 * ready ──► running, as a function of the schema.
 */
import { holdsIn } from "./endingSql.ts"
import { plpgsql } from "./functions.ts"
import { columns, columnTypes } from "./row.ts"

/**
 * The runs of a queue that a claim allows: records of one task, target, version and priority, which the index has in the
 * order of their etas. Found by seeking from one to the next.
 */
const runs = (schema: string): string => {
  const found = `SELECT r.version, -r.priority AS rank FROM ${schema}.records r
        WHERE r.state = 0 AND r.queue = p_queue AND r.task = %s.task AND coalesce(r.target, '') = coalesce(%s.target, '')
          AND r.version <= %s.max_version`
  const from = (name: string) => found.replaceAll("%s", name)
  return `wanted AS (
      SELECT task, max(max_version) AS max_version, target
      FROM unnest(p_tasks, p_versions) AS known (task, max_version)
        CROSS JOIN (SELECT NULL AS target UNION SELECT unnest(p_targets)) AS targets
      GROUP BY task, target
    ),
    run AS (
      SELECT wanted.*, first.* FROM wanted CROSS JOIN LATERAL (
        ${from("wanted")}
        ORDER BY r.version, -r.priority LIMIT 1
      ) first
      UNION ALL
      SELECT run.task, run.max_version, run.target, following.* FROM run CROSS JOIN LATERAL (
        ${from("run")}
          AND (r.version, -r.priority) > (run.version, run.rank)
        ORDER BY r.version, -r.priority LIMIT 1
      ) following
    )`
}

const inRun = (schema: string): string => `${schema}.records r
        WHERE r.state = 0 AND r.queue = p_queue AND r.task = run.task AND coalesce(r.target, '') = coalesce(run.target, '')
          AND r.version = run.version AND -r.priority = run.rank AND r.target IS NOT DISTINCT FROM run.target`

export const claimFunctions = (schema: string): ReadonlyArray<string> => [
  // Starts the first of the queue's ready records, at most `p_count`. More are looked at, because others may be starting
  // some of them at this moment: these are passed over, not waited for.
  plpgsql({
    name: `${schema}.start_records`,
    parameters: [
      "p_queue text",
      "p_count bigint",
      "p_look bigint",
      "p_tasks text[]",
      "p_versions double precision[]",
      "p_targets text[]",
      "p_lease double precision",
      "p_worker text",
      "p_ageing double precision",
      "p_now double precision",
    ],
    returns: `TABLE (${columnTypes})`,
    body: `BEGIN
  RETURN QUERY
    WITH RECURSIVE ${runs(schema)},
    head AS (
      SELECT ready.tid, ready.seq, CASE WHEN p_ageing IS NULL THEN run.rank ELSE ready.eta + run.rank * p_ageing END AS place,
        CASE WHEN p_ageing IS NULL THEN ready.eta END AS then_place
      FROM run CROSS JOIN LATERAL (
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
  plpgsql({
    name: `${schema}.first_eta`,
    parameters: ["p_queue text", "p_tasks text[]", "p_versions double precision[]", "p_targets text[]"],
    returns: "double precision",
    body: `BEGIN
  RETURN (
    WITH RECURSIVE ${runs(schema)}
    SELECT min(first.eta) FROM run CROSS JOIN LATERAL (
      SELECT r.eta FROM ${inRun(schema)} ORDER BY r.eta, r.seq LIMIT 1
    ) first
  );
END`,
  }),
  // The rows that were started, and one more with the rest of the answer.
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
    ],
    returns: `TABLE (next_at double precision, waiting_queues text[], ended_ids uuid[], ${columnTypes})`,
    body: `DECLARE
  changed record;
  limits ${schema}.queues;
  -- What may start of a queue, what of its rate is left, and when that is more.
  allowed double precision;
  slots double precision;
  started bigint;
  step bigint;
  token_at double precision;
  eta_at double precision;
  earliest double precision;
BEGIN
  changed := ${schema}.take_back(p_now, p_by);
  -- Limits hold over all claims: those of one queue come one after the other.
  IF EXISTS (SELECT FROM ${schema}.queues WHERE queue = ANY (p_queues)
    AND NOT paused AND (rate IS NOT NULL OR max_concurrent IS NOT NULL)) THEN
    PERFORM 1 FROM ${schema}.queues WHERE queue = ANY (p_queues)
      AND NOT paused AND (rate IS NOT NULL OR max_concurrent IS NOT NULL) ORDER BY queue FOR UPDATE;
  END IF;
  FOR i IN 1 .. cardinality(p_queues) LOOP
    allowed := p_limits[i];
    slots := 'Infinity';
    token_at := '-Infinity';
    SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queues[i];
    IF FOUND THEN
      IF limits.paused OR limits.rate = 0 THEN
        allowed := 0;
        token_at := NULL;
      ELSIF limits.rate IS NOT NULL THEN
        limits := ${schema}.refill(limits, p_now);
        allowed := least(allowed, ${schema}.available(limits.tokens));
      END IF;
      IF limits.max_concurrent IS NOT NULL THEN
        slots := limits.max_concurrent
          - (SELECT count(*) FROM ${schema}.records WHERE state = 1 AND queue = p_queues[i]);
        allowed := least(allowed, slots);
      END IF;
    END IF;
    allowed := floor(least(allowed, 100000));
    started := 0;
    IF allowed >= 1 THEN
      FOR pass IN 1 .. 2 LOOP
        RETURN QUERY SELECT NULL::double precision, NULL::text[], NULL::uuid[], s.* FROM ${schema}.start_records(
          p_queues[i], allowed::bigint - started, (allowed::bigint - started) + CASE pass WHEN 1 THEN 16 ELSE 4096 END,
          p_tasks, p_versions, p_targets, p_lease, p_worker, limits.ageing, p_now) AS s;
        GET DIAGNOSTICS step = ROW_COUNT;
        started := started + step;
        -- Few or none: either there are no more, or others were starting those that were looked at.
        EXIT WHEN started = allowed;
      END LOOP;
    END IF;
    IF limits.rate IS NOT NULL AND token_at IS NOT NULL THEN
      IF started > 0 THEN
        limits.tokens := limits.tokens - started;
        UPDATE ${schema}.queues SET tokens = limits.tokens, tokens_at = limits.tokens_at WHERE queue = p_queues[i];
      END IF;
      token_at := ${schema}.next_token_at(limits);
    END IF;
    -- Without a free slot, never: the end of a lease or an attempt comes first.
    IF token_at IS NOT NULL AND slots > started THEN
      eta_at := ${schema}.first_eta(p_queues[i], p_tasks, p_versions, p_targets);
      IF eta_at IS NOT NULL THEN earliest := least(earliest, greatest(p_now, eta_at, token_at)); END IF;
    END IF;
    SELECT lease_until INTO eta_at FROM ${schema}.records WHERE state = 1 AND queue = p_queues[i]
    ORDER BY lease_until LIMIT 1;
    IF FOUND THEN earliest := least(earliest, greatest(p_now, eta_at)); END IF;
  END LOOP;
  next_at := earliest;
  waiting_queues := changed.waiting;
  ended_ids := changed.ended;
  RETURN NEXT;
END`,
  }),
]
