/**
 * The two ways out of `running` as functions of the schema, for one record at a time: it ends, or it waits again. Also
 * what finds that a record has to take one of them: leases that expired, and what was not started in time.
 */
import { plpgsql } from "./functions.ts"

/**
 * How many records one claim takes back and buries at the most, so that a claim after a power cut with many thousands
 * of expired leases does not take seconds. The rest is for the next claim: `next_at` says it is due.
 */
const most = 1000

/** An attempt for the ledger, of which the newest 50 are kept. */
export const withAttempt = (
  record: string,
  attempt: { readonly at: string; readonly outcome: string; readonly failure: string },
): string =>
  `CASE WHEN jsonb_array_length(coalesce(${record}.ledger, '[]')) < 50 THEN coalesce(${record}.ledger, '[]')
     ELSE ${record}.ledger - 0 END
   || jsonb_build_array(jsonb_build_array(${record}.attempt, ${record}.worker, ${record}.started_at,
        ${attempt.at}, ${attempt.outcome}, ${attempt.failure}))`

/** The key is let go in a state that it is not for. */
export const holdsIn = (record: string, state: string): string =>
  `${record}.holds AND (${record}.unique_while >> ${state}) & 1 = 1`

export const endingFunctions = (schema: string): ReadonlyArray<string> => [
  // Writes what the caller changed in `p`, too.
  plpgsql({
    name: `${schema}.end_record`,
    parameters: [`p ${schema}.records`, "p_state integer", "p_now double precision"],
    returns: "void",
    body: `BEGIN
  IF p_state <> 4 AND p.keep = 0 THEN
    DELETE FROM ${schema}.records WHERE id = p.id;
  ELSE
    UPDATE ${schema}.records r SET state = p_state, attempt = p.attempt, crashes = p.crashes, reason = p.reason,
      cancel_requested = p.cancel_requested, failure = p.failure, failure_tag = p.failure_tag, ledger = p.ledger,
      lease_until = NULL, bury_at = NULL, ended_at = p_now,
      prune_at = CASE WHEN p_state <> 4 AND p.keep < 'Infinity' THEN p_now + p.keep END,
      holds = ${holdsIn("p", "p_state")}
    WHERE id = p.id;
  END IF;
  IF p.name IS NOT NULL THEN
    UPDATE ${schema}.names SET until = p_now + p.tombstone
    WHERE queue = p.queue AND name = p.name AND id = p.id AND until IS NULL;
  END IF;
END`,
  }),
  plpgsql({
    name: `${schema}.take_back`,
    parameters: [
      "p_now double precision",
      "p_by text",
      "OUT waiting text[]",
      "OUT ended uuid[]",
      "OUT queues text[]",
      "OUT leases double precision[]",
    ],
    returns: "record",
    body: `DECLARE
  r ${schema}.records;
BEGIN
  FOR r IN
    SELECT * FROM ${schema}.records WHERE bury_at <= p_now LIMIT ${most} FOR UPDATE SKIP LOCKED
  LOOP
    r.reason := 'Expired';
    PERFORM ${schema}.end_record(r, 4, p_now);
    ended := ended || r.id;
  END LOOP;
  -- From queue to queue by the index: the leases of all queues, also of those that nobody claims from any more.
  WITH RECURSIVE running (queue, lease_until) AS (
    (SELECT r.queue, r.lease_until FROM ${schema}.records r WHERE r.state = 1 ORDER BY r.queue, r.lease_until LIMIT 1)
    UNION ALL
    SELECT following.* FROM running CROSS JOIN LATERAL (
      SELECT r.queue, r.lease_until FROM ${schema}.records r WHERE r.state = 1 AND r.queue > running.queue
      ORDER BY r.queue, r.lease_until LIMIT 1
    ) following
  )
  SELECT array_agg(running.queue), array_agg(running.lease_until) INTO queues, leases FROM running;
  FOR i IN 1 .. coalesce(cardinality(queues), 0) LOOP
    CONTINUE WHEN leases[i] > p_now;
    FOR r IN
      SELECT * FROM ${schema}.records
      WHERE state = 1 AND queue = queues[i] AND lease_until >= leases[i] AND lease_until <= p_now
      LIMIT ${most} FOR UPDATE SKIP LOCKED
    LOOP
      r.failure := format('{"attempt":%s,"at":%s,"kind":"crash","tag":"Crashed","message":%s}', r.attempt, p_now,
        to_json(format('worker %s did not extend its lease', r.worker)));
      r.failure_tag := 'Crashed';
      r.ledger := ${withAttempt("r", { at: "p_now", outcome: "'Crash'", failure: "r.failure" })};
      r.crashes := r.crashes + 1;
      IF r.cancel_requested IS NULL AND r.crashes > r.max_crashes THEN
        r.reason := 'Crashed';
        PERFORM ${schema}.end_record(r, 4, p_now);
        ended := ended || r.id;
      ELSIF r.cancel_requested IS NOT NULL THEN
        PERFORM ${schema}.end_record(r, 3, p_now);
        ended := ended || r.id;
      ELSE
        UPDATE ${schema}.records SET state = 0, eta = p_now, crashes = r.crashes, failure = r.failure,
          failure_tag = r.failure_tag, ledger = r.ledger, lease_until = NULL
        WHERE id = r.id;
        waiting := waiting || r.queue;
      END IF;
      IF NOT r.queue = ANY (coalesce(waiting, '{}')) AND EXISTS (
        SELECT FROM ${schema}.queues WHERE queue = r.queue AND max_concurrent IS NOT NULL
      ) THEN
        waiting := waiting || r.queue;
      END IF;
    END LOOP;
  END LOOP;
  waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(waiting) AS queue);
  PERFORM ${schema}.tell(p_by, waiting, ended, NULL, NULL);
END`,
  }),
]
