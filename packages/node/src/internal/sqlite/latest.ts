/**
 * Records of which the latest wins: what one does where another holds its unique key, and the times that space them.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { EnqueueOutcome } from "@outlive/deferred/TaskQueue"
import type { Latest, NewRecord } from "@outlive/deferred/TaskRecord"
import { isOfJoin, type Placing, type Taken } from "./placing.ts"
import { State } from "./schema.ts"

export interface LatestOf {
  /** When a new record is due: not before the one before it of its key leaves room for it. */
  readonly etaOf: (record: NewRecord, now: number) => number
  /** It was inserted with that eta. */
  readonly inserted: (record: NewRecord, eta: number) => void
  /** What becomes of a record that is of no join, where another one holds its unique key. */
  readonly behind: (record: NewRecord, key: string, latest: Latest, now: number) => EnqueueOutcome
}

interface Holder extends Taken {
  readonly eta: number
  readonly wanted_eta: number | null
  readonly due_by: number | null
  readonly is_of_join: number
  readonly is_expected: number | null
}

/** It is stored only where it takes the place of what it expects. */
export const expectsPlace = (record: NewRecord): boolean =>
  !isOfJoin(record) && (record.unique?.latest?.expects ?? "") !== ""

export const makeLatest = (db: DatabaseSync, placing: Placing): LatestOf => {
  const looking = (where: string) =>
    db.prepare(
      `SELECT seq, id, token, state, queue, key, name, eta, wanted_eta, due_by,
         member_of IS NOT NULL OR is_join IS NOT NULL AS is_of_join, coalesce(payload_ref, payload) = ?1 AS is_expected
       FROM outlive_records WHERE ${where}`,
    )
  const holderOf = looking("task = ?2 AND unique_key = ?3 AND holds_key = 1")
  const followerOf = looking(
    "seq = (SELECT follower FROM outlive_followers WHERE holder = ?2) AND follows = ?2 AND state = 0",
  )
  const paceOf = db.prepare("SELECT until FROM outlive_paces WHERE task = ? AND unique_key = ?")
  const pace = db.prepare("INSERT OR REPLACE INTO outlive_paces (task, unique_key, until) VALUES (?, ?, ?)")

  const spacingOf = (record: NewRecord): number | undefined =>
    isOfJoin(record) ? undefined : record.unique?.latest?.spacing
  const etaOf: LatestOf["etaOf"] = (record, now) => {
    const eta = Math.max(now, record.eta)
    if (spacingOf(record) === undefined) return eta
    const row = paceOf.get(record.task, record.unique!.key) as { readonly until: number } | undefined
    return Math.max(eta, row?.until ?? now)
  }
  const inserted: LatestOf["inserted"] = (record, eta) => {
    const spacing = spacingOf(record)
    if (spacing !== undefined) pace.run(record.task, record.unique!.key, eta + spacing)
  }
  const existing = (id: TaskId): EnqueueOutcome => ({ _tag: "Existing", id })

  const follow = (record: NewRecord, holder: Holder, { dueBy }: Latest, now: number): EnqueueOutcome => {
    const eta = etaOf(record, now)
    if (!placing.insert(record, { eta, follows: holder.seq, dueBy }, now)) return existing(record.id)
    inserted(record, eta)
    return { _tag: "Inserted", id: record.id }
  }
  const take = (
    record: NewRecord,
    place: Holder,
    follows: number | undefined,
    latest: Latest,
    now: number,
  ): EnqueueOutcome => {
    // The limit goes with the place.
    const limit = place.due_by ?? Number.POSITIVE_INFINITY
    const eta =
      latest.spacing === undefined
        ? Math.max(now, Math.min(record.eta, limit))
        : Math.min(place.wanted_eta ?? place.eta, limit)
    placing.replace(place, record, { eta, follows, dueBy: place.due_by ?? latest.dueBy }, now)
    return { _tag: "Replaced", id: place.id }
  }

  return {
    etaOf,
    inserted,
    behind: (record, key, latest, now) => {
      const expects = latest.expects ?? null
      const holder = holderOf.get(expects, record.task, key) as unknown as Holder
      if (holder.state > State.running || holder.is_of_join === 1) return existing(holder.id)
      const follower =
        holder.state === State.running ? (followerOf.get(expects, holder.seq) as Holder | undefined) : undefined
      if (holder.state === State.running && follower === undefined) {
        return expectsPlace(record) ? existing(holder.id) : follow(record, holder, latest, now)
      }
      const place = follower ?? holder
      if (latest.expects !== undefined && place.is_expected !== 1) return existing(place.id)
      return take(record, place, follower === undefined ? undefined : holder.seq, latest, now)
    },
  }
}
