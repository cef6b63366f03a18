import { assert, describe, it } from "@effect/vitest"
import * as PayloadStore from "@outlive/deferred/PayloadStore"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import { InvalidLease, LeaseExpired } from "@outlive/deferred/TaskLease"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { DateTime, Deferred, Duration, Effect, Fiber, Layer, Option, Schema, Stream } from "effect"
import { TestClock, TestConsole } from "effect/testing"

class Moved extends Schema.TaggedError<Moved>()("Moved", { to: Schema.String }) {}
class Gone extends Schema.TaggedError<Gone>()("Gone", {}) {}

class Index extends Task.make("Index", {
  payload: { page: Schema.NonEmptyString },
  success: Schema.Struct({ words: Schema.Int }),
  error: Schema.Union([Moved, Gone]),
  retry: { Gone: "never", _: RetryPolicy.fixed("5 seconds", { maxAttempts: 2 }) },
  queue: "search",
}) {}
const Forget = Task.make("Forget", { payload: { why: Schema.String }, queue: "search", aliases: ["Drop"] })
const memory = Layer.fresh(TaskQueueMemory.layer)
const both = { tasks: [Index, Forget], queue: "search", duration: "1 minute" } as const
const at = (millis: number) => DateTime.makeUnsafe(millis)

/** The one lease that there must be. */
const only = <Lease>({ leases }: { readonly leases: ReadonlyArray<Lease> }): Lease => {
  assert.strictEqual(leases.length, 1)
  return leases[0]!
}
const leaseIndex = Effect.map(PullQueue.lease({ tasks: [Index], queue: "search", duration: "1 minute" }), only)

