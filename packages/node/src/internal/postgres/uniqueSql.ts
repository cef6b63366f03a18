/**
 * Storing records one by one, by the names and keys that make them unique, as part of the function that enqueues.
 */
import { arriveOne } from "./arrivalsSql.ts"
import { followable } from "./joinTables.ts"
import { contentNames } from "./newRow.ts"

export const uniqueVariables = (schema: string): string => `g record;
  taken record;
  owner ${schema}.records;
  place ${schema}.records;
  r ${schema}.records;
  has_name boolean;
  is_of_join boolean;
  is_latest boolean;
  expects_place boolean;
  new_eta double precision;
  new_due double precision;`

const isOfJoin = (record: string): string => `(${record}.member_of IS NOT NULL OR ${record}.joined IS NOT NULL)`

/** What is written of a record besides what stays as it is when it takes the place of another. */
const written: ReadonlyArray<readonly [column: string, value: string]> = [
  ...contentNames.filter((name) => name !== "due_by").map((name) => [name, `g.${name}`] as const),
  ["enqueued_at", "g.now"],
  ["bury_at", "g.expires_at"],
  ["due_by", "new_due"],
  ["eta", "CASE WHEN r.wanted_eta IS NULL THEN new_eta ELSE 'Infinity' END"],
  ["wanted_eta", "r.wanted_eta"],
  ["follows", "r.follows"],
  ["joined", "r.joined"],
  ["holds", "CASE WHEN g.unique_key IS NOT NULL AND r.follows IS NULL THEN true END"],
]

/** What says that nothing is stored, since this record is there; the name, if it was free, is free again. */
const existing = (id: string, schema: string): string => `outcome := 'Existing';
          existing := ${id};
          IF has_name THEN
            DELETE FROM ${schema}.names n WHERE n.queue = g.queue AND n.name = g.name AND n.id = g.id;
          END IF;
          EXIT;`

/**
 * Looks who has the name: `has_name`, it was free. `place` is the waiting record that has it and is to be replaced, locked;
 * `owner` is that record too, or one that stays, since it belongs to others.
 */
const takeName = (schema: string): string => `INSERT INTO ${schema}.names (queue, name, id)
        VALUES (g.queue, g.name, g.id) ON CONFLICT (queue, name) DO NOTHING;
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
              SELECT * INTO owner FROM ${schema}.records WHERE id = taken.id AND state::integer = 0;
              IF FOUND AND NOT is_of_join AND NOT ${isOfJoin("owner")} THEN
                SELECT * INTO owner FROM ${schema}.records WHERE id = taken.id AND state::integer = 0
                FOR UPDATE SKIP LOCKED;
                place := owner;
              END IF;
            END IF;
          END IF;
        END IF;`

/** Looks who holds the key. `r` says how the record is stored: behind a running one, or, with `place`, in the place of one that waits. */
const takeKey = (schema: string): string => `SELECT * INTO taken FROM ${schema}.records o
        WHERE o.holds AND o.task = g.task AND o.unique_key = g.unique_key AND o.id IS DISTINCT FROM owner.id;
        IF FOUND THEN
          IF owner.id IS NOT NULL OR NOT is_latest OR is_of_join OR taken.state >= 2 OR ${isOfJoin("taken")} THEN
            ${existing("taken.id", schema)}
          END IF;
          IF taken.state = 1 THEN
            SELECT * INTO place FROM ${schema}.records WHERE follows = taken.id;
            IF NOT FOUND THEN
              IF expects_place THEN
                ${existing("taken.id", schema)}
              END IF;
              -- Whoever ends it has to know that it may be followed.
              IF taken.unique_while & ${followable} = 0 THEN
                UPDATE ${schema}.records SET unique_while = unique_while | ${followable}
                WHERE id = taken.id AND state::integer = 1;
                CONTINUE WHEN NOT FOUND;
              END IF;
              r.follows := taken.id;
            ELSE
              SELECT * INTO place FROM ${schema}.records
              WHERE id = place.id AND follows = taken.id AND state::integer = 0 FOR UPDATE;
              CONTINUE WHEN NOT FOUND;
              r.follows := taken.id;
            END IF;
          ELSE
            SELECT * INTO place FROM ${schema}.records WHERE id = taken.id AND state::integer = 0 AND holds FOR UPDATE;
            CONTINUE WHEN NOT FOUND;
          END IF;
          IF place.id IS NOT NULL THEN
            IF g.expects <> coalesce(place.payload_ref, place.payload) THEN
              ${existing("place.id", schema)}
            END IF;
            new_eta := CASE WHEN g.spacing IS NULL THEN greatest(g.now, least(new_eta, place.due_by))
              ELSE least(coalesce(place.wanted_eta, place.eta), place.due_by) END;
            new_due := coalesce(place.due_by, g.due_by);
          END IF;
        ELSIF expects_place AND place.id IS NULL THEN
          ${existing("g.id", schema)}
        END IF;`

