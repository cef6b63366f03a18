/**
 * running ──► succeeded | cancelled | dead | scheduled | ready, the leases that hold records there, and how far they have
 * come, as functions of the schema. All are fenced: who does not name the token of the last claim changes nothing.
 *
 * What is given is sorted by id: calls that meet lock the records in one order, and never wait for each other for ever.
 */
import { arrive, awaken } from "./arrivalsSql.ts"
import { holdsIn, withAttempt } from "./endingSql.ts"
import { isThere, plpgsql, same } from "./functions.ts"
import { followable } from "./joinTables.ts"
import { isHeldByEnds } from "./keysSql.ts"

/** Settlements after which a record waits again, unless it is over. */
const again = `g.tag IN ('Retry', 'Snooze', 'Release')`
/** What comes after it waits already. */
const isSuperseded = "r.id = ANY (superseded)"
const isOver = `(r.cancel_requested IS NOT NULL OR ${isSuperseded})`
/** The state that a settlement leads to. */
const state = `CASE g.tag WHEN 'Succeed' THEN 2 WHEN 'Cancel' THEN 3 WHEN 'Bury' THEN 4
      ELSE CASE WHEN ${isOver} THEN 3 ELSE 0 END END`
const isHeld = `${same("r.id", "g.id")} AND r.state::integer = 1 AND r.token = g.token`
const isDropped = `r.keep = 0 AND (g.tag IN ('Succeed', 'Cancel') OR (${again} AND ${isOver}))`

/** What is given of each settlement. */
const given = [
  ["id", "uuid"],
  ["token", "integer"],
  ["tag", "text"],
  ["eta", "double precision"],
  ["reason", "text"],
  ["result", "text"],
  ["failure", "text"],
  ["failure_tag", "text"],
  ["progress", "text"],
  // What it hands over, and whose other records it pauses: `key` or `queue`.
  ["hand", "text"],
  ["pause", "text"],
  ["now", "double precision"],
] as const

/** A settled record that means something for others: for its key, for what it is a member of, or for what may follow it. */
const meaning = [
  ["ord", "bigint"],
  ["state", "smallint"],
  ["id", "uuid"],
  ["queue", `text COLLATE "C"`],
  ["key", `text COLLATE "C"`],
  ["member_of", "uuid"],
  ["hand", "text"],
  ["pause", "text"],
  ["eta", "double precision"],
  ["is_followable", "boolean"],
] as const
/** What is returned of a record in this state: most mean nothing for others. */
const returned = (schema: string, state: string): string =>
  `CASE WHEN (r.key IS NOT NULL AND (some_wait OR ${again})) OR r.member_of IS NOT NULL OR g.pause IS NOT NULL OR r.unique_while & ${followable} <> 0
      THEN ROW(g.ord, ${state}, r.id, r.queue, r.key, r.member_of, g.hand, g.pause, g.eta,
        r.unique_while & ${followable} <> 0)::${schema}.meaning END AS meaning`

const parameters = (schema: string): ReadonlyArray<string> => [
  ...given.map(([name, type]) => `p_${name} ${type}[]`),
  "p_drops boolean",
  "p_shard integer",
  "p_by text",
  "OUT places bigint[]",
  `OUT e ${schema}.ends`,
]

export const settleTypes = (schema: string): ReadonlyArray<string> => [
  `CREATE TYPE ${schema}.meaning AS (${meaning.map(([name, type]) => `${name} ${type}`).join(", ")})`,
]

