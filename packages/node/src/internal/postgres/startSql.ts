/** What a record becomes by its start, in functions that have `p_worker`, `p_lease` and `p_now`. */
import { holdsIn } from "./endingSql.ts"

/** As the list of an UPDATE. */
export const start = (record: string): string => `state = 1, worker = p_worker, started_at = p_now,
        first_attempt_at = coalesce(${record}.first_attempt_at, p_now), bury_at = NULL,
        lease_until = p_now + coalesce(${record}.lease, p_lease), attempt = ${record}.attempt + 1, token = ${record}.token + 1,
        holds = ${holdsIn(record, "1")}`
