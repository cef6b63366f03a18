/**
 * running ──► succeeded | cancelled | dead | scheduled | ready, the leases that hold records there, and how far they have
 * come, as functions of the schema. All are fenced: who does not name the token of the last claim changes nothing.
 *
 * What is given is sorted by id: calls that meet lock the records in one order, and never wait for each other for ever.
 */
import { holdsIn, withAttempt } from "./endingSql.ts"
import { plpgsql, same } from "./functions.ts"

/** How many settlements a statement is given with each of these tags. */
const again = `g.tag IN ('Retry', 'Snooze', 'Release')`
/** The state that a settlement leads to. */
const state = `CASE g.tag WHEN 'Succeed' THEN 2 WHEN 'Cancel' THEN 3 WHEN 'Bury' THEN 4
      ELSE CASE WHEN r.cancel_requested IS NULL THEN 0 ELSE 3 END END`
const isHeld = `${same("r.id", "g.id")} AND r.state::integer = 1 AND r.token = g.token`
const isDropped = `r.keep = 0 AND (g.tag IN ('Succeed', 'Cancel') OR (r.cancel_requested IS NOT NULL AND ${again}))`

export const settleFunctions = (schema: string): ReadonlyArray<string> => [
  // Gives the places, from 1, of what was settled. `p_drops`: some may have nothing to be kept for. If that is not so, or
  // not known, nothing goes wrong: it is kept until it is pruned.
  plpgsql({
    name: `${schema}.settle`,
    parameters: [
      "p_id uuid[]",
      "p_token integer[]",
      "p_tag text[]",
      "p_eta double precision[]",
      "p_reason text[]",
      "p_result text[]",
      "p_failure text[]",
      "p_failure_tag text[]",
      "p_progress text[]",
      "p_now double precision[]",
      "p_drops boolean",
      "p_shard integer",
      "p_by text",
      "OUT places bigint[]",
      "OUT waiting text[]",
      "OUT ended uuid[]",
      "OUT progressed uuid[]",
    ],
    returns: "record",
    body: `DECLARE
  queues text[];
  seconds bigint[];
BEGIN
  WITH given AS MATERIALIZED (
    SELECT * FROM unnest(p_id, p_token, p_tag, p_eta, p_reason, p_result, p_failure, p_failure_tag, p_progress, p_now)
      WITH ORDINALITY AS g (id, token, tag, eta, reason, result, failure, failure_tag, progress, now, ord)
  ),
  dropped AS (
    DELETE FROM ${schema}.records r USING given g WHERE p_drops AND ${isHeld} AND ${isDropped}
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, 3 AS state
  ),
  kept AS (
    UPDATE ${schema}.records r SET
      state = ${state},
      eta = CASE WHEN ${again} AND r.cancel_requested IS NULL THEN greatest(g.now, g.eta) ELSE r.eta END,
      attempt = CASE WHEN g.tag IN ('Snooze', 'Release') THEN r.attempt - 1 ELSE r.attempt END,
      lease_until = NULL,
      ended_at = CASE WHEN ${again} AND r.cancel_requested IS NULL THEN NULL ELSE g.now END,
      prune_at = CASE WHEN r.keep < 'Infinity' AND ${state} IN (2, 3) THEN g.now + r.keep END,
      reason = g.reason,
      result = g.result,
      progress = coalesce(g.progress, r.progress),
      failure = coalesce(g.failure, r.failure),
      failure_tag = CASE WHEN g.failure IS NULL THEN r.failure_tag ELSE g.failure_tag END,
      ledger = CASE WHEN g.tag = 'Succeed' THEN r.ledger
        ELSE ${withAttempt("r", { at: "g.now", outcome: "g.tag", failure: "g.failure" })} END,
      holds = ${holdsIn("r", `(${state})`)}
    FROM given g WHERE ${isHeld} AND NOT (p_drops AND ${isDropped})
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, r.state::integer
  ),
  settled AS (SELECT * FROM dropped UNION ALL SELECT * FROM kept),
  entombed AS (
    UPDATE ${schema}.names n SET until = s.now + s.tombstone FROM settled s
    WHERE s.name IS NOT NULL AND s.state >= 2 AND ${same("n.queue", "s.queue")} AND n.name = s.name AND n.id = s.id
      AND n.until IS NULL
  )
  SELECT array_agg(s.ord), array_agg(s.id) FILTER (WHERE s.state >= 2),
    array_agg(DISTINCT s.queue) FILTER (WHERE s.state = 0
      OR EXISTS (SELECT FROM ${schema}.queues q WHERE q.queue = s.queue AND q.max_concurrent IS NOT NULL)),
    array_agg(s.queue) FILTER (WHERE s.tag <> 'Release'), array_agg(floor(s.now / 1000)) FILTER (WHERE s.tag <> 'Release'),
    array_agg(s.id) FILTER (WHERE s.progress IS NOT NULL)
  INTO places, ended, waiting, queues, seconds, progressed FROM settled s;
  INSERT INTO ${schema}.executed AS e (queue, second, shard, count)
  SELECT g.queue, g.second, p_shard, count(*) FROM unnest(queues, seconds) AS g (queue, second)
  GROUP BY g.queue, g.second ORDER BY g.queue, g.second
  ON CONFLICT (queue, second, shard) DO UPDATE SET count = e.count + excluded.count;
  PERFORM ${schema}.tell(p_by, waiting, ended, NULL, progressed);
END`,
  }),
  plpgsql({
    name: `${schema}.extend`,
    parameters: ["p_id uuid[]", "p_token integer[]", "p_until double precision[]"],
    returns: "TABLE (ord bigint, is_cancelled boolean)",
    body: `BEGIN
  RETURN QUERY
    UPDATE ${schema}.records r SET lease_until = g.until
    FROM unnest(p_id, p_token, p_until) WITH ORDINALITY AS g (id, token, until, ord)
    WHERE ${isHeld} RETURNING g.ord, r.cancel_requested IS NOT NULL;
END`,
  }),
  plpgsql({
    name: `${schema}.progress`,
    parameters: ["p_id uuid[]", "p_token integer[]", "p_progress text[]", "p_by text"],
    returns: "bigint[]",
    body: `DECLARE
  places bigint[];
  ids uuid[];
BEGIN
  WITH noted AS (
    UPDATE ${schema}.records r SET progress = g.progress
    FROM unnest(p_id, p_token, p_progress) WITH ORDINALITY AS g (id, token, progress, ord)
    WHERE ${isHeld} RETURNING g.ord, r.id
  )
  SELECT array_agg(noted.ord), array_agg(noted.id) INTO places, ids FROM noted;
  PERFORM ${schema}.tell(p_by, NULL, NULL, NULL, ids);
  RETURN places;
END`,
  }),
]
