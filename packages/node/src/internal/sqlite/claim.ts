/**
 * ready ──► running.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimedRecord, ClaimParams, ClaimResult } from "@outlive/deferred/TaskQueue"
import { isStep, type Steps } from "./groupCommit.ts"
import type { Lanes } from "./lanes.ts"
import type { Allowance, Limits } from "./limits.ts"
import type { OwnClaims } from "./ownClaims.ts"
import { asRow, claimColumns, columns, toClaimed, toPlainClaim } from "./row.ts"
import type { Keys } from "./unique.ts"

/** A queue without limits. */
const everything: Allowance = {
  count: Number.POSITIVE_INFINITY,
  hasSlot: true,
  tokenAt: Number.NEGATIVE_INFINITY,
  ageing: undefined,
}

export const makeClaim = (
  db: DatabaseSync,
  {
    keys,
    lanes,
    limits,
    ownClaims,
    takeBack,
  }: {
    readonly keys: Keys
    readonly lanes: Lanes
    readonly limits: Limits
    readonly ownClaims: OwnClaims
    readonly takeBack: (now: number) => Steps<void>
  },
): ((params: ClaimParams) => Steps<ClaimResult>) => {
  // Written and read apart: RETURNING would build a temporary table for every record.
  const start = db.prepare(
    `UPDATE outlive_records SET state = 1, worker = ?1, started_at = ?2, first_attempt_at = coalesce(first_attempt_at, ?2),
       lease_until = ?2 + coalesce(lease, ?3), attempt = attempt + 1, token = token + 1 WHERE seq = ?4`,
  )
  const read = db.prepare(`SELECT ${columns} FROM outlive_records WHERE seq = ?`)
  read.setReturnArrays(true)
  const readPlain = db.prepare(`SELECT ${claimColumns} FROM outlive_records WHERE seq = ?`)
  readPlain.setReturnArrays(true)
  const firstLease = db.prepare("SELECT min(lease_until) AS at FROM outlive_records WHERE state = 1 AND queue = ?")

  return function* (params) {
    yield* takeBack(params.now)
    const records: Array<ClaimedRecord> = []
    let nextAt = Number.POSITIVE_INFINITY
    // What this call had no time to take back or bury is due since before.
    const earliest = (at: number) => {
      nextAt = Math.min(nextAt, Math.max(params.now, at))
    }
    for (const { limit, name } of params.queues) {
      let allowance = limits.allowance(name, params.now)
      const allowed = Math.min(limit, allowance?.count ?? Number.POSITIVE_INFINITY)
      // One more than is taken, to know at no further cost whether something is left.
      const ready = lanes.ready(name, params, allowed + 1, allowance?.ageing)
      const count = Math.min(allowed, ready.length)
      for (let index = 0; index < count; index++) {
        const { seq } = ready[index]!
        start.run(params.worker, params.now, params.lease, seq)
        const plain = toPlainClaim(asRow(readPlain.get(seq))!, name, params.worker, params.now)
        const record = plain ?? toClaimed(asRow(read.get(seq))!)
        if (record.uniqueKey !== undefined) keys.moved(seq)
        ownClaims.add(seq, record)
        records.push(record)
        if (isStep(records.length)) yield
      }
      if (allowance !== undefined && count > 0) allowance = limits.started(name, count, params.now)

      const { hasSlot, tokenAt } = allowance ?? everything
      if (tokenAt !== undefined) {
        // Ready records that wait for a slot wait for an end, which `changes` tells: no time is known for that.
        const waiting = ready.length > count ? (hasSlot ? params.now : undefined) : lanes.firstEta(name, params)
        if (waiting !== undefined) earliest(Math.max(waiting, tokenAt))
      }
      const lease = (firstLease.get(name) as { readonly at: number | null }).at
      if (lease !== null) earliest(lease)
    }
    return { records, nextAt: nextAt === Number.POSITIVE_INFINITY ? undefined : nextAt }
  }
}
