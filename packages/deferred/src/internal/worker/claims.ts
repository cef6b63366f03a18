/**
 * Claiming: one fiber that keeps a worker's slots filled. One call claims for all queues; when it came back short the
 * fiber sleeps until the driver's next known time, a hint, or the poll.
 *
 * Where handlers finish everything before the next claim is answered, the queue works while they wait and they while it
 * waits. There the next claim is asked for before what came with the last one is begun: so a claim takes only half of what
 * may be claimed ahead.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { ClaimedRecord, ClaimParams, TaskQueue } from "../../TaskQueue.ts"
import { makeAlarm } from "./alarm.ts"
import type { Answers } from "./untilAnswered.ts"

/** A queue as one worker serves it. */
export interface Lane {
  readonly queue: string
  readonly concurrency: number
  running: number
  /** Claimed, waiting for a slot. */
  readonly buffer: Array<ClaimedRecord>
  /** Attempts that ended while the last claim was under way: so many slots a claim leaves idle. */
  endedDuringClaim: number
  /** The last claim came back short: nothing more until a hint, or `lookAgainAt`. */
  drained: boolean
  /** How many to claim before what came with the last claim is begun; 0 where handlers are not faster than claims. */
  beforehand: number
  /** When its queue was said to have something again, or the next poll; of this lane alone. */
  lookAgainAt: number
  /** A hint came in while the last claim was under way: it may have missed what the hint tells of. */
  hinted: boolean
}

export interface Claims {
  /** Something changed: a slot came free, or a hint came in (then `queues` may have more than was thought). */
  readonly wake: (queues?: ReadonlyArray<string> | "all") => void
  readonly run: Effect.Effect<void>
  /** No claim is begun from now on; waits for the one under way. */
  readonly stop: Effect.Effect<void>
}

