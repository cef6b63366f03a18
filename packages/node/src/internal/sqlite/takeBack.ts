/**
 * What every claim does first: leases that expired come back, and what was not started in time is buried.
 */
import type { DatabaseSync } from "node:sqlite"
import type { AttemptFailure } from "@outlive/deferred/TaskRecord"
import type { Ending } from "./ending.ts"
import type { Steps } from "./groupCommit.ts"
import { type Held, heldColumns, heldLength, makeFindHeld, toHeld } from "./held.ts"
import type { Joins } from "./joins.ts"
import type { EndedAttempt } from "./ledger.ts"
import { asRows, type Row } from "./row.ts"

/**
 * How many records one claim takes back and buries at the most, so that a claim after a power cut with many thousands
 * of expired leases does not hold the lock for seconds. The rest is for the next claim: `nextAt` says it is due.
 */
const most = 1000

/** Whether nothing is left that should have been buried. */
type IsTidy = boolean

export const makeTakeBack = (db: DatabaseSync, ending: Ending, joins: Joins): ((now: number) => Steps<IsTidy>) => {
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
  const find = makeFindHeld(db)

  /** In the order of insertion; once others were changed with one, those after it that are still as they were, read anew. */
  const eachOf = function* (
    rows: ReadonlyArray<Row>,
    now: number,
    change: (record: Held, row: Row) => void,
  ): Steps<void> {
    let mayBeOther = false
    for (const row of rows.toSorted((left, right) => (left[0] as number) - (right[0] as number))) {
      const record = toHeld(row)
      const found = mayBeOther ? find(record.id) : record
      if (found?.state !== record.state || found.token !== record.token) continue
      change(found, row)
      if (joins.hasNews()) {
        mayBeOther = true
        yield* joins.hear(now)
      }
      yield
    }
  }

  return function* (now) {
    yield* eachOf(asRows(expiredLeases.all(now)), now, (record, row) => {
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
    })
    const late = asRows(expired.all(now))
    yield* eachOf(late, now, (record) => {
      ending.bury(record, { reason: "Expired", failure: record.failure }, now, undefined)
    })
    return late.length < most
  }
}
