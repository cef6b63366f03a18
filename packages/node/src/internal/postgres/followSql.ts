/**
 * What the ends of records mean for others, as functions of the schema: for what follows them and for what they are members of,
 * whose ends mean something in turn. It is done step by step, however long the chain is, and never waits for a record: one that
 * somebody else has locked is left to a later claim.
 */
import { arriveOne } from "./arrivalsSql.ts"
import { plpgsql, same } from "./functions.ts"
import { OnFailure, Then, tally } from "./joinTables.ts"
import { State } from "./tables.ts"

/** How many members one step cancels at the most; the rest is for a later claim. */
const most = 5000
/** How many records one claim sees to at the most that were left to it. */
const mostLeft = 1000

/** The record, a variable, waits from now on, and is not held back any more. */
const releases = (schema: string, record: string): string => `${record}.eta := greatest(p_now, ${record}.wanted_eta);
      UPDATE ${schema}.records SET eta = ${record}.eta, wanted_eta = NULL, follows = NULL, joined = ${record}.joined,
        holds = ${record}.holds WHERE id = ${record}.id;
      e.waiting := e.waiting || ${record}.queue;
      IF ${record}.key IS NOT NULL THEN
        ${arriveOne(schema, record)};
        e := ${schema}.left_record(${record}, NULL, e);
      END IF;`

const leaveMember = (schema: string): string => `INSERT INTO ${schema}.arrivals (queue, id, reason)
          SELECT r.queue, r.id, p_reason FROM ${schema}.records r WHERE r.id = p_id AND r.state::integer <= 1`

