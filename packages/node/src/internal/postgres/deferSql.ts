/**
 * Enqueueing from SQL: for triggers and for programs in other languages.
 */

import { givenTypes } from "./enqueueSql.ts"
import { plpgsql } from "./functions.ts"
import { followable } from "./joinTables.ts"
import type { newColumns } from "./newRow.ts"

/** What `defer` takes from its options, as SQL; everything else has the default that `Task.make` gives it. */
const values: Record<(typeof newColumns)[number][0] | "join_depth" | "call" | "now", string> = {
  id: "new_id",
  queue: "coalesce(options->>'queue', 'default')",
  task: "task",
  version: "coalesce((options->>'version')::double precision, 1)",
  target: "options->>'target'",
  priority: "coalesce((options->>'priority')::double precision, 0)",
  eta: "coalesce((options->>'eta')::double precision, at + coalesce((options->>'delay')::double precision, 0))",
  name: "options->>'name'",
  on_duplicate: "coalesce(options->>'onDuplicate', 'fail')",
  tombstone: "coalesce((options->>'tombstone')::double precision, 777600000)",
  unique_key: "options->'unique'->>'key'",
  unique_while: "key_while",
  expires_at: "at + (options->>'expires')::double precision",
  retry: "(options->'retry')::text",
  timeout: "(options->>'timeout')::double precision",
  lease: "(options->>'lease')::double precision",
  max_crashes: "coalesce((options->>'maxCrashes')::double precision, 3)",
  keep: "coalesce((options->>'keep')::double precision, 86400000)",
  headers: "(options->'headers')::text",
  payload: "coalesce(payload, 'null'::jsonb)::text",
  payload_ref: "NULL",
  key: "options->>'key'",
  member_of: "NULL",
  due_by: "(latest->>'dueBy')::double precision",
  spacing: "(latest->>'spacing')::double precision",
  expects: "latest->>'expects'",
  join_total: "NULL",
  join_on_failure: "NULL",
  join_then: "NULL",
  join_depth: "NULL",
  call: "NULL",
  now: "at",
}

/** What most records have not. */
const unusual: ReadonlySet<string> = new Set(["name", "unique_key", "key"])

const known = [
  ...[
    "id",
    "queue",
    "version",
    "target",
    "priority",
    "eta",
    "delay",
    "name",
    "onDuplicate",
    "tombstone",
    "unique",
    "key",
  ],
  ...["expires", "retry", "timeout", "lease", "maxCrashes", "keep", "headers", "now"],
]

export const deferFunctions = (schema: string): ReadonlyArray<string> => [
  // A UUIDv7, also where the server has no function for one yet.
  `CREATE OR REPLACE FUNCTION ${schema}.new_task_id (p_now double precision) RETURNS uuid LANGUAGE sql VOLATILE
AS $function$
  SELECT encode(set_byte(random, 6, (get_byte(random, 6) & 15) | 112), 'hex')::uuid FROM (
    SELECT overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(p_now::bigint) FROM 3) FROM 1 FOR 6) AS random
  ) made
$function$`,
  plpgsql({
    name: `${schema}.defer`,
    parameters: ["task text", "payload jsonb DEFAULT 'null'", "options jsonb DEFAULT '{}'"],
    returns: "jsonb",
    conflict: "use_variable",
    body: `DECLARE
  -- Who calls from SQL has no other clock than this.
  at double precision := coalesce((options->>'now')::double precision,
    floor(extract(epoch FROM clock_timestamp()) * 1000));
  new_id uuid := coalesce((options->>'id')::uuid, ${schema}.new_task_id(at));
  key_while integer;
  latest jsonb := options->'unique'->'latest';
  refused record;
  unknown text;
BEGIN
  SELECT key INTO unknown FROM jsonb_object_keys(options) AS key
  WHERE key <> ALL (ARRAY[${known.map((name) => `'${name}'`).join(", ")}]) LIMIT 1;
  IF unknown IS NOT NULL THEN
    RAISE EXCEPTION '${schema}.defer has no option "%"', unknown USING
      HINT = 'it has ${known.join(", ")}', ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(options->>'onDuplicate', 'fail') NOT IN ('fail', 'ignore', 'replace') THEN
    RAISE EXCEPTION 'onDuplicate is "fail", "ignore" or "replace", and not "%"', options->>'onDuplicate' USING
      ERRCODE = 'invalid_parameter_value';
  END IF;
  IF options->'unique'->>'key' IS NOT NULL THEN
    SELECT bit_or(CASE state WHEN 'running' THEN 2 WHEN 'succeeded' THEN 4 WHEN 'cancelled' THEN 8 WHEN 'dead' THEN 16
      ELSE 1 END) | 1 INTO key_while
    FROM jsonb_array_elements_text(coalesce(options->'unique'->'while', '["waiting", "running"]')) AS state;
    IF jsonb_typeof(latest) = 'object' THEN key_while := key_while | ${followable}; END IF;
  END IF;
  IF length(options->>'key') NOT BETWEEN 1 AND 255 THEN
    RAISE EXCEPTION 'a key has 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT * INTO refused FROM ${schema}.enqueue(${givenTypes
    .map(([name, type]) => {
      const value = values[name as keyof typeof values]
      // NULL when there is none, as everybody else says it.
      if (value === "NULL") return `NULL::${type}[]`
      return unusual.has(name)
        ? `CASE WHEN ${value} IS NOT NULL THEN ARRAY[${value}] END`
        : `ARRAY[${value}]::${type}[]`
    })
    .join(",\n    ")}, '') AS stored WHERE stored.ord IS NOT NULL;
  IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'Inserted', 'id', new_id); END IF;
  IF refused.outcome = 'Tombstoned' THEN
    RETURN jsonb_build_object('outcome', refused.outcome, 'until', refused.until);
  END IF;
  RETURN jsonb_build_object('outcome', refused.outcome, 'id', refused.existing);
END`,
  }),
]
