/**
 * ready ──► running.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimedRecord, ClaimParams, ClaimResult } from "@outlive/deferred/TaskQueue"
import type { ExpectedClaim } from "./expectedClaim.ts"
import type { Steps } from "./groupCommit.ts"
import type { Joins } from "./joins.ts"
import type { Lanes } from "./lanes.ts"
import type { Allowance, Limits } from "./limits.ts"
import type { Rounds } from "./rounds.ts"
import type { Start } from "./start.ts"
import { stride } from "./tens.ts"

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
    lanes,
    limits,
    rounds,
    start,
    takeBack,
  }: {
    readonly expectedClaim: ExpectedClaim
    readonly joins: Joins
    readonly lanes: Lanes
    readonly limits: Limits
    readonly rounds: Rounds
    readonly start: Start
    /** `false`: it had no time for all of it. */
    readonly takeBack: (now: number) => Steps<boolean>
  },
): ((params: ClaimParams) => Steps<ClaimResult>) => {
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
      const of = { queue: name, isKeyed: round !== undefined, params, records }
      for (let from = 0; from < count; from += stride) {
        start(ready.slice(from, Math.min(from + stride, count)), of)
        yield
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
