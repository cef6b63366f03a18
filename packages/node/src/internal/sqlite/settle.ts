/**
 * running ──► succeeded | cancelled | dead | scheduled | ready, and the leases that hold it there. Both are fenced: who
 * does not name the token of the last claim changes nothing.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ExtendOutcome, Lease, Settlement, SettleOutcome } from "@outlive/deferred/TaskQueue"
import { type Ending, type Held, heldColumns } from "./ending.ts"
import type { Steps } from "./groupCommit.ts"

export const makeExtend = (
  db: DatabaseSync,
): ((leases: ReadonlyArray<Lease>, until: number) => ReadonlyArray<ExtendOutcome>) => {
  const extend = db.prepare(
    "UPDATE records SET lease_until = ? WHERE id = ? AND state = 1 AND token = ? RETURNING cancel_requested",
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
  ending: Ending,
): ((settlements: ReadonlyArray<Settlement>, now: number) => Steps<ReadonlyArray<SettleOutcome>>) => {
  const hold = db.prepare(`SELECT ${heldColumns} FROM records WHERE id = ? AND state = 1 AND token = ?`)

  const apply = (record: Held, settlement: Settlement, now: number) => {
    const { attempt, failure } = record
    switch (settlement._tag) {
      case "Succeed":
        return ending.succeed(record, settlement.result, now)
      case "Cancel":
        return ending.cancel(record, now)
      case "Bury": {
        const { reason, result } = settlement
        return ending.bury(record, { reason, result, failure: settlement.failure ?? failure }, now)
      }
      case "Retry":
        return ending.waitAgain(record, { eta: settlement.eta, attempt, failure: settlement.failure }, now)
      case "Snooze":
        return ending.waitAgain(record, { eta: settlement.eta, attempt: attempt - 1, failure }, now)
      case "Release":
        return ending.waitAgain(record, { eta: now, attempt: attempt - 1, failure }, now)
    }
  }

  const settle = (settlement: Settlement, now: number): SettleOutcome => {
    const record = hold.get(settlement.id, settlement.token) as unknown as Held | undefined
    if (record === undefined) return "LeaseLost"
    ending.letGo(record)
    apply(record, settlement, now)
    return "Settled"
  }

  return function* (settlements, now) {
    const outcomes: Array<SettleOutcome> = []
    for (const settlement of settlements) {
      outcomes.push(settle(settlement, now))
      yield
    }
    return outcomes
  }
}
