/**
 * defer ──► scheduled | ready, and the names and keys that make records unique, as a function of the schema.
 */
import { plpgsql } from "./functions.ts"
import { newColumns } from "./row.ts"

/** What is written as it was given; `eta` is never before now. */
const content = newColumns
  .map(([name]) => name)
  .filter((name) => name !== "id" && name !== "eta" && name !== "on_duplicate")

const given = [...newColumns.map(([name]) => name), "now"]
const unnested = `unnest(${given.map((name) => `p_${name}`).join(", ")}) WITH ORDINALITY AS g (${given.join(", ")}, ord)`

/** The rows say what became of records that were not simply inserted, by their place from 1. */
export const enqueueFunction = (schema: string): string =>
  plpgsql({
    name: `${schema}.enqueue`,
    parameters: [...newColumns.map(([name, type]) => `p_${name} ${type}[]`), "p_now double precision[]", "p_by text"],
    returns: "TABLE (ord bigint, outcome text, existing uuid, until double precision)",
    body: `DECLARE
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
      INSERT INTO ${schema}.records (id, eta, enqueued_at, bury_at, ${content.join(", ")})
      SELECT g.id, greatest(g.now, g.eta), g.now, g.expires_at, ${content.map((name) => `g.${name}`).join(", ")}
      FROM ${unnested} ORDER BY g.ord
      ON CONFLICT (id) DO NOTHING
      RETURNING records.id, records.queue
    )
    SELECT array_agg(stored.id), array_agg(DISTINCT stored.queue) INTO inserted, queues FROM stored;
    PERFORM ${schema}.tell(p_by, queues, NULL, NULL, NULL);
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
      SELECT '${schema} name ' || g.queue || ' ' || g.name AS what FROM unnest(p_queue, p_name) AS g (queue, name)
      WHERE g.name IS NOT NULL
      UNION ALL
      SELECT '${schema} key ' || g.task || ' ' || g.key FROM unnest(p_task, p_unique_key) AS g (task, key)
      WHERE g.key IS NOT NULL
    ) each ORDER BY number LIMIT 200
  ) locks;

  FOR g IN SELECT * FROM ${unnested} ORDER BY g.ord LOOP
    ord := g.ord;
    until := NULL;
    has_name := false;
    -- Until it is stored, or refused: what is looked at may be changed by others before it is written.
    LOOP
      IF EXISTS (SELECT FROM ${schema}.records WHERE id = g.id) THEN
        IF has_name THEN
          DELETE FROM ${schema}.names n WHERE n.queue = g.queue AND n.name = g.name AND n.id = g.id;
        END IF;
        outcome := 'Existing';
        existing := g.id;
        EXIT;
      END IF;
      replaced := NULL;
      IF g.name IS NOT NULL AND NOT has_name THEN
        INSERT INTO ${schema}.names (queue, name, id) VALUES (g.queue, g.name, g.id) ON CONFLICT (queue, name) DO NOTHING;
        has_name := FOUND;
        IF NOT has_name THEN
          SELECT n.id, n.until INTO taken FROM ${schema}.names n WHERE n.queue = g.queue AND n.name = g.name FOR UPDATE;
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
              SELECT r.id INTO replaced FROM ${schema}.records r WHERE r.id = taken.id AND r.state::integer = 0
              FOR UPDATE SKIP LOCKED;
            END IF;
          END IF;
        END IF;
      END IF;
      IF g.unique_key IS NOT NULL THEN
        SELECT r.id INTO holder FROM ${schema}.records r
        WHERE r.holds AND r.task = g.task AND r.unique_key = g.unique_key AND r.id IS DISTINCT FROM replaced;
        IF FOUND THEN
          IF has_name THEN
            DELETE FROM ${schema}.names n WHERE n.queue = g.queue AND n.name = g.name AND n.id = g.id;
          END IF;
          outcome := 'Existing';
          existing := holder;
          EXIT;
        END IF;
      END IF;
      IF replaced IS NOT NULL THEN
        -- The id stays, and the token, which only ever rises; the place in the order of insertion too.
        UPDATE ${schema}.records SET eta = greatest(g.now, g.eta), enqueued_at = g.now,
          bury_at = g.expires_at, ${content.map((name) => `${name} = g.${name}`).join(", ")},
          holds = CASE WHEN g.unique_key IS NOT NULL THEN true END, attempt = 0, crashes = 0, first_attempt_at = NULL,
          started_at = NULL, worker = NULL, failure = NULL, failure_tag = NULL, progress = NULL, ledger = NULL
        WHERE id = replaced;
        outcome := 'Replaced';
        existing := replaced;
        queues := queues || g.queue;
        EXIT;
      END IF;
      INSERT INTO ${schema}.records (id, eta, enqueued_at, bury_at, holds, ${content.join(", ")})
      VALUES (g.id, greatest(g.now, g.eta), g.now, g.expires_at, CASE WHEN g.unique_key IS NOT NULL THEN true END,
        ${content.map((name) => `g.${name}`).join(", ")})
      ON CONFLICT DO NOTHING;
      -- Somebody else had the same id or key at the same moment.
      CONTINUE WHEN NOT FOUND;
      IF g.name IS NOT NULL AND NOT has_name THEN
        UPDATE ${schema}.names n SET id = g.id, until = NULL WHERE n.queue = g.queue AND n.name = g.name;
      END IF;
      outcome := NULL;
      queues := queues || g.queue;
      EXIT;
    END LOOP;
    IF outcome IS NOT NULL THEN RETURN NEXT; END IF;
  END LOOP;
  PERFORM ${schema}.tell(p_by, (SELECT array_agg(DISTINCT queue) FROM unnest(queues) AS queue), NULL, NULL, NULL);
END`,
  })
