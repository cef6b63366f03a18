/**
 * The limits of queues as functions of the schema: their token buckets, as `TokenBucket` of `@outlive/deferred` has them.
 */
import { awaken } from "./arrivalsSql.ts"
import { plpgsql } from "./functions.ts"

const pure = (name: string, parameters: string, returns: string, expression: string): string =>
  `CREATE OR REPLACE FUNCTION ${name} (${parameters}) RETURNS ${returns} LANGUAGE sql IMMUTABLE
AS $function$ SELECT ${expression} $function$`

export const limitsFunctions = (schema: string): ReadonlyArray<string> => [
  plpgsql({
    name: `${schema}.refill`,
    isInner: true,
    parameters: [`p ${schema}.queues`, "p_now double precision"],
    returns: `${schema}.queues`,
    body: `BEGIN
  p.tokens := least(p.burst, p.tokens + greatest(0, p_now - p.tokens_at) * p.rate / 1000);
  p.tokens_at := greatest(p.tokens_at, p_now);
  RETURN p;
END`,
  }),
  // Whole tokens; a hair below one is one, so that `next_token_at` is a time at which there is one.
  pure(`${schema}.available`, "p_tokens double precision", "double precision", "greatest(0, floor(p_tokens + 1e-9))"),
  // When there will be a token: -Infinity when there is one, NULL when never.
  pure(
    `${schema}.next_token_at`,
    `p ${schema}.queues`,
    "double precision",
    `CASE WHEN ${schema}.available((p).tokens) >= 1 THEN '-Infinity'
      WHEN (p).rate > 0 THEN ceil((p).tokens_at + (1 - (p).tokens) * 1000 / (p).rate) END`,
  ),
  // What may start of a queue now, by its rate and by its slots; no slots, also when nothing will start by itself. The bucket
  // is filled up to now. A queue that was never configured has no limits.
  plpgsql({
    name: `${schema}.allowance`,
    isInner: true,
    parameters: [
      `p ${schema}.queues`,
      "p_now double precision",
      `OUT limits ${schema}.queues`,
      "OUT allowed double precision",
      "OUT slots double precision",
    ],
    returns: "record",
    body: `BEGIN
  limits := p;
  allowed := 'Infinity';
  slots := 'Infinity';
  IF p.paused OR p.rate = 0 THEN
    allowed := 0;
    slots := 0;
    RETURN;
  END IF;
  IF p.rate IS NOT NULL THEN
    limits := ${schema}.refill(p, p_now);
    allowed := ${schema}.available(limits.tokens);
  END IF;
  IF p.paused_until > p_now THEN allowed := 0; END IF;
  IF p.max_concurrent IS NOT NULL THEN
    slots := p.max_concurrent - (SELECT count(*) FROM ${schema}.records WHERE state = 1 AND queue = p.queue);
    allowed := least(allowed, slots);
  END IF;
END`,
  }),
  // Only the limits that `p_changed` names change. A first rate starts with a full bucket; a changed one keeps what was
  // gathered under the old.
  plpgsql({
    name: `${schema}.configure`,
    parameters: [
      "p_queue text",
      "p_changed text[]",
      "p_paused boolean",
      "p_rate double precision",
      "p_burst double precision",
      "p_max_concurrent double precision",
      "p_ageing double precision",
      "p_key_max_concurrent double precision",
      "p_key_rate double precision",
      "p_key_burst double precision",
      "p_key_ordered boolean",
      "p_now double precision",
      "p_by text",
    ],
    returns: "void",
    body: `DECLARE
  limits ${schema}.queues;
  had_rate boolean;
BEGIN
  INSERT INTO ${schema}.queues (queue, paused, burst, tokens, tokens_at) VALUES (p_queue, false, 5, 0, p_now)
  ON CONFLICT (queue) DO NOTHING;
  SELECT * INTO limits FROM ${schema}.queues WHERE queue = p_queue FOR UPDATE;
  had_rate := limits.rate IS NOT NULL;
  IF had_rate THEN limits := ${schema}.refill(limits, p_now); END IF;
  IF 'paused' = ANY (p_changed) THEN limits.paused := p_paused; END IF;
  IF 'rate' = ANY (p_changed) THEN limits.rate := p_rate; END IF;
  IF 'burst' = ANY (p_changed) THEN limits.burst := p_burst; END IF;
  IF 'maxConcurrent' = ANY (p_changed) THEN limits.max_concurrent := p_max_concurrent; END IF;
  IF 'ageing' = ANY (p_changed) THEN limits.ageing := p_ageing; END IF;
  IF 'byKey' = ANY (p_changed) THEN
    limits.key_max_concurrent := p_key_max_concurrent;
    limits.key_rate := p_key_rate;
    limits.key_burst := p_key_burst;
    limits.key_ordered := p_key_ordered;
    -- Whatever held keys back is another thing now.
    IF limits.turn_time IS NOT NULL THEN
      ${awaken(schema, "VALUES (p_queue, NULL)")};
    END IF;
  END IF;
  IF NOT had_rate AND limits.rate IS NOT NULL THEN
    limits.tokens := limits.burst;
    limits.tokens_at := p_now;
  END IF;
  UPDATE ${schema}.queues SET paused = limits.paused, rate = limits.rate, burst = limits.burst,
    max_concurrent = limits.max_concurrent, ageing = limits.ageing, tokens = limits.tokens, tokens_at = limits.tokens_at,
    key_max_concurrent = limits.key_max_concurrent, key_rate = limits.key_rate, key_burst = limits.key_burst,
    key_ordered = limits.key_ordered
  WHERE queue = p_queue;
  PERFORM ${schema}.tell(p_by, ARRAY[p_queue], NULL, NULL, NULL);
END`,
  }),
]
