/**
 * running ──► succeeded | cancelled | dead | scheduled | ready, and the leases that hold it there. Both are fenced: who
 * does not name the token of the last claim changes nothing.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ExtendOutcome, Lease, Settlement, SettleOutcome } from "@outlive/deferred/TaskQueue"
import type { Ending } from "./ending.ts"
import type { Executed } from "./executed.ts"
import { isStep, type Steps } from "./groupCommit.ts"
import { type Held, heldColumns, toHeld } from "./held.ts"
import type { Joins } from "./joins.ts"
import type { KeyRows } from "./keyLimits.ts"
import type { EndedAttempt } from "./ledger.ts"
import type { Limits } from "./limits.ts"
import type { OwnClaims } from "./ownClaims.ts"
import type { Progress } from "./progress.ts"
import { asRow } from "./row.ts"
import type { Succeed } from "./successes.ts"
import { stride } from "./tens.ts"

export const makeExtend = (
  db: DatabaseSync,
): ((leases: ReadonlyArray<Lease>, until: number) => ReadonlyArray<ExtendOutcome>) => {
  const extend = db.prepare(
    "UPDATE outlive_records SET lease_until = ? WHERE id = ? AND state = 1 AND token = ? RETURNING cancel_requested",
  )
  return (leases, until) =>
    leases.map(({ id, token }) => {
      const row = extend.get(until, id, token) as { readonly cancel_requested: string | null } | undefined
      if (row === undefined) return "LeaseLost"
      return row.cancel_requested === null ? "Extended" : "CancelRequested"
    })
}

export const makeSettle = (
  db: DatabaseSync,
  {
    ending,
    executed,
    joins,
    keyRows,
    limits,
    ownClaims,
    progress,
    succeed,
  }: {
    readonly ending: Ending
    readonly executed: Executed
    readonly joins: Joins
    readonly keyRows: KeyRows
    readonly limits: Limits
    readonly ownClaims: OwnClaims
    readonly progress: Progress
    readonly succeed: Succeed
  },
): ((settlements: ReadonlyArray<Settlement>, now: number) => Steps<ReadonlyArray<SettleOutcome>>) => {
  const hold = db.prepare(`SELECT ${heldColumns} FROM outlive_records WHERE id = ? AND state = 1 AND token = ?`)
  hold.setReturnArrays(true)

  const apply = (record: Held, settlement: Settlement, now: number) => {
    if (settlement._tag === "Succeed") {
      if (settlement.handOver !== undefined && record.member_of !== null) {
        joins.handOver(record.member_of, settlement.handOver)
      }
      return ending.succeed(record, settlement.result, now)
    }
    const { attempt, failure } = record
    const ended: EndedAttempt = {
      token: settlement.token,
      outcome: settlement._tag,
      failure: "failure" in settlement ? settlement.failure : undefined,
    }
    switch (settlement._tag) {
      case "Cancel":
        return ending.cancel(record, now, ended)
      case "Bury": {
        const { reason, result } = settlement
        return ending.bury(record, { reason, result, failure: settlement.failure ?? failure }, now, ended)
      }
      case "Retry":
        return ending.waitAgain(record, { eta: settlement.eta, attempt, failure: settlement.failure }, now, ended)
      case "Snooze": {
        const { eta, pause } = settlement
        const waits = ending.waitAgain(record, { eta, attempt: attempt - 1, failure }, now, ended)
        if (!waits || pause === undefined) return
        if (pause === "key" && record.key !== null) keyRows.pauseLonger(record.queue, record.key, eta)
        else limits.pauseLonger(record.queue, eta)
        return
      }
      case "Release":
        return ending.waitAgain(record, { eta: now, attempt: attempt - 1, failure }, now, ended)
    }
  }

  const settle = (settlement: Settlement, now: number): SettleOutcome => {
    const row = asRow(hold.get(settlement.id, settlement.token))
    if (row === undefined) return "LeaseLost"
    const record = toHeld(row)
    ending.letGo(record)
    if (settlement.progress !== undefined) progress.note(settlement, settlement.progress)
    apply(record, settlement, now)
    if (settlement._tag !== "Release") executed.add(record.queue, now)
    return "Settled"
  }

  /** The successes from an index on that can be settled together, at most a stride of them. */
  const succeedSome = (settlements: ReadonlyArray<Settlement>, from: number, now: number) => {
    const results: Array<string | undefined> = []
    for (let index = from; index < Math.min(from + stride, settlements.length); index++) {
      const each = settlements[index]!
      if (each._tag !== "Succeed" || each.progress !== undefined) break
      results.push(each.result)
    }
    const claims = ownClaims.takeAlike(settlements, from, from + results.length)
    if (claims.length === 0) return []
    return succeed(claims, results.slice(0, claims.length), now).map((isSettled, index): SettleOutcome => {
      // The record may be another of the same id, of which only the file knows.
      if (!isSettled) return settle(settlements[from + index]!, now)
      executed.add(claims[index]!.queue, now)
      return "Settled"
    })
  }

  return function* (settlements, now) {
    const outcomes: Array<SettleOutcome> = []
    while (outcomes.length < settlements.length) {
      const some = succeedSome(settlements, outcomes.length, now)
      if (some.length > 0) outcomes.push(...some)
      else outcomes.push(settle(settlements[outcomes.length]!, now))
      if (joins.hasNews()) yield* joins.hear(now)
      if (some.length > 0 || isStep(outcomes.length)) yield
    }
    return outcomes
  }
}
