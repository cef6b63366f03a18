/**
 * ready ──► running.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimedRecord, ClaimParams, ClaimResult } from "@outlive/deferred/TaskQueue"
import type { ExpectedClaim } from "./expectedClaim.ts"
import { isStep, type Steps } from "./groupCommit.ts"
import type { Joins } from "./joins.ts"
import type { Lanes } from "./lanes.ts"
import type { Allowance, Limits } from "./limits.ts"
import type { OwnClaims } from "./ownClaims.ts"
import type { Rounds } from "./rounds.ts"
import { asRow, claimColumns, columns, type Tallies, toClaimed, toPlainClaim } from "./row.ts"
import type { Keys } from "./unique.ts"

/** A queue without limits. */
const everything: Allowance = {
  count: Number.POSITIVE_INFINITY,
  hasSlot: true,
  tokenAt: Number.NEGATIVE_INFINITY,
  ageing: undefined,
  fair: undefined,
}

export const makeClaim = (
  db: DatabaseSync,
  {
    expectedClaim,
    joins,
    keys,
    lanes,
    limits,
    ownClaims,
    rounds,
    takeBack,
    tallies,
  }: {
    readonly expectedClaim: ExpectedClaim
    readonly joins: Joins
    readonly keys: Keys
    readonly lanes: Lanes
    readonly limits: Limits
    readonly ownClaims: OwnClaims
    readonly rounds: Rounds
    readonly tallies: Tallies
    /** `false`: it had no time for all of it. */
    readonly takeBack: (now: number) => Steps<boolean>
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
  const readKeyed = db.prepare(`SELECT ${claimColumns}, key FROM outlive_records WHERE seq = ?`)
  readKeyed.setReturnArrays(true)
  const firstLease = db.prepare("SELECT min(lease_until) AS at FROM outlive_records WHERE state = 1 AND queue = ?")

  return function* (params) {
    const isTidy = yield* takeBack(params.now)
    const isMoreToCancel = yield* joins.goOn(params.now)
    const records: Array<ClaimedRecord> = []
    let nextAt = Number.POSITIVE_INFINITY
    // What this call had no time to take back or bury is due since before.
    const earliest = (at: number) => {
      nextAt = Math.min(nextAt, Math.max(params.now, at))
    }
    if (isMoreToCancel) earliest(params.now)
    for (const { limit, name } of params.queues) {
      let allowance = limits.allowance(name, params.now)
      const allowed = Math.min(limit, allowance?.count ?? Number.POSITIVE_INFINITY)
      // One more than is taken, to know at no further cost whether something is left.
      const wanted = allowed + 1
      const ageing = allowance?.ageing
      const fair = allowance?.fair
      const round = fair && (yield* rounds({ queue: name, params, wanted, ageing, fair, isTidy }))
      const ready = round?.ready ?? lanes.ready(name, params, wanted, ageing)
      const count = Math.min(allowed, ready.length)
      for (let index = 0; index < count; index++) {
        const { seq } = ready[index]!
        start.run(params.worker, params.now, params.lease, seq)
        const row = asRow((round === undefined ? readPlain : readKeyed).get(seq))!
        const plain = toPlainClaim(row, name, params.worker, params.now)
        const record = plain ?? toClaimed(asRow(read.get(seq))!, tallies)
        if (record.uniqueKey !== undefined) keys.moved(seq)
        ownClaims.add(seq, record)
        records.push(record)
        if (isStep(records.length)) yield
      }
      expectedClaim.made(name, count < limit)
      if (round !== undefined && count > 0) yield* round.started(count)
      if (allowance !== undefined && count > 0) allowance = limits.started(name, count, params.now)

      const { hasSlot, tokenAt } = allowance ?? everything
      if (tokenAt !== undefined) {
        // Ready records that wait for a slot wait for an end, which `changes` tells: no time is known for that.
        const waiting =
          ready.length > count ? (hasSlot ? params.now : undefined) : (round ?? lanes).firstAt(name, params)
        if (waiting !== undefined) earliest(Math.max(waiting, tokenAt))
      }
      const lease = (firstLease.get(name) as { readonly at: number | null }).at
      if (lease !== null) earliest(lease)
    }
    return { records, nextAt: nextAt === Number.POSITIVE_INFINITY ? undefined : nextAt }
  }
}
