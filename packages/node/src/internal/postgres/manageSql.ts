/**
 * What people, and the clock, do to records, as functions of the schema: cancelling, redriving, and deleting.
 */
import { plpgsql, same } from "./functions.ts"

export const manageFunctions = (schema: string): ReadonlyArray<string> => [
  plpgsql({
    name: `${schema}.cancel`,
    parameters: [
      "p_id uuid[]",
      "p_reason text",
      "p_now double precision",
      "p_by text",
      "OUT outcomes text[]",
      "OUT ended uuid[]",
      "OUT cancelling uuid[]",
    ],
    returns: "record",
    body: `DECLARE
  g record;
  r ${schema}.records;
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
    ELSIF r.state > 1 THEN
      outcomes[g.ord] := 'TooLate';
    ELSIF r.state = 1 THEN
      UPDATE ${schema}.records SET cancel_requested = p_reason WHERE id = g.id;
      cancelling := cancelling || r.id;
      outcomes[g.ord] := 'Requested';
    ELSE
      r.cancel_requested := p_reason;
      PERFORM ${schema}.end_record(r, 3, p_now);
      ended := ended || r.id;
      outcomes[g.ord] := 'Cancelled';
    END IF;
  END LOOP;
  PERFORM ${schema}.tell(p_by, NULL, ended, cancelling, NULL);
END`,
  }),
  plpgsql({
    name: `${schema}.redrive`,
    parameters: ["p_id uuid[]", "p_now double precision", "p_by text", "OUT outcomes text[]", "OUT waiting text[]"],
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
    outcomes[g.ord] := 'Redriven';
    waiting := waiting || r.queue;
  END LOOP;
  waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(waiting) AS queue);
  PERFORM ${schema}.tell(p_by, waiting, NULL, NULL, NULL);
END`,
  }),
  plpgsql({
    name: `${schema}.remove`,
    parameters: ["p_id uuid[]", "p_only_dead boolean"],
    returns: "text[]",
    body: `DECLARE
  g record;
  r ${schema}.records;
  outcomes text[];
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
    ELSIF p_only_dead AND r.state <> 4 THEN
      outcomes[g.ord] := 'NotDead';
    ELSIF r.state = 1 THEN
      outcomes[g.ord] := 'Running';
    ELSE
      DELETE FROM ${schema}.records WHERE id = g.id;
      -- The name of one that has ended stays taken until its tombstone is over.
      IF r.state = 0 AND r.name IS NOT NULL THEN
        DELETE FROM ${schema}.names WHERE queue = r.queue AND name = r.name AND id = r.id AND until IS NULL;
      END IF;
      outcomes[g.ord] := 'Removed';
    END IF;
  END LOOP;
  RETURN outcomes;
END`,
  }),
  plpgsql({
    name: `${schema}.purge`,
    parameters: ["p_queue text"],
    returns: "bigint",
    body: `DECLARE
  purged bigint;
BEGIN
  WITH gone AS (
    DELETE FROM ${schema}.records WHERE state = 0 AND queue = p_queue RETURNING id, queue, name
  ),
  freed AS (
    DELETE FROM ${schema}.names n USING gone
    WHERE gone.name IS NOT NULL AND ${same("n.queue", "gone.queue")} AND n.name = gone.name
      AND n.id = gone.id AND n.until IS NULL
  )
  SELECT count(*) INTO purged FROM gone;
  RETURN purged;
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
    SELECT ctid AS tid FROM ${schema}.records WHERE state >= 2 AND prune_at <= p_now ORDER BY prune_at LIMIT p_limit
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
  DELETE FROM ${schema}.workers WHERE until <= p_now;
  DELETE FROM ${schema}.executed WHERE second < floor(p_now / 1000) - 120;
END`,
  }),
]