const replacing = (schema: string): string => `IF r.follows IS NOT NULL THEN r.wanted_eta := new_eta; END IF;
        UPDATE ${schema}.records SET
          ${written.map(([name, value]) => `${name} = ${value}`).join(", ")},
          attempt = 0, crashes = 0, first_attempt_at = NULL, started_at = NULL, worker = NULL, failure = NULL,
          failure_tag = NULL, progress = NULL, ledger = NULL
        WHERE id = place.id RETURNING * INTO r;
        IF place.name IS NOT NULL AND (g.name IS NULL OR g.name <> place.name OR g.queue <> place.queue) THEN
          DELETE FROM ${schema}.names n WHERE n.queue = place.queue AND n.name = place.name AND n.id = place.id AND n.until IS NULL;
        END IF;
        IF g.name IS NOT NULL THEN
          UPDATE ${schema}.names n SET id = place.id, until = NULL
          WHERE n.queue = g.queue AND n.name = g.name AND (n.id <> place.id OR n.until IS NOT NULL);
        END IF;
        IF place.key IS NOT NULL THEN e := ${schema}.left_record(place, NULL, e); END IF;
        IF r.key IS NOT NULL THEN
          ${arriveOne(schema, "r")};
          e := ${schema}.left_record(r, NULL, e);
        END IF;
        outcome := 'Replaced';
        existing := place.id;
        queues := queues || g.queue;
        EXIT;`

const inserting = (schema: string): string => `IF g.spacing IS NOT NULL AND NOT is_of_join THEN
        new_eta := greatest(new_eta, (SELECT s.until FROM ${schema}.spacings s
          WHERE s.task = g.task AND s.key = g.unique_key FOR UPDATE));
      END IF;
      IF r.follows IS NOT NULL OR g.join_total IS NOT NULL THEN r.wanted_eta := new_eta; END IF;
      IF g.join_total IS NOT NULL THEN
        r.joined := ARRAY[g.join_total, g.join_on_failure, g.join_then, 0, 0, 0];
      END IF;
      INSERT INTO ${schema}.records (id, ${written.map(([name]) => name).join(", ")})
      VALUES (g.id, ${written.map(([, value]) => value).join(", ")})
      ON CONFLICT DO NOTHING RETURNING * INTO r;
      -- Somebody else had the same id or key at the same moment.
      CONTINUE WHEN NOT FOUND;
      IF g.name IS NOT NULL AND NOT has_name THEN
        UPDATE ${schema}.names n SET id = g.id, until = NULL WHERE n.queue = g.queue AND n.name = g.name;
      END IF;
      IF g.spacing IS NOT NULL AND NOT is_of_join THEN
        INSERT INTO ${schema}.spacings (task, key, until) VALUES (g.task, g.unique_key, new_eta + g.spacing)
        ON CONFLICT (task, key) DO UPDATE SET until = excluded.until;
      END IF;
      IF r.key IS NOT NULL THEN
        ${arriveOne(schema, "r")};
      END IF;
      -- Whoever ends the one before it may not see it yet, if this is long in committing.
      IF r.follows IS NOT NULL THEN INSERT INTO ${schema}.arrivals (queue, id) VALUES (r.queue, r.id); END IF;
      outcome := NULL;
      inserted := inserted || g.id;
      queues := queues || g.queue;
      EXIT;`

/** Stores the rows `g` of a list, in their order, with the variables above and those of the function. */
export const storeUnique = (
  schema: string,
  rows: string,
): string => `-- Names and keys are locked in one order by all, so that two calls with the same ones do not wait for each other for
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
    FOR g IN SELECT * FROM ${rows} ORDER BY g.ord LOOP
      ord := g.ord;
      until := NULL;
      has_name := false;
      is_of_join := g.member_of IS NOT NULL OR g.join_total IS NOT NULL;
      expects_place := g.expects <> '' AND NOT is_of_join;
      is_latest := g.unique_while & ${followable} <> 0;
      -- Until it is stored, or refused: what is looked at may be changed by others before it is written.
      LOOP
        owner := NULL;
        place := NULL;
        r := NULL;
        new_eta := greatest(g.now, g.eta);
        new_due := g.due_by;
        IF EXISTS (SELECT FROM ${schema}.records WHERE id = g.id) THEN
          ${existing("g.id", schema)}
        END IF;
        IF g.name IS NOT NULL AND NOT has_name THEN
          ${takeName(schema)}
        END IF;
        IF g.unique_key IS NOT NULL THEN
          ${takeKey(schema)}
        END IF;
        IF owner.id IS NOT NULL AND place.id IS NULL THEN
          ${existing("owner.id", schema)}
        END IF;
        IF place.id IS NOT NULL THEN
          ${replacing(schema)}
        END IF;
        ${inserting(schema)}
      END LOOP;
      IF outcome IS NOT NULL THEN
        refused := refused || ord;
        RETURN NEXT;
      END IF;
    END LOOP;`
