CREATE SCHEMA IF NOT EXISTS "version_one";

CREATE TABLE IF NOT EXISTS "version_one".migrations (version integer PRIMARY KEY);

CREATE TABLE "version_one".records (
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
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);

CREATE UNIQUE INDEX inserted ON "version_one".records (seq);

CREATE INDEX waiting ON "version_one".records (queue, task, (coalesce(target, '')), version, (-priority), eta, seq) WHERE state = 0;

CREATE INDEX expiring ON "version_one".records (bury_at) WHERE bury_at IS NOT NULL;

CREATE INDEX running ON "version_one".records (queue, lease_until) WHERE state = 1;

CREATE UNIQUE INDEX holding ON "version_one".records (task, unique_key) WHERE holds;

CREATE INDEX ended ON "version_one".records (prune_at, queue, task, state, reason, failure_tag) WHERE state >= 2;

CREATE INDEX dead ON "version_one".records (ended_at) WHERE state = 4;

CREATE INDEX payload_refs ON "version_one".records (payload_ref) WHERE payload_ref IS NOT NULL;

CREATE TABLE "version_one".names (
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    until double precision,
    PRIMARY KEY (queue, name)
  );

CREATE INDEX tombstones ON "version_one".names (until) WHERE until IS NOT NULL;

CREATE TABLE "version_one".queues (
    queue text COLLATE "C" PRIMARY KEY,
    paused boolean NOT NULL,
    rate double precision,
    burst double precision NOT NULL,
    max_concurrent double precision,
    ageing double precision,
    tokens double precision NOT NULL,
    tokens_at double precision NOT NULL
  ) WITH (fillfactor = 50);

CREATE TABLE "version_one".executed (
    queue text COLLATE "C" NOT NULL,
    second bigint NOT NULL,
    shard smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (queue, second, shard)
  ) WITH (fillfactor = 50);

CREATE TABLE "version_one".payloads (
    ref text COLLATE "C" PRIMARY KEY,
    at double precision NOT NULL,
    body text NOT NULL
  );

CREATE TABLE "version_one".workers (
    id text COLLATE "C" PRIMARY KEY,
    until double precision NOT NULL,
    info text NOT NULL
  );

CREATE OR REPLACE FUNCTION "version_one".tell (p_by text, p_waiting text[], p_ended uuid[], p_cancelling uuid[], p_progressed uuid[])
  RETURNS void LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  payload text := '';
BEGIN
  IF coalesce(cardinality(p_waiting), 0) + coalesce(cardinality(p_ended), 0) + coalesce(cardinality(p_cancelling), 0)
    + coalesce(cardinality(p_progressed), 0) = 0 THEN RETURN; END IF;
  IF coalesce(cardinality(p_ended), 0) + coalesce(cardinality(p_cancelling), 0) + coalesce(cardinality(p_progressed), 0) < 180 THEN
    payload := json_strip_nulls(json_build_object('by', p_by, 'waiting', p_waiting, 'ended', p_ended,
      'cancelling', p_cancelling, 'progressed', p_progressed))::text;
  END IF;
  IF payload = '' OR octet_length(payload) > 7900 THEN payload := json_build_object('by', p_by)::text; END IF;
  PERFORM pg_notify('version_one', payload);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".refill (p "version_one".queues, p_now double precision)
  RETURNS "version_one".queues LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  p.tokens := least(p.burst, p.tokens + greatest(0, p_now - p.tokens_at) * p.rate / 1000);
  p.tokens_at := greatest(p.tokens_at, p_now);
  RETURN p;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".available (p_tokens double precision) RETURNS double precision LANGUAGE sql IMMUTABLE
AS $function$ SELECT greatest(0, floor(p_tokens + 1e-9)) $function$;

CREATE OR REPLACE FUNCTION "version_one".next_token_at (p "version_one".queues) RETURNS double precision LANGUAGE sql IMMUTABLE
AS $function$ SELECT CASE WHEN "version_one".available((p).tokens) >= 1 THEN '-Infinity'
      WHEN (p).rate > 0 THEN ceil((p).tokens_at + (1 - (p).tokens) * 1000 / (p).rate) END $function$;

CREATE OR REPLACE FUNCTION "version_one".allowance (p "version_one".queues, p_now double precision, OUT limits "version_one".queues, OUT allowed double precision, OUT slots double precision)
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  limits := p;
  allowed := 'Infinity';
  slots := 'Infinity';
  IF p.paused OR p.rate = 0 THEN
    allowed := 0;
    slots := 0;
    RETURN;
  END IF;
  IF p.rate IS NOT NULL THEN
    limits := "version_one".refill(p, p_now);
    allowed := "version_one".available(limits.tokens);
  END IF;
  IF p.max_concurrent IS NOT NULL THEN
    slots := p.max_concurrent - (SELECT count(*) FROM "version_one".records WHERE state = 1 AND queue = p.queue);
    allowed := least(allowed, slots);
  END IF;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".configure (p_queue text, p_changed text[], p_paused boolean, p_rate double precision, p_burst double precision, p_max_concurrent double precision, p_ageing double precision, p_now double precision, p_by text)
  RETURNS void LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  limits "version_one".queues;
  had_rate boolean;
