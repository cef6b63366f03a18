/**
 * Where claims of a queue have to look again, as functions of the schema: said by whoever stores a record with a key, lets one
 * wait again, or ends what held its key back; found and merged into the turns by the next claim of the queue.
 */
import { isThere, plpgsql } from "./functions.ts"
import { Turn } from "./keyTables.ts"
import { mark } from "./runsSql.ts"

/** How many one claim merges at the most, so that none is long; the rest is for the next. */
const most = 2000

/** The columns by which a record that waits has arrived; with it, what of the row says it. */
const columns = "queue, key, task, mark, version, rank, at"

/** Says that records wait: those with a key among the rows of `from`, which have the columns of records. */
export const arrive = (schema: string, from: string): string =>
  `INSERT INTO ${schema}.arrivals (${columns})
      SELECT a.queue, a.key, a.task, ${mark("a.")}, a.version, -a.priority, min(a.eta) FROM ${from} AS a
      WHERE a.key IS NOT NULL GROUP BY a.queue, a.key, a.task, a.target, a.version, a.priority`

/** Says that a record, a variable, waits: one with a key. */
export const arriveOne = (schema: string, record: string): string =>
  `INSERT INTO ${schema}.arrivals (${columns})
      VALUES (${record}.queue, ${record}.key, ${record}.task, ${mark(`${record}.`)}, ${record}.version,
        -${record}.priority, ${record}.eta)`

/** Says that what held keys back may do so no longer: queues and keys, a query; no key: all of the queue. */
export const awaken = (schema: string, keys: string): string => `INSERT INTO ${schema}.arrivals (queue, key) ${keys}`

/**
 * The transaction from which on there is something to be seen to, by the queue's row. Where the table came from another server,
 * transactions may be numbered from the beginning again: then nothing is known of it.
 */
export const arrivedFrom = (queue: string): string =>
  `(CASE WHEN ${queue}.arrived_from <= pg_snapshot_xmax(pg_current_snapshot()) THEN ${queue}.arrived_from ELSE '0'::xid8 END)`

/** The lists of what arrived, one a column. */
const lists = [
  ["key", "text"],
  ["task", "text"],
  ["mark", "text"],
  ["version", "double precision"],
  ["rank", "double precision"],
  ["at", "double precision"],
] as const
const names = lists.map(([name]) => name)
const all = (prefix: string) => names.map((name) => `${prefix}${name}`).join(", ")

