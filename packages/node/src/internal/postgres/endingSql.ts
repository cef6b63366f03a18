/**
 * How a record ends, one at a time, as functions of the schema. What its end means for others is gathered, and done by
 * `follow_up` (`followSql`).
 */
import { awaken } from "./arrivalsSql.ts"
import { isThere, plpgsql } from "./functions.ts"
import { followable, tally } from "./joinTables.ts"
import { isHeldByEnds } from "./keysSql.ts"

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

/** Whether a record that would wait again is over: somebody asked for that, or what comes after it waits already. */
export const isSuperseded = (schema: string, record: string): string =>
  `(CASE WHEN ${record}.unique_while & ${followable} <> 0
      THEN ${isThere(`${schema}.records follower WHERE follower.follows = ${record}.id`)} ELSE false END)`

export const endingFunctions = (schema: string): ReadonlyArray<string> => [
  // Ends a record, which the caller has locked, and of one that is held back also the row in `joins`. Writes what the caller
  // changed in `p`, too, and adds to `e` what comes of it.
  plpgsql({
    name: `${schema}.end_record`,
    isInner: true,
    parameters: [`p ${schema}.records`, "p_state integer", "p_now double precision", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `BEGIN
  IF p.joined IS NOT NULL AND p.wanted_eta IS NOT NULL THEN
    DELETE FROM ${schema}.joins j WHERE j.id = p.id RETURNING ${tally("j")} INTO p.joined;
  END IF;
  IF p_state <> 4 AND p.keep = 0 THEN
    DELETE FROM ${schema}.records WHERE id = p.id;
  ELSE
    UPDATE ${schema}.records r SET state = p_state, attempt = p.attempt, crashes = p.crashes, reason = p.reason,
      cancel_requested = p.cancel_requested, failure = p.failure, failure_tag = p.failure_tag, ledger = p.ledger,
      lease_until = NULL, bury_at = NULL, ended_at = p_now,
      prune_at = CASE WHEN p_state <> 4 AND p.keep < 'Infinity' THEN p_now + p.keep END,
      wanted_eta = NULL, follows = NULL, joined = p.joined, holds = ${holdsIn("p", "p_state")}
    WHERE id = p.id;
  END IF;
  IF p.name IS NOT NULL THEN
    UPDATE ${schema}.names SET until = p_now + p.tombstone
    WHERE queue = p.queue AND name = p.name AND id = p.id AND until IS NULL;
  END IF;
  e.ended := e.ended || p.id;
  IF p.unique_while & ${followable} <> 0 THEN e.freed := e.freed || p.id; END IF;
  RETURN ${schema}.left_record(p, p_state, e);
END`,
  }),
  // What it means that a record waits no more, or runs no more, for those that wait for it: for its key, and for what it is
  // a member of. `p_how` is the state in which it counts there, NULL when it has not ended.
  plpgsql({
    name: `${schema}.left_record`,
    isInner: true,
    parameters: [`p ${schema}.records`, "p_how integer", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `BEGIN
  IF p.key IS NOT NULL AND ${isHeldByEnds(schema, "p")} THEN
    ${awaken(schema, "VALUES (p.queue, p.key)")};
    e.waiting := e.waiting || p.queue;
  END IF;
  IF p_how IS NOT NULL AND p.member_of IS NOT NULL THEN
    e.joins := e.joins || p.member_of;
    e.hows := e.hows || p_how::smallint;
    e.hands := e.hands || NULL::text;
  END IF;
  RETURN e;
END`,
  }),
]
