/**
 * What people, and the clock, do to records, as functions of the schema: cancelling, redriving, and deleting.
 */
import { arriveOne } from "./arrivalsSql.ts"
import { plpgsql, same } from "./functions.ts"

/** Locks records that are to be cancelled or removed, and what they mean for others, in the order in which all do it. */
const lockJoins = (schema: string): string => `IF EXISTS (
    SELECT FROM ${schema}.records r WHERE r.id = ANY (p_id) AND (r.member_of IS NOT NULL OR r.joined IS NOT NULL)
  ) THEN
    PERFORM FROM ${schema}.records r WHERE r.id = ANY (p_id) AND r.joined IS NULL ORDER BY r.id FOR UPDATE;
    PERFORM ${schema}.lock_joins(p_id);
  ELSE
    PERFORM FROM ${schema}.records r WHERE r.id = ANY (p_id) ORDER BY r.id FOR UPDATE;
  END IF;`

export const manageFunctions = (schema: string): ReadonlyArray<string> => [
  plpgsql({
    name: `${schema}.cancel`,
    parameters: [
      "p_id uuid[]",
      "p_reason text",
      "p_now double precision",
      "p_by text",
      "OUT outcomes text[]",
      `OUT e ${schema}.ends`,
    ],
    returns: "record",
    body: `DECLARE
  r ${schema}.records;
BEGIN
  ${lockJoins(schema)}
  FOR n IN 1 .. cardinality(p_id) LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = p_id[n] FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[n] := 'NotFound';
    ELSIF r.state > 1 THEN
      outcomes[n] := 'TooLate';
    ELSIF r.state = 1 THEN
      UPDATE ${schema}.records SET cancel_requested = p_reason WHERE id = r.id;
      e.cancelling := e.cancelling || r.id;
      outcomes[n] := 'Requested';
    ELSE
      IF r.joined IS NOT NULL AND r.wanted_eta IS NOT NULL THEN
        e.parents := e.parents || r.id;
        e.reasons := e.reasons || p_reason;
        e.places := e.places || 0::bigint;
      END IF;
      r.cancel_requested := p_reason;
      e := ${schema}.end_record(r, 3, p_now, e);
      IF e.freed IS NOT NULL OR e.joins IS NOT NULL OR e.parents IS NOT NULL THEN
        e := ${schema}.follow_up(e, p_now);
      END IF;
      outcomes[n] := 'Cancelled';
    END IF;
  END LOOP;
  PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
END`,
  }),
  plpgsql({
    name: `${schema}.redrive`,
    parameters: ["p_id uuid[]", "p_now double precision", "p_by text", "OUT outcomes text[]", `OUT e ${schema}.ends`],
    returns: "record",
    body: `DECLARE
  g record;
  r ${schema}.records;
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
      CONTINUE;
    ELSIF r.state <> 4 THEN
      outcomes[g.ord] := 'NotDead';
      CONTINUE;
    END IF;
    UPDATE ${schema}.records SET state = 0, eta = p_now, attempt = 0, crashes = 0, first_attempt_at = NULL,
      started_at = NULL, worker = NULL, expires_at = NULL, bury_at = NULL, cancel_requested = NULL, ended_at = NULL, reason = NULL,
      result = NULL, progress = NULL,
      holds = r.unique_key IS NOT NULL AND (r.holds OR NOT EXISTS (
        SELECT FROM ${schema}.records other WHERE other.holds AND other.task = r.task AND other.unique_key = r.unique_key))
    WHERE id = r.id;
    -- Its name is its own again, unless another record has it by now.
    IF r.name IS NOT NULL THEN
      INSERT INTO ${schema}.names AS n (queue, name, id) VALUES (r.queue, r.name, r.id)
      ON CONFLICT (queue, name) DO UPDATE SET id = excluded.id, until = NULL
        WHERE n.id = excluded.id OR n.until <= p_now;
    END IF;
    IF r.key IS NOT NULL THEN
      r.eta := p_now;
      ${arriveOne(schema, "r")};
      e := ${schema}.left_record(r, NULL, e);
    END IF;
    -- What still waits for it counts it anew when it ends.
    IF r.member_of IS NOT NULL THEN e.joins := e.joins || r.member_of; END IF;
    outcomes[g.ord] := 'Redriven';
    e.waiting := e.waiting || r.queue;
  END LOOP;
  IF e.joins IS NOT NULL THEN
    FOR g IN
      SELECT j.id, count(*) AS count, j.depth FROM unnest(e.joins) AS m (id) JOIN ${schema}.joins j ON ${same("j.id", "m.id")}
      GROUP BY j.id, j.depth ORDER BY j.depth DESC, j.id
    LOOP
      UPDATE ${schema}.joins SET dead = dead - g.count WHERE id = g.id;
      IF FOUND THEN e.progressed := e.progressed || g.id; END IF;
    END LOOP;
  END IF;
  e.waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(e.waiting) AS queue);
  PERFORM ${schema}.tell(p_by, e.waiting, NULL, NULL, e.progressed);
END`,
  }),
  plpgsql({
    name: `${schema}.remove`,
    parameters: [
      "p_id uuid[]",
      "p_only_dead boolean",
      "p_now double precision",
      "p_by text",
      "OUT outcomes text[]",
      `OUT e ${schema}.ends`,
    ],
    returns: "record",
    body: `DECLARE
  r ${schema}.records;
BEGIN
  ${lockJoins(schema)}
  FOR n IN 1 .. cardinality(p_id) LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = p_id[n] FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[n] := 'NotFound';
    ELSIF p_only_dead AND r.state <> 4 THEN
      outcomes[n] := 'NotDead';
    ELSIF r.state = 1 THEN
      outcomes[n] := 'Running';
    ELSE
      DELETE FROM ${schema}.records WHERE id = r.id;
      IF r.state = 0 THEN
        -- The name of one that has ended stays taken until its tombstone is over.
        IF r.name IS NOT NULL THEN
          DELETE FROM ${schema}.names WHERE queue = r.queue AND name = r.name AND id = r.id AND until IS NULL;
        END IF;
        IF r.joined IS NOT NULL THEN DELETE FROM ${schema}.joins j WHERE j.id = r.id; END IF;
        IF r.key IS NOT NULL OR r.member_of IS NOT NULL THEN
          e := ${schema}.follow_up(${schema}.left_record(r, 3, e), p_now);
        END IF;
      END IF;
      outcomes[n] := 'Removed';
    END IF;
  END LOOP;
  PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
END`,
  }),
  // None of what is purged is still there when others hear of it.
  plpgsql({
    name: `${schema}.purge`,
    parameters: ["p_queue text", "p_now double precision", "p_by text", "OUT purged bigint", `OUT e ${schema}.ends`],
    returns: "record",
    body: `DECLARE
  own uuid[];
BEGIN
  own := ARRAY(SELECT j.id FROM ${schema}.joins j JOIN ${schema}.records r ON ${same("r.id", "j.id")} AND r.queue = p_queue);
  PERFORM FROM ${schema}.joins j WHERE j.id = ANY (own) ORDER BY j.depth DESC, j.id FOR UPDATE;
  WITH plain AS (
    DELETE FROM ${schema}.records WHERE state = 0 AND key IS NULL AND queue = p_queue
    RETURNING id, queue, name, member_of, seq
  ),
  by_key AS (
    DELETE FROM ${schema}.records WHERE state = 0 AND key IS NOT NULL AND queue = p_queue
    RETURNING id, queue, name, member_of, seq
  ),
  gone AS (SELECT * FROM plain UNION ALL SELECT * FROM by_key),
  freed AS (
    DELETE FROM ${schema}.names n USING gone
    WHERE gone.name IS NOT NULL AND ${same("n.queue", "gone.queue")} AND n.name = gone.name
      AND n.id = gone.id AND n.until IS NULL
  )
  SELECT count(*), array_agg(member_of ORDER BY seq) FILTER (WHERE member_of IS NOT NULL),
    array_agg(3::smallint) FILTER (WHERE member_of IS NOT NULL), array_agg(NULL::text) FILTER (WHERE member_of IS NOT NULL)
  INTO purged, e.joins, e.hows, e.hands FROM gone;
  DELETE FROM ${schema}.joins j WHERE j.id = ANY (own) AND NOT EXISTS (SELECT FROM ${schema}.records r WHERE r.id = j.id);
  e := ${schema}.follow_up(e, p_now);
  PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
END`,
  }),
  // What others delete at this moment is passed over.
  plpgsql({
    name: `${schema}.prune`,
    parameters: [
      "p_now double precision",
      "p_dead_before double precision",
      "p_limit bigint",
      "OUT pruned bigint",
      "OUT is_more boolean",
    ],
    returns: "record",
    body: `DECLARE
  step bigint;
BEGIN
  DELETE FROM ${schema}.records r USING (
    SELECT ctid AS tid FROM ${schema}.records WHERE state IN (2, 3) AND prune_at <= p_now ORDER BY prune_at LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) over WHERE r.ctid = over.tid;
  GET DIAGNOSTICS pruned = ROW_COUNT;
  is_more := pruned = p_limit;
  DELETE FROM ${schema}.records r USING (
    SELECT ctid AS tid FROM ${schema}.records WHERE state = 4 AND ended_at < p_dead_before ORDER BY ended_at LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) over WHERE r.ctid = over.tid;
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;
  pruned := pruned + step;
  DELETE FROM ${schema}.names n USING (
    SELECT ctid AS tid FROM ${schema}.names WHERE until <= p_now ORDER BY until LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) over WHERE n.ctid = over.tid;
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;
  DELETE FROM ${schema}.spacings s USING (
    SELECT ctid AS tid FROM ${schema}.spacings WHERE until <= p_now ORDER BY until LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) over WHERE s.ctid = over.tid;
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit OR ${schema}.forget_keys(p_now, p_limit);
  DELETE FROM ${schema}.workers WHERE until <= p_now;
  DELETE FROM ${schema}.executed WHERE second < floor(p_now / 1000) - 120;
END`,
  }),
]
