/**
 * A binary heap whose items know their place, so that any of them can be taken out or moved in O(log n).
 */
export class Heap<Key extends string, A extends { [_ in Key]: number }> {
  private readonly items: Array<A> = []
  private readonly key: Key
  private readonly before: (left: A, right: A) => boolean

  /** `key` names the item's field that holds its place, -1 when it is in no heap; `before` is a strict order. */
  constructor(key: Key, before: (left: A, right: A) => boolean) {
    this.key = key
    this.before = before
  }

  get size(): number {
    return this.items.length
  }

  /** All items, in no order. It must not change meanwhile. */
  [Symbol.iterator](): Iterator<A> {
    return this.items[Symbol.iterator]()
  }

  peek(): A | undefined {
    return this.items[0]
  }

  has(item: A): boolean {
    return this.items[item[this.key]] === item
  }

  push(item: A): void {
    this.items.push(item)
    this.rise(item, this.items.length - 1)
  }

  pop(): A | undefined {
    const top = this.items[0]
    if (top !== undefined) this.remove(top)
    return top
  }

  remove(item: A): void {
    const at = item[this.key]
    const last = this.items.pop()
    this.place(item, -1)
    if (last === undefined || last === item) return
    // The hole goes down to a leaf and the last item up from there: it came from a leaf and mostly belongs near one, so
    // this asks for half as many comparisons as to put it at the top and let it sink.
    this.rise(last, this.sinkHole(at))
  }

  /** To be called when the item's order has changed. */
  update(item: A): void {
    const at = item[this.key]
    this.rise(item, at)
    if (item[this.key] === at) this.sink(item, at)
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