BEGIN
  INSERT INTO "version_one".queues (queue, paused, burst, tokens, tokens_at) VALUES (p_queue, false, 5, 0, p_now)
  ON CONFLICT (queue) DO NOTHING;
  SELECT * INTO limits FROM "version_one".queues WHERE queue = p_queue FOR UPDATE;
  had_rate := limits.rate IS NOT NULL;
  IF had_rate THEN limits := "version_one".refill(limits, p_now); END IF;
  IF 'paused' = ANY (p_changed) THEN limits.paused := p_paused; END IF;
  IF 'rate' = ANY (p_changed) THEN limits.rate := p_rate; END IF;
  IF 'burst' = ANY (p_changed) THEN limits.burst := p_burst; END IF;
  IF 'maxConcurrent' = ANY (p_changed) THEN limits.max_concurrent := p_max_concurrent; END IF;
  IF 'ageing' = ANY (p_changed) THEN limits.ageing := p_ageing; END IF;
  IF NOT had_rate AND limits.rate IS NOT NULL THEN
    limits.tokens := limits.burst;
    limits.tokens_at := p_now;
  END IF;
  UPDATE "version_one".queues SET paused = limits.paused, rate = limits.rate, burst = limits.burst,
    max_concurrent = limits.max_concurrent, ageing = limits.ageing, tokens = limits.tokens, tokens_at = limits.tokens_at
  WHERE queue = p_queue;
  PERFORM "version_one".tell(p_by, ARRAY[p_queue], NULL, NULL, NULL);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".end_record (p "version_one".records, p_state integer, p_now double precision)
  RETURNS void LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  IF p_state <> 4 AND p.keep = 0 THEN
    DELETE FROM "version_one".records WHERE id = p.id;
  ELSE
    UPDATE "version_one".records r SET state = p_state, attempt = p.attempt, crashes = p.crashes, reason = p.reason,
      cancel_requested = p.cancel_requested, failure = p.failure, failure_tag = p.failure_tag, ledger = p.ledger,
      lease_until = NULL, bury_at = NULL, ended_at = p_now,
      prune_at = CASE WHEN p_state <> 4 AND p.keep < 'Infinity' THEN p_now + p.keep END,
      holds = p.holds AND (p.unique_while >> p_state) & 1 = 1
    WHERE id = p.id;
  END IF;
  IF p.name IS NOT NULL THEN
    UPDATE "version_one".names SET until = p_now + p.tombstone
    WHERE queue = p.queue AND name = p.name AND id = p.id AND until IS NULL;
  END IF;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".take_back (p_now double precision, p_by text, OUT waiting text[], OUT ended uuid[], OUT queues text[], OUT leases double precision[])
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  r "version_one".records;
BEGIN
  FOR r IN
    SELECT * FROM "version_one".records WHERE bury_at <= p_now LIMIT 1000 FOR UPDATE SKIP LOCKED
  LOOP
    r.reason := 'Expired';
    PERFORM "version_one".end_record(r, 4, p_now);
    ended := ended || r.id;
  END LOOP;
  -- From queue to queue by the index: the leases of all queues, also of those that nobody claims from any more.
  WITH RECURSIVE running (queue, lease_until) AS (
    (SELECT r.queue, r.lease_until FROM "version_one".records r WHERE r.state = 1 ORDER BY r.queue, r.lease_until LIMIT 1)
    UNION ALL
    SELECT following.* FROM running CROSS JOIN LATERAL (
      SELECT r.queue, r.lease_until FROM "version_one".records r WHERE r.state = 1 AND r.queue > running.queue
      ORDER BY r.queue, r.lease_until LIMIT 1
    ) following
  )
  SELECT array_agg(running.queue), array_agg(running.lease_until) INTO queues, leases FROM running;
  FOR i IN 1 .. coalesce(cardinality(queues), 0) LOOP
    CONTINUE WHEN leases[i] > p_now;
    FOR r IN
      SELECT * FROM "version_one".records
      WHERE state = 1 AND queue = queues[i] AND lease_until >= leases[i] AND lease_until <= p_now
      LIMIT 1000 FOR UPDATE SKIP LOCKED
    LOOP
      r.failure := format('{"attempt":%s,"at":%s,"kind":"crash","tag":"Crashed","message":%s}', r.attempt, p_now,
        to_json(format('worker %s did not extend its lease', r.worker)));
      r.failure_tag := 'Crashed';
      r.ledger := CASE WHEN jsonb_array_length(coalesce(r.ledger, '[]')) < 50 THEN coalesce(r.ledger, '[]')
     ELSE r.ledger - 0 END
   || jsonb_build_array(jsonb_build_array(r.attempt, r.worker, r.started_at,
        p_now, 'Crash', r.failure));
      r.crashes := r.crashes + 1;
      IF r.cancel_requested IS NULL AND r.crashes > r.max_crashes THEN
        r.reason := 'Crashed';
        PERFORM "version_one".end_record(r, 4, p_now);
        ended := ended || r.id;
      ELSIF r.cancel_requested IS NOT NULL THEN
        PERFORM "version_one".end_record(r, 3, p_now);
        ended := ended || r.id;
      ELSE
        UPDATE "version_one".records SET state = 0, eta = p_now, crashes = r.crashes, failure = r.failure,
          failure_tag = r.failure_tag, ledger = r.ledger, lease_until = NULL
        WHERE id = r.id;
        waiting := waiting || r.queue;
      END IF;
      IF NOT r.queue = ANY (coalesce(waiting, '{}')) AND EXISTS (
        SELECT FROM "version_one".queues WHERE queue = r.queue AND max_concurrent IS NOT NULL
      ) THEN
        waiting := waiting || r.queue;
      END IF;
    END LOOP;
  END LOOP;
  waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(waiting) AS queue);
  PERFORM "version_one".tell(p_by, waiting, ended, NULL, NULL);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".runs (p_queue text, p_tasks text[], p_versions double precision[], p_targets text[])
  RETURNS TABLE (task text, target text, version double precision, rank double precision, eta double precision, seq bigint) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY
    WITH RECURSIVE wanted AS (
      SELECT task, max(max_version) AS max_version, target
      FROM unnest(p_tasks, p_versions) AS known (task, max_version)
        CROSS JOIN (SELECT NULL AS target UNION SELECT unnest(p_targets)) AS targets
      GROUP BY task, target
    ),
    run AS (
      SELECT wanted.*, first.* FROM wanted CROSS JOIN LATERAL (
        SELECT r.version, -r.priority AS rank, r.eta, r.seq FROM "version_one".records r
        WHERE r.state = 0 AND r.queue = p_queue AND r.task = wanted.task
          AND coalesce(r.target, '') = coalesce(wanted.target, '') AND r.version <= wanted.max_version ORDER BY r.version, -r.priority, r.eta, r.seq LIMIT 1
      ) first
      UNION ALL
      SELECT run.task, run.max_version, run.target, following.* FROM run CROSS JOIN LATERAL (
        SELECT r.version, -r.priority AS rank, r.eta, r.seq FROM "version_one".records r
        WHERE r.state = 0 AND r.queue = p_queue AND r.task = run.task
          AND coalesce(r.target, '') = coalesce(run.target, '') AND r.version <= run.max_version AND (r.version, -r.priority) > (run.version, run.rank) ORDER BY r.version, -r.priority, r.eta, r.seq LIMIT 1
      ) following
    )
    SELECT run.task, run.target, run.version, run.rank, run.eta, run.seq FROM run;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".heads (p_queue text, p_task text[], p_target text[], p_version double precision[], p_rank double precision[], p_eta double precision[], p_seq bigint[])
  RETURNS TABLE (task text, target text, version double precision, rank double precision, eta double precision, seq bigint) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY
    SELECT run.task, run.target, run.version, run.rank, head.eta, head.seq FROM unnest(p_task, p_target, p_version, p_rank, p_eta, p_seq) AS run (task, target, version, rank, eta, seq) CROSS JOIN LATERAL (
      SELECT r.eta, r.seq FROM "version_one".records r
      WHERE r.state = 0 AND r.queue = p_queue AND r.task = run.task AND coalesce(r.target, '') = coalesce(run.target, '')
        AND r.version = run.version AND -r.priority = run.rank AND (r.eta, r.seq) >= (run.eta, run.seq)
        AND r.target IS NOT DISTINCT FROM run.target ORDER BY r.eta, r.seq LIMIT 1
    ) head;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".start_records (p_queue text, p_task text[], p_target text[], p_version double precision[], p_rank double precision[], p_eta double precision[], p_seq bigint[], p_count bigint, p_look bigint, p_lease double precision, p_worker text, p_ageing double precision, p_now double precision)
  RETURNS TABLE (seq bigint, id uuid, queue text, task text, version double precision, target text, state smallint, priority double precision, eta double precision, token integer, attempt integer, crashes integer, max_crashes double precision, keep double precision, enqueued_at double precision, expires_at double precision, lease double precision, timeout double precision, lease_until double precision, worker text, started_at double precision, first_attempt_at double precision, ended_at double precision, reason text, cancel_requested text, name text, retry text, headers text, payload text, result text, failure text, unique_key text, payload_ref text, progress text) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY
    WITH head AS (
      SELECT ready.tid, ready.seq, CASE WHEN p_ageing IS NULL THEN run.rank ELSE ready.eta + run.rank * p_ageing END AS place,
        CASE WHEN p_ageing IS NULL THEN ready.eta END AS then_place
      FROM unnest(p_task, p_target, p_version, p_rank, p_eta, p_seq) AS run (task, target, version, rank, eta, seq) CROSS JOIN LATERAL (
        SELECT r.ctid AS tid, r.seq, r.eta FROM "version_one".records r
      WHERE r.state = 0 AND r.queue = p_queue AND r.task = run.task AND coalesce(r.target, '') = coalesce(run.target, '')
        AND r.version = run.version AND -r.priority = run.rank AND (r.eta, r.seq) >= (run.eta, run.seq)
        AND r.target IS NOT DISTINCT FROM run.target
          AND r.eta <= p_now
          -- What this claim had no time to bury must not be claimed either.
          AND (r.bury_at IS NULL OR r.bury_at > p_now)
        ORDER BY r.eta, r.seq LIMIT p_look
      ) ready
      ORDER BY place, then_place, ready.seq LIMIT p_look
    ),
    taken AS MATERIALIZED (
      SELECT r.ctid AS tid, head.place, head.then_place FROM head
        JOIN "version_one".records r ON r.ctid = head.tid AND r.state::integer = 0
      ORDER BY head.place, head.then_place, head.seq LIMIT p_count
      FOR UPDATE OF r SKIP LOCKED
    ),
    started AS (
      UPDATE "version_one".records AS r SET state = 1, worker = p_worker, started_at = p_now,
        first_attempt_at = coalesce(r.first_attempt_at, p_now), bury_at = NULL,
        lease_until = p_now + coalesce(r.lease, p_lease), attempt = r.attempt + 1, token = r.token + 1,
        holds = r.holds AND (r.unique_while >> 1) & 1 = 1
      FROM taken WHERE r.ctid = taken.tid AND r.state::integer = 0
      RETURNING r.seq, r.id, r.queue, r.task, r.version, r.target, r.state, r.priority, r.eta, r.token, r.attempt, r.crashes, r.max_crashes, r.keep, r.enqueued_at, r.expires_at, r.lease, r.timeout, r.lease_until, r.worker, r.started_at, r.first_attempt_at, r.ended_at, r.reason, r.cancel_requested, r.name, r.retry, r.headers, r.payload, r.result, r.failure, r.unique_key, r.payload_ref, r.progress, taken.place, taken.then_place
    )
    SELECT started.seq, started.id, started.queue, started.task, started.version, started.target, started.state, started.priority, started.eta, started.token, started.attempt, started.crashes, started.max_crashes, started.keep, started.enqueued_at, started.expires_at, started.lease, started.timeout, started.lease_until, started.worker, started.started_at, started.first_attempt_at, started.ended_at, started.reason, started.cancel_requested, started.name, started.retry, started.headers, started.payload, started.result, started.failure, started.unique_key, started.payload_ref, started.progress FROM started ORDER BY started.place, started.then_place, started.seq;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".claim (p_queues text[], p_limits double precision[], p_tasks text[], p_versions double precision[], p_targets text[], p_lease double precision, p_worker text, p_now double precision, p_by text, p_take_back boolean, p_walk boolean[], p_run_queue integer[], p_run_task text[], p_run_target text[], p_run_version double precision[], p_run_rank double precision[], p_run_eta double precision[], p_run_seq bigint[])
  RETURNS TABLE (next_at double precision, waiting_queues text[], ended_ids uuid[], took_back_pages bigint, walked_pages bigint[], counts bigint[], run_queue integer[], run_task text[], run_target text[], run_version double precision[], run_rank double precision[], run_eta double precision[], run_seq bigint[], seq bigint, id uuid, queue text, task text, version double precision, target text, state smallint, priority double precision, eta double precision, token integer, attempt integer, crashes integer, max_crashes double precision, keep double precision, enqueued_at double precision, expires_at double precision, lease double precision, timeout double precision, lease_until double precision, worker text, started_at double precision, first_attempt_at double precision, ended_at double precision, reason text, cancel_requested text, name text, retry text, headers text, payload text, result text, failure text, unique_key text, payload_ref text, progress text) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  limits "version_one".queues;
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
  v_task text[];
  v_target text[];
  v_version double precision[];
  v_rank double precision[];
  v_eta double precision[];
  v_seq bigint[];
