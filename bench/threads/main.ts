/**
 * Background threads and call queues beside the plain means of Effect, side by side in one run, as ratios of time.
 *
 *     pnpm bench threads [--rounds 9] [--count 20000]
 */
import { parseArgs } from "node:util"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as CallQueue from "@outlive/core/CallQueue"
import * as Instance from "@outlive/core/Instance"
import { Deferred, Effect, Fiber, Layer, Queue, Semaphore } from "effect"

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "9" }, count: { type: "string", default: "20000" } },
})
const rounds = Number(values.rounds)
const count = Number(values.count)
const threadsOf = (threadLimit: number) =>
  BackgroundThread.BackgroundThreads.layer.pipe(Layer.provide(Instance.layerBackend({ threadLimit })))

const median = (numbers: ReadonlyArray<number>) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

/** Nanoseconds for one of `count` runs. */
const timed = <E, R>(one: Effect.Effect<unknown, E, R>, times = count) =>
  Effect.gen(function* () {
    const begin = process.hrtime.bigint()
    for (let n = 0; n < times; n++) yield* one
    return Number(process.hrtime.bigint() - begin) / times
  })

interface Pair {
  readonly ours: number
  readonly plain: number
}

/** Rounds of both, in turn; the first warms up and does not count. */
const compare = <E1, R1, E2, R2>(ours: Effect.Effect<number, E1, R1>, plain: Effect.Effect<number, E2, R2>) =>
  Effect.gen(function* () {
    const pairs: Array<Pair> = []
    for (let round = 0; round <= rounds; round++) {
      const pair = { ours: yield* ours, plain: yield* plain }
      if (round > 0) pairs.push(pair)
    }
    return {
      "outlive ns": Math.round(median(pairs.map((pair) => pair.ours))),
      "plain ns": Math.round(median(pairs.map((pair) => pair.plain))),
      ratio: Number(median(pairs.map((pair) => pair.ours / pair.plain)).toFixed(2)),
    }
  })

const work = Effect.succeed(1)

const startAndAwait = Effect.provide(
  compare(
    timed(Effect.flatMap(BackgroundThread.start(work), (thread) => thread.await)),
    timed(Effect.flatMap(Effect.forkDetach(work), Fiber.await)),
  ),
  threadsOf(10),
)

const refused = Effect.gen(function* () {
  yield* BackgroundThread.start(Effect.never)
  const permits = yield* Semaphore.make(0)
  // What a caller of either would write: take it, or fail with an error.
  const plain = Effect.flatMap(permits.takeIfAvailable(1), (taken) =>
    taken ? Effect.void : Effect.fail(new BackgroundThread.LimitReached({ limit: 1, active: 1 })),
  )
  return yield* compare(timed(Effect.exit(BackgroundThread.start(work))), timed(Effect.exit(plain)))
}).pipe(Effect.provide(threadsOf(1)))

const calls = Effect.gen(function* () {
  const owner = yield* CallQueue.make({ consumers: 1 })
  const queue = yield* Queue.unbounded<Deferred.Deferred<number>>()
  yield* Queue.take(queue).pipe(
    Effect.flatMap((asked) => Effect.flatMap(Effect.exit(work), (exit) => Deferred.done(asked, exit))),
    Effect.forever,
    Effect.forkScoped,
  )
  const plain = Effect.gen(function* () {
    const asked = yield* Deferred.make<number>()
    yield* Queue.offer(queue, asked)
    return yield* Deferred.await(asked)
  })
  return yield* compare(timed(owner.call(work)), timed(plain))
}).pipe(Effect.scoped)

/** Bytes of heap for each of 100,000 that sleep for ever, above as many bare fibers. */
const idle = Effect.gen(function* () {
  const many = 100_000
  const heap = () => {
    globalThis.gc?.()
    return process.memoryUsage().heapUsed
  }
  const held: Array<unknown> = []
  const grown = <A, E, R>(start: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const before = heap()
      for (let n = 0; n < many; n++) held.push(yield* start)
      return (heap() - before) / many
    })
  const plain = yield* grown(Effect.forkDetach(Effect.never, { startImmediately: true }))
  const ours = yield* grown(BackgroundThread.start(Effect.never))
  return { "outlive bytes": Math.round(ours), "plain bytes": Math.round(plain), above: Math.round(ours - plain) }
}).pipe(Effect.provide(threadsOf(Number.POSITIVE_INFINITY)))

const program = Effect.gen(function* () {
  console.log(`${count} times each; medians of ${rounds} rounds`)
  console.table({
    "start + await : forkDetach + await": yield* startAndAwait,
    "refused start : takeIfAvailable + fail": yield* refused,
    "CallQueue.call : Queue.offer + Deferred.await": yield* calls,
  })
  if (globalThis.gc === undefined) console.log("heap per idle thread: run node with --expose-gc to see it")
  else console.table({ "100,000 idle threads": yield* idle })
})

await Effect.runPromise(program)
// The idle threads have no end of their own.
process.exit(0)
