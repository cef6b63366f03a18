/**
 * A queue at a glance. Looks at every index entry of what waits and runs in it, and at no record.
 */
import type { DatabaseSync } from "node:sqlite"
import type { QueueStatistics } from "@outlive/deferred/QueueLimits"
import type { Executed } from "./executed.ts"
import type { Limits } from "./limits.ts"

interface WaitingRow {
  readonly waiting: number
  readonly ready: number
  readonly oldest: number | null
}

export const makeStatistics = (
  db: DatabaseSync,
  limits: Limits,
  executed: Executed,
): ((queue: string, now: number) => QueueStatistics) => {
  const countWaiting = db.prepare(
    `SELECT count(*) AS waiting, coalesce(sum(eta <= ?), 0) AS ready, min(eta) AS oldest
     FROM outlive_records INDEXED BY outlive_waiting WHERE state = 0 AND queue = ?`,
  )
  return (queue, now) => {
    const { oldest, ready, waiting } = countWaiting.get(now, queue) as unknown as WaitingRow
    return {
      waiting,
      ready,
      oldestEta: oldest ?? undefined,
      inFlight: limits.running(queue),
      executedLastMinute: executed.lastMinute(queue, now),
      nextTokenAt: limits.nextTokenAt(queue, now),
    }
  }
}