describe("PullQueue.lease", () => {
  it.effect("gives typed records of several tasks, told apart by the task's name", () =>
    Effect.gen(function* () {
      const index = yield* Index.defer({ page: "a" }, { headers: { tenant: "acme" } })
      const forget = yield* Forget.defer({ why: "b" })
      const { buried, leases } = yield* PullQueue.lease({ ...both, max: 10 })
      const told = leases.map((lease) =>
        lease.task === "Index"
          ? [lease.id, lease.payload.page satisfies string]
          : [lease.id, lease.payload.why satisfies string],
      )
      assert.deepStrictEqual(told, [
        [index.id, "a"],
        [forget.id, "b"],
      ])
      assert.deepStrictEqual(buried, [])
      assert.deepInclude(leases[0], { queue: "search", until: at(60_000) })
      assert.deepInclude(leases[0]!.record, { attempt: 1, headers: { tenant: "acme" }, worker: "pull" })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("takes groups of tasks, and tells a record with an alias as its task", () =>
    Effect.gen(function* () {
      yield* Task.make("Drop", { payload: { why: Schema.String }, queue: "search" }).defer({ why: "old" })
      const Pages = Task.group(Index, Forget)
      const lease = only(yield* PullQueue.lease({ tasks: [Pages], queue: "search", duration: 1 }))
      assert.strictEqual(lease.task satisfies "Index" | "Forget", "Forget")
      assert.strictEqual(lease.record.task, "Drop")
      assert.deepStrictEqual(lease.payload, { why: "old" })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("leases at most max, one without it, in the order of the queue, and tells when there is more", () =>
    Effect.gen(function* () {
      yield* Index.deferAll(["a", "b", "c"].map((page) => ({ page })))
      yield* Index.defer({ page: "first" }, { priority: 1 })
      yield* Index.defer({ page: "later" }, { delay: "30 seconds" })
      assert.strictEqual((yield* leaseIndex).payload.page, "first")
      const two = yield* PullQueue.lease({ ...both, max: 2 })
      assert.deepStrictEqual(
        two.leases.map(({ record }) => record.payload),
        [`{"page":"a"}`, `{"page":"b"}`],
      )
      assert.deepStrictEqual(two.nextAt, Option.some(at(0)))
      const rest = yield* PullQueue.lease({ ...both, max: 1000 })
      assert.strictEqual(rest.leases.length, 1)
      assert.deepStrictEqual(rest.nextAt, Option.some(at(30_000)))
    }).pipe(Effect.provide(memory)),
  )

  it.effect("answers with nothing when there is nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* PullQueue.lease(both), { leases: [], buried: [], nextAt: Option.none() })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("leaves other tasks, newer versions and other targets where they are", () =>
    Effect.gen(function* () {
      const Newer = Task.make("Forget", {
        payload: Task.versions({ why: Schema.String }).to({ because: Schema.String }, ({ why }) => ({ because: why })),
        queue: "search",
      })
      yield* Newer.defer({ because: "new" })
      yield* Index.defer({ page: "a" })
      yield* Forget.defer({ why: "far" }, { target: "eu" })
      const forgets = { tasks: [Forget], queue: "search", duration: 1, max: 10 }
      assert.deepStrictEqual((yield* PullQueue.lease(forgets)).leases, [])
      assert.strictEqual(only(yield* PullQueue.lease({ ...forgets, targets: ["eu"] })).payload.why, "far")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("keeps the limits of the queue: while it is paused there is nothing", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* Index.deferAll(["a", "b"].map((page) => ({ page })))
      yield* queue.configure({ queue: "search", limits: { paused: true }, now: 0 })
      assert.strictEqual((yield* PullQueue.lease(both)).leases.length, 0)
      yield* queue.configure({ queue: "search", limits: { paused: false, maxConcurrent: 1 }, now: 0 })
      assert.strictEqual((yield* PullQueue.lease({ ...both, max: 2 })).leases.length, 1)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("leases for as long as it was asked to, whatever the task's own lease", () =>
    Effect.gen(function* () {
      const Slow = Task.make("Slow", { queue: "search", lease: "1 hour" })
      const ref = yield* Slow.defer(undefined)
      const lease = only(yield* PullQueue.lease({ tasks: [Slow], queue: "search", duration: "1 minute" }))
      assert.deepStrictEqual([lease.until, lease.record.leaseUntil], [at(60_000), 60_000])
      assert.strictEqual((yield* ref.record).leaseUntil, 60_000)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("makes what expired available again, and counts that as a crash", () =>
    Effect.gen(function* () {
      yield* Index.defer({ page: "a" })
      const late = yield* leaseIndex
      yield* TestClock.adjust("1 minute")
      const again = yield* leaseIndex
      assert.strictEqual(again.id, late.id)
      assert.deepInclude(again.record, { attempt: 2, crashes: 1 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("leases for no time at all: the next one has it, too (Q9)", () =>
    Effect.gen(function* () {
      yield* Index.defer({ page: "a" })
      const glance = only(yield* PullQueue.lease({ tasks: [Index], queue: "search", duration: 0 }))
      assert.deepStrictEqual(glance.until, at(0))
      assert.strictEqual((yield* leaseIndex).id, glance.id)
    }).pipe(Effect.provide(memory)),
  )

  it.effect.each<readonly [string, Partial<PullQueue.LeaseOptions<ReadonlyArray<typeof Forget>>>]>([
    ["max", { max: 0 }],
    ["max", { max: 1001 }],
    ["max", { max: 1.5 }],
    ["max", { max: Number.NaN }],
    ["duration", { duration: -1 }],
    ["duration", { duration: 604_800_001 }],
    ["duration", { duration: Duration.infinity }],
    ["duration", { duration: "soon" as never }],
    ["duration", { duration: Number.NaN }],
    ["queue", { queue: "" }],
    ["tasks", { tasks: [] }],
    ["tasks", { tasks: [Forget, Forget] }],
    ["tasks", { tasks: [Forget, Task.make("Drop") as never] }],
  ])("refuses an invalid %s: %o", ([field, options]) =>
    Effect.gen(function* () {
      const ref = yield* Forget.defer({ why: "x" })
      const error = yield* Effect.flip(
        PullQueue.lease<ReadonlyArray<typeof Forget>>({ ...both, tasks: [Forget], ...options }),
      )
      assert.instanceOf(error, InvalidLease)
      assert.strictEqual((error as InvalidLease).field, field)
      assert.include(error.message, `: ${field} `)
      assert.strictEqual(yield* ref.state, "ready")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("accepts the bounds themselves: 1,000 records for 7 days (Q9)", () =>
    Effect.gen(function* () {
      yield* Index.deferAll(Array.from({ length: 1001 }, (_, index) => ({ page: `${index}` })))
      const { leases } = yield* PullQueue.lease({ ...both, max: 1000, duration: "7 days" })
      assert.strictEqual(leases.length, 1000)
      assert.deepStrictEqual(leases[999]!.until, at(604_800_000))
    }).pipe(Effect.provide(memory)),
  )

  it.effect("buries what does not decode, says so in the log and in the answer, and gives the others", () =>
    Effect.gen(function* () {
      const bad = yield* Task.make("Index", { payload: { page: Schema.String }, queue: "search" }).defer({ page: "" })
      yield* Index.defer({ page: "good" })
      const { buried, leases } = yield* PullQueue.lease({ ...both, max: 10 })
      assert.deepStrictEqual(
        leases.map(({ record }) => record.payload),
        [`{"page":"good"}`],
      )
      assert.strictEqual(buried.length, 1)
      assert.deepInclude(buried[0], { id: bad.id, task: "Index", reason: "Undecodable" })
      assert.include(buried[0]!.message, "page")
      const record = yield* bad.record
      assert.deepInclude(record, { state: "dead", reason: "Undecodable" })
      assert.include(record.failure, `"tag":"Undecodable"`)
      const log = JSON.stringify(yield* TestConsole.logLines)
      assert.include(log, "task is dead: Undecodable")
      assert.include(log, bad.id)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("loads payloads that are stored apart, and buries a record whose payload is gone", () =>
    Effect.gen(function* () {
      const store = yield* PayloadStore.PayloadStore
      const page = "x".repeat(200_000)
      const kept = yield* Index.defer({ page })
      const gone = yield* Index.defer({ page })
      yield* store.remove({ refs: [(yield* gone.record).payloadRef!] })
      const { buried, leases } = yield* PullQueue.lease({ tasks: [Index], queue: "search", duration: 1, max: 10 })
      assert.deepStrictEqual(
        leases.map(({ id, payload }) => [id, payload.page.length]),
        [[kept.id, 200_000]],
      )
      assert.deepStrictEqual(
        buried.map(({ id, reason }) => [id, reason]),
        [[gone.id, "PayloadMissing"]],
      )
      assert.strictEqual((yield* gone.record).reason, "PayloadMissing")
    }).pipe(Effect.provide(memory.pipe(Layer.provideMerge(PayloadStore.layerMemory())))),
  )

  it.effect("snoozes a record whose payload cannot be loaded just now", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "x".repeat(200_000) })
      const answer = yield* PullQueue.lease({ tasks: [Index], queue: "search", duration: 1 })
      assert.deepStrictEqual([answer.leases, answer.buried], [[], []])
      assert.deepInclude(yield* ref.record, { state: "scheduled", eta: 10_000, attempt: 0 })
    }).pipe(
      Effect.provide(
        memory.pipe(
          Layer.provide(
            Layer.sync(PayloadStore.PayloadStore, () => {
              const message = "out of reach"
              const error = new PayloadStore.PayloadStoreError({ operation: "get", message, isRetryable: true })
              return { ...PayloadStore.makeMemory(), get: () => Effect.fail(error) }
            }),
          ),
        ),
      ),
    ),
  )

  it.effect("gives back what it leased when it is interrupted on the way", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "x".repeat(200_000) })
      const asked = yield* Deferred.make<void>()
      const store = {
        ...PayloadStore.makeMemory(),
        get: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never),
      }
      const queue = TaskQueue.of({ ...(yield* TaskQueue), payloads: store })
      const fiber = yield* Effect.forkChild(
        Effect.provideService(
          PullQueue.lease({ tasks: [Index], queue: "search", duration: "1 hour" }),
          TaskQueue,
          queue,
        ),
      )
      yield* Deferred.await(asked)
      assert.strictEqual(yield* ref.state, "running")
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0, crashes: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("gives back what it leased when the queue fails on the way", () =>
    Effect.gen(function* () {
      const bad = yield* Task.make("Index", { payload: { page: Schema.String }, queue: "search" }).defer({ page: "" })
      const good = yield* Index.defer({ page: "good" })
      const queue = yield* TaskQueue
      const failure = new TaskQueueError({ operation: "settle", message: "gone", isRetryable: true })
      let calls = 0
      const failing = TaskQueue.of({
        ...queue,
        settle: (params) => (++calls === 1 ? Effect.fail(failure) : queue.settle(params)),
      })
      const error = yield* Effect.flip(Effect.provideService(PullQueue.lease({ ...both, max: 2 }), TaskQueue, failing))
      assert.strictEqual(error, failure)
      assert.deepStrictEqual([yield* bad.state, yield* good.state], ["ready", "ready"])
    }).pipe(Effect.provide(memory)),
  )
})

describe("TaskLease", () => {
  it.effect("succeeds with a typed value, which is the result of the record", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      yield* lease.succeed({ words: 7 })
      assert.deepStrictEqual(yield* ref.await, { words: 7 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("needs no value for a task without a result, and keeps nothing where nothing is kept", () =>
    Effect.gen(function* () {
      const ref = yield* Forget.defer({ why: "x" })
      yield* only(yield* PullQueue.lease({ ...both, tasks: [Forget] })).succeed()
      assert.strictEqual(yield* ref.await, undefined)
      const Once = Task.make("Once", { queue: "search", keep: "none" })
      const once = yield* Once.defer(undefined)
      yield* only(yield* PullQueue.lease({ ...both, tasks: [Once] })).succeed()
      assert.strictEqual((yield* Effect.flip(once.record))._tag, "TaskNotFound")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("refuses a value that the task's schema does not know, and holds the lease", () =>
    Effect.gen(function* () {
      yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      assert.strictEqual((yield* Effect.flip(lease.succeed({ words: 0.5 })))._tag, "SchemaError")
      yield* lease.succeed({ words: 1 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("fails as a handler does: by the rule of the error's tag, and the policy until it gives up", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const moved = new Moved({ to: "b" })
      assert.deepStrictEqual(yield* (yield* leaseIndex).fail(moved), { _tag: "Retry", at: at(5000) })
      assert.deepInclude(yield* ref.record, { state: "scheduled", eta: 5000 })
      yield* TestClock.adjust("5 seconds")
      const last = yield* (yield* leaseIndex).fail(moved)
      assert.deepStrictEqual(last, { _tag: "Bury", reason: "RetriesExhausted" })
      assert.deepStrictEqual(yield* Effect.flip(ref.await), moved)

      const gone = yield* Index.defer({ page: "gone" })
      assert.deepStrictEqual(yield* (yield* leaseIndex).fail(new Gone()), { _tag: "Bury", reason: "PermanentFailure" })
      assert.strictEqual((yield* gone.record).reason, "PermanentFailure")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("fails for good, and snoozes, with the failures that a handler has for that", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const snoozed = yield* (yield* leaseIndex).fail(Snooze.for("1 second"))
      assert.deepStrictEqual(snoozed, { _tag: "Snooze", at: at(1000) })
      yield* TestClock.adjust("1 second")
      const lease = yield* leaseIndex
      assert.strictEqual(lease.record.attempt, 1)
      const message = "no such page"
      const buried = yield* lease.fail(new PermanentTaskFailure({ message }))
      assert.deepStrictEqual(buried, { _tag: "Bury", reason: "PermanentFailure" })
      assert.include((yield* ref.record).failure, message)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is given back by release, ready at once, the attempt not counted", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      yield* (yield* leaseIndex).release
      assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0, crashes: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("lasts for so long from an extension on, longer or shorter", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(yield* lease.extend("1 minute"), { until: at(110_000), cancelRequested: false })
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual((yield* PullQueue.lease(both)).leases.length, 0)
      assert.deepStrictEqual((yield* lease.extend(1)).until, at(109_001))
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* leaseIndex).id, ref.id)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is released by an extension to 0 (Q64)", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* lease.extend(0), { until: at(10_000), cancelRequested: false })
      assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0 })
      assert.instanceOf(yield* Effect.flip(lease.extend("1 minute")), LeaseExpired)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is extended by no more than 7 days, and holds after it was refused", () =>
    Effect.gen(function* () {
      yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      for (const duration of [-1, "8 days", Duration.infinity] as const) {
        const error = yield* Effect.flip(lease.extend(duration))
        assert.deepInclude(error, { _tag: "InvalidLease", field: "duration", queue: "search" })
      }
      yield* lease.extend("7 days")
    }).pipe(Effect.provide(memory)),
  )

  it.effect(
    "tells at an extension that somebody wants the record cancelled, and cancels it when it is given back",
    () =>
      Effect.gen(function* () {
        const ref = yield* Index.defer({ page: "a" })
        const lease = yield* leaseIndex
        assert.strictEqual(yield* ref.cancel({ reason: "not needed" }), "Requested")
        assert.strictEqual((yield* lease.extend("1 minute")).cancelRequested, true)
        yield* lease.release
        assert.strictEqual(yield* ref.state, "cancelled")
      }).pipe(Effect.provide(memory)),
  )

  it.effect("is over when somebody else took the record: nothing it does changes anything (Q64)", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const late = yield* leaseIndex
      yield* TestClock.adjust("1 minute")
      const taken = yield* leaseIndex
      for (const act of [
        late.extend("1 minute"),
        late.extend(0),
        late.release,
        late.succeed({ words: 1 }),
        late.fail(new Gone()),
      ]) {
        const error = yield* Effect.flip<unknown, unknown, never>(act)
        assert.instanceOf(error, LeaseExpired)
        assert.deepInclude(error, { id: ref.id, queue: "search", task: "Index" })
      }
      yield* taken.succeed({ words: 2 })
      assert.deepStrictEqual(yield* ref.await, { words: 2 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("still settles after its time while nobody took the record", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const lease = yield* leaseIndex
      yield* TestClock.adjust("1 hour")
      yield* lease.succeed({ words: 1 })
      assert.strictEqual(yield* ref.state, "succeeded")
      assert.instanceOf(yield* Effect.flip(lease.release), LeaseExpired)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is told of in events when it ends, once", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const events = yield* queue.events.subscribe
      yield* Index.defer({ page: "a" })
      yield* TestClock.adjust("2 seconds")
      const lease = yield* leaseIndex
      yield* TestClock.adjust("3 seconds")
      yield* lease.fail(new Gone())
      yield* Effect.flip(lease.release)
      yield* Index.defer({ page: "b" })
      const told = yield* events.pipe(Stream.take(4), Stream.runCollect)
      assert.deepStrictEqual(
        told.map(({ _tag }) => _tag),
        ["Deferred", "Started", "Ended", "Deferred"],
      )
      assert.deepInclude(told[1], { worker: "pull", attempt: 1, waited: Duration.seconds(2) })
      assert.deepInclude(told[2], { outcome: "Bury", reason: "PermanentFailure", took: Duration.seconds(3) })
    }).pipe(Effect.provide(memory)),
  )
})

describe("PullQueue.leaseScoped", () => {
  it.effect("gives back what was not settled when the scope closes, and only that", () =>
    Effect.gen(function* () {
      const told = yield* (yield* TaskQueue).events.subscribe
      const refs = yield* Effect.forEach(["a", "b", "c"], (page) => Index.defer({ page }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { leases } = yield* PullQueue.leaseScoped({
            tasks: [Index],
            queue: "search",
            duration: "1 hour",
            max: 3,
          })
          yield* leases[0]!.succeed({ words: 1 })
          yield* leases[1]!.fail(new Moved({ to: "x" }))
          assert.strictEqual(yield* refs[2]!.state, "running")
        }),
      )
      const ends = yield* told.pipe(
        Stream.filter((event) => event._tag === "Ended"),
        Stream.take(3),
        Stream.runCollect,
      )
      assert.deepStrictEqual(
        ends.map(({ outcome }) => outcome),
        ["Succeed", "Retry", "Release"],
      )
      const states = yield* Effect.forEach(refs, (ref) => ref.state)
      assert.deepStrictEqual(states, ["succeeded", "scheduled", "ready"])
      assert.deepInclude(yield* refs[2]!.record, { attempt: 0, crashes: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("gives back when its program is interrupted", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const leased = yield* Deferred.make<void>()
      const fiber = yield* PullQueue.leaseScoped({ ...both, duration: "1 hour" }).pipe(
        Effect.andThen(Deferred.succeed(leased, undefined)),
        Effect.andThen(Effect.never),
        Effect.scoped,
        Effect.forkChild,
      )
      yield* Deferred.await(leased)
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("logs what it could not give back, which then expires", () =>
    Effect.gen(function* () {
      const ref = yield* Index.defer({ page: "a" })
      const queue = yield* TaskQueue
      const failure = new TaskQueueError({ operation: "settle", message: "gone", isRetryable: true })
      const failing = TaskQueue.of({ ...queue, settle: () => Effect.fail(failure) })
      yield* PullQueue.leaseScoped(both).pipe(Effect.scoped, Effect.provideService(TaskQueue, failing))
      const log = JSON.stringify(yield* TestConsole.logLines)
      assert.include(log, "could not be given back: gone")
      assert.include(log, ref.id)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* leaseIndex).record.crashes, 1)
    }).pipe(Effect.provide(memory)),
  )
})
