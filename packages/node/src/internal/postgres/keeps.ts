/**
 * Which claimed records are kept when they have ended: most are, and then nobody has to look for those that are not.
 */
import type { ClaimedRecord, Lease } from "@outlive/deferred/TaskQueue"

/** Records remembered at the most: what is claimed and never settled here is forgotten by and by. */
const most = 100_000

export interface Keeps {
  readonly claimed: (records: ReadonlyArray<ClaimedRecord>) => void
  /** Whether one of these may have nothing to be kept for; they are forgotten. */
  readonly settles: (leases: ReadonlyArray<Lease>) => boolean
}

export const makeKeeps = (): Keeps => {
  const kept = new Set<string>()
  return {
    claimed: (records) => {
      for (const { id, keep } of records) {
        if (keep > 0) kept.add(id)
        else kept.delete(id)
      }
      for (const id of kept) {
        if (kept.size <= most) break
        kept.delete(id)
      }
    },
    settles: (leases) => {
      let drops = false
      for (const { id } of leases) if (!kept.delete(id)) drops = true
      return drops
    },
  }
}
