/**
 * The known name that a mistyped one most probably means: the one with the fewest typing errors between them (Damerau and
 * Levenshtein's distance), if they are few. Case, dashes and underscores do not count: `bucketSize` is `bucket_size`.
 */
export const nearest = (name: string, known: ReadonlyArray<string>): string | undefined => {
  let best: string | undefined
  let fewest = Math.max(1, Math.floor(plain(name).length / 3))
  for (const each of known) {
    const errors = distance(plain(name), plain(each))
    if (errors < fewest || (errors === fewest && best === undefined)) {
      best = each
      fewest = errors
    }
  }
  return best
}

const plain = (name: string): string => name.toLowerCase().replaceAll(/[-_ ]/g, "")

/** Letters to insert, leave out, change, or swap with their neighbour. */
const distance = (from: string, to: string): number => {
  let before: ReadonlyArray<number> = []
  let above: ReadonlyArray<number> = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const line = [row]
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1]
      let least = Math.min(above[column]! + 1, line[column - 1]! + 1, above[column - 1]! + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      if (swapped) least = Math.min(least, before[column - 2]! + 1)
      line.push(least)
    }
    before = above
    above = line
  }
  return above[to.length]!
}
