import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import { type Change, TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import {
  Deferred,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Queue,
  Ref,
  Schema,
  Scope,
  Stream,
  Tracer,
} from "effect"
import { TestClock, TestConsole } from "effect/testing"

class NoSuchUser extends Schema.TaggedError<NoSuchUser>()("NoSuchUser", { userId: Schema.String }) {}
class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.Int }) {}

class Greet extends Task.make("Greet", {
  payload: { userId: Schema.String },
  success: Schema.Struct({ text: Schema.String }),
  error: Schema.Union([NoSuchUser, Busy]),
  retry: {
    NoSuchUser: "never",
    Busy: (busy) => Snooze.for(`${busy.seconds} seconds`),
    _: RetryPolicy.fixed("1 second", { maxAttempts: 3 }),
  },
}) {}

type GreetHandler = Parameters<typeof Greet.toLayer<never>>[0]

/** A worker over `Greet` on a memory queue of its own; the queue stays in the context. */
const greeting = (handler: GreetHandler, options?: Partial<Worker.Options<readonly [typeof Greet]>>) =>
  Worker.layer({ tasks: [Greet], ...options }).pipe(
    Layer.provide(Greet.toLayer(handler)),
    Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
    Layer.provideMerge(Instance.layerBackend()),
  )
const hello: GreetHandler = ({ userId }) => Effect.succeed({ text: `hello ${userId}` })
const user = { userId: "ada" }

/**
 * Lets time pass, and before and after it lets the worker's fibers come to rest: from a claim to the next there are more
 * turns of the scheduler than `adjust` waits for.
 */
const pass = (duration: Duration.Input) => {
  const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
  return rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
}

