/**
 * Successes of what this connection has claimed and no one need hear of: most attempts end so, and are settled together.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Limits } from "./limits.ts"
import type { OwnClaim } from "./ownClaims.ts"
import { State } from "./schema.ts"
import { parameters, spanOf, ten } from "./tens.ts"
import type { Touched } from "./touched.ts"

/**
 * Settles claims of one queue with one token and one `keep`, each with its result. `false` in its place: the lease is lost, and
 * nothing of that record was changed.
 */
export type Succeed = (
  claims: ReadonlyArray<OwnClaim>,
  results: ReadonlyArray<string | undefined>,
  now: number,
) => ReadonlyArray<boolean>

export const makeSuccesses = (
  db: DatabaseSync,
  { limits, touched }: { readonly limits: Limits; readonly touched: Touched },
): Succeed => {
  const succeeding = (result: string, which: string) =>
    db.prepare(
      `UPDATE outlive_records SET state = ${State.succeeded}, ended_at = ?, prune_at = ?, result = ${result},
         lease_until = NULL, room = NULL
       WHERE seq ${which} AND state = ${State.running} AND token = ?`,
    )
  const one = succeeding("?", "= ?")
  const span = succeeding("?", "BETWEEN ? AND ?")
  const tenAlike = succeeding("?", `IN ${parameters(ten)}`)
  const tenEach = succeeding(`CASE seq ${"WHEN ? THEN ? ".repeat(ten)}END`, `IN ${parameters(ten)}`)
  const forget = db.prepare(`DELETE FROM outlive_records WHERE seq = ? AND state = ${State.running} AND token = ?`)

  const save = db.prepare("SAVEPOINT outlive_successes")
  const undo = db.prepare("ROLLBACK TO outlive_successes")
  const release = db.prepare("RELEASE outlive_successes")

  /** How many were changed, by as few statements as can be. */
  const change = (claims: ReadonlyArray<OwnClaim>, results: ReadonlyArray<string | undefined>, now: number): number => {
    const { keep, token } = claims[0]!
    const pruneAt = Number.isFinite(keep) ? now + keep : null
    const seqs = claims.map(({ seq }) => seq)
    const texts = results.map((result) => result ?? null)
    const [text = null] = texts
    const isAlike = texts.every((other) => other === text)
    const all = isAlike ? spanOf(seqs) : undefined
    if (all !== undefined) return Number(span.run(now, pruneAt, text, ...all, token).changes)
    let changed = 0
    const count = ({ changes }: { readonly changes: number | bigint }) => {
      changed += Number(changes)
    }
    for (let from = 0; from < seqs.length; from += ten) {
      const some = seqs.slice(from, from + ten)
      if (some.length < ten)
        some.forEach((seq, index) => count(one.run(now, pruneAt, texts[from + index]!, seq, token)))
      else if (isAlike) count(tenAlike.run(now, pruneAt, text, ...some, token))
      else {
        const cases = some.flatMap((seq, index) => [seq, texts[from + index]!])
        count(tenEach.run(now, pruneAt, ...cases, ...some, token))
      }
    }
    return changed
  }

  /** All of them or none: which of several a statement did not change it does not say. */
  const changeAll = (claims: ReadonlyArray<OwnClaim>, results: ReadonlyArray<string | undefined>, now: number) => {
    save.run()
    const isDone = change(claims, results, now) === claims.length
    if (!isDone) undo.run()
    release.run()
    return isDone
  }

  return (claims, results, now) => {
    const { keep, queue } = claims[0]!
    const isDone = keep > 0 && claims.length > 1 && changeAll(claims, results, now)
    const outcomes = claims.map((claim, index) => {
      if (isDone) return true
      if (keep === 0) return forget.run(claim.seq, claim.token).changes === 1
      return change([claim], [results[index]], now) === 1
    })
    for (const [index, { id }] of claims.entries()) if (outcomes[index]) touched.end(id)
    if (outcomes.includes(true) && limits.hasSlots(queue)) touched.waiting(queue)
    return outcomes
  }
}