BEGIN
  walked_pages := array_fill(NULL::bigint, ARRAY[cardinality(p_queues)]);
  IF p_take_back THEN
    pages := pg_stat_get_xact_blocks_fetched('"version_one".running'::regclass);
    SELECT t.waiting, t.ended, t.queues, t.leases INTO waiting_queues, ended_ids, lease_queues, leases
    FROM "version_one".take_back(p_now, p_by) t;
    took_back_pages := pg_stat_get_xact_blocks_fetched('"version_one".running'::regclass) - pages;
  END IF;
  -- Queues with limits come last: who claims from one waits for the commit of who did so before, and has others wait.
  FOR i IN
    SELECT q.place::integer FROM unnest(p_queues) WITH ORDINALITY AS q (queue, place)
      LEFT JOIN "version_one".queues l ON l.queue = q.queue AND (l.rate IS NOT NULL OR l.max_concurrent IS NOT NULL)
    ORDER BY l.queue NULLS FIRST, q.place
  LOOP
    SELECT * INTO limits FROM "version_one".queues WHERE queue = p_queues[i];
    allowance := "version_one".allowance(limits, p_now);
    started := 0;
    -- Nothing will start by itself: nothing need be known of what waits.
    IF allowance.slots >= 1 THEN
      IF p_walk[i] THEN
        pages := pg_stat_get_xact_blocks_fetched('"version_one".waiting'::regclass);
        SELECT array_agg(run.task), array_agg(run.target), array_agg(run.version), array_agg(run.rank), array_agg(run.eta), array_agg(run.seq) INTO v_task, v_target, v_version, v_rank, v_eta, v_seq FROM "version_one".runs(p_queues[i], p_tasks, p_versions, p_targets) AS run;
        walked_pages[i] := pg_stat_get_xact_blocks_fetched('"version_one".waiting'::regclass) - pages;
      ELSE
        SELECT array_agg(run.task), array_agg(run.target), array_agg(run.version), array_agg(run.rank), array_agg(run.eta), array_agg(run.seq) INTO v_task, v_target, v_version, v_rank, v_eta, v_seq FROM unnest(p_run_queue, p_run_task, p_run_target, p_run_version, p_run_rank, p_run_eta, p_run_seq) AS run (queue, task, target, version, rank, eta, seq)
        WHERE run.queue = i;
      END IF;
      IF least(allowance.allowed, p_limits[i]) >= 1 AND v_task IS NOT NULL THEN
        -- Limits hold over all claims: who starts something has to know what others started.
        IF limits.rate IS NOT NULL OR limits.max_concurrent IS NOT NULL THEN
          SELECT * INTO limits FROM "version_one".queues WHERE queue = p_queues[i] FOR UPDATE;
          allowance := "version_one".allowance(limits, p_now);
        END IF;
        allowed := floor(least(allowance.allowed, p_limits[i], 100000));
        FOR pass IN 1 .. 2 LOOP
          EXIT WHEN allowed < 1;
          RETURN QUERY SELECT NULL::double precision, NULL::text[], NULL::uuid[], NULL::bigint, NULL::bigint[], NULL::bigint[], NULL::integer[], NULL::text[], NULL::text[], NULL::double precision[], NULL::double precision[], NULL::double precision[], NULL::bigint[], s.* FROM "version_one".start_records(
            p_queues[i], v_task, v_target, v_version, v_rank, v_eta, v_seq, allowed::bigint - started,
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
          UPDATE "version_one".queues SET tokens = limits.tokens, tokens_at = limits.tokens_at WHERE queue = p_queues[i];
        END IF;
        token_at := "version_one".next_token_at(limits);
      END IF;
      SELECT array_agg(run.task), array_agg(run.target), array_agg(run.version), array_agg(run.rank), array_agg(run.eta), array_agg(run.seq) INTO v_task, v_target, v_version, v_rank, v_eta, v_seq FROM "version_one".heads(p_queues[i], v_task, v_target, v_version, v_rank, v_eta, v_seq) AS run;
      -- Without a free slot, never: the end of a lease or an attempt comes first.
      IF v_task IS NOT NULL THEN
        run_queue := run_queue || array_fill(i, ARRAY[cardinality(v_task)]);
        run_task := run_task || v_task;
        run_target := run_target || v_target;
        run_version := run_version || v_version;
        run_rank := run_rank || v_rank;
        run_eta := run_eta || v_eta;
        run_seq := run_seq || v_seq;
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
      SELECT r.lease_until INTO eta_at FROM "version_one".records r
      WHERE r.state = 1 AND r.queue = p_queues[i] AND r.lease_until >= eta_at ORDER BY r.lease_until LIMIT 1;
    END IF;
    IF eta_at IS NOT NULL THEN earliest := least(earliest, greatest(p_now, eta_at)); END IF;
  END LOOP;
  next_at := earliest;
  RETURN NEXT;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".enqueue (p_id uuid[], p_queue text[], p_task text[], p_version double precision[], p_target text[], p_priority double precision[], p_eta double precision[], p_name text[], p_on_duplicate text[], p_tombstone double precision[], p_unique_key text[], p_unique_while integer[], p_expires_at double precision[], p_retry text[], p_timeout double precision[], p_lease double precision[], p_max_crashes double precision[], p_keep double precision[], p_headers text[], p_payload text[], p_payload_ref text[], p_now double precision[], p_by text)
  RETURNS TABLE (ord bigint, outcome text, existing uuid, until double precision) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  inserted uuid[];
  queues text[];
  g record;
  taken record;
  replaced uuid;
  holder uuid;
  has_name boolean;
BEGIN
  IF p_name IS NULL AND p_unique_key IS NULL THEN
    WITH stored AS (
      INSERT INTO "version_one".records (id, eta, enqueued_at, bury_at, queue, task, version, target, priority, name, tombstone, unique_key, unique_while, expires_at, retry, timeout, lease, max_crashes, keep, headers, payload, payload_ref)
      SELECT g.id, greatest(g.now, g.eta), g.now, g.expires_at, g.queue, g.task, g.version, g.target, g.priority, g.name, g.tombstone, g.unique_key, g.unique_while, g.expires_at, g.retry, g.timeout, g.lease, g.max_crashes, g.keep, g.headers, g.payload, g.payload_ref
      FROM unnest(p_id, p_queue, p_task, p_version, p_target, p_priority, p_eta, p_name, p_on_duplicate, p_tombstone, p_unique_key, p_unique_while, p_expires_at, p_retry, p_timeout, p_lease, p_max_crashes, p_keep, p_headers, p_payload, p_payload_ref, p_now) WITH ORDINALITY AS g (id, queue, task, version, target, priority, eta, name, on_duplicate, tombstone, unique_key, unique_while, expires_at, retry, timeout, lease, max_crashes, keep, headers, payload, payload_ref, now, ord) ORDER BY g.ord
      ON CONFLICT (id) DO NOTHING
      RETURNING records.id, records.queue
    )
    SELECT array_agg(stored.id), array_agg(DISTINCT stored.queue) INTO inserted, queues FROM stored;
    PERFORM "version_one".tell(p_by, queues, NULL, NULL, NULL);
    IF coalesce(cardinality(inserted), 0) < cardinality(p_id) THEN
      RETURN QUERY
        SELECT twice.ord, 'Existing', twice.id, NULL::double precision FROM (
          SELECT g.ord, g.id, row_number() OVER (PARTITION BY g.id ORDER BY g.ord) AS time
          FROM unnest(p_id) WITH ORDINALITY AS g (id, ord)
        ) twice
        WHERE twice.time > 1 OR NOT twice.id = ANY (coalesce(inserted, '{}'));
    END IF;
    RETURN;
  END IF;

  -- Names and keys are locked in one order by all, so that two calls with the same ones do not wait for each other for
  -- ever. What makes them unique are the indexes; this only saves deadlocks, so it does not have to be for all.
  PERFORM pg_advisory_xact_lock(locks.number) FROM (
    SELECT DISTINCT hashtextextended(each.what, 0) AS number FROM (
      SELECT '"version_one" name ' || g.queue || ' ' || g.name AS what FROM unnest(p_queue, p_name) AS g (queue, name)
      WHERE g.name IS NOT NULL
      UNION ALL
      SELECT '"version_one" key ' || g.task || ' ' || g.key FROM unnest(p_task, p_unique_key) AS g (task, key)
      WHERE g.key IS NOT NULL
    ) each ORDER BY number LIMIT 200
  ) locks;

  FOR g IN SELECT * FROM unnest(p_id, p_queue, p_task, p_version, p_target, p_priority, p_eta, p_name, p_on_duplicate, p_tombstone, p_unique_key, p_unique_while, p_expires_at, p_retry, p_timeout, p_lease, p_max_crashes, p_keep, p_headers, p_payload, p_payload_ref, p_now) WITH ORDINALITY AS g (id, queue, task, version, target, priority, eta, name, on_duplicate, tombstone, unique_key, unique_while, expires_at, retry, timeout, lease, max_crashes, keep, headers, payload, payload_ref, now, ord) ORDER BY g.ord LOOP
    ord := g.ord;
    until := NULL;
    has_name := false;
    -- Until it is stored, or refused: what is looked at may be changed by others before it is written.
    LOOP
      IF EXISTS (SELECT FROM "version_one".records WHERE id = g.id) THEN
        IF has_name THEN
          DELETE FROM "version_one".names n WHERE n.queue = g.queue AND n.name = g.name AND n.id = g.id;
        END IF;
        outcome := 'Existing';
        existing := g.id;
        EXIT;
      END IF;
      replaced := NULL;
      IF g.name IS NOT NULL AND NOT has_name THEN
        INSERT INTO "version_one".names (queue, name, id) VALUES (g.queue, g.name, g.id) ON CONFLICT (queue, name) DO NOTHING;
        has_name := FOUND;
        IF NOT has_name THEN
          SELECT n.id, n.until INTO taken FROM "version_one".names n WHERE n.queue = g.queue AND n.name = g.name FOR UPDATE;
          -- Freed meanwhile.
          CONTINUE WHEN NOT FOUND;
          IF taken.until IS NULL OR taken.until > g.now THEN
            IF g.on_duplicate <> 'replace' THEN
              outcome := CASE WHEN g.on_duplicate = 'ignore' THEN 'Existing' WHEN taken.until IS NULL THEN 'Duplicate'
                ELSE 'Tombstoned' END;
              existing := taken.id;
              until := taken.until;
              EXIT;
            END IF;
            -- A tombstone has no owner, also when a record with its id has come back without the name. And who is being
            -- started at this moment no longer waits.
            IF taken.until IS NULL THEN
              SELECT r.id INTO replaced FROM "version_one".records r WHERE r.id = taken.id AND r.state::integer = 0
              FOR UPDATE SKIP LOCKED;
            END IF;
          END IF;
        END IF;
      END IF;
      IF g.unique_key IS NOT NULL THEN
        SELECT r.id INTO holder FROM "version_one".records r
        WHERE r.holds AND r.task = g.task AND r.unique_key = g.unique_key AND r.id IS DISTINCT FROM replaced;
        IF FOUND THEN
          IF has_name THEN
            DELETE FROM "version_one".names n WHERE n.queue = g.queue AND n.name = g.name AND n.id = g.id;
          END IF;
          outcome := 'Existing';
          existing := holder;
          EXIT;
        END IF;
      END IF;
      IF replaced IS NOT NULL THEN
        -- The id stays, and the token, which only ever rises; the place in the order of insertion too.
        UPDATE "version_one".records SET eta = greatest(g.now, g.eta), enqueued_at = g.now,
          bury_at = g.expires_at, queue = g.queue, task = g.task, version = g.version, target = g.target, priority = g.priority, name = g.name, tombstone = g.tombstone, unique_key = g.unique_key, unique_while = g.unique_while, expires_at = g.expires_at, retry = g.retry, timeout = g.timeout, lease = g.lease, max_crashes = g.max_crashes, keep = g.keep, headers = g.headers, payload = g.payload, payload_ref = g.payload_ref,
          holds = CASE WHEN g.unique_key IS NOT NULL THEN true END, attempt = 0, crashes = 0, first_attempt_at = NULL,
          started_at = NULL, worker = NULL, failure = NULL, failure_tag = NULL, progress = NULL, ledger = NULL
        WHERE id = replaced;
        outcome := 'Replaced';
        existing := replaced;
        queues := queues || g.queue;
        EXIT;
      END IF;
      INSERT INTO "version_one".records (id, eta, enqueued_at, bury_at, holds, queue, task, version, target, priority, name, tombstone, unique_key, unique_while, expires_at, retry, timeout, lease, max_crashes, keep, headers, payload, payload_ref)
      VALUES (g.id, greatest(g.now, g.eta), g.now, g.expires_at, CASE WHEN g.unique_key IS NOT NULL THEN true END,
        g.queue, g.task, g.version, g.target, g.priority, g.name, g.tombstone, g.unique_key, g.unique_while, g.expires_at, g.retry, g.timeout, g.lease, g.max_crashes, g.keep, g.headers, g.payload, g.payload_ref)
      ON CONFLICT DO NOTHING;
      -- Somebody else had the same id or key at the same moment.
      CONTINUE WHEN NOT FOUND;
      IF g.name IS NOT NULL AND NOT has_name THEN
        UPDATE "version_one".names n SET id = g.id, until = NULL WHERE n.queue = g.queue AND n.name = g.name;
      END IF;
      outcome := NULL;
      queues := queues || g.queue;
      EXIT;
    END LOOP;
    IF outcome IS NOT NULL THEN RETURN NEXT; END IF;
  END LOOP;
  PERFORM "version_one".tell(p_by, (SELECT array_agg(DISTINCT queue) FROM unnest(queues) AS queue), NULL, NULL, NULL);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".settle (p_id uuid[], p_token integer[], p_tag text[], p_eta double precision[], p_reason text[], p_result text[], p_failure text[], p_failure_tag text[], p_progress text[], p_now double precision[], p_drops boolean, p_shard integer, p_by text, OUT places bigint[], OUT waiting text[], OUT ended uuid[], OUT progressed uuid[])
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  queues text[];
  seconds bigint[];
BEGIN
  WITH given AS MATERIALIZED (
    SELECT * FROM unnest(p_id, p_token, p_tag, p_eta, p_reason, p_result, p_failure, p_failure_tag, p_progress, p_now)
      WITH ORDINALITY AS g (id, token, tag, eta, reason, result, failure, failure_tag, progress, now, ord)
  ),
  dropped AS (
    DELETE FROM "version_one".records r USING given g WHERE p_drops AND r.id = ANY (ARRAY[g.id]) AND r.state::integer = 1 AND r.token = g.token AND r.keep = 0 AND (g.tag IN ('Succeed', 'Cancel') OR (r.cancel_requested IS NOT NULL AND g.tag IN ('Retry', 'Snooze', 'Release')))
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, 3 AS state
  ),
  kept AS (
    UPDATE "version_one".records r SET
      state = CASE g.tag WHEN 'Succeed' THEN 2 WHEN 'Cancel' THEN 3 WHEN 'Bury' THEN 4
      ELSE CASE WHEN r.cancel_requested IS NULL THEN 0 ELSE 3 END END,
      eta = CASE WHEN g.tag IN ('Retry', 'Snooze', 'Release') AND r.cancel_requested IS NULL THEN greatest(g.now, g.eta) ELSE r.eta END,
      attempt = CASE WHEN g.tag IN ('Snooze', 'Release') THEN r.attempt - 1 ELSE r.attempt END,
      lease_until = NULL,
      ended_at = CASE WHEN g.tag IN ('Retry', 'Snooze', 'Release') AND r.cancel_requested IS NULL THEN NULL ELSE g.now END,
      prune_at = CASE WHEN r.keep < 'Infinity' AND CASE g.tag WHEN 'Succeed' THEN 2 WHEN 'Cancel' THEN 3 WHEN 'Bury' THEN 4
      ELSE CASE WHEN r.cancel_requested IS NULL THEN 0 ELSE 3 END END IN (2, 3) THEN g.now + r.keep END,
      reason = g.reason,
      result = g.result,
      progress = coalesce(g.progress, r.progress),
      failure = coalesce(g.failure, r.failure),
      failure_tag = CASE WHEN g.failure IS NULL THEN r.failure_tag ELSE g.failure_tag END,
      ledger = CASE WHEN g.tag = 'Succeed' THEN r.ledger
        ELSE CASE WHEN jsonb_array_length(coalesce(r.ledger, '[]')) < 50 THEN coalesce(r.ledger, '[]')
     ELSE r.ledger - 0 END
   || jsonb_build_array(jsonb_build_array(r.attempt, r.worker, r.started_at,
        g.now, g.tag, g.failure)) END,
      holds = r.holds AND (r.unique_while >> (CASE g.tag WHEN 'Succeed' THEN 2 WHEN 'Cancel' THEN 3 WHEN 'Bury' THEN 4
      ELSE CASE WHEN r.cancel_requested IS NULL THEN 0 ELSE 3 END END)) & 1 = 1
    FROM given g WHERE r.id = ANY (ARRAY[g.id]) AND r.state::integer = 1 AND r.token = g.token AND NOT (p_drops AND r.keep = 0 AND (g.tag IN ('Succeed', 'Cancel') OR (r.cancel_requested IS NOT NULL AND g.tag IN ('Retry', 'Snooze', 'Release'))))
    RETURNING g.ord, g.tag, g.now, g.progress, r.id, r.queue, r.name, r.tombstone, r.state::integer
  ),
  settled AS (SELECT * FROM dropped UNION ALL SELECT * FROM kept),
  entombed AS (
    UPDATE "version_one".names n SET until = s.now + s.tombstone FROM settled s
    WHERE s.name IS NOT NULL AND s.state >= 2 AND n.queue = ANY (ARRAY[s.queue]) AND n.name = s.name AND n.id = s.id
      AND n.until IS NULL
  )
  SELECT array_agg(s.ord), array_agg(s.id) FILTER (WHERE s.state >= 2),
    array_agg(DISTINCT s.queue) FILTER (WHERE s.state = 0
      OR EXISTS (SELECT FROM "version_one".queues q WHERE q.queue = s.queue AND q.max_concurrent IS NOT NULL)),
    array_agg(s.queue) FILTER (WHERE s.tag <> 'Release'), array_agg(floor(s.now / 1000)) FILTER (WHERE s.tag <> 'Release'),
    array_agg(s.id) FILTER (WHERE s.progress IS NOT NULL)
  INTO places, ended, waiting, queues, seconds, progressed FROM settled s;
  INSERT INTO "version_one".executed AS e (queue, second, shard, count)
  SELECT g.queue, g.second, p_shard, count(*) FROM unnest(queues, seconds) AS g (queue, second)
  GROUP BY g.queue, g.second ORDER BY g.queue, g.second
  ON CONFLICT (queue, second, shard) DO UPDATE SET count = e.count + excluded.count;
  PERFORM "version_one".tell(p_by, waiting, ended, NULL, progressed);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".extend (p_id uuid[], p_token integer[], p_until double precision[])
  RETURNS TABLE (ord bigint, is_cancelled boolean) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY
    UPDATE "version_one".records r SET lease_until = g.until
    FROM unnest(p_id, p_token, p_until) WITH ORDINALITY AS g (id, token, until, ord)
    WHERE r.id = ANY (ARRAY[g.id]) AND r.state::integer = 1 AND r.token = g.token RETURNING g.ord, r.cancel_requested IS NOT NULL;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".progress (p_id uuid[], p_token integer[], p_progress text[], p_by text)
  RETURNS bigint[] LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  places bigint[];
  ids uuid[];
BEGIN
  WITH noted AS (
    UPDATE "version_one".records r SET progress = g.progress
    FROM unnest(p_id, p_token, p_progress) WITH ORDINALITY AS g (id, token, progress, ord)
    WHERE r.id = ANY (ARRAY[g.id]) AND r.state::integer = 1 AND r.token = g.token RETURNING g.ord, r.id
  )
  SELECT array_agg(noted.ord), array_agg(noted.id) INTO places, ids FROM noted;
  PERFORM "version_one".tell(p_by, NULL, NULL, NULL, ids);
  RETURN places;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".cancel (p_id uuid[], p_reason text, p_now double precision, p_by text, OUT outcomes text[], OUT ended uuid[], OUT cancelling uuid[])
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  g record;
  r "version_one".records;
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM "version_one".records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
    ELSIF r.state > 1 THEN
      outcomes[g.ord] := 'TooLate';
    ELSIF r.state = 1 THEN
      UPDATE "version_one".records SET cancel_requested = p_reason WHERE id = g.id;
      cancelling := cancelling || r.id;
      outcomes[g.ord] := 'Requested';
    ELSE
      r.cancel_requested := p_reason;
      PERFORM "version_one".end_record(r, 3, p_now);
      ended := ended || r.id;
      outcomes[g.ord] := 'Cancelled';
    END IF;
  END LOOP;
  PERFORM "version_one".tell(p_by, NULL, ended, cancelling, NULL);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".redrive (p_id uuid[], p_now double precision, p_by text, OUT outcomes text[], OUT waiting text[])
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  g record;
  r "version_one".records;
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM "version_one".records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
      CONTINUE;
    ELSIF r.state <> 4 THEN
      outcomes[g.ord] := 'NotDead';
      CONTINUE;
    END IF;
    UPDATE "version_one".records SET state = 0, eta = p_now, attempt = 0, crashes = 0, first_attempt_at = NULL,
      started_at = NULL, worker = NULL, expires_at = NULL, bury_at = NULL, cancel_requested = NULL, ended_at = NULL, reason = NULL,
      result = NULL, progress = NULL,
      holds = r.unique_key IS NOT NULL AND (r.holds OR NOT EXISTS (
        SELECT FROM "version_one".records other WHERE other.holds AND other.task = r.task AND other.unique_key = r.unique_key))
    WHERE id = r.id;
    -- Its name is its own again, unless another record has it by now.
    IF r.name IS NOT NULL THEN
      INSERT INTO "version_one".names AS n (queue, name, id) VALUES (r.queue, r.name, r.id)
      ON CONFLICT (queue, name) DO UPDATE SET id = excluded.id, until = NULL
        WHERE n.id = excluded.id OR n.until <= p_now;
    END IF;
    outcomes[g.ord] := 'Redriven';
    waiting := waiting || r.queue;
  END LOOP;
  waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(waiting) AS queue);
  PERFORM "version_one".tell(p_by, waiting, NULL, NULL, NULL);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".remove (p_id uuid[], p_only_dead boolean)
  RETURNS text[] LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  g record;
  r "version_one".records;
  outcomes text[];
