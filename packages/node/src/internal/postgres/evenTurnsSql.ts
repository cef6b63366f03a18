/**
 * Claiming by turns where all keys are alike, in one statement: nothing limits them, none has a weight of its own, all their
 * records are of one lane, and none of the queue is without a key. The rule is that of `turnsSql`, which does it for all other
 * cases, and here too where this finds that it has not looked far enough, or that a turn which should start something has
 * nothing to start: then this starts nothing.
 */
import { Turn } from "./keyTables.ts"
import { claimedColumns } from "./row.ts"
import { mark } from "./runsSql.ts"
import { start } from "./startSql.ts"

/**
 * Says in `started` how many it were. One key more is looked at than may start something, and of each as many records as a fair
 * share of that can be, and one more by which to know when it has its next turn.
 */
export const startEvenTurns = (schema: string): string => `lane := lanes[1];
              wanted := allowed::bigint;
              RETURN QUERY
                WITH due AS MATERIALIZED (
                  SELECT * FROM (
                    (SELECT t.ctid AS at, t.key, limits.turn_time AS base, t.eta, t.seq FROM ${schema}.turns t
                      WHERE t.lane = lane.id AND t.state = ${Turn.due} AND t.place = '-Infinity' ORDER BY t.key LIMIT wanted + 1)
                    UNION ALL
                    (SELECT t.ctid, t.key, t.place, t.eta, t.seq FROM ${schema}.turns t
                      WHERE t.lane = lane.id AND t.state = ${Turn.due} AND t.place >= limits.turn_time
                      ORDER BY t.place, t.key LIMIT wanted + 1)
                  ) either ORDER BY base, key LIMIT wanted + 1
                ),
                -- So far the records need be looked at: see \`depths\` of the other.
                level AS (
                  SELECT CASE WHEN count(*) > wanted THEN max(base) ELSE (wanted + 1 + sum(base)) / count(*) END AS tag FROM due
                ),
                seen AS MATERIALIZED (
                  SELECT one.*, one.nth > one.depth AS is_more, CASE WHEN one.eta <= p_now THEN one.base + one.nth - 1 END AS tag
                  FROM (
                    SELECT due.at, due.key, due.base, due.depth, r.tid, r.eta, r.seq,
                      CASE WHEN r.tid IS NOT NULL THEN row_number() OVER (PARTITION BY due.at ORDER BY r.eta, r.seq) END AS nth
                    FROM (
                      SELECT due.*, greatest(1, floor(level.tag - due.base + 1e-9) + 1) AS depth FROM due CROSS JOIN level
                    ) due LEFT JOIN LATERAL (
                      SELECT r.ctid AS tid, r.eta, r.seq FROM ${schema}.records r
                      WHERE r.state = 0 AND r.key IS NOT NULL AND r.queue = lane.queue AND r.key = due.key AND r.task = lane.task
                        AND ${mark("r.")} = lane.mark AND r.version = lane.version AND -r.priority = lane.rank
                        AND (r.eta, r.seq) >= (due.eta, due.seq) AND r.eta < 'Infinity' AND (r.bury_at IS NULL OR r.bury_at > p_now)
                      ORDER BY r.eta, r.seq LIMIT due.depth::bigint + 1
                    ) r ON true
                  ) one
                ),
                found AS (
                  SELECT bool_and(s.tag IS NOT NULL OR coalesce(s.nth > 1, false))
                    AND (count(*) FILTER (WHERE s.tag <= level.tag) > wanted OR NOT bool_or(s.is_more AND s.tag IS NOT NULL)) AS is_all
                  FROM seen s CROSS JOIN level
                ),
                taken AS MATERIALIZED (
                  SELECT r.ctid AS tid, s.at, s.tag, s.key, s.nth FROM (
                    -- Some more than are wanted, since others may have locked some.
                    SELECT * FROM seen WHERE tag IS NOT NULL AND (SELECT is_all FROM found) ORDER BY tag, key, nth LIMIT wanted + 16
                  ) s JOIN ${schema}.records r ON r.ctid = s.tid AND r.state::integer = 0
                  ORDER BY s.tag, s.key, s.nth LIMIT wanted
                  FOR UPDATE OF r SKIP LOCKED
                ),
                reached AS (SELECT greatest(limits.turn_time, max(tag)) AS tag FROM taken),
                moved AS (
                  UPDATE ${schema}.turns t SET place = greatest(n.place, reached.tag),
                    state = CASE WHEN n.eta > p_now THEN ${Turn.aside} WHEN n.eta IS NOT NULL OR n.is_more THEN ${Turn.due}
                      ELSE ${Turn.idle} END,
                    next_at = CASE WHEN n.eta > p_now THEN n.eta END,
                    eta = CASE WHEN n.eta IS NOT NULL THEN n.eta WHEN n.is_more THEN t.eta ELSE 'Infinity' END,
                    seq = CASE WHEN n.eta IS NOT NULL THEN n.seq WHEN n.is_more THEN t.seq ELSE 0 END
                  FROM (
                    SELECT each.at, min(each.base) + count(*) FILTER (WHERE each.is_started) AS place, bool_or(each.is_more) AS is_more,
                      min(each.eta) FILTER (WHERE NOT each.is_started) AS eta, min(each.seq) FILTER (WHERE NOT each.is_started) AS seq
                    FROM (
                      SELECT one.at, bool_or(one.is_started) AS is_started, min(one.base) AS base, bool_or(one.is_more) AS is_more,
                        min(one.eta) AS eta, min(one.seq) AS seq
                      FROM (
                        SELECT s.at, s.nth, false AS is_started, s.base, s.is_more, s.eta, s.seq FROM seen s
                        UNION ALL
                        SELECT t.at, t.nth, true, NULL, NULL, NULL, NULL FROM taken t
                      ) one GROUP BY one.at, one.nth
                    ) each
                    GROUP BY each.at HAVING bool_or(each.is_started)
                  ) n CROSS JOIN reached
                  WHERE t.ctid = n.at
                ),
                later AS (
                  UPDATE ${schema}.queues q SET turn_time = reached.tag FROM reached
                  WHERE q.queue = limits.queue AND q.turn_time < reached.tag
                )
                -- In the order of the turns, see \`startRun\`.
                UPDATE ${schema}.records AS r SET ${start("r")}
                FROM taken WHERE r.ctid = taken.tid AND r.state::integer = 0
                RETURNING NULL, ${claimedColumns("r")};
              GET DIAGNOSTICS started = ROW_COUNT;`
