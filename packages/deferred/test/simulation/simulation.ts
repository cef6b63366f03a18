/**
 * A deterministic simulation: several workers on one queue under a test clock, with crashes, partitions, lost answers,
 * clocks that differ, and handlers that fail in every way, all chosen by a seed. What the contract promises is checked
 * after every step and at the end; a failure names its seed.
 */
import { assert } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Clock, Effect, Exit, Layer, Random, References, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"

class Odd extends Schema.TaggedError<Odd>()("Odd", {}) {}
class Work extends Task.make("Work", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Odd,
  retry: RetryPolicy.fixed("500 millis", { maxAttempts: 4 }),
  maxCrashes: 1000,
}) {}

const tasks = 40
const lease = 3000
/** Bounds of what the machines' clocks differ by: well within a lease (DESIGN 5). */
const skew = 200

/** What the queue said of a record, in the order it said it. */
interface Witness {
  tokens: Array<number>
  settled: number
  ran: number
  /** How many settlements that would end it for good the queue took. */
  ended: number
}

export const simulate = (seed: number) =>
  Effect.provide(run, TestClock.layer()).pipe(
    Random.withSeed(seed),
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.scoped,
  )

const run = Effect.gen(function* () {
  const random = yield* Random.Random
  const below = (n: number) => Math.floor(random.nextDoubleUnsafe() * n)
  const chance = (p: number) => random.nextDoubleUnsafe() < p
  const driver = yield* TaskQueueMemory.make
  const queue = yield* TaskQueue.make(driver)
  const maxConcurrent = 2 + below(4)
  yield* queue.configure({ queue: "default", limits: { maxConcurrent }, now: 0 })

  const witnesses = new Map<TaskId, Witness>()
  const of = (id: TaskId) => {
    let witness = witnesses.get(id)
    if (witness === undefined) {
      witness = { tokens: [], settled: 0, ran: 0, ended: 0 }
      witnesses.set(id, witness)
    }
    return witness
  }

  /** The queue as one machine reaches it: over a line that may be cut or lose answers, by a clock of its own. */
  const machine = () => {
    const state = { cut: false, faults: true, ahead: below(skew) - skew / 2 }
    const line = <A>(call: Effect.Effect<A, TaskQueue.TaskQueueError>): Effect.Effect<A, TaskQueue.TaskQueueError> =>
      Effect.suspend(() => {
        if (state.cut) return Effect.never
        const lost = new TaskQueue.TaskQueueError({ operation: "line", message: "lost", isRetryable: true })
        if (!state.faults || chance(0.9)) return call
        // Before it was done, or after: the caller cannot know.
        return chance(0.5) ? Effect.fail(lost) : Effect.andThen(call, Effect.fail(lost))
      })
    const reached = TaskQueue.TaskQueue.of({
      ...queue,
      claim: (params) =>
        line(
          Effect.tap(driver.claim({ ...params, now: params.now + state.ahead }), ({ records }) =>
            Effect.sync(() => {
              for (const { id, token } of records) {
                const { tokens } = of(id)
                assert.isAbove(token, tokens.at(-1) ?? 0, "a fencing token rises with every claim")
                tokens.push(token)
              }
            }),
          ),
        ),
      extend: (params) =>
        line(driver.extend({ ...params, now: params.now + state.ahead, until: params.until + state.ahead })),
      settle: (params) =>
        line(
          Effect.tap(driver.settle({ ...params, now: params.now + state.ahead }), (outcomes) =>
            Effect.sync(() =>
              params.settlements.forEach((settlement, index) => {
                if (outcomes[index] !== "Settled") return
                const witness = of(settlement.id)
                witness.settled++
                assert.strictEqual(settlement.token, witness.tokens.at(-1), "only the last lease settles")
                if (settlement._tag === "Succeed" || settlement._tag === "Bury") witness.ended++
                assert.isAtMost(witness.ended, 1, "a record ends once")
              }),
            ),
          ),
        ),
    })
    return { state, reached }
  }

  const handler = Work.toLayer(({ n }, { id }) =>
    Effect.suspend(() => {
      of(id).ran++
      const ends: ReadonlyArray<Effect.Effect<number, Odd | PermanentTaskFailure | SingularTaskFailure | Snooze>> = [
        Effect.fail(new Odd()),
        Effect.fail(new SingularTaskFailure({ message: "not yet" })),
        Effect.fail(Snooze.for(below(2000))),
        Effect.die("bad"),
        chance(0.2) ? Effect.fail(new PermanentTaskFailure({ message: "never" })) : Effect.succeed(n),
      ]
      const end = chance(0.6) ? Effect.succeed(n) : (ends[below(ends.length)] ?? Effect.succeed(n))
      return Effect.delay(end, below(4000))
    }),
  )
  const startWorker = Effect.gen(function* () {
    const { reached, state } = machine()
    const scope = yield* Scope.make()
    const layer = Worker.layer({ tasks: [Work], concurrency: 1 + below(4), lease, drainTimeout: "1 second" }).pipe(
      Layer.provide(handler),
      Layer.provide(Layer.succeed(TaskQueue.TaskQueue, reached)),
      Layer.provide(Instance.layerBackend()),
    )
    yield* Layer.buildWithScope(layer, scope)
    return { state, scope }
  })

  const refs: Array<Task.DeferredRef<typeof Work.success, typeof Work.error>> = []
  const defer = Effect.gen(function* () {
    if (refs.length === tasks) return
    const delay = chance(0.3) ? below(5000) : 0
    refs.push(yield* Work.defer({ n: refs.length }, { delay, priority: below(3) }))
  }).pipe(Effect.provideService(TaskQueue.TaskQueue, queue))

  const check = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const counts = yield* queue.counts({ now })
    const running = counts.filter(({ state }) => state === "running").reduce((sum, { count }) => sum + count, 0)
    assert.isAtMost(running, maxConcurrent, "live leases keep to the queue's limit")
    const all = counts.reduce((sum, { count }) => sum + count, 0)
    assert.strictEqual(all, refs.length, "nothing that was acknowledged is lost")
  })

  let workers = [yield* startWorker, yield* startWorker]
  for (let step = 0; step < 120; step++) {
    const at = below(workers.length)
    const worker = workers[at]
    const choice = below(20)
    if (choice < 8) yield* defer
    else if (choice === 8 && worker !== undefined) {
      // Killed, or cut off for good: it writes nothing any more, and its handlers may even run on.
      worker.state.cut = true
      workers = workers.filter((other) => other !== worker)
      yield* Effect.forkDetach(Scope.close(worker.scope, Exit.void))
    } else if (choice === 9 && worker !== undefined) worker.state.cut = true
    else if (choice === 10 && worker !== undefined) worker.state.cut = false
    else if (choice === 11 && worker !== undefined) {
      workers = workers.filter((other) => other !== worker)
      yield* Effect.forkDetach(Scope.close(worker.scope, Exit.void))
    } else if (choice === 12 && workers.length < 4) workers.push(yield* startWorker)
    yield* TestClock.adjust(below(800))
    yield* check
  }

  // The storm is over: a good worker, and time.
  while (refs.length < tasks) yield* defer
  for (const { state } of workers) {
    state.cut = false
    state.faults = false
  }
  const last = yield* startWorker
  last.state.faults = false
  for (let second = 0; second < 400; second++) {
    yield* TestClock.adjust("1 second")
    yield* check
    const now = yield* Clock.currentTimeMillis
    const left = yield* queue.counts({ now })
    if (left.every(({ state }) => state === "succeeded" || state === "dead")) break
  }
  for (const ref of refs) {
    const record = yield* ref.record
    const { ended, ran } = of(ref.id)
    assert.include(["succeeded", "dead"], record.state, "every record ends")
    assert.strictEqual(ended, 1)
    assert.isAtLeast(ran, 1, "nothing ends without having run")
    if (record.state === "dead") assert.include(["PermanentFailure", "RetriesExhausted"], record.reason)
    else assert.include(record.result ?? "", `"value":`)
  }
  for (const { scope } of [...workers, last]) yield* Effect.forkDetach(Scope.close(scope, Exit.void))
  yield* TestClock.adjust("10 seconds")
  return witnesses
})
