/**
 * Deferring and running small tasks, typed end to end, beside Effect's own PersistedQueue on its memory store.
 */
import * as Instance from "@outlive/core/Instance"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Deferred, Effect, Exit, Layer, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { concurrency, fromFibers, median, Payload, Small, text } from "./small.ts"

/** Tasks per second of putting in and of running. */
interface Speed {
  readonly enqueue: number
  readonly drain: number
  readonly both: number
  /** Microseconds of processor time for each task, of all threads: what other programs take does not count. */
  readonly cpu: number
}

const timed = Effect.fnUntraced(function* <E1, R1, E2, R2>(
  count: number,
  enqueue: Effect.Effect<unknown, E1, R1>,
  drain: Effect.Effect<unknown, E2, R2>,
) {
  const used = process.cpuUsage()
  const begin = performance.now()
  yield* enqueue
  const middle = performance.now()
  yield* drain
  const end = performance.now()
  const perSecond = (from: number, to: number) => (count * 1000) / (to - from)
  return {
    enqueue: perSecond(begin, middle),
    drain: perSecond(middle, end),
    both: perSecond(begin, end),
    cpu: process.cpuUsage(used).user / count,
  } satisfies Speed
})

/** Counts down, and is done at zero. */
const countdown = (count: number) => {
  let left = count
  const done = Deferred.makeUnsafe<void>()
  const next = () => {
    if (--left === 0) Deferred.doneUnsafe(done, Exit.void)
  }
  return { next, done: Deferred.await(done) }
}

export const outlive = (count: number) =>
  Effect.suspend(() => {
    const { done, next } = countdown(count)
    const handler = Small.toLayer(({ n }) =>
      Effect.sync(() => {
        next()
        return n
      }),
    )
    const worker = Worker.layer({ tasks: [Small], queues: { default: { concurrency } } }).pipe(Layer.provide(handler))
    return timed(
      count,
      fromFibers(count, (n) => Small.defer({ n, text })),
      Effect.scoped(Effect.andThen(Layer.build(worker), done)),
    ).pipe(Effect.provide([Layer.fresh(TaskQueueMemory.layer), Instance.layerBackend()]))
  })

const persistedQueue = Effect.fnUntraced(
  function* (count: number) {
    const queue = yield* PersistedQueue.make({ name: "small", schema: Schema.Struct(Payload) })
    const { done, next } = countdown(count)
    const taker = Effect.forever(queue.take(() => Effect.sync(next)))
    const takers = Effect.forEach(Array.from({ length: concurrency }), () => taker, { concurrency, discard: true })
    return yield* timed(
      count,
      fromFibers(count, (n) => queue.offer({ n, text })),
      Effect.raceFirst(done, takers),
    )
  },
  Effect.provide(PersistedQueue.layer.pipe(Layer.provide(PersistedQueue.layerStoreMemory))),
)

/** Rounds of both, in turn; the first warms up and does not count. */
export const speed = Effect.fnUntraced(function* (count: number, rounds: number) {
  const ours: Array<Speed> = []
  const theirs: Array<Speed> = []
  for (let round = 0; round <= rounds; round++) {
    const mine = yield* outlive(count)
    const other = yield* persistedQueue(count)
    if (round === 0) continue
    ours.push(mine)
    theirs.push(other)
  }
  const row = (what: "enqueue" | "drain" | "both") => {
    const mine = median(ours.map((speed) => speed[what]))
    const other = median(theirs.map((speed) => speed[what]))
    const ratio = median(ours.map((speed, round) => speed[what] / (theirs[round]?.[what] ?? Number.NaN)))
    return { "outlive/s": Math.round(mine), "PersistedQueue/s": Math.round(other), ratio: Number(ratio.toFixed(2)) }
  }
  console.log(`${count} small tasks, ${concurrency} at once, in memory; medians of ${rounds} rounds`)
  console.table({ enqueue: row("enqueue"), drain: row("drain"), both: row("both") })
  const cpu = (speeds: ReadonlyArray<Speed>) => median(speeds.map((speed) => speed.cpu))
  const ratio = median(ours.map((speed, round) => (theirs[round]?.cpu ?? Number.NaN) / speed.cpu)).toFixed(2)
  console.log(
    `processor time for each task: ${cpu(ours).toFixed(1)} us, PersistedQueue ${cpu(theirs).toFixed(1)} us, ratio ${ratio}`,
  )
})
