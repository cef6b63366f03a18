import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { type Duration, Effect, Exit, Latch, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"

const Work = Task.make("Work", { aliases: ["OldWork"], queue: "jobs" })
const memory = Layer.fresh(TaskQueueMemory.layer)
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const announced = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  return yield* queue.workers({ now })
})
const base = Layer.mergeAll(memory, Instance.layerBackend())
const handled = (gate: Latch.Latch) => Work.toLayer(() => gate.await)

describe("worker health", () => {
  it.effect("says what it knows, how its slots are used and what it did", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make()
      yield* Effect.gen(function* () {
        const worker = yield* Worker.make({ tasks: [Work], id: "w1", targets: ["gpu"], concurrency: 2 })
        yield* Work.deferAll([undefined, undefined, undefined])
        yield* pass("1 second")
        const health = yield* worker.health
        assert.deepInclude(health, { id: "w1", startedAt: 0, at: 1000, targets: ["gpu"], finished: 0, draining: false })
        assert.deepStrictEqual(health.tasks, [
          { name: "Work", maxVersion: 1 },
          { name: "OldWork", maxVersion: 1 },
        ])
        assert.deepStrictEqual(health.queues, [{ name: "jobs", concurrency: 2, running: 2, buffered: 0 }])
        yield* gate.open
        yield* rest
        assert.strictEqual((yield* worker.health).finished, 3)
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(handled(gate), base)))
    }),
  )

  it.effect("is told to the queue at once and every ten seconds, and taken back when the worker has drained", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make()
      yield* Effect.gen(function* () {
        const scope = yield* Scope.make()
        const worker = yield* Scope.provide(Worker.make({ tasks: [Work], id: "w1" }), scope)
        yield* rest
        assert.deepStrictEqual(
          (yield* announced).map(({ id }) => id),
          ["w1"],
        )
        yield* Work.defer()
        yield* pass("10 seconds")
        assert.deepInclude((yield* announced)[0]?.queues[0], { running: 1 })
        const draining = yield* Effect.forkChild(worker.drain)
        yield* rest
        assert.isTrue((yield* announced)[0]?.draining)
        yield* gate.open
        yield* rest
        assert.deepStrictEqual(yield* announced, [])
        yield* pass("30 seconds")
        assert.deepStrictEqual(yield* announced, [])
        assert.isDefined(draining.pollUnsafe())
        yield* Scope.close(scope, Exit.void)
      }).pipe(Effect.provide(Layer.provideMerge(handled(gate), base)))
    }),
  )

  it.effect("is forgotten when a worker dies without a word", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const worker = { id: "dead", startedAt: 0, at: 0, tasks: [], targets: [], queues: [], finished: 0 }
      const announcement = { ...worker, unsettled: 0, failingSince: undefined, draining: false }
      yield* queue.announce({ worker: announcement, until: 30_000, now: 0 })
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* announced, [])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("says since when the queue has not answered", () =>
    Effect.gen(function* () {
      let failing = false
      const flaky = Layer.effect(
        TaskQueue,
        Effect.map(TaskQueue, (queue) =>
          TaskQueue.of({
            ...queue,
            claim: (params) =>
              failing
                ? Effect.fail(new TaskQueueError({ operation: "claim", message: "no disk", isRetryable: true }))
                : queue.claim(params),
          }),
        ),
      ).pipe(Layer.provide(memory))
      yield* Effect.gen(function* () {
        const worker = yield* Worker.make({ tasks: [Work], pollInterval: "1 second" })
        yield* pass("5 seconds")
        assert.isUndefined((yield* worker.health).failingSince)
        failing = true
        yield* pass("1 second")
        yield* pass("1 minute")
        assert.strictEqual((yield* worker.health).failingSince, 6000)
        failing = false
        yield* pass("1 minute")
        assert.isUndefined((yield* worker.health).failingSince)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.provideMerge(
            Work.toLayer(() => Effect.void),
            Layer.mergeAll(flaky, Instance.layerBackend()),
          ),
        ),
      )
    }),
  )

  it.effect("does not wait for a queue that is slow to hear of the worker", () =>
    Effect.gen(function* () {
      const deaf = Layer.effect(
        TaskQueue,
        Effect.map(TaskQueue, (queue) => TaskQueue.of({ ...queue, announce: () => Effect.never })),
      ).pipe(Layer.provide(memory))
      yield* Effect.gen(function* () {
        yield* Worker.make({ tasks: [Work] })
        const ref = yield* Work.defer()
        yield* ref.await
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.provideMerge(
            Work.toLayer(() => Effect.void),
            Layer.mergeAll(deaf, Instance.layerBackend()),
          ),
        ),
        Effect.forkChild,
        Effect.tap(() => rest),
        Effect.tap(() => TestClock.adjust("1 minute")),
        Effect.flatMap((fiber) => Effect.flatMap(rest, () => Effect.sync(() => assert.isDefined(fiber.pollUnsafe())))),
      )
    }),
  )
})

describe("worker options", () => {
  it.effect.each([
    ["concurrency", { concurrency: 0 }],
    ["concurrency", { concurrency: Number.NaN }],
    ["queues.jobs.concurrency", { queues: { jobs: { concurrency: 1.5 } } }],
    ["prefetch", { prefetch: -1 }],
    ["lease", { lease: 0 }],
    ["lease", { lease: Number.NaN }],
    ["pollInterval", { pollInterval: "infinity" as never }],
    ["drainTimeout", { drainTimeout: Number.NaN }],
  ] as const)("refuse an invalid %s: %o", ([field, options]) =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Effect.scoped(Worker.make({ tasks: [Work], ...options })))
      assert.include(String(exit), `option ${field} must`)
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          Work.toLayer(() => Effect.void),
          base,
        ),
      ),
    ),
  )
})
