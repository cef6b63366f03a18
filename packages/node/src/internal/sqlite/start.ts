/**
 * Records that a claim has chosen become those of its worker.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimedRecord, ClaimParams } from "@outlive/deferred/TaskQueue"
import type { Candidate } from "./lanes.ts"
import type { OwnClaims } from "./ownClaims.ts"
import {
  asRow,
  asRows,
  claimColumns,
  columns,
  type Row,
  seqOfClaim,
  startedRoom,
  type Tallies,
  toClaimed,
  toFreshClaim,
  toPlainClaim,
} from "./row.ts"
import { parameters, spanOf, ten } from "./tens.ts"
import type { Keys } from "./unique.ts"

/** Starts records of a queue and adds them to the others, in their order: in one step, so not many. */
export type Start = (
  chosen: ReadonlyArray<Pick<Candidate, "seq" | "fresh">>,
  of: {
    readonly queue: string
    /** Whether they may have keys. */
    readonly isKeyed: boolean
    readonly params: ClaimParams
    readonly records: Array<ClaimedRecord>
  },
) => void

export const makeStart = (
  db: DatabaseSync,
  { keys, ownClaims, tallies }: { readonly keys: Keys; readonly ownClaims: OwnClaims; readonly tallies: Tallies },
): Start => {
  // Written and read apart: RETURNING would build a temporary table.
  const starting = `UPDATE outlive_records SET state = 1, worker = ?1, started_at = ?2,
    first_attempt_at = coalesce(first_attempt_at, ?2), lease_until = ?2 + coalesce(lease, ?3), attempt = attempt + 1,
    token = token + 1, room = ${startedRoom} WHERE seq`
  const startOne = db.prepare(`${starting} = ?`)
  const startTen = db.prepare(`${starting} IN ${parameters(ten)}`)
  const startSpan = db.prepare(`${starting} BETWEEN ? AND ?`)
  const selecting = (columns: string) => {
    const one = db.prepare(`SELECT ${columns} FROM outlive_records WHERE seq = ?`)
    const some = db.prepare(`SELECT ${columns} FROM outlive_records WHERE seq IN ${parameters(ten)}`)
    one.setReturnArrays(true)
    some.setReturnArrays(true)
    return { one, ten: some }
  }
  const plainly = selecting(claimColumns)
  const withKey = selecting(`${claimColumns}, key`)
  const whole = db.prepare(`SELECT ${columns} FROM outlive_records WHERE seq = ?`)
  whole.setReturnArrays(true)

  const change = (seqs: ReadonlyArray<number>, { lease, now, worker }: ClaimParams) => {
    const span = spanOf(seqs)
    if (span !== undefined) {
      startSpan.run(worker, now, lease, ...span)
      return
    }
    for (let from = 0; from < seqs.length; from += ten) {
      const some = seqs.slice(from, from + ten)
      if (some.length === ten) startTen.run(worker, now, lease, ...some)
      else for (const seq of some) startOne.run(worker, now, lease, seq)
    }
  }
  /** The rows of `claimColumns` of started records, by seq. */
  const read = (seqs: ReadonlyArray<number>, isKeyed: boolean): ReadonlyMap<number, Row> => {
    const reading = isKeyed ? withKey : plainly
    const rows = new Map<number, Row>()
    for (let from = 0; from < seqs.length; from += ten) {
      const some = seqs.slice(from, from + ten)
      if (some.length === ten) for (const row of asRows(reading.ten.all(...some))) rows.set(seqOfClaim(row), row)
      else for (const seq of some) rows.set(seq, asRow(reading.one.get(seq))!)
    }
    return rows
  }

  return (chosen, { isKeyed, params, queue, records }) => {
    const { now, worker } = params
    change(
      chosen.map(({ seq }) => seq),
      params,
    )
    const unread = chosen.flatMap(({ fresh, seq }) => (fresh === undefined ? [seq] : []))
    const rows = read(unread, isKeyed)
    const of = { ...params, queue }
    for (const { fresh, seq } of chosen) {
      const plain =
        fresh === undefined ? toPlainClaim(rows.get(seq)!, queue, worker, now) : toFreshClaim(fresh.row, fresh.run, of)
      const record = plain ?? toClaimed(asRow(whole.get(seq))!, tallies)
      if (record.uniqueKey !== undefined) keys.moved(seq)
      ownClaims.add(seq, record)
      records.push(record)
    }
  }
}
