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
  /**
   * The claims of leases between two indexes, up to the first that is not of the same queue, with the same token and as long a
   * `keep`, or not known. Each once: what comes of it is looked up in the file if it is asked for again.
   */
  readonly takeAlike: (leases: ReadonlyArray<Lease>, from: number, to: number) => ReadonlyArray<OwnClaim>
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
    takeAlike: (leases, from, to) => {
      const taken: Array<OwnClaim> = []
      for (let index = from; index < to; index++) {
        const { id, token } = leases[index]!
        const claim = claims.get(id)
        if (claim?.token !== token) break
        const first = taken[0] ?? claim
        if (claim.queue !== first.queue || claim.keep !== first.keep || token !== first.token) break
        claims.delete(id)
        taken.push(claim)
      }
      return taken
    },
  }
}