export const followFunctions = (schema: string): ReadonlyArray<string> => [
  // Locks the rows of these joins, and of all that wait for them, in the order in which all do it.
  plpgsql({
    name: `${schema}.lock_joins`,
    isInner: true,
    parameters: ["p_joins uuid[]"],
    returns: "void",
    body: `BEGIN
  PERFORM FROM ${schema}.joins j WHERE j.id = ANY (ARRAY(
    WITH RECURSIVE up (id) AS (
      SELECT unnest(p_joins)
      UNION
      -- NULL at the end: to leave that out here would be the condition of an index, which would then be read whole.
      SELECT r.member_of FROM up JOIN ${schema}.records r ON ${same("r.id", "up.id")}
    )
    SELECT up.id FROM up
  )) ORDER BY j.depth DESC, j.id FOR UPDATE;
END`,
  }),
  // Releases what follows records that are over.
  plpgsql({
    name: `${schema}.release_followers`,
    isInner: true,
    parameters: ["p_holders uuid[]", "p_now double precision", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `DECLARE
  f record;
  r ${schema}.records;
BEGIN
  FOR f IN SELECT r.id, r.queue FROM ${schema}.records r WHERE r.follows = ANY (p_holders) ORDER BY r.id LOOP
    SELECT * INTO r FROM ${schema}.records WHERE id = f.id AND state::integer = 0 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      -- Somebody is giving it other content.
      INSERT INTO ${schema}.arrivals (queue, id) VALUES (f.queue, f.id);
    ELSIF r.follows IS NOT NULL THEN
      r.holds := NOT EXISTS (SELECT FROM ${schema}.records other
        WHERE other.holds AND other.task = r.task AND other.unique_key = r.unique_key);
      ${releases(schema, "r")}
    END IF;
  END LOOP;
  RETURN e;
END`,
  }),
  // Cancels one that has not ended, as a member of another.
  plpgsql({
    name: `${schema}.cancel_member`,
    isInner: true,
    parameters: ["p_id uuid", "p_reason text", "p_now double precision", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `DECLARE
  r ${schema}.records;
BEGIN
  -- Of one that is held back itself, the row in joins is locked first.
  IF EXISTS (SELECT FROM ${schema}.joins j WHERE j.id = p_id) THEN
    PERFORM FROM ${schema}.joins j WHERE j.id = p_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      ${leaveMember(schema)};
      RETURN e;
    END IF;
  END IF;
  SELECT * INTO r FROM ${schema}.records WHERE id = p_id AND state::integer <= 1 FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    ${leaveMember(schema)};
  ELSIF r.state = 1 THEN
    UPDATE ${schema}.records SET cancel_requested = p_reason WHERE id = p_id;
    e.cancelling := e.cancelling || p_id;
  ELSE
    IF r.joined IS NOT NULL AND r.wanted_eta IS NOT NULL THEN
      e.parents := e.parents || p_id;
      e.reasons := e.reasons || p_reason;
      e.places := e.places || 0::bigint;
    END IF;
    r.cancel_requested := p_reason;
    e := ${schema}.end_record(r, 3, p_now, e);
  END IF;
  RETURN e;
END`,
  }),
  // Counts how members ended, all that are given. One of 0 ended in no way: it is only asked whether more are to come.
  plpgsql({
    name: `${schema}.report`,
    isInner: true,
    parameters: ["p_joins uuid[]", "p_hows smallint[]", "p_hands text[]", "p_now double precision", `e ${schema}.ends`],
    returns: `${schema}.ends`,
    body: `DECLARE
  g record;
  j ${schema}.joins;
  r ${schema}.records;
  failed integer;
  hand text;
  has_failed boolean;
  is_cancelled boolean;
  is_first boolean;
  is_complete boolean;
  is_new boolean;
BEGIN
  FOR g IN
    SELECT o.id, given.hows, given.hands FROM (
      SELECT m.id, array_agg(m.how ORDER BY m.ord) AS hows, array_agg(m.hand ORDER BY m.ord) AS hands
      FROM unnest(p_joins, p_hows, p_hands) WITH ORDINALITY AS m (id, how, hand, ord) GROUP BY m.id
    ) given JOIN ${schema}.joins o ON ${same("o.id", "given.id")}
    ORDER BY o.depth DESC, o.id
  LOOP
    is_new := true;
    FOR n IN 1 .. cardinality(g.hows) LOOP
      IF is_new THEN
        SELECT * INTO j FROM ${schema}.joins WHERE id = g.id FOR UPDATE;
        -- Held back no longer: it is done with them.
        EXIT WHEN NOT FOUND;
        is_new := false;
        hand := NULL;
        failed := j.cancelled + j.dead;
      END IF;
      hand := coalesce(g.hands[n], hand);
      CASE g.hows[n]
        WHEN ${State.succeeded} THEN j.succeeded := j.succeeded + 1;
        WHEN ${State.cancelled} THEN j.cancelled := j.cancelled + 1;
        WHEN ${State.dead} THEN j.dead := j.dead + 1;
        ELSE NULL;
      END CASE;
      has_failed := g.hows[n] IN (${State.cancelled}, ${State.dead});
      is_cancelled := has_failed AND j.on_failure = ${OnFailure.cancel};
      is_first := has_failed AND j.on_failure = ${OnFailure.cancelSiblings} AND failed = 0 AND j.cancelled + j.dead = 1;
      is_complete := NOT is_first AND j.succeeded + j.cancelled + j.dead >= j.total;
      CONTINUE WHEN n < cardinality(g.hows) AND NOT (is_cancelled OR is_first OR is_complete);

      UPDATE ${schema}.joins SET succeeded = j.succeeded, cancelled = j.cancelled, dead = j.dead WHERE id = j.id;
      e.progressed := e.progressed || j.id;
      IF hand IS NOT NULL THEN
        UPDATE ${schema}.records SET payload = hand, payload_ref = NULL WHERE id = j.id AND state::integer = 0;
      END IF;
      IF is_first THEN
        e.parents := e.parents || j.id;
        e.reasons := e.reasons || 'another of the group did not succeed'::text;
        e.places := e.places || 0::bigint;
        -- The others end before what else ended is counted.
        IF n < cardinality(g.hows) THEN e := ${schema}.follow_up(e, p_now); END IF;
        is_new := true;
      ELSIF is_cancelled OR is_complete THEN
        SELECT * INTO r FROM ${schema}.records WHERE id = j.id FOR UPDATE;
        IF NOT FOUND THEN
          -- Somebody deleted it by hand.
          DELETE FROM ${schema}.joins WHERE id = j.id;
        ELSIF is_cancelled THEN
          r.cancel_requested := 'a task before it did not succeed';
          e := ${schema}.end_record(r, 3, p_now, e);
        ELSIF j.then_what = ${Then.end} THEN
          e := ${schema}.end_record(r, 2, p_now, e);
        ELSE
          DELETE FROM ${schema}.joins WHERE id = j.id;
          r.joined := ${tally("j")};
          ${releases(schema, "r")}
        END IF;
        EXIT;
      END IF;
    END LOOP;
  END LOOP;
  RETURN e;
END`,
  }),
  // Does all that the ends so far mean, and gives what is to be told of it.
  plpgsql({
    name: `${schema}.follow_up`,
    isInner: true,
    parameters: [`e ${schema}.ends`, "p_now double precision"],
    returns: `${schema}.ends`,
    body: `DECLARE
  w ${schema}.ends;
  members uuid[];
  is_related boolean;
BEGIN
  WHILE e.freed IS NOT NULL OR e.joins IS NOT NULL OR e.parents IS NOT NULL LOOP
    w := e;
    e.freed := NULL;
    e.joins := NULL;
    e.hows := NULL;
    e.hands := NULL;
    e.parents := NULL;
    e.reasons := NULL;
    e.places := NULL;
    IF w.freed IS NOT NULL THEN e := ${schema}.release_followers(w.freed, p_now, e); END IF;
    IF w.joins IS NOT NULL THEN
      -- What is no longer held back heeds nothing.
      SELECT array_agg(m.join_id ORDER BY m.ord), array_agg(m.how ORDER BY m.ord), array_agg(m.hand ORDER BY m.ord),
        count(DISTINCT m.join_id) > 1 AND max(j.depth) > 0
          AND bool_or(m.how <> ${State.succeeded} OR j.then_what = ${Then.end})
      INTO w.joins, w.hows, w.hands, is_related
      FROM unnest(w.joins, w.hows, w.hands) WITH ORDINALITY AS m (join_id, how, hand, ord)
        JOIN ${schema}.joins j ON ${same("j.id", "m.join_id")};
      IF NOT is_related THEN
        IF w.joins IS NOT NULL THEN e := ${schema}.report(w.joins, w.hows, w.hands, p_now, e); END IF;
      ELSE
        -- One of them may end and count for another: they are told one after the other, each with all that it means.
        PERFORM ${schema}.lock_joins(w.joins);
        FOR n IN 1 .. cardinality(w.joins) LOOP
          e := ${schema}.follow_up(${schema}.report(w.joins[n:n], w.hows[n:n], w.hands[n:n], p_now, e), p_now);
        END LOOP;
      END IF;
    END IF;
    FOR n IN 1 .. coalesce(cardinality(w.parents), 0) LOOP
      members := ARRAY(
        SELECT r.id FROM ${schema}.records r
        WHERE r.member_of = w.parents[n] AND r.seq > w.places[n] AND r.state::integer <= 1 ORDER BY r.seq LIMIT ${most}
      );
      FOR m IN 1 .. cardinality(members) LOOP
        e := ${schema}.cancel_member(members[m], w.reasons[n], p_now, e);
      END LOOP;
      e.joins := e.joins || w.parents[n];
      e.hows := e.hows || 0::smallint;
      e.hands := e.hands || NULL::text;
      IF cardinality(members) = ${most} THEN
        INSERT INTO ${schema}.arrivals (queue, id, reason, seq)
        SELECT r.queue, w.parents[n], w.reasons[n], r.seq FROM ${schema}.records r WHERE r.id = members[${most}];
      END IF;
    END LOOP;
  END LOOP;
  RETURN e;
END`,
  }),
  // Does what was left to claims of this queue. Whether something is still left.
  plpgsql({
    name: `${schema}.do_left`,
    isInner: true,
    parameters: ["p_queue text", "p_now double precision", `INOUT e ${schema}.ends`, "OUT is_left boolean"],
    returns: "record",
    body: `DECLARE
  a record;
  f ${schema}.records;
  r ${schema}.records;
BEGIN
  FOR a IN
    DELETE FROM ${schema}.arrivals WHERE ctid = ANY (ARRAY(
      SELECT o.ctid FROM ${schema}.arrivals o WHERE o.queue = p_queue AND o.id IS NOT NULL
      LIMIT ${mostLeft} FOR UPDATE SKIP LOCKED
    )) RETURNING *
  LOOP
    IF a.seq IS NOT NULL THEN
      e.parents := e.parents || a.id;
      e.reasons := e.reasons || a.reason;
      e.places := e.places || a.seq;
    ELSIF a.reason IS NOT NULL THEN
      e := ${schema}.cancel_member(a.id, a.reason, p_now, e);
    ELSE
      -- What follows another: whoever ended that one may not have seen it, since it was not committed then.
      SELECT * INTO f FROM ${schema}.records WHERE id = a.id AND follows IS NOT NULL;
      CONTINUE WHEN NOT FOUND;
      SELECT * INTO r FROM ${schema}.records WHERE id = f.follows FOR UPDATE SKIP LOCKED;
      IF FOUND AND r.state = 0 THEN
        r.cancel_requested := coalesce(r.cancel_requested, 'superseded');
        e := ${schema}.end_record(r, 3, p_now, e);
      END IF;
      IF r.id IS NULL AND EXISTS (SELECT FROM ${schema}.records WHERE id = f.follows) THEN
        INSERT INTO ${schema}.arrivals (queue, id) VALUES (p_queue, a.id);
      ELSIF r.state IS DISTINCT FROM 1 THEN
        e.freed := e.freed || f.follows;
      END IF;
    END IF;
  END LOOP;
  e := ${schema}.follow_up(e, p_now);
  is_left := EXISTS (SELECT FROM ${schema}.arrivals o WHERE o.queue = p_queue AND o.id IS NOT NULL);
END`,
  }),
]
