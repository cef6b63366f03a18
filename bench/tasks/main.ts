/**
 * Deferring and running small tasks in memory, typed end to end, beside Effect's own PersistedQueue on its memory store.
 *
 *     pnpm bench tasks [--rounds 5] [--count 100000]
 */
import { parseArgs } from "node:util"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Deferred, Effect, Exit, Layer, References, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, count: { type: "string", default: "100000" } },
})
const rounds = Number(values.rounds)
const count = Number(values.count)
const concurrency = 50

const Payload = { n: Schema.Int, text: Schema.String }
const text = "x".repeat(100)
const Small = Task.make("Small", { payload: Payload, success: Schema.Int })

/** Runs `each` for all numbers from 50 fibers. */
const fromFibers = <E, R>(each: (n: number) => Effect.Effect<unknown, E, R>) =>
  Effect.forEach(
    Array.from({ length: concurrency }, (_, fiber) => fiber),
    Effect.fnUntraced(function* (fiber) {
      for (let n = fiber; n < count; n += concurrency) yield* each(n)
    }),
    { concurrency, discard: true },
  )

/** Tasks per second of putting in and of running. */
interface Speed {
  readonly enqueue: number
  readonly drain: number
  readonly both: number
}

const timed = Effect.fnUntraced(function* <E1, R1, E2, R2>(
  enqueue: Effect.Effect<unknown, E1, R1>,
  drain: Effect.Effect<unknown, E2, R2>,
) {
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
  } satisfies Speed
})

const outlive = Effect.suspend(() => {
  let left = count
  const done = Deferred.makeUnsafe<void>()
  const handler = Small.toLayer(({ n }) =>
    Effect.sync(() => {
      if (--left === 0) Deferred.doneUnsafe(done, Exit.void)
      return n
    }),
  )
  const worker = Worker.layer({ tasks: [Small], queues: { default: { concurrency } } }).pipe(Layer.provide(handler))
  return timed(
    fromFibers((n) => Small.defer({ n, text })),
    Effect.scoped(Effect.andThen(Layer.build(worker), Deferred.await(done))),
  ).pipe(Effect.provide([Layer.fresh(TaskQueueMemory.layer), Instance.layerBackend()]))
})

const persistedQueue = Effect.gen(function* () {
  const queue = yield* PersistedQueue.make({ name: "small", schema: Schema.Struct(Payload) })
  let left = count
  const done = yield* Deferred.make<void>()
  const taker = Effect.forever(
    queue.take(() =>
      Effect.sync(() => {
        if (--left === 0) Deferred.doneUnsafe(done, Exit.void)
      }),
    ),
  )
  const takers = Effect.forEach(Array.from({ length: concurrency }), () => taker, { concurrency, discard: true })
  return yield* timed(
    fromFibers((n) => queue.offer({ n, text })),
    Effect.raceFirst(Deferred.await(done), takers),
  )
}).pipe(Effect.provide(PersistedQueue.layer.pipe(Layer.provide(PersistedQueue.layerStoreMemory))))

const median = (numbers: ReadonlyArray<number>) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

const program = Effect.gen(function* () {
  const ours: Array<Speed> = []
  const theirs: Array<Speed> = []
  // The first round warms up both and does not count.
  for (let round = 0; round <= rounds; round++) {
    const speeds = [yield* outlive, yield* persistedQueue] as const
    if (round === 0) continue
    ours.push(speeds[0])
    theirs.push(speeds[1])
  }
  const row = (what: keyof Speed) => {
    const mine = median(ours.map((speed) => speed[what]))
    const other = median(theirs.map((speed) => speed[what]))
    const ratio = median(ours.map((speed, round) => speed[what] / (theirs[round]?.[what] ?? Number.NaN)))
    return { "outlive/s": Math.round(mine), "PersistedQueue/s": Math.round(other), ratio: Number(ratio.toFixed(2)) }
  }
  console.log(`${count} small tasks, ${concurrency} at once, in memory; medians of ${rounds} rounds`)
  console.table({ enqueue: row("enqueue"), drain: row("drain"), both: row("both") })
}).pipe(Effect.provideService(References.MinimumLogLevel, "Warn"))

await Effect.runPromise(program)
