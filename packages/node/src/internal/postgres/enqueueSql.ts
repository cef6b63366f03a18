/**
 * defer ──► scheduled | ready, as a function of the schema.
 */
import { arrive } from "./arrivalsSql.ts"
import { plpgsql } from "./functions.ts"
import { contentNames, newColumns, rareNames } from "./newRow.ts"
import { storeUnique, uniqueVariables } from "./uniqueSql.ts"

/**
 * Of each record, besides what `newColumns` has: how deep it is in what it waits with, the call that it came with, and when.
 */
export const givenTypes: ReadonlyArray<readonly [name: string, type: string]> = [
  ...newColumns.map(([name, type]) => [name, type] as const),
  ["join_depth", "integer"],
  ["call", "integer"],
  ["now", "double precision"],
]
const unnest = (names: ReadonlyArray<string>): string =>
  `unnest(${names.map((name) => `p_${name}`).join(", ")}) WITH ORDINALITY AS g (${names.join(", ")}, ord)`
const given = givenTypes.map(([name]) => name)
const unnested = unnest(given)

/** Columns with what is written into them. */
type Values = ReadonlyArray<readonly [column: string, value: string]>

const plainOf = (given: (name: string) => string): Values => [
  ["id", given("id")],
  ["eta", `greatest(${given("now")}, ${given("eta")})`],
  ["enqueued_at", given("now")],
  ["bury_at", given("expires_at")],
  ...contentNames.filter((name) => !rareNames.has(name)).map((name) => [name, given(name)] as const),
]
const plain = plainOf((name) => `g.${name}`)
/** Of a call with one record, as many are: it is in no table. */
const single = plainOf((name) => `p_${name}[1]`)
/** What waits for its members is held back until they have ended. */
const isJoin = "g.join_total IS NOT NULL"
const everything: Values = [
  ...plain.filter(([name]) => name !== "eta"),
  ["eta", `CASE WHEN ${isJoin} THEN 'Infinity' ELSE greatest(g.now, g.eta) END`],
  ["wanted_eta", `CASE WHEN ${isJoin} THEN greatest(g.now, g.eta) END`],
  ["joined", `CASE WHEN ${isJoin} THEN ARRAY[g.join_total, g.join_on_failure, g.join_then, 0, 0, 0] END`],
  ["key", "g.key"],
  ["member_of", "g.member_of"],
]

/** Stores values, or what is read so, of which nothing has to be unique. */
const store = (schema: string, values: Values, how: (list: string) => string): string =>
  `INSERT INTO ${schema}.records (${values.map(([name]) => name).join(", ")})
        ${how(values.map(([, value]) => value).join(", "))} ON CONFLICT (id) DO NOTHING`
const storeAll = (schema: string, values: Values, from: string): string =>
  `${store(schema, values, (list) => `SELECT ${list} FROM ${from} ORDER BY g.ord`)}
        RETURNING records.id, records.queue`

/** The rows say what became of records that were not simply inserted, by their place from 1; one without a place, what else. */
export const enqueueFunction = (schema: string): string =>
  plpgsql({
    name: `${schema}.enqueue`,
    parameters: [...givenTypes.map(([name, type]) => `p_${name} ${type}[]`), "p_by text"],
    returns: `TABLE (ord bigint, outcome text, existing uuid, until double precision, e ${schema}.ends)`,
    body: `DECLARE
  inserted uuid[];
  refused bigint[];
  queues text[];
  ${uniqueVariables(schema)}
BEGIN
  IF p_name IS NULL AND p_unique_key IS NULL THEN
    IF p_key IS NULL AND p_member_of IS NULL AND p_join_total IS NULL AND cardinality(p_id) = 1 THEN
      ${store(schema, single, (list) => `VALUES (${list})`)};
      IF FOUND THEN
        inserted := p_id;
        queues := p_queue;
      END IF;
    ELSIF p_key IS NULL AND p_member_of IS NULL AND p_join_total IS NULL THEN
      WITH stored AS (
        ${storeAll(schema, plain, unnest(given.filter((name) => !rareNames.has(name))))}
      )
      SELECT array_agg(stored.id), array_agg(DISTINCT stored.queue) INTO inserted, queues FROM stored;
    ELSE
      WITH stored AS (
        ${storeAll(schema, everything, unnested)}, records.key, records.task, records.target, records.version, records.priority,
          records.eta
      ),
      arrived AS (
        ${arrive(schema, "stored")}
      )
      SELECT array_agg(stored.id), array_agg(DISTINCT stored.queue) INTO inserted, queues FROM stored;
    END IF;
    IF coalesce(cardinality(inserted), 0) < cardinality(p_id) THEN
      refused := ARRAY(
        SELECT twice.ord FROM (
          SELECT g.ord, g.id, row_number() OVER (PARTITION BY g.id ORDER BY g.ord) AS time
          FROM unnest(p_id) WITH ORDINALITY AS g (id, ord)
        ) twice
        WHERE twice.time > 1 OR NOT twice.id = ANY (coalesce(inserted, '{}'))
      );
      RETURN QUERY SELECT r.ord, 'Existing', p_id[r.ord], NULL::double precision, NULL::${schema}.ends
        FROM unnest(refused) AS r (ord);
    END IF;
  ELSE
    ${storeUnique(schema, unnested)}
  END IF;
  IF p_join_total IS NOT NULL THEN
    INSERT INTO ${schema}.joins (id, total, on_failure, then_what, depth)
    SELECT g.id, g.join_total, g.join_on_failure, g.join_then, g.join_depth FROM ${unnested}
    WHERE g.join_total IS NOT NULL AND g.id = ANY (inserted) ORDER BY g.ord
    ON CONFLICT DO NOTHING;
    IF refused IS NOT NULL THEN
      -- What was not inserted never ends: for what waits for it, it counts as cancelled.
      SELECT array_agg(m.member_of ORDER BY m.ord), array_agg(3::smallint), array_agg(NULL::text) INTO e.joins, e.hows, e.hands
      FROM unnest(refused) AS r (ord)
        JOIN unnest(p_member_of, p_call) WITH ORDINALITY AS m (member_of, call, ord) ON m.ord = r.ord
      WHERE EXISTS (SELECT FROM unnest(p_id, p_call) WITH ORDINALITY AS j (id, call, ord)
        WHERE j.id = m.member_of AND j.call = m.call AND j.id = ANY (inserted) AND j.ord <> ALL (refused));
      e := ${schema}.follow_up(e, (SELECT max(now) FROM unnest(p_now) AS now));
    END IF;
  END IF;
  queues := queues || e.waiting;
  IF cardinality(queues) > 1 THEN queues := ARRAY(SELECT DISTINCT queue FROM unnest(queues) AS queue ORDER BY queue); END IF;
  PERFORM ${schema}.tell(p_by, queues, e.ended, e.cancelling, e.progressed);
  IF e.waiting IS NOT NULL OR e.ended IS NOT NULL OR e.cancelling IS NOT NULL OR e.progressed IS NOT NULL THEN
    ord := NULL;
    RETURN NEXT;
  END IF;
END`,
  })
