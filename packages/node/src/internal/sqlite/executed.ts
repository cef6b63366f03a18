/**
 * How many attempts were settled, by queue and second. What one transaction settled is summed up first: it costs one
 * statement for each queue, however many calls there were.
 */
import type { DatabaseSync } from "node:sqlite"

/** Seconds that are asked for. */
const asked = 60
/** Seconds that are kept, for readers whose clocks are behind. */
const kept = 120

interface Sum {
  readonly queue: string
  readonly second: number
  count: number
}

export interface Executed {
  readonly add: (queue: string, now: number) => void
  /** Writes the sums, as the last thing of the transaction that they are of. */
  readonly flush: () => void
  /** The transaction is over, one way or the other. */
  readonly forget: () => void
  /** Settled in the minute up to now. */
  readonly lastMinute: (queue: string, now: number) => number
}

export const makeExecuted = (db: DatabaseSync): Executed => {
  const write = db.prepare(
    `INSERT INTO outlive_executed (second, queue, count) VALUES (?, ?, ?)
     ON CONFLICT (second, queue) DO UPDATE SET count = count + excluded.count`,
  )
  const clear = db.prepare("DELETE FROM outlive_executed WHERE second < ?")
  // Second by second: each is one seek, whatever other queues do.
  const sum = db.prepare(
    `WITH RECURSIVE seconds (second) AS (VALUES (?1) UNION ALL SELECT second + 1 FROM seconds WHERE second < ?2)
     SELECT coalesce(sum(count), 0) AS count FROM seconds CROSS JOIN outlive_executed USING (second) WHERE queue = ?3`,
  )
  const sums = new Map<string, Sum>()
  // Mostly what comes next is of the same queue.
  let last: Sum | undefined
  let cleared = Number.NEGATIVE_INFINITY

  const sumOf = (queue: string, second: number): Sum => {
    const key = `${second} ${queue}`
    let sum = sums.get(key)
    if (sum === undefined) {
      sum = { queue, second, count: 0 }
      sums.set(key, sum)
    }
    return sum
  }

  return {
    add: (queue, now) => {
      const second = Math.floor(now / 1000)
      if (last?.second !== second || last.queue !== queue) last = sumOf(queue, second)
      last.count++
    },
    flush: () => {
      for (const { count, queue, second } of sums.values()) {
        write.run(second, queue, count)
        if (second > cleared) {
          clear.run(second - kept)
          cleared = second
        }
      }
    },
    forget: () => {
      sums.clear()
      last = undefined
    },
    lastMinute: (queue, now) => {
      const second = Math.floor(now / 1000)
      return (sum.get(second - asked + 1, second, queue) as { readonly count: number }).count
    },
  }
}
