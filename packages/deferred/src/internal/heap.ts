/**
 * A priority queue whose items know their place, so that any of them can be taken out or moved.
 *
 * What comes in order, as due times and ends of leases mostly do, is kept in a run: an array that is taken from at its head,
 * where everything costs O(1). The rest is in a binary heap beside it, where it costs O(log n).
 */

/** No place. */
export const nowhere = -1

/** Places in the run go down from here. */
const firstOfRun = nowhere - 1

/** So many holes in the run do not matter. */
const slack = 64

export class Heap<Key extends string, A extends { [_ in Key]: number }> {
  private readonly items: Array<A> = []
  /** In order; `undefined` where one was taken out. The first, from `head` on, and the last are there. */
  private run: Array<A | undefined> = []
  private head = 0
  private inRun = 0
  private readonly key: Key
  private readonly before: (left: A, right: A) => boolean

  /** `key` names the item's field that holds its place, `nowhere` when it is in no heap; `before` is a strict order. */
  constructor(key: Key, before: (left: A, right: A) => boolean) {
    this.key = key
    this.before = before
  }

  get size(): number {
    return this.items.length + this.inRun
  }

  /** All items, in no order. It must not change meanwhile. */
  *[Symbol.iterator](): Iterator<A> {
    yield* this.items
    for (let index = this.head; index < this.run.length; index++) {
      const item = this.run[index]
      if (item !== undefined) yield item
    }
  }

  peek(): A | undefined {
    const first = this.run[this.head]
    const top = this.items[0]
    if (first === undefined || top === undefined) return first ?? top
    return this.before(top, first) ? top : first
  }

  has(item: A): boolean {
    const place = item[this.key]
    return place > nowhere ? this.items[place] === item : place < nowhere && this.run[firstOfRun - place] === item
  }

  push(item: A): void {
    const last = this.run.at(-1)
    if (last !== undefined && this.before(item, last)) {
      this.items.push(item)
      this.rise(item, this.items.length - 1)
      return
    }
    this.place(item, firstOfRun - this.run.length)
    this.run.push(item)
    this.inRun++
  }

  pop(): A | undefined {
    const top = this.peek()
    if (top !== undefined) this.remove(top)
    return top
  }

  remove(item: A): void {
    const at = item[this.key]
    this.place(item, nowhere)
    if (at < nowhere) {
      this.leave(firstOfRun - at)
      return
    }
    const last = this.items.pop()
    if (last === undefined || last === item) return
    // The hole goes down to a leaf and the last item up from there: it came from a leaf and mostly belongs near one, so
    // this asks for half as many comparisons as to put it at the top and let it sink.
    this.rise(last, this.sinkHole(at))
  }

  /** To be called when the item's order has changed. */
  update(item: A): void {
    const at = item[this.key]
    if (at < nowhere) {
      this.remove(item)
      this.push(item)
      return
    }
    this.rise(item, at)
    if (item[this.key] === at) this.sink(item, at)
  }

  private leave(index: number): void {
    this.run[index] = undefined
    if (--this.inRun === 0) {
      this.run = []
      this.head = 0
      return
    }
    while (this.run.at(-1) === undefined) this.run.pop()
    while (this.run[this.head] === undefined) this.head++
    if (this.run.length > 2 * this.inRun + slack) this.close()
  }

  /** Puts what is left of the run together, now that most of it are holes. */
  private close(): void {
    const left = this.run.filter((item) => item !== undefined)
    left.forEach((item, index) => this.place(item, firstOfRun - index))
    this.run = left
    this.head = 0
  }

  private place(item: A, at: number): void {
    ;(item as { [_ in Key]: number })[this.key] = at as A[Key]
  }

  private rise(item: A, from: number): void {
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = this.items[parent]!
      if (!this.before(item, above)) break
      this.items[at] = above
      this.place(above, at)
      at = parent
    }
    this.items[at] = item
    this.place(item, at)
  }

  private sinkHole(from: number): number {
    let at = from
    for (let child = this.childOf(at); child !== undefined; child = this.childOf(at)) {
      const below = this.items[child]!
      this.items[at] = below
      this.place(below, at)
      at = child
    }
    return at
  }

  /** The place of the child that comes first. */
  private childOf(at: number): number | undefined {
    const left = 2 * at + 1
    if (left >= this.items.length) return undefined
    return left + 1 < this.items.length && this.before(this.items[left + 1]!, this.items[left]!) ? left + 1 : left
  }

  private sink(item: A, from: number): void {
    let at = from
    for (let child = this.childOf(at); child !== undefined; child = this.childOf(at)) {
      const below = this.items[child]!
      if (!this.before(below, item)) break
      this.items[at] = below
      this.place(below, at)
      at = child
    }
    this.items[at] = item
    this.place(item, at)
  }
}
