/**
 * The lanes of a queue in memory, and the order of the records in them.
 */
import type { QueueLimits } from "../QueueLimits.ts"
import { Heap } from "./heap.ts"
import type { Lane, MemoryRecord } from "./memoryParts.ts"

export const makeLane = (
  { target, task, version }: MemoryRecord,
  before: (left: MemoryRecord, right: MemoryRecord) => boolean,
): Lane => ({
  task,
  version,
  target,
  scheduled: new Heap("place", (left, right) => (left.eta !== right.eta ? left.eta < right.eta : left.seq < right.seq)),
  ready: new Heap("place", before),
  present: new Heap("duePlace", (left, right) => left.key.name < right.key.name),
  ahead: new Heap("duePlace", ({ key: left }, { key: right }) =>
    left.turn !== right.turn ? left.turn < right.turn : left.name < right.name,
  ),
})

/** Higher priority first, then eta, then insertion. */
export const byPriority = (left: MemoryRecord, right: MemoryRecord): boolean => {
  if (left.priority !== right.priority) return left.priority > right.priority
  return left.eta !== right.eta ? left.eta < right.eta : left.seq < right.seq
}

/** The order of claims in a queue. By ageing it is the same at any time, so a heap can keep it. */
export const inOrderOf =
  (queue: { readonly limits: QueueLimits }) =>
  (left: MemoryRecord, right: MemoryRecord): boolean => {
    const { ageing } = queue.limits
    if (ageing === undefined) return byPriority(left, right)
    const difference = left.eta - left.priority * ageing - (right.eta - right.priority * ageing)
    return difference !== 0 ? difference < 0 : left.seq < right.seq
  }

/**
 * The first of a lane's ready records. Whoever claimed before may have a clock that is ahead: what is not due by this one's
 * goes back.
 */
export const firstReady = (ready: Heap<"place", MemoryRecord>, lane: Lane, now: number): MemoryRecord | undefined => {
  for (let top = ready.peek(); top !== undefined; top = ready.peek()) {
    if (top.eta <= now) return top
    ready.remove(top)
    lane.scheduled.push(top)
  }
  return undefined
}

/** The first of all lanes that has no key. */
export const firstOf = (
  lanes: ReadonlyArray<Lane>,
  before: (left: MemoryRecord, right: MemoryRecord) => boolean,
  now: number,
): Lane | undefined => {
  let best: Lane | undefined
  for (const lane of lanes) {
    const top = firstReady(lane.ready, lane, now)
    if (top !== undefined && (best === undefined || before(top, best.ready.peek()!))) best = lane
  }
  return best
}

export const reorder = ({ ready }: Lane): void => {
  const records = [...ready]
  for (const record of records) ready.remove(record)
  for (const record of records) ready.push(record)
}
