/**
 * Leases that expired and what was not started in time, seen to before a claim that found any, as a function of the schema.
 */
import { arriveOne } from "./arrivalsSql.ts"
import { isSuperseded, withAttempt } from "./endingSql.ts"
import { plpgsql } from "./functions.ts"

/**
 * How many records one claim takes back and buries at the most, so that a claim after a power cut with many thousands
 * of expired leases does not take seconds. The rest is for the next claim: `next_at` says it is due.
 */
const most = 1000

/** A member as it is by now: what was taken back before it may have changed it. */
const afresh = (schema: string): string => `IF r.member_of IS NOT NULL THEN
        SELECT * INTO r FROM ${schema}.records WHERE id = r.id;
      END IF;`
const followUp = (schema: string): string =>
  `IF e.freed IS NOT NULL OR e.joins IS NOT NULL THEN e := ${schema}.follow_up(e, p_now); END IF;`

export const takeBackFunction = (schema: string): string =>
  plpgsql({
    name: `${schema}.take_back`,
    isInner: true,
    parameters: [
      "p_now double precision",
      "p_by text",
      // Those with leases, and when the first of each ends.
      "p_queues text[]",
      "p_leases double precision[]",
    ],
    returns: `${schema}.ends`,
    body: `DECLARE
  e ${schema}.ends;
  r ${schema}.records;
  late record;
BEGIN
  IF p_now >= ANY (p_leases) THEN
    FOR r IN
      SELECT expired.* FROM unnest(p_queues, p_leases) AS q (queue, first) CROSS JOIN LATERAL (
        SELECT * FROM ${schema}.records r
        WHERE r.state = 1 AND r.queue = q.queue AND r.lease_until >= q.first AND r.lease_until <= p_now
        LIMIT ${most} FOR UPDATE SKIP LOCKED
      ) expired
      WHERE q.first <= p_now ORDER BY expired.seq
    LOOP
      ${afresh(schema)}
      CONTINUE WHEN r.state IS DISTINCT FROM 1;
      r.failure := format('{"attempt":%s,"at":%s,"kind":"crash","tag":"Crashed","message":%s}', r.attempt, p_now,
        to_json(format('worker %s did not extend its lease', r.worker)));
      r.failure_tag := 'Crashed';
      r.ledger := ${withAttempt("r", { at: "p_now", outcome: "'Crash'", failure: "r.failure" })};
      r.crashes := r.crashes + 1;
      IF r.cancel_requested IS NULL AND r.crashes > r.max_crashes THEN
        r.reason := 'Crashed';
        e := ${schema}.end_record(r, 4, p_now, e);
      ELSIF r.cancel_requested IS NOT NULL OR ${isSuperseded(schema, "r")} THEN
        r.cancel_requested := coalesce(r.cancel_requested, 'superseded');
        e := ${schema}.end_record(r, 3, p_now, e);
      ELSE
        UPDATE ${schema}.records SET state = 0, eta = p_now, crashes = r.crashes, failure = r.failure,
          failure_tag = r.failure_tag, ledger = r.ledger, lease_until = NULL
        WHERE id = r.id;
        e.waiting := e.waiting || r.queue;
        IF r.key IS NOT NULL THEN
          r.eta := p_now;
          ${arriveOne(schema, "r")};
          e := ${schema}.left_record(r, NULL, e);
        END IF;
      END IF;
      IF NOT r.queue = ANY (coalesce(e.waiting, '{}')) AND EXISTS (
        SELECT FROM ${schema}.queues WHERE queue = r.queue AND max_concurrent IS NOT NULL
      ) THEN
        e.waiting := e.waiting || r.queue;
      END IF;
      ${followUp(schema)}
    END LOOP;
  END IF;
  FOR late IN
    SELECT first.* FROM (
      SELECT r.id, r.seq, r.wanted_eta IS NOT NULL AND r.joined IS NOT NULL AS is_join FROM ${schema}.records r
      WHERE r.bury_at <= p_now LIMIT ${most}
    ) first ORDER BY first.seq
  LOOP
    IF late.is_join THEN
      PERFORM FROM ${schema}.joins j WHERE j.id = late.id FOR UPDATE SKIP LOCKED;
      CONTINUE WHEN NOT FOUND AND EXISTS (SELECT FROM ${schema}.joins j WHERE j.id = late.id);
    END IF;
    SELECT * INTO r FROM ${schema}.records WHERE id = late.id AND bury_at <= p_now FOR UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    r.reason := 'Expired';
    e := ${schema}.end_record(r, 4, p_now, e);
    ${followUp(schema)}
  END LOOP;
  -- Nearly always there is nothing.
  IF e IS NULL THEN RETURN e; END IF;
  e.waiting := (SELECT array_agg(DISTINCT queue) FROM unnest(e.waiting) AS queue);
  PERFORM ${schema}.tell(p_by, e.waiting, e.ended, e.cancelling, e.progressed);
  RETURN e;
END`,
  })
