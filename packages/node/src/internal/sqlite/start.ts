/**
 * Records that a claim has chosen become those of its worker.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimedRecord, ClaimParams } from "@outlive/deferred/TaskQueue"
import type { OwnClaims } from "./ownClaims.ts"
import {
  asRow,
  asRows,
  claimColumns,
  columns,
  type Row,
  seqOfClaim,
  started,
  type Tallies,
  toClaimed,
  toPlainClaim,
} from "./row.ts"
import { parameters, ten } from "./tens.ts"
import type { Keys } from "./unique.ts"

/** Starts at most ten records of a queue and adds them to the others, in their order. */
export type Start = (
  chosen: ReadonlyArray<{ readonly seq: number; readonly row?: Row }>,
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
    token = token + 1 WHERE seq`
  const startOne = db.prepare(`${starting} = ?`)
  const startTen = db.prepare(`${starting} IN ${parameters(ten)}`)
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

  return (chosen, { isKeyed, params: { lease, now, worker }, queue, records }) => {
    const read = isKeyed ? withKey : plainly
    const take = (seq: number, row: Row) => {
      const plain = toPlainClaim(row, queue, worker, now)
      const record = plain ?? toClaimed(asRow(whole.get(seq))!, tallies)
      if (record.uniqueKey !== undefined) keys.moved(seq)
      ownClaims.add(seq, record)
      records.push(record)
    }
    if (chosen.length < ten) {
      for (const { row, seq } of chosen) {
        startOne.run(worker, now, lease, seq)
        take(seq, row === undefined ? asRow(read.one.get(seq))! : started(row, now, lease))
      }
      return
    }
    const seqs = chosen.map(({ seq }) => seq)
    startTen.run(worker, now, lease, ...seqs)
    if (chosen.every(({ row }) => row !== undefined)) {
      for (const { row, seq } of chosen) take(seq, started(row!, now, lease))
      return
    }
    const rows = asRows(read.ten.all(...seqs))
    for (const [index, seq] of seqs.entries()) {
      // They come in the order of seq, which mostly is that of the claim.
      const row = seqOfClaim(rows[index]!) === seq ? rows[index]! : rows.find((row) => seqOfClaim(row) === seq)!
      take(seq, row)
    }
  }
}
