/**
 * A record that no queue gave out: somebody else's, or one that was never stored.
 */
import type { Given } from "../TaskAttempt.ts"
import type { ClaimedRecord } from "../TaskQueue.ts"

/** As a worker would have claimed it. */
export const claimed = (
  { previousFailure, retries, undecodable: _, until, ...given }: Given,
  worker: string,
  now: number,
): ClaimedRecord => ({
  key: undefined,
  memberOf: undefined,
  join: undefined,
  ...given,
  state: "running",
  payloadRef: undefined,
  priority: 0,
  uniqueKey: undefined,
  target: undefined,
  expiresAt: undefined,
  retry: retries?.own,
  lease: undefined,
  maxCrashes: 0,
  keep: 0,
  startedAt: now,
  worker,
  leaseUntil: until,
  token: 0,
  cancelRequested: undefined,
  endedAt: undefined,
  reason: undefined,
  result: undefined,
  failure: previousFailure === undefined ? undefined : JSON.stringify(previousFailure),
  progress: undefined,
})
