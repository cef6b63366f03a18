/**
 * Looking for records that are named, as functions of the schema: who waits for the end of one looks again and again.
 */
import { plpgsql } from "./functions.ts"
import { columnTypes, lookedAt } from "./row.ts"

const query = (name: string, parameter: string, returned: string, select: string): string =>
  plpgsql({
    name,
    parameters: [parameter],
    returns: `TABLE (${returned})`,
    body: `BEGIN
  RETURN QUERY ${select};
END`,
  })

export const lookFunctions = (schema: string): ReadonlyArray<string> => [
  query(
    `${schema}.get_records`,
    "p_id uuid[]",
    columnTypes,
    `SELECT ${lookedAt(schema, "r")} FROM ${schema}.records r WHERE r.id = ANY (p_id)`,
  ),
  query(
    `${schema}.get_ledgers`,
    "p_id uuid[]",
    `id uuid, ledger text, state smallint, attempt integer, worker text, started_at double precision,
    ended_at double precision`,
    `SELECT r.id, r.ledger::text, r.state, r.attempt, r.worker, r.started_at, r.ended_at
    FROM ${schema}.records r WHERE r.id = ANY (p_id)`,
  ),
  query(
    `${schema}.get_payload_refs`,
    "p_refs text[]",
    "payload_ref text",
    `SELECT DISTINCT r.payload_ref FROM ${schema}.records r WHERE r.payload_ref = ANY (p_refs)`,
  ),
]
