/**
 * Where the waiting records of queues begin, as this process last saw it.
 *
 * Walking to the heads of a queue is nothing as long as it is vacuumed in time. Where it takes long, because hundreds of
 * thousands were claimed since, it is done again only after some twenty times as long; in between a claim begins where the
 * one before ended. A record that has come in before that point meanwhile, which is one enqueued in a transaction that took
 * longer than that or by a clock that is behind, is then found so much later: some tens of milliseconds.
 */
import type { ClaimParams } from "@outlive/deferred/TaskQueue"

/** In the order of `runNames`. */
export type Run = readonly [
  task: string,
  target: string | null,
  version: number,
  rank: number,
  eta: number,
  seq: bigint,
]

/** Pages of a walk that are not worth saving: with less than that, every claim looks at everything. */
const negligible = 50
/** Milliseconds for which nobody walks again, for each page: twenty times what it takes to look at one. */
const rest = 0.02

interface Walk {
  readonly at: number
  readonly pages: number
}

interface Known {
  readonly walk: Walk
  readonly runs: ReadonlyArray<Run>
}

/** Who claims, by what decides which records it may. */
export type Claimer = Pick<ClaimParams, "tasks" | "targets">

const keyOf = ({ targets }: Claimer, queue: string): string =>
  targets.length === 0 ? queue : JSON.stringify([queue, ...targets])

export interface Heads {
  /** The heads from which a claim may look; `undefined`: it has to walk. */
  readonly of: (by: Claimer, queue: string) => ReadonlyArray<Run> | undefined
  /** What a claim found, and how many pages it walked over for that, if it did. */
  readonly found: (by: Claimer, queue: string, runs: ReadonlyArray<Run>, pages: number | undefined) => void
  readonly forget: (by: Claimer, queue: string) => void
  /** Whether it is time to look for leases that expired: for that, too, a claim walks. */
  readonly takesBack: () => boolean
  readonly tookBack: (pages: number) => void
  /** When that will be, while it is not every time. */
  readonly looksAgainAt: (now: number) => number | undefined
}

// allow time: what looking costs is a matter of the machine, not of the program's clock
const clock = (): number => performance.now()

const isOver = ({ at, pages }: Walk): boolean => clock() >= at + rest * pages

export const makeHeads = (): Heads => {
  // By the list of tasks itself: a worker gives the same in all its claims, and whoever does not has its claims walk.
  const known = new WeakMap<ClaimParams["tasks"], Map<string, Known>>()
  let takeBack: Walk = { at: 0, pages: 0 }
  return {
    of: (by, queue) => {
      const found = known.get(by.tasks)?.get(keyOf(by, queue))
      return found === undefined || isOver(found.walk) ? undefined : found.runs
    },
    found: (by, queue, runs, pages) => {
      const key = keyOf(by, queue)
      let queues = known.get(by.tasks)
      if (queues === undefined) {
        queues = new Map()
        known.set(by.tasks, queues)
      }
      const walk = pages === undefined ? queues.get(key)?.walk : { at: clock(), pages }
      if (walk === undefined || walk.pages < negligible) queues.delete(key)
      else queues.set(key, { walk, runs })
    },
    forget: (by, queue) => {
      known.get(by.tasks)?.delete(keyOf(by, queue))
    },
    takesBack: () => takeBack.pages < negligible || isOver(takeBack),
    tookBack: (pages) => {
      takeBack = { at: clock(), pages }
    },
    looksAgainAt: (now) =>
      takeBack.pages < negligible
        ? undefined
        : Math.ceil(now + Math.max(1, takeBack.at + rest * takeBack.pages - clock())),
  }
}
