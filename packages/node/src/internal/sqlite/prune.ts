/**
 * What deletes what is over: records, names, workers, and what was known of keys.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import { isStep, type Steps } from "./groupCommit.ts"
import type { JoinRows } from "./joinRows.ts"
import { hasOverride, type KeyRow, type KeyRows, keyBucketOf, keyRateOf } from "./keyLimits.ts"
import type { Attempted, Ledger } from "./ledger.ts"
import type { Limits } from "./limits.ts"
import { limitTo } from "./limitTo.ts"
import type { Forgotten, Turns } from "./turns.ts"

interface Over extends Attempted {
  readonly id: TaskId
  readonly is_join: number | null
}

interface QueueLane {
  readonly lane: number
  /** The virtual time of its queue. */
  readonly time: number
}

/** Records that one step deletes. */
const stride = 50

export const makePrune = (
  db: DatabaseSync,
  {
    joinRows,
    keyRows,
    ledger,
    limits,
    turns,
  }: {
    readonly joinRows: JoinRows
    readonly keyRows: KeyRows
    readonly ledger: Ledger
    readonly limits: Limits
    readonly turns: Turns
  },
): ((now: number, deadBefore: number, limit: number) => Steps<number>) => {
  const due = (condition: string) =>
    db.prepare(
      `SELECT seq, id, token, state, is_join FROM outlive_records WHERE ${condition} ORDER BY prune_at ${limitTo()}`,
    )
  const succeeded = due("state = 2 AND prune_at <= ?")
  const cancelled = due("state = 3 AND prune_at <= ?")
  const dead = due("state = 4 AND prune_at < ?")
  const remove = db.prepare("DELETE FROM outlive_records WHERE seq = ?")
  const names = db.prepare(
    `DELETE FROM outlive_names WHERE (queue, name) IN
       (SELECT queue, name FROM outlive_names WHERE until <= ? ORDER BY until ${limitTo()})`,
  )
  const workers = db.prepare(
    `DELETE FROM outlive_workers WHERE id IN (SELECT id FROM outlive_workers WHERE until <= ? ORDER BY until ${limitTo()})`,
  )
  const paces = db.prepare(
    `DELETE FROM outlive_paces WHERE (task, unique_key) IN
       (SELECT task, unique_key FROM outlive_paces WHERE until <= ? ORDER BY until ${limitTo()})`,
  )
  const lanes = db.prepare(
    `SELECT lane, fair_time AS time FROM outlive_lanes JOIN outlive_queues USING (queue)
     WHERE lane > ? ORDER BY lane LIMIT ${stride}`,
  )
  /** `some` deletes at most as many as it is told and says how many there were. */
  const inStrides = function* (limit: number, some: (most: number) => number): Steps<number> {
    let count = 0
    while (count < limit) {
      const most = Math.min(stride, limit - count)
      const deleted = some(most)
      count += deleted
      if (deleted < most) break
      yield
    }
    return count
  }
  const records = (due: StatementSync, before: number) => (most: number) => {
    const records = due.all(before, most) as unknown as ReadonlyArray<Over>
    for (const record of records) {
      ledger.forget(record)
      if (record.is_join !== null) joinRows.forget(record.id)
      remove.run(record.seq)
    }
    return records.length
  }
  const others = (statement: StatementSync, before: number) => (most: number) =>
    Number(statement.run(before, most).changes)

  /** Of what is known of a key: when it is over, as far as that is a matter of time alone. */
  const overAt = (row: KeyRow, now: number): number | null => {
    if (hasOverride(row)) return null
    if (row.paused_until !== null && row.paused_until > now) return row.paused_until
    const rate = keyRateOf(limits.byKey(row.queue), row)
    if (rate === undefined || row.tokens === null) return now
    const { at, tokens } = keyBucketOf(row, rate, now)
    if (tokens >= rate.burst) return now
    return rate.rate === 0 ? null : at + ((rate.burst - tokens) * 1000) / rate.rate
  }
  const forgetKeys = function* (now: number, limit: number): Steps<void> {
    let looks = 0
    for (const row of keyRows.due(now, limit)) {
      const at = overAt(row, now)
      if (at !== null && at <= now && !turns.isUsed(row.queue, row.key, limits.time(row.queue))) keyRows.forget(row)
      else keyRows.lookAt(row, at)
      if (isStep(++looks)) yield
    }
  }
  const forgetTurns = function* (limit: number): Steps<void> {
    let count = 0
    let after = 0
    while (count < limit) {
      const some = lanes.all(after) as unknown as ReadonlyArray<QueueLane>
      for (const { lane, time } of some) {
        let from: Forgotten | undefined
        const until = Math.max(time, turns.remembered({ lane }))
        do {
          const { last, removed } = turns.forget({ lane }, until, stride, from)
          count += removed
          from = last
          yield
        } while (from !== undefined && count < limit)
        after = lane
      }
      if (some.length < stride) return
    }
  }

  return function* (now, deadBefore, limit) {
    yield* inStrides(limit, others(names, now))
    yield* inStrides(limit, others(workers, now))
    yield* inStrides(limit, others(paces, now))
    yield* forgetTurns(limit)
    yield* forgetKeys(now, limit)
    let kept = yield* inStrides(limit, records(succeeded, now))
    kept += yield* inStrides(limit - kept, records(cancelled, now))
    return kept + (yield* inStrides(limit, records(dead, deadBefore)))
  }
}
