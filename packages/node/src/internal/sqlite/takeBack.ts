/**
 * What every claim does first: leases that expired come back, and what was not started in time is buried.
 */
import type { DatabaseSync } from "node:sqlite"
import type { AttemptFailure } from "@outlive/deferred/TaskRecord"
import type { Ending } from "./ending.ts"
import type { Steps } from "./groupCommit.ts"
import { heldColumns, heldLength, toHeld } from "./held.ts"
import type { EndedAttempt } from "./ledger.ts"
import { asRows } from "./row.ts"

/**
 * How many records one claim takes back and buries at the most, so that a claim after a power cut with many thousands
 * of expired leases does not hold the lock for seconds. The rest is for the next claim: `nextAt` says it is due.
 */
const most = 1000

export const makeTakeBack = (db: DatabaseSync, ending: Ending): ((now: number) => Steps<void>) => {
  // From queue to queue by the index: the leases of all queues, also of those that nobody claims from any more.
  const expiredLeases = db.prepare(
    `WITH RECURSIVE running (queue) AS (
       SELECT min(queue) FROM outlive_records WHERE state = 1
       UNION ALL
       SELECT (SELECT min(queue) FROM outlive_records WHERE state = 1 AND queue > running.queue) FROM running
       WHERE running.queue IS NOT NULL
     )
     SELECT ${heldColumns}, worker, crashes, max_crashes
     FROM running CROSS JOIN outlive_records ON state = 1 AND outlive_records.queue = running.queue AND lease_until <= ?
     WHERE running.queue IS NOT NULL LIMIT ${most}`,
  )
  expiredLeases.setReturnArrays(true)
  const crash = db.prepare("UPDATE outlive_records SET crashes = crashes + 1 WHERE seq = ?")
  const expired = db.prepare(
    `SELECT ${heldColumns} FROM outlive_records INDEXED BY outlive_expiring
     WHERE state = 0 AND first_attempt_at IS NULL AND expires_at <= ? LIMIT ${most}`,
  )
  expired.setReturnArrays(true)

  return function* (now) {
    for (const row of asRows(expiredLeases.all(now))) {
      const record = toHeld(row)
      const [worker, crashes, maxCrashes] = row.slice(heldLength) as [string, number, number]
      const failure: AttemptFailure = {
        attempt: record.attempt,
        at: now,
        kind: "crash",
        tag: "Crashed",
        message: `worker ${worker} did not extend its lease`,
      }
      const text = JSON.stringify(failure)
      const attempt: EndedAttempt = { token: record.token, outcome: "Crash", failure: text }
      crash.run(record.seq)
      ending.letGo(record)
      if (record.cancel_requested === null && crashes >= maxCrashes) {
        ending.bury(record, { reason: "Crashed", failure: text }, now, attempt)
      } else ending.waitAgain(record, { eta: now, attempt: record.attempt, failure: text }, now, attempt)
      yield
    }
    for (const row of asRows(expired.all(now))) {
      const record = toHeld(row)
      ending.bury(record, { reason: "Expired", failure: record.failure }, now, undefined)
      yield
    }
  }
}
