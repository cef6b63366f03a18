import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { type Driver, TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Context, Effect, Exit, Latch, Layer, Ref, Schema } from "effect"
import { TestClock, TestConsole } from "effect/testing"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const Transfer = Task.make("Transfer", {
  payload: { amount: Schema.Int },
  success: Schema.Int,
  error: Refused,
  commit: "withHandler",
  retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }),
})
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })

/** A database of one number with transactions, and a queue in it: what is written in one is kept when it is committed. */
const inside = Context.Reference<{ readonly settlements: Array<Parameters<Driver["settle"]>[0]> } | undefined>(
  "test/inside",
  { defaultValue: () => undefined },
)

const transactional = (
  balance: Ref.Ref<number>,
  commit: (settle: Effect.Effect<unknown, TaskQueueError>) => Effect.Effect<unknown, TaskQueueError> = (settle) =>
    settle,
) =>
  Layer.effect(
    TaskQueue,
    Effect.map(TaskQueue, (queue) =>
      TaskQueue.of({
        ...queue,
        inTransaction: Effect.map(inside, (transaction) => transaction !== undefined),
        settle: (params) =>
          Effect.flatMap(inside, (transaction) => {
            if (transaction === undefined) return queue.settle(params)
            transaction.settlements.push(params)
            // Looked at now, written with the commit.
            return Effect.map(
              queue.extend({ leases: params.settlements, until: params.now + 1000, now: params.now }),
              (outcomes) => outcomes.map((outcome) => (outcome === "LeaseLost" ? "LeaseLost" : "Settled")),
            )
          }),
        transaction: (effect) =>
          Effect.gen(function* () {
            const before = yield* Ref.get(balance)
            const transaction = { settlements: [] as Array<Parameters<Driver["settle"]>[0]> }
            const whole = Effect.tap(
              Effect.provideService(effect, inside, transaction),
              commit(Effect.suspend(() => Effect.forEach(transaction.settlements, (params) => queue.settle(params)))),
            )
            return yield* Effect.onExit(whole, (exit) =>
              Exit.isSuccess(exit) ? Effect.void : Ref.set(balance, before),
            )
          }),
      }),
    ),
  ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))

const app = (
  queue: Layer.Layer<TaskQueue>,
  balance: Ref.Ref<number>,
  handle: (attempt: number) => Effect.Effect<void, Refused> = () => Effect.void,
) =>
  Worker.layer({ tasks: [Transfer], lease: "1 minute" }).pipe(
    Layer.provide(
      Transfer.toLayer(({ amount }, { attempt }) =>
        Effect.gen(function* () {
          yield* Ref.update(balance, (sum) => sum + amount)
          yield* handle(attempt)
          return yield* Ref.get(balance)
        }),
      ),
    ),
    Layer.provideMerge(queue),
    Layer.provide(Instance.layerBackend()),
  )

describe("commit: withHandler", () => {
  it.effect("writes the handler's effects and its success in one transaction", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      yield* Effect.gen(function* () {
        const ref = yield* Transfer.defer({ amount: 5 })
        assert.strictEqual(yield* ref.await, 5)
        assert.strictEqual(yield* Ref.get(balance), 5)
        assert.deepStrictEqual(
          (yield* ref.attempts).map(({ outcome }) => outcome),
          ["Succeed"],
        )
      }).pipe(Effect.provide(app(transactional(balance), balance)))
    }),
  )

  it.effect("rolls back what an attempt wrote that fails, and settles the failure", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      const refuseFirst = (attempt: number) => (attempt === 1 ? Effect.fail(new Refused()) : Effect.void)
      yield* Effect.gen(function* () {
        const ref = yield* Transfer.defer({ amount: 5 })
        yield* rest
        assert.strictEqual(yield* Ref.get(balance), 0)
        assert.deepInclude((yield* ref.attempts)[0]?.failure, { tag: "Refused", kind: "failure" })
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* ref.await, 5)
        assert.strictEqual(yield* Ref.get(balance), 5)
      }).pipe(Effect.provide(app(transactional(balance), balance, refuseFirst)))
    }),
  )

  it.effect("rolls back and gives the attempt back when the database does not take the transaction", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      const failures = yield* Ref.make(1)
      const queue = transactional(balance, (settle) =>
        Effect.flatMap(
          Ref.getAndUpdate(failures, (left) => left - 1),
          (left) =>
            left > 0
              ? Effect.fail(
                  new TaskQueueError({ operation: "commit", message: "serialization failure", isRetryable: true }),
                )
              : settle,
        ),
      )
      yield* Effect.gen(function* () {
        const ref = yield* Transfer.defer({ amount: 5 })
        yield* rest
        assert.strictEqual(yield* Ref.get(balance), 0)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* ref.await, 5)
        assert.strictEqual((yield* ref.record).attempt, 1)
      }).pipe(Effect.provide(app(queue, balance)))
    }),
  )

  it.effect("rolls back when the lease was lost meanwhile: the record's new owner does it", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      const gate = yield* Latch.make()
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ref = yield* Transfer.defer({ amount: 5 })
        yield* rest
        const [record] = yield* queue.get({ ids: [ref.id], now: 0 })
        const token = (record as unknown as { readonly token: number }).token
        // As after an expiry that this worker has not noticed yet.
        yield* queue.settle({ settlements: [{ id: ref.id, token, _tag: "Release" }], now: 0 })
        yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
        yield* gate.open
        yield* rest
        assert.strictEqual(yield* Ref.get(balance), 0)
        assert.strictEqual(yield* ref.state, "ready")
      }).pipe(Effect.provide(app(transactional(balance), balance, () => gate.await)))
    }),
  )

  it.effect("is as ever on a queue without transactions, and says so once when the worker starts", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      yield* Effect.gen(function* () {
        const ref = yield* Transfer.defer({ amount: 5 })
        assert.strictEqual(yield* ref.await, 5)
        const warnings = (yield* TestConsole.logLines).filter((line) =>
          String(line).includes("commit with its handler"),
        )
        assert.lengthOf(warnings, 1)
      }).pipe(Effect.provide(app(Layer.fresh(TaskQueueMemory.layer), balance)))
    }),
  )
})

describe("requireTransaction", () => {
  it.effect("refuses to defer outside of a transaction, and on a queue that cannot join one (Q45)", () =>
    Effect.gen(function* () {
      const balance = yield* Ref.make(0)
      const deferral = Transfer.defer({ amount: 1 }, { requireTransaction: true })
      const memory = Layer.fresh(TaskQueueMemory.layer)
      assert.deepInclude(yield* Effect.flip(Effect.provide(deferral, memory)), {
        _tag: "NotInTransaction",
        driver: "memory",
      })
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        assert.strictEqual((yield* Effect.flip(deferral))._tag, "NotInTransaction")
        assert.strictEqual(
          (yield* Effect.flip(Transfer.deferAll([{ amount: 1 }], { requireTransaction: true })))._tag,
          "NotInTransaction",
        )
        assert.strictEqual((yield* queue.transaction!(deferral)).outcome, "Inserted")
      }).pipe(Effect.provide(transactional(balance)))
    }),
  )
})