export const arrivalsFunctions = (schema: string): ReadonlyArray<string> => [
  // The lanes of a queue that a claim allows.
  plpgsql({
    name: `${schema}.known_lanes`,
    isInner: true,
    parameters: ["p_queue text", "p_tasks text[]", "p_versions double precision[]", "p_targets text[]"],
    returns: `${schema}.lanes[]`,
    body: `BEGIN
  RETURN (
    SELECT array_agg(l) FROM ${schema}.lanes l
    WHERE l.queue = p_queue AND (l.mark = '' OR substr(l.mark, 2) = ANY (p_targets))
      AND EXISTS (SELECT FROM unnest(p_tasks, p_versions) AS known (task, version)
        WHERE known.task = l.task AND known.version >= l.version)
  );
END`,
  }),
  // Merges what arrived into the turns, and says whether there may be more. The caller gives the queue's row as it is under its
  // lock.
  plpgsql({
    name: `${schema}.take_arrivals`,
    isInner: true,
    parameters: [`p ${schema}.queues`, "p_now double precision"],
    returns: "boolean",
    body: `DECLARE
  p_queue text := p.queue;
  p_time double precision := p.turn_time;
  -- What older transactions said is there by now; those that go on may still say something.
  seen_before xid8 := pg_snapshot_xmin(pg_current_snapshot());
  count bigint;
  last xid8;
  ${lists.map(([name, type]) => `g_${name} ${type}[];`).join("\n  ")}
  awake text[];
  all_awake boolean;
BEGIN
  WITH gone AS (
    DELETE FROM ${schema}.arrivals
    WHERE ctid = ANY (ARRAY(
      SELECT a.ctid FROM ${schema}.arrivals a
      WHERE a.queue = p_queue AND a.id IS NULL AND a.xid >= ${arrivedFrom("p")} ORDER BY a.xid LIMIT ${most}
    ))
    RETURNING ${all("")}, xid
  ),
  grouped AS (
    SELECT key, task, mark, version, rank, min(at) AS at, count(*) AS count FROM gone
    GROUP BY key, task, mark, version, rank
  )
  SELECT ${names.map((name) => `array_agg(${name}) FILTER (WHERE task IS NOT NULL)`).join(",\n    ")},
    array_agg(key) FILTER (WHERE task IS NULL AND key IS NOT NULL), bool_or(key IS NULL), sum(grouped.count),
    (SELECT xid FROM gone ORDER BY xid DESC LIMIT 1)
  INTO ${all("g_")}, awake, all_awake, count, last FROM grouped;

  IF g_key IS NOT NULL THEN
    INSERT INTO ${schema}.lanes (queue, task, mark, version, rank, swept)
    SELECT p_queue, g.task, g.mark, g.version, g.rank, p_time
    FROM (SELECT DISTINCT * FROM unnest(g_task, g_mark, g_version, g_rank) AS g (task, mark, version, rank)) g
    WHERE NOT EXISTS (SELECT FROM ${schema}.lanes l WHERE l.queue = p_queue AND l.task = g.task AND l.mark = g.mark
      AND l.version = g.version AND l.rank = g.rank)
    ON CONFLICT DO NOTHING;
    -- Whoever has a turn already keeps it, whoever is blocked stays so; and nobody has to look before the first record.
    INSERT INTO ${schema}.turns AS t (queue, key, lane, place, eta, seq, state, next_at)
    SELECT p_queue, g.key, l.id, greatest(p_time, known.place), g.at, 0,
      CASE WHEN g.at <= p_now THEN ${Turn.due} ELSE ${Turn.aside} END, CASE WHEN g.at > p_now THEN g.at END
    FROM unnest(${all("g_")}) AS g (${all("")})
      JOIN ${schema}.lanes l ON l.queue = p_queue AND l.task = g.task AND l.mark = g.mark
        AND l.version = g.version AND l.rank = g.rank
      CROSS JOIN LATERAL (
        SELECT max(k.place) AS place FROM ${schema}.turns k WHERE k.queue = p_queue AND k.key = g.key
      ) known
    WHERE g.at < 'Infinity'
      -- Most have a turn already, which need not know of more.
      AND NOT ${isThere(`${schema}.turns k WHERE k.queue = p_queue AND k.key = g.key AND k.lane = l.id
        AND k.state IN (${Turn.due}, ${Turn.blocked}) AND (k.eta, k.seq) <= (g.at, 0)`)}
    ON CONFLICT (queue, key, lane) DO UPDATE SET
      eta = least(t.eta, excluded.eta),
      seq = CASE WHEN t.eta < excluded.eta THEN t.seq ELSE 0 END,
      state = CASE WHEN t.state IN (${Turn.idle}, ${Turn.aside}) THEN excluded.state ELSE t.state END,
      next_at = CASE WHEN t.state = ${Turn.blocked} THEN t.next_at
        WHEN excluded.state = ${Turn.aside} THEN least(t.next_at, excluded.next_at) END,
      place = CASE WHEN t.state IN (${Turn.idle}, ${Turn.aside}) THEN greatest(t.place, p_time) ELSE t.place END
    WHERE t.state = ${Turn.idle} OR (t.eta, t.seq) > (excluded.eta, 0)
      OR (t.state = ${Turn.aside} AND (excluded.state = ${Turn.due} OR excluded.next_at < t.next_at));
  END IF;

  IF all_awake THEN
    UPDATE ${schema}.turns t SET state = ${Turn.due}, next_at = NULL, place = greatest(t.place, p_time)
    WHERE t.queue = p_queue AND t.state = ${Turn.blocked};
  ELSIF awake IS NOT NULL THEN
    UPDATE ${schema}.turns t SET state = ${Turn.due}, next_at = NULL, place = greatest(t.place, p_time)
    WHERE t.ctid = ANY (ARRAY(
      -- Without OFFSET the planner may look at all keys of the queue instead of at these.
      SELECT b.tid FROM unnest(awake) AS a (key) CROSS JOIN LATERAL (
        SELECT o.ctid AS tid FROM ${schema}.turns o
        WHERE o.queue = p_queue AND o.key = a.key AND o.state = ${Turn.blocked} OFFSET 0
      ) b
    ));
  END IF;
  -- They were taken in the order of their transactions: of those before the last there are no more.
  IF count >= ${most} THEN seen_before := least(last, seen_before); END IF;
  UPDATE ${schema}.queues SET arrived_from = seen_before WHERE queue = p_queue AND arrived_from <> seen_before;
  RETURN coalesce(count >= ${most}, false);
END`,
  }),
  // Those whose time has come have a turn again. And those that the queue's time has passed, since they are for others than
  // those who claimed, are as good as at it from now on.
  plpgsql({
    name: `${schema}.wake_turns`,
    isInner: true,
    parameters: [`p_lanes ${schema}.lanes[]`, "p_time double precision", "p_now double precision"],
    returns: "void",
    body: `BEGIN
  UPDATE ${schema}.turns t SET state = ${Turn.due}, next_at = NULL, place = greatest(t.place, p_time)
  WHERE t.ctid = ANY (ARRAY(
    SELECT over.tid FROM unnest(p_lanes) AS l CROSS JOIN LATERAL (
      SELECT o.ctid AS tid FROM ${schema}.turns o
      WHERE o.lane = l.id AND o.state >= ${Turn.aside} AND o.next_at IS NOT NULL AND o.next_at <= p_now
      ORDER BY o.next_at LIMIT ${most}
    ) over
  ));
  IF EXISTS (SELECT FROM unnest(p_lanes) AS l WHERE l.swept < p_time) THEN
    UPDATE ${schema}.turns t SET place = '-Infinity'
    WHERE t.ctid = ANY (ARRAY(
      SELECT behind.tid FROM unnest(p_lanes) AS l CROSS JOIN LATERAL (
        SELECT o.ctid AS tid FROM ${schema}.turns o
        WHERE o.lane = l.id AND o.state = ${Turn.due} AND o.place >= l.swept AND o.place < p_time
        ORDER BY o.place, o.key LIMIT ${most}
      ) behind
    ));
    UPDATE ${schema}.lanes l SET swept = coalesce((
      SELECT o.place FROM ${schema}.turns o
      WHERE o.lane = l.id AND o.state = ${Turn.due} AND o.place >= l.swept AND o.place < p_time
      ORDER BY o.place, o.key LIMIT 1
    ), p_time) WHERE l.id = ANY (ARRAY(SELECT k.id FROM unnest(p_lanes) AS k)) AND l.swept < p_time;
  END IF;
END`,
  }),
  // When the turn of one of these lanes comes by time alone: now, when one has its turn.
  plpgsql({
    name: `${schema}.next_turn`,
    isInner: true,
    parameters: [`p_lanes ${schema}.lanes[]`, "p_now double precision", "p_is_known boolean"],
    returns: "double precision",
    body: `BEGIN
  IF NOT p_is_known AND EXISTS (
    SELECT FROM unnest(p_lanes) AS l CROSS JOIN LATERAL (
      -- From the end: at the beginning are the remains of those that had their turn.
      SELECT FROM ${schema}.turns t WHERE t.lane = l.id AND t.state = ${Turn.due}
      ORDER BY t.place DESC, t.key DESC LIMIT 1
    ) due
  ) THEN
    RETURN p_now;
  END IF;
  RETURN (
    SELECT min(first.next_at) FROM unnest(p_lanes) AS l CROSS JOIN LATERAL (
      SELECT t.next_at FROM ${schema}.turns t
      WHERE t.lane = l.id AND t.state >= ${Turn.aside} AND t.next_at IS NOT NULL ORDER BY t.next_at LIMIT 1
    ) first
  );
END`,
  }),
]
