/**
 * What is remembered of claimed records until they are settled, so that nobody has to look: which are kept when they have ended,
 * as most are, and which are members of others.
 */
import type { ClaimedRecord, Settlement } from "@outlive/deferred/TaskQueue"

/** Records remembered at the most: what is claimed and never settled here is forgotten by and by. */
const most = 100_000

export interface Keeps {
  readonly claimed: (records: ReadonlyArray<ClaimedRecord>) => void
  /**
   * `drops`: one of these may have nothing to be kept for. `inTurn`: the end of one may mean that another is cancelled, so they
   * are settled one after the other. They are forgotten.
   */
  readonly settles: (settlements: ReadonlyArray<Settlement>) => { readonly drops: boolean; readonly inTurn: boolean }
}

export const makeKeeps = (): Keeps => {
  const kept = new Set<string>()
  const members = new Set<string>()
  const shorten = (ids: Set<string>) => {
    for (const id of ids) {
      if (ids.size <= most) break
      ids.delete(id)
    }
  }
  return {
    claimed: (records) => {
      for (const { id, keep, memberOf } of records) {
        if (keep > 0) kept.add(id)
        else kept.delete(id)
        if (memberOf !== undefined) members.add(id)
      }
      shorten(kept)
      shorten(members)
    },
    settles: (settlements) => {
      let drops = false
      let ofOthers = 0
      let fails = false
      for (const { _tag, id } of settlements) {
        if (!kept.delete(id)) drops = true
        if (members.size === 0 || !members.delete(id)) continue
        ofOthers++
        if (_tag !== "Succeed") fails = true
      }
      return { drops, inTurn: fails && ofOthers > 1 }
    },
  }
}