export const settleFunctions = (schema: string): ReadonlyArray<string> => [
  // What the settlements mean for others.
  plpgsql({
    name: `${schema}.settled`,
    isInner: true,
    parameters: [`p_meanings ${schema}.meaning[]`, "p_now double precision", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `DECLARE
  pause record;
BEGIN
  ${arrive(
    schema,
    `(SELECT r.* FROM unnest(p_meanings) AS m JOIN ${schema}.records r ON ${same("r.id", "m.id")} AND r.state::integer = 0
        WHERE m.key IS NOT NULL AND m.state = 0)`,
  )};
  WITH awake AS (
    ${awaken(
      schema,
      `SELECT m.queue, m.key FROM (
        SELECT DISTINCT m.queue, m.key FROM unnest(p_meanings) AS m WHERE m.key IS NOT NULL
      ) m WHERE ${isHeldByEnds(schema, "m")}`,
    )} RETURNING queue
  )
  SELECT e.waiting || array_agg(awake.queue) INTO e.waiting FROM awake;
  FOR pause IN
    SELECT m.queue, CASE m.pause WHEN 'key' THEN m.key END AS key, max(m.eta) AS until FROM unnest(p_meanings) AS m
    WHERE m.pause IS NOT NULL AND m.state = 0 GROUP BY 1, 2
    -- Queues before their keys, as claims do.
    ORDER BY 1, 2 NULLS FIRST
  LOOP
    PERFORM ${schema}.pause_until(pause.queue, pause.key, pause.until, true, p_now);
  END LOOP;
  SELECT array_agg(m.member_of ORDER BY m.ord), array_agg(m.state ORDER BY m.ord), array_agg(m.hand ORDER BY m.ord)
  INTO e.joins, e.hows, e.hands FROM unnest(p_meanings) AS m WHERE m.member_of IS NOT NULL AND m.state >= 2;
  e.freed := (SELECT array_agg(m.id) FROM unnest(p_meanings) AS m WHERE m.is_followable AND m.state >= 2);
  RETURN ${schema}.follow_up(e, p_now);
END`,
  }),
  // Gives the places, from 1, of what was settled. `p_drops`: some may have nothing to be kept for. If that is not so, or
  // not known, nothing goes wrong: it is kept until it is pruned.
  plpgsql({
    name: `${schema}.settle`,
    parameters: parameters(schema),
    returns: "record",
    body: `DECLARE
  part record;
  meanings ${schema}.meaning[];
  superseded uuid[] := '{}';
  -- Whether keys of any queue may wait for the end of what runs of them.
  some_wait boolean := ${isThere(`${schema}.queues q WHERE q.key_max_concurrent IS NOT NULL OR q.key_ordered`)}
    OR ${isThere(`${schema}.keys k WHERE k.max_concurrent IS NOT NULL`)};
BEGIN
  IF p_tag && ARRAY['Retry', 'Snooze', 'Release'] THEN
    superseded := ARRAY(SELECT f.follows FROM ${schema}.records f WHERE f.follows = ANY (p_id));
  END IF;
  -- In the order in which all count what was executed.
  FOR part IN WITH given AS MATERIALIZED (
    SELECT * FROM unnest(${given.map(([name]) => `p_${name}`).join(", ")})
      WITH ORDINALITY AS g (${given.map(([name]) => name).join(", ")}, ord)
  ),
  dropped AS (
    DELETE FROM ${schema}.records r USING given g WHERE p_drops AND ${isHeld} AND ${isDropped}
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, 3 AS state,
      ${returned(schema, "CASE g.tag WHEN 'Succeed' THEN 2 ELSE 3 END")}
  ),
  kept AS (
    UPDATE ${schema}.records r SET
      state = ${state},
      eta = CASE WHEN ${again} AND NOT ${isOver} THEN greatest(g.now, g.eta) ELSE r.eta END,
      attempt = CASE WHEN g.tag IN ('Snooze', 'Release') THEN r.attempt - 1 ELSE r.attempt END,
      lease_until = NULL,
      ended_at = CASE WHEN ${again} AND NOT ${isOver} THEN NULL ELSE g.now END,
      prune_at = CASE WHEN r.keep < 'Infinity' AND ${state} IN (2, 3) THEN g.now + r.keep END,
      reason = g.reason,
      result = g.result,
      progress = coalesce(g.progress, r.progress),
      failure = coalesce(g.failure, r.failure),
      failure_tag = CASE WHEN g.failure IS NULL THEN r.failure_tag ELSE g.failure_tag END,
      ledger = CASE WHEN g.tag = 'Succeed' THEN r.ledger
        ELSE ${withAttempt("r", { at: "g.now", outcome: "g.tag", failure: "g.failure" })} END,
      cancel_requested = CASE WHEN ${again} AND ${isSuperseded} THEN coalesce(r.cancel_requested, 'superseded')
        ELSE r.cancel_requested END,
      holds = ${holdsIn("r", `(${state})`)}
    FROM given g WHERE ${isHeld} AND NOT (p_drops AND ${isDropped})
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, r.state::integer,
      ${returned(schema, "r.state")}
  ),
  settled AS (SELECT * FROM dropped UNION ALL SELECT * FROM kept),
  entombed AS (
    UPDATE ${schema}.names n SET until = s.now + s.tombstone FROM settled s
    WHERE s.name IS NOT NULL AND s.state >= 2 AND ${same("n.queue", "s.queue")} AND n.name = s.name AND n.id = s.id
      AND n.until IS NULL
  )
  SELECT s.queue, floor(s.now / 1000) AS second, s.tag <> 'Release' AS is_counted, s.state = 0 AS waits, count(*) AS count,
    array_agg(s.ord) AS places, array_agg(s.id) FILTER (WHERE s.state >= 2) AS ended,
    array_agg(s.id) FILTER (WHERE s.progress IS NOT NULL) AS progressed,
    array_agg(s.meaning) FILTER (WHERE NOT s.meaning IS NULL) AS meanings
  FROM settled s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2
  LOOP
    places := places || part.places;
    e.ended := e.ended || part.ended;
    e.progressed := e.progressed || part.progressed;
    meanings := meanings || part.meanings;
    IF part.waits OR EXISTS (SELECT FROM ${schema}.queues q WHERE q.queue = part.queue AND q.max_concurrent IS NOT NULL) THEN
      e.waiting := array_remove(e.waiting, part.queue) || part.queue;
    END IF;
    IF part.is_counted THEN
      INSERT INTO ${schema}.executed AS x (queue, second, shard, count)
      VALUES (part.queue, part.second, p_shard, part.count)
      ON CONFLICT (queue, second, shard) DO UPDATE SET count = x.count + excluded.count;
    END IF;
  END LOOP;
  IF meanings IS NOT NULL THEN
    e := ${schema}.settled(meanings, (SELECT max(now) FROM unnest(p_now) AS now), e);
    e.waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(e.waiting) AS queue);
  END IF;
  PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
END`,
  }),
  // One after the other: what the end of one means for the others counts for them already.
  plpgsql({
    name: `${schema}.settle_each`,
    parameters: parameters(schema),
    returns: "record",
    body: `DECLARE
  one record;
BEGIN
  PERFORM FROM ${schema}.records WHERE id = ANY (p_id) AND state::integer = 1 ORDER BY id FOR UPDATE;
  PERFORM ${schema}.lock_joins(ARRAY(
    SELECT r.member_of FROM ${schema}.records r WHERE r.id = ANY (p_id) AND r.member_of IS NOT NULL
  ));
  FOR n IN 1 .. cardinality(p_id) LOOP
    SELECT * INTO one FROM ${schema}.settle(${given
      .map(([name]) => `CASE WHEN p_${name} IS NOT NULL THEN p_${name}[n:n] END`)
      .join(", ")}, p_drops, p_shard, p_by);
    IF one.places IS NOT NULL THEN places := places || n::bigint; END IF;
    e.waiting := e.waiting || (one.e).waiting;
    e.ended := e.ended || (one.e).ended;
    e.cancelling := e.cancelling || (one.e).cancelling;
    e.progressed := e.progressed || (one.e).progressed;
  END LOOP;
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