describe("Worker", () => {
  it.effect("runs a deferred task and gives its typed result, as often as it is asked for", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      assert.deepStrictEqual(yield* ref.await, { text: "hello ada" })
      assert.deepStrictEqual(yield* ref.await, { text: "hello ada" })
      assert.strictEqual(yield* ref.state, "succeeded")
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("gives the result to somebody who knows only the id", () =>
    Effect.gen(function* () {
      const { id } = yield* Greet.defer(user)
      const ref = yield* Greet.ref(id)
      assert.deepStrictEqual(yield* ref.await, { text: "hello ada" })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("waits for a delayed task until its time, by the clock", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user, { delay: "1 hour" })
      yield* pass("59 minutes")
      assert.strictEqual(yield* ref.state, "scheduled")
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* ref.await, { text: "hello ada" })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("buries a record whose error is never retried and gives that error to who awaits", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      assert.deepStrictEqual(yield* Effect.flip(ref.await), new NoSuchUser(user))
      const record = yield* ref.record
      assert.strictEqual(record.state, "dead")
      assert.strictEqual(record.reason, "PermanentFailure")
      assert.strictEqual(record.attempt, 1)
    }).pipe(Effect.provide(greeting(({ userId }) => Effect.fail(new NoSuchUser({ userId }))))),
  )

  it.effect("retries by the policy and succeeds, with the attempt counted and the failure before at hand", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      const fiber = yield* Effect.forkChild(ref.await)
      yield* pass("999 millis")
      assert.strictEqual((yield* ref.record).attempt, 1)
      assert.strictEqual(yield* ref.state, "scheduled")
      yield* pass("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(fiber), { text: "attempt 2 after boom" })
    }).pipe(
      Effect.provide(
        greeting((_, { attempt, previousFailure }) =>
          attempt === 1
            ? Effect.die(new Error("boom"))
            : Effect.succeed({ text: `attempt ${attempt} after ${previousFailure.valueOrUndefined?.message}` }),
        ),
      ),
    ),
  )

  it.effect("buries a record when its retries are exhausted, the defect kept apart from typed errors", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      yield* pass("1 second")
      yield* pass("1 second")
      const error = yield* Effect.flip(ref.await)
      assert.strictEqual(error._tag, "TaskDead")
      assert.include(error.message, "RetriesExhausted")
      assert.include(error.message, "boom")
      assert.strictEqual((yield* ref.record).attempt, 3)
    }).pipe(Effect.provide(greeting(() => Effect.die(new Error("boom"))))),
  )

  it.effect("buries a permanent failure at once and says why", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      const error = yield* Effect.flip(ref.await)
      assert.strictEqual(error._tag, "TaskDead")
      assert.include(error.message, "account closed")
    }).pipe(Effect.provide(greeting(() => Effect.fail(new PermanentTaskFailure({ message: "account closed" }))))),
  )

  it.effect("retries a singular failure without a warning", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user)
      yield* pass("1 second")
      yield* ref.await
      const lines = (yield* TestConsole.logLines).map(String)
      assert.isFalse(
        lines.some((line) => /failed/.test(line)),
        lines.join("\n"),
      )
    }).pipe(
      Effect.provide(
        greeting((_, { attempt }) =>
          attempt === 1 ? Effect.fail(new SingularTaskFailure({ message: "not yet" })) : Effect.succeed({ text: "" }),
        ),
      ),
    ),
  )

  it.effect("gives the attempt back when a handler snoozes, by value or by rule", () =>
    Effect.gen(function* () {
      const calls = yield* Ref.make(0)
      const handler: GreetHandler = (_, { attempt }) =>
        Effect.flatMap(
          Ref.updateAndGet(calls, (n) => n + 1),
          (n): ReturnType<GreetHandler> => {
            if (n <= 5) return Effect.fail(Snooze.for("10 seconds"))
            if (n <= 10) return Effect.fail(new Busy({ seconds: 10 }))
            return Effect.succeed({ text: `attempt ${attempt}` })
          },
        )
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(user)
        for (let n = 0; n < 10; n++) yield* pass("10 seconds")
        assert.deepStrictEqual(yield* ref.await, { text: "attempt 1" })
      }).pipe(Effect.provide(greeting(handler)))
      assert.strictEqual(yield* Ref.get(calls), 11)
    }),
  )

  it.effect("stops an attempt at its timeout, finalizers first, and retries", () =>
    Effect.gen(function* () {
      const cleaned = yield* Ref.make(0)
      const handler: GreetHandler = (_, { attempt }) =>
        attempt === 1
          ? Effect.never.pipe(Effect.ensuring(Ref.update(cleaned, (n) => n + 1)))
          : Effect.succeed({ text: `attempt ${attempt}` })
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(user, { timeout: "5 seconds" })
        yield* pass("5 seconds")
        assert.strictEqual(yield* Ref.get(cleaned), 1)
        yield* pass("1 second")
        assert.deepStrictEqual(yield* ref.await, { text: "attempt 2" })
      }).pipe(Effect.provide(greeting(handler)))
    }),
  )

  it.effect("does not count attempts that a crash cut short against the retry policy", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const worker = yield* Scope.make()
      const { id } = yield* Greet.defer(user, { retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }) })
      const params = { tasks: [{ name: "Greet", maxVersion: 1 }], targets: [], lease: 10, worker: "dies" }
      for (const now of [0, 10]) yield* queue.claim({ ...params, queues: [{ name: "default", limit: 1 }], now })
      yield* pass("20 millis")
      yield* Layer.buildWithScope(
        Worker.layer({ tasks: [Greet] }).pipe(
          Layer.provide(Greet.toLayer(() => Effect.die(new Error("boom")))),
          Layer.provide(Instance.layerBackend()),
        ),
        worker,
      )
      yield* pass("5 seconds")
      const ref = yield* Greet.ref(id)
      const { attempt, crashes, reason } = yield* ref.record
      assert.deepStrictEqual({ attempt, crashes, reason }, { attempt: 4, crashes: 2, reason: "RetriesExhausted" })
      yield* Scope.close(worker, Exit.void)
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("follows the record's own retry policy instead of the task's whole (Q88)", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user, { retry: RetryPolicy.never })
      const error = yield* Effect.flip(ref.await)
      assert.strictEqual(error._tag, "TaskDead")
      assert.strictEqual((yield* ref.record).attempt, 1)
    }).pipe(Effect.provide(greeting(() => Effect.die(new Error("boom"))))),
  )

  it.effect("buries what does not decode, with its reason, and goes on with the next", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const good = yield* Greet.defer(user, { delay: "1 second" })
      const { headers, keep, maxCrashes, priority, queue: name, version } = yield* good.record
      const id = queue.nextId(0, Math.random)
      yield* queue.enqueue({
        now: 0,
        records: [
          {
            id,
            task: "Greet",
            version,
            queue: name,
            payload: `{"userId":7}`,
            headers,
            priority,
            eta: 0,
            onDuplicate: "fail",
            tombstone: 0,
            maxCrashes,
            keep,
          },
        ],
      })
      const bad = yield* Greet.ref(id)
      const error = yield* Effect.flip(bad.await)
      assert.strictEqual(error._tag, "TaskDead")
      assert.strictEqual((yield* bad.record).reason, "Undecodable")
      yield* pass("1 second")
      assert.deepStrictEqual(yield* good.await, { text: "hello ada" })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("takes a result that does not fit its own schema for a defect", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user, { retry: RetryPolicy.never })
      const error = yield* Effect.flip(ref.await)
      assert.strictEqual(error._tag, "TaskDead")
      const { failure } = yield* ref.record
      assert.include(failure ?? "", `"kind":"defect"`)
    }).pipe(Effect.provide(greeting(() => Effect.succeed({ text: 7 as never })))),
  )

  it.effect("never runs more of a queue at once than its concurrency", () =>
    Effect.gen(function* () {
      const running = yield* Ref.make(0)
      const most = yield* Ref.make(0)
      const gate = yield* Latch.make(false)
      const handler: GreetHandler = ({ userId }) =>
        Effect.gen(function* () {
          const now = yield* Ref.updateAndGet(running, (n) => n + 1)
          yield* Ref.update(most, (n) => Math.max(n, now))
          yield* gate.await
          yield* Ref.update(running, (n) => n - 1)
          return { text: userId }
        })
      yield* Effect.gen(function* () {
        const refs = yield* Greet.deferAll(Array.from({ length: 50 }, (_, n) => ({ userId: `${n}` })))
        yield* pass("1 second")
        assert.strictEqual(yield* Ref.get(running), 3)
        yield* gate.open
        yield* Effect.forEach(refs, (item) =>
          item._tag === "Deferred" ? item.ref.await : Effect.die(new Error(item.error.message)),
        )
        assert.strictEqual(yield* Ref.get(most), 3)
      }).pipe(Effect.provide(greeting(handler, { queues: { default: { concurrency: 3 } } })))
    }),
  )

  it.effect("keeps a long attempt's lease alive by heartbeats", () =>
    Effect.gen(function* () {
      const done = yield* Deferred.make<void>()
      const handler: GreetHandler = () => Effect.as(Deferred.await(done), { text: "at last" })
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(user)
        for (let n = 0; n < 30; n++) yield* pass("10 seconds")
        yield* Deferred.succeed(done, undefined)
        assert.deepStrictEqual(yield* ref.await, { text: "at last" })
        const { attempt, crashes } = yield* ref.record
        assert.deepStrictEqual({ attempt, crashes }, { attempt: 1, crashes: 0 })
      }).pipe(Effect.provide(greeting(handler, { lease: "30 seconds" })))
    }),
  )

  it.effect("does not keep a handler waiting for ever when a queue does not answer it", () =>
    Effect.gen(function* () {
      const asked = yield* Latch.make(false)
      const queue = yield* TaskQueue
      let calls = 0
      const silent = TaskQueue.of({
        ...queue,
        extend: (params) => (++calls === 1 ? Effect.andThen(asked.open, Effect.never) : queue.extend(params)),
      })
      const handler = Effect.fnUntraced(function* (_: unknown, context: TaskContext["Service"]) {
        const error = yield* Effect.flip(context.extend("1 hour"))
        return { text: `${error._tag}: ${error.operation}: ${error.message}` }
      }, Effect.orDie)
      yield* Layer.build(
        Worker.layer({ tasks: [Greet], lease: "30 seconds" }).pipe(
          Layer.provide(Greet.toLayer(handler)),
          Layer.provide(Layer.succeed(TaskQueue, silent)),
          Layer.provide(Instance.layerBackend()),
        ),
      )
      const ref = yield* Greet.defer(user)
      yield* asked.await
      yield* pass("29 seconds")
      assert.strictEqual(yield* ref.state, "running")
      yield* pass("1 second")
      assert.deepStrictEqual(yield* ref.await, { text: "TaskQueueError: extend: no answer within 30000 ms" })
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("interrupts an attempt whose lease was lost and leaves the record to its new owner", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const handler: GreetHandler = () =>
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined)),
        )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const ref = yield* Greet.defer(user)
        yield* Deferred.await(started)
        // Another worker whose clock is far ahead takes the record over.
        const { records } = yield* queue.claim({
          queues: [{ name: "default", limit: 1 }],
          tasks: [{ name: "Greet", maxVersion: 1 }],
          targets: [],
          lease: 1_000_000,
          worker: "other",
          now: 100_000,
        })
        assert.deepStrictEqual(
          records.map(({ crashes, id }) => ({ crashes, id })),
          [{ crashes: 1, id: ref.id }],
        )
        yield* pass("10 seconds")
        yield* Deferred.await(interrupted)
        assert.strictEqual((yield* ref.record).worker, "other")
        assert.strictEqual(yield* ref.state, "running")
      }).pipe(Effect.provide(greeting(handler)))
    }),
  )

  it.effect("interrupts a running attempt that is cancelled, finalizers first", () =>
    Effect.gen(function* () {
      const cleaned = yield* Ref.make(false)
      const started = yield* Deferred.make<void>()
      const handler: GreetHandler = () =>
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(Effect.ensuring(Ref.set(cleaned, true)))
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(user)
        yield* Deferred.await(started)
        assert.strictEqual(yield* ref.cancel({ reason: "changed my mind" }), "Requested")
        const error = yield* Effect.flip(ref.await)
        assert.strictEqual(error._tag, "TaskCancelled")
        assert.include(error.message, "changed my mind")
        assert.isTrue(yield* Ref.get(cleaned))
        assert.strictEqual(yield* ref.cancel(), "TooLate")
      }).pipe(Effect.provide(greeting(handler)))
    }),
  )

  it.effect("asks the queue whether a hint of a cancellation is true: it may be late, the record redriven since", () =>
    Effect.gen(function* () {
      const running = yield* Latch.make(false)
      const asked = yield* Latch.make(false)
      const finish = yield* Latch.make(false)
      const hints = yield* Queue.unbounded<Change>()
      const queue = yield* TaskQueue
      const late = TaskQueue.of({
        ...queue,
        changes: Effect.map(queue.changes, (changes) => Stream.merge(changes, Stream.fromQueue(hints))),
        extend: (params) => Effect.tap(queue.extend(params), () => asked.open),
      })
      yield* Layer.build(
        Worker.layer({ tasks: [Greet] }).pipe(
          Layer.provide(
            Greet.toLayer(() => running.open.pipe(Effect.andThen(finish.await), Effect.as({ text: "not stopped" }))),
          ),
          Layer.provide(Layer.succeed(TaskQueue, late)),
          Layer.provide(Instance.layerBackend()),
        ),
      )
      const ref = yield* Greet.defer(user)
      yield* running.await
      yield* Queue.offer(hints, { _tag: "CancelRequested", ids: [ref.id] })
      yield* Effect.raceFirst(asked.await, Effect.exit(ref.await))
      yield* finish.open
      assert.deepStrictEqual(yield* ref.await, { text: "not stopped" })
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("never runs a waiting record that was cancelled", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(user, { delay: "1 minute" })
      assert.strictEqual(yield* ref.cancel(), "Cancelled")
      assert.strictEqual((yield* Effect.flip(ref.await))._tag, "TaskCancelled")
      yield* pass("2 minutes")
      assert.strictEqual(yield* ref.state, "cancelled")
    }).pipe(Effect.provide(greeting(() => Effect.die(new Error("ran"))))),
  )

  it.effect("drains when its scope closes: waits for what runs, releases what does not end in time", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(false)
      const handler: GreetHandler = ({ userId }) =>
        userId === "slow" ? Effect.never : Effect.as(gate.await, { text: userId })
      const queue = yield* Layer.build(Layer.fresh(TaskQueueMemory.layer))
      yield* Effect.gen(function* () {
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(
          Worker.layer({ tasks: [Greet], drainTimeout: "10 seconds" }).pipe(
            Layer.provide(Greet.toLayer(handler)),
            Layer.provide(Instance.layerBackend()),
          ),
          scope,
        )
        const quick = yield* Greet.defer({ userId: "quick" })
        const slow = yield* Greet.defer({ userId: "slow" })
        yield* pass("1 second")
        assert.strictEqual(yield* slow.state, "running")
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* pass("1 second")
        const late = yield* Greet.defer({ userId: "late" })
        yield* gate.open
        assert.deepStrictEqual(yield* quick.await, { text: "quick" })
        assert.strictEqual(yield* slow.state, "running")
        yield* pass("9 seconds")
        yield* Fiber.join(closing)
        const { attempt, state } = yield* slow.record
        assert.deepStrictEqual({ attempt, state }, { attempt: 0, state: "ready" })
        assert.strictEqual(yield* late.state, "ready")
      }).pipe(Effect.provideContext(queue))
    }),
  )

  it.effect("goes on when the queue fails or does not answer, says so once, and claims for the time it is then", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const broken = new TaskQueueError({ operation: "claim", message: "the disk is gone", isRetryable: true })
      let asked = 0
      const failing = TaskQueue.of({
        ...queue,
        claim: (params) =>
          Effect.suspend(() => {
            asked++
            if (asked === 1) return Effect.never
            return asked < 10 ? Effect.fail(broken) : queue.claim(params)
          }),
      })
      yield* Layer.buildWithScope(
        Worker.layer({ tasks: [Greet], lease: "30 seconds" }).pipe(
          Layer.provide(Greet.toLayer(() => Effect.delay(Effect.succeed({ text: "at last" }), "20 seconds"))),
          Layer.provide(Layer.succeed(TaskQueue, failing)),
          Layer.provide(Instance.layerBackend()),
        ),
        yield* Effect.scope,
      )
      const ref = yield* Greet.defer(user)
      for (let n = 0; n < 120; n++) yield* pass("1 second")
      assert.deepStrictEqual(yield* ref.await, { text: "at last" })
      const { attempt, crashes } = yield* ref.record
      assert.deepStrictEqual({ attempt, crashes }, { attempt: 1, crashes: 0 })
      const lines = (yield* TestConsole.logLines).map(String)
      assert.strictEqual(lines.filter((line) => line.includes("trying again")).length, 1, lines.join("\n"))
      assert.strictEqual(lines.filter((line) => line.includes("again after 9 failures")).length, 1)
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("starts a delayed task at its time, whatever comes into other queues meanwhile", () =>
    Effect.gen(function* () {
      const delayed = yield* Greet.defer(user, { queue: "a", delay: "500 millis" })
      yield* pass("100 millis")
      const other = yield* Greet.defer(user, { queue: "b" })
      yield* other.await
      yield* pass("399 millis")
      assert.strictEqual(yield* delayed.state, "scheduled")
      yield* pass("1 millis")
      assert.strictEqual(yield* delayed.state, "succeeded")
    }).pipe(Effect.provide(greeting(hello, { queues: { a: {}, b: {} } }))),
  )

  it.effect("does not lose a hint that comes while it claims", () =>
    Effect.gen(function* () {
      const claiming = yield* Latch.make(false)
      const answer = yield* Latch.make(false)
      const queue = yield* TaskQueue
      const slow = TaskQueue.of({
        ...queue,
        // The answer is an old one when it arrives.
        claim: (params) => Effect.tap(queue.claim(params), () => Effect.andThen(claiming.open, answer.await)),
      })
      const scope = yield* Effect.scope
      yield* Layer.buildWithScope(
        Worker.layer({ tasks: [Greet], pollInterval: "1 day" }).pipe(
          Layer.provide(Greet.toLayer(hello)),
          Layer.provide(Layer.succeed(TaskQueue, slow)),
          Layer.provide(Instance.layerBackend()),
        ),
        scope,
      )
      yield* claiming.await
      const ref = yield* Greet.defer(user)
      yield* answer.open
      assert.deepStrictEqual(yield* ref.await, { text: "hello ada" })
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("prunes records when their time to be kept is over, and dead letters when told to", () =>
    Effect.gen(function* () {
      const done = yield* Greet.defer(user)
      const dead = yield* Greet.defer({ userId: "nobody" })
      yield* pass("23 hours")
      assert.strictEqual(yield* done.state, "succeeded")
      yield* pass("2 hours")
      assert.strictEqual((yield* Effect.flip(done.state))._tag, "TaskNotFound")
      assert.strictEqual(yield* dead.state, "dead")
      yield* pass("6 days")
      assert.strictEqual((yield* Effect.flip(dead.state))._tag, "TaskNotFound")
    }).pipe(
      Effect.provide(
        greeting(
          ({ userId }) =>
            userId === "nobody" ? Effect.fail(new NoSuchUser({ userId })) : hello({ userId }, undefined as never),
          { pruneEvery: "10 minutes", keepDead: "7 days", pollInterval: "1 hour", lease: "1 hour" },
        ),
      ),
    ),
  )

  it.effect("does not begin on a frontend", () =>
    Effect.gen(function* () {
      const built = Layer.build(
        Worker.layer({ tasks: [Greet] }).pipe(
          Layer.provide(Greet.toLayer(hello)),
          Layer.provide(Layer.fresh(TaskQueueMemory.layer)),
          Layer.provide(Instance.layerFrontend()),
        ),
      )
      assert.strictEqual((yield* Effect.flip(built))._tag, "FrontendsNotSupported")
    }),
  )

  it.effect("gives every attempt the same id, a scope of its own, and TaskContext as a service", () =>
    Effect.gen(function* () {
      const events = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (event: string) => Ref.update(events, (all) => [...all, event])
      const handler = Effect.fnUntraced(function* (_: { readonly userId: string }) {
        const { attempt } = yield* TaskContext
        yield* Effect.acquireRelease(note(`open ${attempt}`), () => note(`close ${attempt}`))
        if (attempt === 1) return yield* Effect.die(new Error("boom"))
        yield* note(`work ${attempt}`)
        return { text: "" }
      })
      const layer = Worker.layer({ tasks: [Greet] }).pipe(
        Layer.provide(Greet.toLayer(handler)),
        Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
        Layer.provideMerge(Instance.layerBackend()),
      )
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(user)
        yield* pass("1 second")
        yield* ref.await
      }).pipe(Effect.provide(layer))
      assert.deepStrictEqual(yield* Ref.get(events), ["open 1", "close 1", "open 2", "work 2", "close 2"])
    }),
  )

  it.effect("makes the attempt's span the child of the caller's when it was due at once, else a link", () =>
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span(options) {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        },
      })
      yield* Effect.gen(function* () {
        const [prompt, delayed] = yield* Effect.withSpan(
          Effect.all([Greet.defer(user), Greet.defer(user, { delay: "1 minute" })]),
          "request",
        )
        yield* prompt.await
        yield* pass("1 minute")
        yield* delayed.await
      }).pipe(Effect.provide(greeting(hello)), Effect.provideService(Tracer.Tracer, tracer))
      const request = spans.find((span) => span.name === "request")
      const [first, second] = spans.filter((span) => span.name === "Greet")
      assert.strictEqual(first?.traceId, request?.traceId)
      assert.notStrictEqual(second?.traceId, request?.traceId)
      assert.deepStrictEqual(
        second?.links.map(({ span }) => span.spanId),
        [request?.spanId],
      )
    }),
  )

  it.effect("refuses two tasks of one name, or one with the other's alias, and takes the same task twice (D54)", () =>
    Effect.gen(function* () {
      const start = (other: Task.Any) =>
        Effect.exit(Layer.build(Worker.layer({ tasks: [Greet, other as typeof Greet] }))).pipe(
          Effect.scoped,
          Effect.provide(
            Greet.toLayer(hello).pipe(
              Layer.provideMerge(Layer.mergeAll(Layer.fresh(TaskQueueMemory.layer), Instance.layerBackend())),
            ),
          ),
        )
      for (const other of [Task.make("Greet"), Task.make("Hello", { aliases: ["Greet"] })]) {
        assert.include(String(yield* start(other)), "is that of two tasks of a worker")
      }
      assert.isTrue(Exit.isSuccess(yield* start(Greet)))
    }),
  )
})
