/**
 * What is said and known of single keys, as functions of the schema: their own limits, pauses, and when that is forgotten.
 */
import { awaken } from "./arrivalsSql.ts"
import { isThere, plpgsql } from "./functions.ts"
import { Turn } from "./keyTables.ts"

/** Milliseconds for which a key is known after it means nothing: clocks of workers differ. */
export const slack = 60_000

/** Keys of a queue that have nothing to do and whose place is remembered, at the most: enough to be fair to all who come back. */
const remembered = 100_000

/** Whether a key waits for the end of what runs of it. */
export const isHeldByEnds = (schema: string, of: string): string =>
  `(${isThere(`${schema}.queues q
      WHERE q.queue = ${of}.queue AND (q.key_max_concurrent IS NOT NULL OR q.key_ordered)`)}
    OR ${isThere(`${schema}.keys k
      WHERE k.queue = ${of}.queue AND k.key = ${of}.key AND k.max_concurrent IS NOT NULL`)})`

export const keysFunctions = (schema: string): ReadonlyArray<string> => [
  plpgsql({
    name: `${schema}.configure_key`,
    parameters: [
      "p_queue text",
      "p_key text",
      "p_max_concurrent double precision",
      "p_rate double precision",
      "p_burst double precision",
      "p_weight double precision",
      "p_now double precision",
      "p_by text",
    ],
    returns: "void",
    body: `BEGIN
  INSERT INTO ${schema}.keys AS k (queue, key, max_concurrent, rate, burst, weight, forget_at)
  VALUES (p_queue, p_key, p_max_concurrent, p_rate, p_burst, p_weight, p_now + ${slack})
  ON CONFLICT (queue, key) DO UPDATE SET max_concurrent = p_max_concurrent, rate = p_rate, burst = p_burst,
    weight = p_weight, forget_at = p_now + ${slack};
  ${awaken(schema, "VALUES (p_queue, p_key)")};
  PERFORM ${schema}.tell(p_by, ARRAY[p_queue], NULL, NULL, NULL);
END`,
  }),
  // Of a key, or of the queue. `p_longer`: a pause is never made shorter.
  plpgsql({
    name: `${schema}.pause_until`,
    parameters: [
      "p_queue text",
      "p_key text",
      "p_until double precision",
      "p_longer boolean",
      "p_now double precision",
    ],
    returns: "void",
    body: `BEGIN
  IF p_key IS NULL THEN
    INSERT INTO ${schema}.queues AS q (queue, paused, burst, tokens, tokens_at, paused_until)
    VALUES (p_queue, false, 5, 0, p_now, p_until)
    ON CONFLICT (queue) DO UPDATE SET
      paused_until = CASE WHEN p_longer THEN greatest(q.paused_until, p_until) ELSE p_until END;
  ELSE
    INSERT INTO ${schema}.keys AS k (queue, key, paused_until, forget_at)
    VALUES (p_queue, p_key, p_until, p_until + ${slack})
    ON CONFLICT (queue, key) DO UPDATE SET
      paused_until = CASE WHEN p_longer THEN greatest(k.paused_until, p_until) ELSE p_until END,
      forget_at = greatest(k.forget_at, p_until + ${slack});
    -- Who is paused for less time than before has to be looked at again.
    IF NOT p_longer THEN ${awaken(schema, "VALUES (p_queue, p_key)")}; END IF;
  END IF;
END`,
  }),
  // Forgets at most `p_limit` turns and keys of which nothing has to be known any more; whether there may be more.
  plpgsql({
    name: `${schema}.forget_keys`,
    isInner: true,
    parameters: ["p_now double precision", "p_limit bigint"],
    returns: "boolean",
    body: `DECLARE
  step bigint;
  is_more boolean;
  many text;
BEGIN
  DELETE FROM ${schema}.turns WHERE ctid = ANY (ARRAY(
    SELECT behind.tid FROM ${schema}.queues q CROSS JOIN LATERAL (
      SELECT t.ctid AS tid FROM ${schema}.turns t
      WHERE t.queue = q.queue AND t.state = ${Turn.idle} AND t.place <= q.turn_time LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) behind LIMIT p_limit
  ));
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := step = p_limit;
  DELETE FROM ${schema}.turns WHERE ctid = ANY (ARRAY(
    SELECT ahead.tid FROM ${schema}.queues q CROSS JOIN LATERAL (
      SELECT t.ctid AS tid FROM ${schema}.turns t WHERE t.queue = q.queue AND t.state = ${Turn.idle}
      ORDER BY t.place DESC OFFSET ${remembered} LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) ahead LIMIT p_limit
  ));
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;

  WITH over AS (
    SELECT k.ctid AS tid, k.max_concurrent IS NULL AND k.rate IS NULL AND k.burst IS NULL AND k.weight IS NULL AS is_plain,
      coalesce(k.paused_until, '-Infinity') <= p_now - ${slack} AND (k.tokens IS NULL
        OR CASE WHEN q.key_rate IS NULL THEN k.tokens_at <= p_now - ${slack}
          ELSE k.tokens + greatest(0, p_now - ${slack} - k.tokens_at) * q.key_rate / 1000 >= q.key_burst END)
      AND NOT ${isThere(`${schema}.turns t
        WHERE t.queue = k.queue AND t.key = k.key AND (t.state <> ${Turn.idle} OR t.place > q.turn_time)`)} AS is_over
    FROM ${schema}.keys k LEFT JOIN ${schema}.queues q ON q.queue = k.queue
    WHERE k.forget_at <= p_now ORDER BY k.forget_at LIMIT p_limit FOR UPDATE OF k SKIP LOCKED
  ),
  forgotten AS (
    DELETE FROM ${schema}.keys k USING over WHERE k.ctid = over.tid AND over.is_plain AND over.is_over
  )
  UPDATE ${schema}.keys k SET forget_at = CASE WHEN over.is_plain THEN p_now + ${slack} END
  FROM over WHERE k.ctid = over.tid AND NOT (over.is_plain AND over.is_over);
  GET DIAGNOSTICS step = ROW_COUNT;
  is_more := is_more OR step = p_limit;

  -- Runs that nothing waits in, where there are many: whose id a claim has in its hands must not go.
  FOR many IN SELECT l.queue FROM ${schema}.lanes l GROUP BY l.queue HAVING count(*) > 100 LOOP
    PERFORM FROM ${schema}.queues q WHERE q.queue = many FOR UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    DELETE FROM ${schema}.lanes l WHERE l.queue = many
      AND NOT EXISTS (SELECT FROM ${schema}.turns t WHERE t.lane = l.id AND t.state = ${Turn.due})
      AND NOT EXISTS (SELECT FROM ${schema}.turns t WHERE t.lane = l.id AND t.state >= ${Turn.aside});
  END LOOP;
  RETURN is_more;
END`,
  }),
]