BEGIN
  FOR g IN SELECT * FROM unnest(p_id) WITH ORDINALITY AS g (id, ord) ORDER BY g.id, g.ord LOOP
    SELECT * INTO r FROM "version_one".records WHERE id = g.id FOR UPDATE;
    IF NOT FOUND THEN
      outcomes[g.ord] := 'NotFound';
    ELSIF p_only_dead AND r.state <> 4 THEN
      outcomes[g.ord] := 'NotDead';
    ELSIF r.state = 1 THEN
      outcomes[g.ord] := 'Running';
    ELSE
      DELETE FROM "version_one".records WHERE id = g.id;
      -- The name of one that has ended stays taken until its tombstone is over.
      IF r.state = 0 AND r.name IS NOT NULL THEN
        DELETE FROM "version_one".names WHERE queue = r.queue AND name = r.name AND id = r.id AND until IS NULL;
      END IF;
      outcomes[g.ord] := 'Removed';
    END IF;
  END LOOP;
  RETURN outcomes;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".purge (p_queue text)
  RETURNS bigint LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  purged bigint;
BEGIN
  WITH gone AS (
    DELETE FROM "version_one".records WHERE state = 0 AND queue = p_queue RETURNING id, queue, name
  ),
  freed AS (
    DELETE FROM "version_one".names n USING gone
    WHERE gone.name IS NOT NULL AND n.queue = ANY (ARRAY[gone.queue]) AND n.name = gone.name
      AND n.id = gone.id AND n.until IS NULL
  )
  SELECT count(*) INTO purged FROM gone;
  RETURN purged;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".prune (p_now double precision, p_dead_before double precision, p_limit bigint, OUT pruned bigint, OUT is_more boolean)
  RETURNS record LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
  step bigint;
