/**
 * What all functions of the schema have in common.
 *
 * Every write is one function: one round trip, one transaction, whatever it has to look at in between. They are written so
 * that each statement has one good plan, by index, whatever the tables hold: so they are told to take it, since statistics
 * that were gathered when a queue was empty would make them read it whole when it is full.
 *
 * For the same reason a record that is looked up by its id is asked for its state as `state::integer`: to the planner that
 * is not the condition of a partial index, which it would else take for the shorter way while few records are in it.
 */

const settings = [
  "plan_cache_mode = force_generic_plan",
  "enable_seqscan = off",
  "enable_bitmapscan = off",
  "enable_hashjoin = off",
  "enable_mergejoin = off",
  "enable_material = off",
  "jit = off",
]

/** A function of the schema in PL/pgSQL; parameters are written `p_this`, columns plainly. */
export const plpgsql = (options: {
  readonly name: string
  readonly parameters: ReadonlyArray<string>
  readonly returns: string
  readonly body: string
  /** Only others of these call it, which have the settings already: to set them takes longer than many a function does. */
  readonly isInner?: true | undefined
  /** What a name means that is a column's and a variable's. Columns are the default. */
  readonly conflict?: "use_variable" | undefined
}): string => `CREATE OR REPLACE FUNCTION ${options.name} (${options.parameters.join(", ")})
  RETURNS ${options.returns} LANGUAGE plpgsql
  ${options.isInner === true ? "" : settings.map((setting) => `SET ${setting}`).join("\n  ")}
AS $function$
#variable_conflict ${options.conflict ?? "use_column"}
${options.body}
$function$`

/**
 * That a column is what another table has, said so that the column's index is sought in for each of its rows. Said plainly
 * the planner may go along the whole index instead, to save the seeking, when it was asked while the table was empty. Of an
 * index's columns it is for the first alone: before version 17 a server seeks by one such condition only.
 */
export const same = (column: string, value: string): string => `${column} = ANY (ARRAY[${value}])`

/**
 * Whether a row is there, said so that it is sought for each row that is asked about. Said by EXISTS the planner may gather all
 * that are there first.
 */
export const isThere = (from: string): string => `(SELECT true FROM ${from} LIMIT 1) IS NOT NULL`

/**
 * Tells the other processes, once this transaction is committed. `p_by` is who tells, and who need not listen to itself.
 * Postgres refuses more than 8,000 bytes: what is longer is told as "something changed".
 */
export const tell = (schema: string): string =>
  plpgsql({
    name: `${schema}.tell`,
    isInner: true,
    parameters: ["p_by text", "p_waiting text[]", "p_ended uuid[]", "p_cancelling uuid[]", "p_progressed uuid[]"],
    returns: "void",
    body: `DECLARE
  payload text := '';
BEGIN
  IF coalesce(cardinality(p_waiting), 0) + coalesce(cardinality(p_ended), 0) + coalesce(cardinality(p_cancelling), 0)
    + coalesce(cardinality(p_progressed), 0) = 0 THEN RETURN; END IF;
  IF coalesce(cardinality(p_ended), 0) + coalesce(cardinality(p_cancelling), 0) + coalesce(cardinality(p_progressed), 0) < 180 THEN
    payload := json_strip_nulls(json_build_object('by', p_by, 'waiting', p_waiting, 'ended', p_ended,
      'cancelling', p_cancelling, 'progressed', p_progressed))::text;
  END IF;
  IF payload = '' OR octet_length(payload) > 7900 THEN payload := json_build_object('by', p_by)::text; END IF;
  PERFORM pg_notify('${schema.replaceAll('"', "")}', payload);
END`,
  })