export const makeClaims = Effect.fnUntraced(function* (options: {
  readonly queue: TaskQueue["Service"]
  readonly lanes: ReadonlyMap<string, Lane>
  readonly params: Omit<ClaimParams, "queues" | "now">
  readonly prefetch: number
  readonly answers: Answers
  /** Milliseconds: the longest pause between two looks ... */
  readonly pollInterval: number
  /** ... and the shortest, after a look that found something: each that finds nothing doubles it. */
  readonly pollSoonest: number
  /** Takes what was claimed: fills slots from the buffers. */
  readonly dispatch: (lane: Lane) => void
}): Effect.fn.Return<Claims, never, Scope.Scope> {
  const lanes = [...options.lanes.values()]
  const woken = yield* Latch.make(true)
  const stopped = yield* Latch.make(false)
  const poll = yield* makeAlarm(Effect.sync(() => woken.openUnsafe()))
  /** The most to claim ahead in one call. */
  const most = Math.ceil(options.prefetch / 2)
  let stopping = false
  /** It was a hint that woke. */
  let hasHint = false
  let pause = options.pollSoonest

  /** How many records to ask for in a lane: its free slots, and what fast handlers would finish during the call. */
  const wanted = (lane: Lane): number => {
    if (lane.drained) return 0
    const free = lane.concurrency - lane.running
    const ahead = Math.min(most, lane.endedDuringClaim)
    // A buffer at least half full is not worth a call of its own.
    if (lane.buffer.length > 0 && lane.buffer.length >= ahead / 2) return 0
    return Math.max(0, free + ahead - lane.buffer.length)
  }

  /** How many of them to ask for before what is claimed already has begun. */
  const wantedBeforehand = (lane: Lane): number => {
    const { beforehand } = lane
    lane.beforehand = 0
    const room = lane.concurrency + options.prefetch - lane.running - lane.buffer.length
    return lane.drained ? 0 : Math.max(0, Math.min(beforehand, room))
  }

  const ask = (queues: ClaimParams["queues"]) =>
    options.answers.untilAnswered("claim", { withinMillis: options.params.lease })(
      // Asked again, it claims for then: leases from a time that has passed would have passed as well.
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.map(options.queue.claim({ ...options.params, queues, now }), (result) => ({ ...result, now })),
      ),
    )

  /** The same, and what came with the last claim is begun while this one is under way. */
  const meanwhile = Effect.fnUntraced(function* (queues: ClaimParams["queues"]) {
    const asked = yield* Effect.forkChild(ask(queues), { startImmediately: true })
    lanes.forEach(options.dispatch)
    return yield* Fiber.join(asked)
  })

  /** Claims once for all lanes that want records. */
  const claim = Effect.fnUntraced(function* (queues: ClaimParams["queues"]) {
    const ended = new Map<Lane, number>()
    for (const lane of lanes) {
      ended.set(lane, lane.endedDuringClaim)
      lane.endedDuringClaim = 0
      lane.hinted = false
    }
    const { nextAt, now, records } = yield* lanes.some(({ buffer }) => buffer.length > 0)
      ? meanwhile(queues)
      : ask(queues)
    const idle = lanes.filter((lane) => lane.running === 0 && lane.buffer.length === 0)
    const counts = new Map<string, number>()
    for (const record of records) {
      options.lanes.get(record.queue)?.buffer.push(record)
      counts.set(record.queue, (counts.get(record.queue) ?? 0) + 1)
    }
    pause = Math.min(options.pollInterval, records.length > 0 ? options.pollSoonest : pause * 2)
    // At least a millisecond ahead, so that a driver that names a time in the past is not asked in a circle.
    const lookAgainAt = Math.max(now + 1, Math.min(now + pause, nextAt ?? Number.POSITIVE_INFINITY))
    for (const { limit, name } of queues) {
      const lane = options.lanes.get(name)
      if (lane === undefined) continue
      lane.drained = !lane.hinted && (counts.get(name) ?? 0) < limit
      lane.lookAgainAt = lookAgainAt
      const ahead = Math.min(most, Math.max(lane.endedDuringClaim, ended.get(lane) ?? 0))
      if (!lane.drained && ahead > 0 && idle.includes(lane)) lane.beforehand = lane.concurrency + ahead
      else options.dispatch(lane)
    }
  })

  const hint = (lane: Lane) => {
    lane.drained = false
    lane.hinted = true
  }

  const run = Effect.gen(function* () {
    while (!stopping) {
      woken.closeUnsafe()
      const now = yield* Clock.currentTimeMillis
      let next = Number.POSITIVE_INFINITY
      const queues: Array<{ name: string; limit: number }> = []
      for (const lane of lanes) {
        if (lane.drained && lane.lookAgainAt <= now) lane.drained = false
        if (lane.drained) next = Math.min(next, lane.lookAgainAt)
        let limit = wantedBeforehand(lane)
        if (limit === 0) {
          options.dispatch(lane)
          limit = wanted(lane)
        }
        if (limit > 0) queues.push({ name: lane.queue, limit })
      }
      if (queues.length > 0) yield* claim(queues)
      else {
        if (next < Number.POSITIVE_INFINITY) yield* poll.by(next)
        hasHint = false
        yield* woken.await
        // What was hinted at came all at once, and somebody may be waiting for it.
        if (hasHint) continue
      }
      // An open latch resumes who waits at once, on the stack of who opened it: the rest of that turn comes first.
      yield* Effect.yieldNow
    }
    stopped.openUnsafe()
  })

  return {
    run,
    stop: Effect.suspend(() => {
      stopping = true
      woken.openUnsafe()
      return stopped.await
    }),
    wake: (queues) => {
      if (queues === "all") lanes.forEach(hint)
      else if (queues !== undefined) {
        for (const name of queues) {
          const lane = options.lanes.get(name)
          if (lane !== undefined) hint(lane)
        }
      }
      hasHint ||= queues !== undefined
      woken.openUnsafe()
    },
  }
})
