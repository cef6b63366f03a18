/**
 * What this connection has claimed, by id: a success needs to know little of its record, and then is one statement.
 */
import type { TaskId } from "@outlive/deferred/TaskId"
import type { ClaimedRecord, Lease } from "@outlive/deferred/TaskQueue"

/** A claimed record with nothing about it that its success would have to look after, its first attempt. */
export interface OwnClaim {
  readonly id: TaskId
  readonly seq: number
  readonly token: number
  readonly queue: string
  readonly keep: number
}

export interface OwnClaims {
  readonly add: (seq: number, record: ClaimedRecord) => void
  /** The claim of a lease, once: what comes of it is looked up in the file if it is asked for again. */
  readonly take: (lease: Lease) => OwnClaim | undefined
  /** Those of all these leases, if they are of one queue and keep what ended for the same time; else it takes none. */
  readonly takeAlike: (leases: ReadonlyArray<Lease>) => ReadonlyArray<OwnClaim> | undefined
}

/** Those whose lease was lost are never settled: when there are so many, all are forgotten. */
const most = 100_000

export const makeOwnClaims = (): OwnClaims => {
  const claims = new Map<TaskId, OwnClaim>()
  return {
    add: (seq, { id, join, keep, key, memberOf, name, queue, token, uniqueKey }) => {
      // A name's tombstone begins with the end, others may wait for that, and attempts before may be in the ledger.
      if (name !== undefined || uniqueKey !== undefined || token > 1) return
      if (key !== undefined || memberOf !== undefined || join !== undefined) return
      if (claims.size >= most) claims.clear()
      claims.set(id, { id, seq, token, queue, keep })
    },
    take: ({ id, token }) => {
      const claim = claims.get(id)
      if (claim?.token !== token) return undefined
      claims.delete(id)
      return claim
    },
    takeAlike: (leases) => {
      const taken: Array<OwnClaim> = []
      for (const { id, token } of leases) {
        const claim = claims.get(id)
        const { keep, queue } = taken[0] ?? claim ?? {}
        if (claim?.token !== token || claim.keep !== keep || claim.queue !== queue) {
          for (const each of taken) claims.set(each.id, each)
          return undefined
        }
        claims.delete(id)
        taken.push(claim)
      }
      return taken
    },
  }
}
