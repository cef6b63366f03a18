/**
 * Which other records, pauses and limits keep a record from running.
 */
import type { Known, Reason } from "../Explanation.ts"

/** What it is held back for. */
export const heldBy = ({ record }: Known): ReadonlyArray<Reason> => {
  const { eta, join, uniqueKey } = record
  if (eta !== Number.POSITIVE_INFINITY) return []
  if (join !== undefined) {
    return [{ _tag: "Members", ended: join.succeeded + join.cancelled + join.dead, total: join.total }]
  }
  return uniqueKey === undefined ? [] : [{ _tag: "Latest", uniqueKey }]
}

/** What lasts until somebody ends it, or until a time. */
export const pausesOf = ({ keyStatistics, limits, now, record, statistics }: Known): ReadonlyArray<Reason> => {
  const { key, queue } = record
  const reasons: Array<Reason> = []
  if (limits.paused) reasons.push({ _tag: "Paused", queue })
  const { pausedUntil } = statistics
  if (pausedUntil !== undefined && pausedUntil > now) reasons.push({ _tag: "PausedUntil", queue, until: pausedUntil })
  if (limits.rate === 0) reasons.push({ _tag: "Rate", queue, rate: 0, until: undefined })
  if (keyStatistics === undefined) return reasons
  const until = keyStatistics.pausedUntil
  if (until !== undefined && until > now) reasons.push({ _tag: "PausedUntil", queue, key, until })
  if ((keyStatistics.override.rate ?? limits.byKey.rate) === 0) {
    reasons.push({ _tag: "Rate", queue, key, rate: 0, until: undefined })
  }
  return reasons
}

/** What passes by itself. */
export const limitsOf = ({ keyStatistics, limits, now, record, statistics }: Known): ReadonlyArray<Reason> => {
  const { key, queue } = record
  const reasons: Array<Reason> = []
  const add = (
    of: { readonly queue: string; readonly key?: string | undefined },
    { maxConcurrent, rate }: { readonly rate: number | undefined; readonly maxConcurrent: number | undefined },
    { inFlight, nextTokenAt }: { readonly inFlight: number; readonly nextTokenAt: number | undefined },
  ) => {
    if (rate !== undefined && rate !== Number.POSITIVE_INFINITY && nextTokenAt !== undefined && nextTokenAt > now) {
      reasons.push({ _tag: "Rate", ...of, rate, until: nextTokenAt })
    }
    // A limit of `Infinity` is never reached.
    if (maxConcurrent !== undefined && inFlight >= maxConcurrent) {
      reasons.push({ _tag: "Concurrency", ...of, running: inFlight, maxConcurrent })
    }
  }
  add({ queue }, limits, statistics)
  if (keyStatistics === undefined || key === undefined) return reasons
  const { inFlight, override, waiting } = keyStatistics
  const { maxConcurrent = limits.byKey.maxConcurrent, rate = limits.byKey.rate } = override
  add({ queue, key }, { maxConcurrent, rate }, keyStatistics)
  if (limits.byKey.ordered && inFlight + waiting > 1) {
    reasons.push({ _tag: "InOrder", queue, key, running: inFlight, waiting })
  }
  return reasons
}
