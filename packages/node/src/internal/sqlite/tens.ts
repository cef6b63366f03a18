/**
 * Statements about many records at once: to open a table with all of its indexes, and close them, costs about as much as
 * to change one record, and to seek to each as much again.
 */

/** More than these at once gain little where each is named. */
export const ten = 10

/** So many of a claim or of settlements are one step. */
export const stride = 50

/** The first and the last of records that follow each other without a gap, as those that were deferred together do. */
export const spanOf = (seqs: ReadonlyArray<number>): readonly [first: number, last: number] | undefined => {
  let first = Number.POSITIVE_INFINITY
  let last = 0
  for (const seq of seqs) {
    first = Math.min(first, seq)
    last = Math.max(last, seq)
  }
  return seqs.length > 1 && last - first === seqs.length - 1 ? [first, last] : undefined
}

/** A list for `IN`, or a row of `VALUES`, of so many parameters. */
export const parameters = (count: number): string => `(${Array.from({ length: count }, () => "?").join(", ")})`