BEGIN
  DELETE FROM "version_one".records r USING (
    SELECT ctid AS tid FROM "version_one".records WHERE state >= 2 AND prune_at <= p_now ORDER BY prune_at LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) over WHERE r.ctid = over.tid;
  GET DIAGNOSTICS pruned = ROW_COUNT;
  is_more := pruned = p_limit;
  DELETE FROM "version_one".records r USING (
    SELECT ctid AS tid FROM "version_one".records WHERE state = 4 AND ended_at < p_dead_before ORDER BY ended_at LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) over WHERE r.ctid = over.tid;
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;
  pruned := pruned + step;
  DELETE FROM "version_one".names n USING (
    SELECT ctid AS tid FROM "version_one".names WHERE until <= p_now ORDER BY until LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) over WHERE n.ctid = over.tid;
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;
  DELETE FROM "version_one".workers WHERE until <= p_now;
  DELETE FROM "version_one".executed WHERE second < floor(p_now / 1000) - 120;
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".get_records (p_id uuid[])
  RETURNS TABLE (seq bigint, id uuid, queue text, task text, version double precision, target text, state smallint, priority double precision, eta double precision, token integer, attempt integer, crashes integer, max_crashes double precision, keep double precision, enqueued_at double precision, expires_at double precision, lease double precision, timeout double precision, lease_until double precision, worker text, started_at double precision, first_attempt_at double precision, ended_at double precision, reason text, cancel_requested text, name text, retry text, headers text, payload text, result text, failure text, unique_key text, payload_ref text, progress text) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT r.seq, r.id, r.queue, r.task, r.version, r.target, r.state, r.priority, r.eta, r.token, r.attempt, r.crashes, r.max_crashes, r.keep, r.enqueued_at, r.expires_at, r.lease, r.timeout, r.lease_until, r.worker, r.started_at, r.first_attempt_at, r.ended_at, r.reason, r.cancel_requested, r.name, r.retry, r.headers, r.payload, r.result, r.failure, r.unique_key, r.payload_ref, r.progress FROM "version_one".records r WHERE r.id = ANY (p_id);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".get_ledgers (p_id uuid[])
  RETURNS TABLE (id uuid, ledger text, state smallint, attempt integer, worker text, started_at double precision,
    ended_at double precision) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT r.id, r.ledger::text, r.state, r.attempt, r.worker, r.started_at, r.ended_at
    FROM "version_one".records r WHERE r.id = ANY (p_id);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".get_payload_refs (p_refs text[])
  RETURNS TABLE (payload_ref text) LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT DISTINCT r.payload_ref FROM "version_one".records r WHERE r.payload_ref = ANY (p_refs);
