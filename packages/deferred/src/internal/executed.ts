/**
 * How many attempts a queue settled in the last minute, in whole seconds.
 */
const seconds = 60

export class Executed {
  /** A ring: the second that a place counts, and how many. */
  private readonly at: Array<number> = []
  private readonly counts: Array<number> = []

  add(now: number): void {
    const second = Math.floor(now / 1000)
    const place = second % seconds
    if (this.at[place] === second) this.counts[place]!++
    // A clock that is behind does not take a newer second's place.
    else if (this.at[place] === undefined || this.at[place] < second) {
      this.at[place] = second
      this.counts[place] = 1
    }
  }

  lastMinute(now: number): number {
    const second = Math.floor(now / 1000)
    let sum = 0
    this.at.forEach((at, place) => {
      if (at > second - seconds && at <= second) sum += this.counts[place]!
    })
    return sum
  }
}
