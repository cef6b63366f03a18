/**
 * Where the waiting records of queues begin, as this process last saw it.
 *
 * Walking to the heads of a queue is nothing as long as it is vacuumed in time. Where it takes long, because hundreds of
 * thousands were claimed since, it is done again only after twenty times as long; in between a claim begins where the one
 * before ended. A record that has come in before that point meanwhile, which is one enqueued in a transaction that took
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

/** Milliseconds of a walk that are not worth saving: with less than that, every claim looks at everything. */
const negligible = 0.5
/** How many times as long nobody walks again. */
const rest = 20

interface Walk {
  readonly at: number
  readonly millis: number
}

interface Known {
  readonly walk: Walk
  readonly runs: ReadonlyArray<Run>
}

export interface Heads {
  /** The heads from which a claim may look; `undefined`: it has to walk. */
  readonly of: (tasks: ClaimParams["tasks"], queue: string) => ReadonlyArray<Run> | undefined
  /** What a claim found, and how long it walked for that, if it did. */
  readonly found: (
    tasks: ClaimParams["tasks"],
    queue: string,
    runs: ReadonlyArray<Run>,
    millis: number | undefined,
  ) => void
  readonly forget: (tasks: ClaimParams["tasks"], queue: string) => void
  /** Whether it is time to look for leases that expired: for that, too, a claim walks. */
  readonly takesBack: () => boolean
  readonly tookBack: (millis: number) => void
  /** When that will be, while it is not every time. */
  readonly looksAgainAt: (now: number) => number | undefined
}

// allow time: how long the server took, and what that is worth, is a matter of the machine, not of the program's clock
const clock = (): number => performance.now()

const isOver = ({ at, millis }: Walk): boolean => clock() >= at + rest * millis

export const makeHeads = (): Heads => {
  // By the list of tasks itself: a worker gives the same in all its claims, and whoever does not has its claims walk.
  const known = new WeakMap<ClaimParams["tasks"], Map<string, Known>>()
  let takeBack: Walk = { at: 0, millis: 0 }
  return {
    of: (tasks, queue) => {
      const found = known.get(tasks)?.get(queue)
      return found === undefined || isOver(found.walk) ? undefined : found.runs
    },
    found: (tasks, queue, runs, millis) => {
      let queues = known.get(tasks)
      if (queues === undefined) {
        queues = new Map()
        known.set(tasks, queues)
      }
      const walk = millis === undefined ? queues.get(queue)?.walk : { at: clock(), millis }
      if (walk === undefined || walk.millis < negligible) queues.delete(queue)
      else queues.set(queue, { walk, runs })
    },
    forget: (tasks, queue) => {
      known.get(tasks)?.delete(queue)
    },
    takesBack: () => takeBack.millis < negligible || isOver(takeBack),
    tookBack: (millis) => {
      takeBack = { at: clock(), millis }
    },
    looksAgainAt: (now) =>
      takeBack.millis < negligible
        ? undefined
        : Math.ceil(now + Math.max(1, takeBack.at + rest * takeBack.millis - clock())),
  }
}