END
$function$;

CREATE OR REPLACE FUNCTION "version_one".new_task_id (p_now double precision) RETURNS uuid LANGUAGE sql VOLATILE
AS $function$
  SELECT encode(set_byte(random, 6, (get_byte(random, 6) & 15) | 112), 'hex')::uuid FROM (
    SELECT overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(p_now::bigint) FROM 3) FROM 1 FOR 6) AS random
  ) made
$function$;

CREATE OR REPLACE FUNCTION "version_one".defer (task text, payload jsonb DEFAULT 'null', options jsonb DEFAULT '{}')
  RETURNS jsonb LANGUAGE plpgsql
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET enable_material = off
  SET jit = off
AS $function$
#variable_conflict use_variable
DECLARE
  -- Who calls from SQL has no other clock than this.
  at double precision := coalesce((options->>'now')::double precision,
    floor(extract(epoch FROM clock_timestamp()) * 1000));
  new_id uuid := coalesce((options->>'id')::uuid, "version_one".new_task_id(at));
  key_while integer;
  refused record;
  unknown text;
BEGIN
  SELECT key INTO unknown FROM jsonb_object_keys(options) AS key
  WHERE key <> ALL (ARRAY['id', 'queue', 'version', 'target', 'priority', 'eta', 'delay', 'name', 'onDuplicate', 'tombstone', 'unique', 'expires', 'retry', 'timeout', 'lease', 'maxCrashes', 'keep', 'headers', 'now']) LIMIT 1;
  IF unknown IS NOT NULL THEN
    RAISE EXCEPTION '"version_one".defer has no option "%"', unknown USING
      HINT = 'it has id, queue, version, target, priority, eta, delay, name, onDuplicate, tombstone, unique, expires, retry, timeout, lease, maxCrashes, keep, headers, now', ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(options->>'onDuplicate', 'fail') NOT IN ('fail', 'ignore', 'replace') THEN
    RAISE EXCEPTION 'onDuplicate is "fail", "ignore" or "replace", and not "%"', options->>'onDuplicate' USING
      ERRCODE = 'invalid_parameter_value';
  END IF;
  IF options->'unique'->>'key' IS NOT NULL THEN
    SELECT bit_or(CASE state WHEN 'running' THEN 2 WHEN 'succeeded' THEN 4 WHEN 'cancelled' THEN 8 WHEN 'dead' THEN 16
      ELSE 1 END) | 1 INTO key_while
    FROM jsonb_array_elements_text(coalesce(options->'unique'->'while', '["waiting", "running"]')) AS state;
  END IF;
  SELECT * INTO refused FROM "version_one".enqueue(ARRAY[new_id]::uuid[],
    ARRAY[coalesce(options->>'queue', 'default')]::text[],
    ARRAY[task]::text[],
    ARRAY[coalesce((options->>'version')::double precision, 1)]::double precision[],
    ARRAY[options->>'target']::text[],
    ARRAY[coalesce((options->>'priority')::double precision, 0)]::double precision[],
    ARRAY[coalesce((options->>'eta')::double precision, at + coalesce((options->>'delay')::double precision, 0))]::double precision[],
    CASE WHEN options->>'name' IS NOT NULL THEN ARRAY[options->>'name'] END,
    ARRAY[coalesce(options->>'onDuplicate', 'fail')]::text[],
    ARRAY[coalesce((options->>'tombstone')::double precision, 777600000)]::double precision[],
    CASE WHEN options->'unique'->>'key' IS NOT NULL THEN ARRAY[options->'unique'->>'key'] END,
    ARRAY[key_while]::integer[],
    ARRAY[at + (options->>'expires')::double precision]::double precision[],
    ARRAY[(options->'retry')::text]::text[],
    ARRAY[(options->>'timeout')::double precision]::double precision[],
    ARRAY[(options->>'lease')::double precision]::double precision[],
    ARRAY[coalesce((options->>'maxCrashes')::double precision, 3)]::double precision[],
    ARRAY[coalesce((options->>'keep')::double precision, 86400000)]::double precision[],
    ARRAY[(options->'headers')::text]::text[],
    ARRAY[coalesce(payload, 'null'::jsonb)::text]::text[],
    ARRAY[NULL]::text[], ARRAY[at], '');
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'Inserted', 'id', new_id); END IF;
  IF refused.outcome = 'Tombstoned' THEN
    RETURN jsonb_build_object('outcome', refused.outcome, 'until', refused.until);
  END IF;
  RETURN jsonb_build_object('outcome', refused.outcome, 'id', refused.existing);
END
$function$;

INSERT INTO "version_one".migrations (version) VALUES (1);
