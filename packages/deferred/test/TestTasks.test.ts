import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import * as Worker from "@outlive/deferred/Worker"
import {
  Cause,
  Clock,
  Context,
  DateTime,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Option,
  Ref,
  Schema,
  Stream,
} from "effect"
import { TestClock } from "effect/testing"

class NoSuchUser extends Schema.TaggedError<NoSuchUser>()("NoSuchUser", { userId: Schema.String }) {}

class Greet extends Task.make("Greet", {
  payload: { userId: Schema.String, at: Schema.DateTimeUtc },
  success: Schema.String,
  error: NoSuchUser,
  retry: RetryPolicy.fixed("10 seconds", { maxAttempts: 3 }),
}) {}
class Notify extends Task.make("Notify", { payload: { text: Schema.String }, queue: "notices" }) {}

type GreetHandler = Parameters<typeof Greet.toLayer<never>>[0]

const at = DateTime.makeUnsafe(0)
const ada = { userId: "ada", at }
const hello: GreetHandler = ({ userId }) => Effect.succeed(`hello ${userId}`)

const greeting = (handler: GreetHandler, options?: Partial<TestTasks.Options<readonly [typeof Greet]>>) =>
  TestTasks.layer({ tasks: [Greet], ...options }).pipe(Layer.provide(Greet.toLayer(handler)))

/** A handler that fails, dies, snoozes or succeeds as its payload's queue of outcomes says. */
const counted = (handler: (calls: number, context: TaskContext["Service"]) => ReturnType<GreetHandler>) =>
  Effect.map(Ref.make(0), (calls) => ({
    calls,
    layer: greeting((_, context) =>
      Effect.flatMap(
        Ref.updateAndGet(calls, (n) => n + 1),
        (n) => handler(n, context),
      ),
    ),
  }))

const some = <A>(option: Option.Option<A>): A => Option.getOrThrow(option)

describe("TestTasks.deferred", () => {
  it.effect("lists what was deferred of a task, typed and in order, and nothing of other tasks", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { delay: "1 minute", headers: { tenant: "a" }, name: "one" })
      yield* Notify.defer({ text: "x" })
      yield* Greet.defer({ userId: "bob", at: DateTime.makeUnsafe(5) }, { priority: 3 })
      const [first, second, ...rest] = yield* TestTasks.deferred(Greet)
      assert.lengthOf(rest, 0)
      assert.deepInclude(first, { queue: "default", eta: 60_000, name: "one", state: "scheduled", attempt: 0 })
      assert.deepStrictEqual(first?.headers, { tenant: "a" })
      assert.deepInclude(second, { eta: 0, name: undefined, state: "ready", priority: 3 })
      const decoded: typeof Greet.payload.Type | undefined = second?.payload
      assert.deepStrictEqual(decoded, { userId: "bob", at: DateTime.makeUnsafe(5) })
      assert.lengthOf(yield* TestTasks.deferred(Notify), 1)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("leaves out what has ended, unless asked for it", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada)
      const ref = yield* Greet.defer(ada)
      yield* ref.cancel()
      yield* TestTasks.runNext
      assert.deepStrictEqual(yield* TestTasks.deferred(Greet), [])
      const states = (records: ReadonlyArray<{ readonly state: string }>) => records.map(({ state }) => state)
      assert.deepStrictEqual(states(yield* TestTasks.deferred(Greet, { states: "all" })), ["succeeded", "cancelled"])
      assert.deepStrictEqual(states(yield* TestTasks.deferred(Greet, { states: ["cancelled"] })), ["cancelled"])
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("lists more records than a page of the driver holds", () =>
    Effect.gen(function* () {
      yield* Notify.deferAll(Array.from({ length: 2_500 }, (_, n) => ({ text: String(n) })))
      const texts = (yield* TestTasks.deferred(Notify)).map(({ payload }) => Number(payload.text))
      assert.deepStrictEqual(
        texts,
        Array.from({ length: 2_500 }, (_, n) => n),
      )
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("lists payloads that are stored apart", () =>
    Effect.gen(function* () {
      const text = "x".repeat(200_000)
      yield* Notify.defer({ text })
      const [record] = yield* TestTasks.deferred(Notify)
      assert.strictEqual(record?.payload.text.length, text.length)
      assert.isDefined(record?.payloadRef)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("brings payloads of older versions and names up to date, and says which does not decode", () => {
    const Old = Task.make("Mail", { payload: { user: Schema.String } })
    const New = Task.make("Post", {
      payload: Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.user })),
      aliases: ["Mail"],
    })
    const Wrong = Task.make("Mail", { payload: { other: Schema.String } })
    return Effect.gen(function* () {
      yield* Old.defer({ user: "ada" })
      yield* New.defer({ userId: "bob" })
      const payloads = (yield* TestTasks.deferred(New)).map(({ payload }) => payload)
      assert.deepStrictEqual(payloads, [{ userId: "ada" }, { userId: "bob" }])
      const error = yield* Effect.flip(TestTasks.deferred(Wrong))
      assert.strictEqual(error._tag, "Undecodable")
    }).pipe(Effect.provide(TestTasks.layerQueue))
  })
})

describe("TestTasks.runNext", () => {
  it.effect("runs nothing before it is told to, and none when nothing is due", () =>
    Effect.gen(function* () {
      const { calls, layer } = yield* counted(() => Effect.succeed(""))
      yield* Effect.gen(function* () {
        assert.isTrue(Option.isNone(yield* TestTasks.runNext))
        yield* Greet.defer(ada, { delay: "1 hour" })
        yield* TestClock.adjust("59 minutes")
        assert.isTrue(Option.isNone(yield* TestTasks.runNext))
        yield* TestClock.adjust("1 minute")
        for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
        assert.strictEqual(yield* Ref.get(calls), 0)
        assert.isTrue(Option.isSome(yield* TestTasks.runNext))
        assert.strictEqual(yield* Ref.get(calls), 1)
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect("says what it ran, how the handler ended and what became of the record", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      const { exit, outcome, record } = some(yield* TestTasks.runNext)
      assert.deepInclude(record, { id: ref.id, attempt: 1, worker: "test" })
      assert.deepStrictEqual(exit, Exit.succeed("hello ada"))
      assert.deepStrictEqual(outcome, { _tag: "Succeed", value: "hello ada" })
      assert.strictEqual(yield* ref.await, "hello ada")
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("retries by the task's policy and buries what is exhausted, as a worker does", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      const first = some(yield* TestTasks.runNext)
      assert.deepStrictEqual(first.exit, Exit.fail(new NoSuchUser({ userId: "ada" })))
      assert.deepStrictEqual(first.outcome, {
        _tag: "Retry",
        eta: 10_000,
        failure: { attempt: 1, at: 0, kind: "failure", tag: "NoSuchUser", message: new NoSuchUser(ada).message },
      })
      assert.isTrue(Option.isNone(yield* TestTasks.runNext))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(some(yield* TestTasks.runNext).outcome._tag, "Retry")
      yield* TestClock.adjust("10 seconds")
      const last = some(yield* TestTasks.runNext)
      assert.deepInclude(last.outcome, { _tag: "Bury", reason: "RetriesExhausted" })
      assert.strictEqual((yield* Effect.flip(ref.await))._tag, "NoSuchUser")
    }).pipe(Effect.provide(greeting(({ userId }) => Effect.fail(new NoSuchUser({ userId }))))),
  )

  it.effect.each([
    ["Snooze", Effect.fail(Snooze.for("5 seconds")), "scheduled"],
    ["Retry", Effect.fail(new SingularTaskFailure({ message: "not yet" })), "scheduled"],
    ["Retry", Effect.die(new Error("boom")), "scheduled"],
    ["Bury", Effect.fail(new PermanentTaskFailure({ message: "closed" })), "dead"],
  ] as const)("gives a %s as one", ([tag, result, state]) =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      assert.strictEqual(some(yield* TestTasks.runNext).outcome._tag, tag)
      assert.strictEqual(yield* ref.state, state)
    }).pipe(Effect.provide(greeting(() => result))),
  )

  it.effect("parks what does not decode, without calling the handler", () =>
    Effect.gen(function* () {
      const Other = Task.make("Greet", { payload: { nothing: Schema.String } })
      const { calls, layer } = yield* counted(() => Effect.succeed(""))
      yield* Effect.gen(function* () {
        yield* Other.defer({ nothing: "" })
        assert.deepInclude(some(yield* TestTasks.runNext).outcome, { _tag: "Bury", reason: "Undecodable" })
        assert.strictEqual(yield* Ref.get(calls), 0)
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect(
    "goes over all queues and targets: higher priority first, then the earlier, then the first deferred",
    () => {
      const ran: Array<string> = []
      const live = TestTasks.layer({ tasks: [Notify] }).pipe(
        Layer.provide(Notify.toLayer(({ text }) => Effect.sync(() => void ran.push(text)))),
      )
      return Effect.gen(function* () {
        yield* Notify.defer({ text: "late" }, { delay: 5, queue: "b" })
        yield* Notify.defer({ text: "first" }, { queue: "c" })
        yield* Notify.defer({ text: "second" })
        yield* Notify.defer({ text: "third" }, { queue: "c", target: "gpu" })
        yield* Notify.defer({ text: "urgent" }, { queue: "b", priority: 1 })
        yield* TestClock.adjust(5)
        yield* TestTasks.drain()
        assert.deepStrictEqual(ran, ["urgent", "first", "second", "third", "late"])
      }).pipe(Effect.provide(live))
    },
  )

  it.effect("gives what a crash left behind its place in that order", () =>
    Effect.gen(function* () {
      yield* TestTasks.crash("beforeHandler")
      const { id } = yield* Greet.defer(ada, { queue: "b", priority: 1 })
      yield* TestTasks.runNext
      yield* Greet.defer(ada, { queue: "a" })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(some(yield* TestTasks.runNext).record.id, id)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("tells of what it runs as a worker does: progress while it runs, events, and a history", () =>
    Effect.gen(function* () {
      const half = yield* Latch.make()
      const go = yield* Latch.make()
      const handler: GreetHandler = (_, { progress }) =>
        progress({ done: 1 }).pipe(
          Effect.andThen(half.open),
          Effect.andThen(go.await),
          Effect.andThen(progress({ done: 2 })),
          Effect.as(""),
        )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const told = yield* Effect.forkScoped(Stream.runCollect(Stream.take(yield* queue.events.subscribe, 3)))
        const ref = yield* Greet.defer(ada)
        const fiber = yield* Effect.forkChild(TestTasks.runNext)
        yield* half.await
        for (let turn = 0; turn < 20; turn++) yield* Effect.yieldNow
        assert.strictEqual((yield* ref.record).progress, `{"done":1}`)
        yield* go.open
        yield* Fiber.join(fiber)
        assert.strictEqual((yield* ref.record).progress, `{"done":2}`)
        assert.deepStrictEqual(
          (yield* Fiber.join(told)).map(({ _tag }) => _tag),
          ["Deferred", "Started", "Ended"],
        )
        const [attempts] = yield* queue.ledger({ ids: [ref.id] })
        assert.deepStrictEqual(
          attempts?.map(({ outcome, worker }) => [outcome, worker]),
          [["Succeed", "test"]],
        )
      }).pipe(Effect.scoped, Effect.provide(greeting(handler)))
    }),
  )

  it.effect("takes groups of tasks, and parks an attempt whose payload is gone", () => {
    const Group = Task.group(Greet, Notify)
    const App = TestTasks.layer({ tasks: [Group] }).pipe(
      Layer.provide(Group.toLayer({ Greet: hello, Notify: () => Effect.void })),
    )
    return Effect.gen(function* () {
      yield* Greet.defer(ada)
      const { id } = yield* Notify.defer({ text: "x".repeat(200_000) })
      const { payloads } = yield* TaskQueue
      yield* payloads?.remove({ refs: [id] }) ?? Effect.die("no store")
      const { ran } = yield* TestTasks.drain()
      assert.deepStrictEqual(
        ran.map(({ outcome, record }) => [record.task, outcome._tag, "reason" in outcome ? outcome.reason : undefined]),
        [
          ["Greet", "Succeed", undefined],
          ["Notify", "Bury", "PayloadMissing"],
        ],
      )
    }).pipe(Effect.provide(App))
  })

  it.effect("claims a record of its own for each of those who run at the same time", () =>
    Effect.gen(function* () {
      const refs = [yield* Greet.defer(ada), yield* Greet.defer(ada)]
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(TestTasks.runNext))
      yield* TestClock.adjust("1 second")
      const ran = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(
        ran.map((one) => one.valueOrUndefined?.record.id),
        [...refs.map(({ id }) => id), undefined],
      )
    }).pipe(Effect.provide(greeting(() => Effect.as(Effect.sleep("1 second"), "")))),
  )

  it.effect("works over any driver, which its handlers have from the same layer", () => {
    let enqueued = 0
    const driver = Effect.map(TaskQueueMemory.make, (memory) => ({
      ...memory,
      enqueue: (params: Parameters<typeof memory.enqueue>[0]) => {
        enqueued += params.records.length
        return memory.enqueue(params)
      },
    }))
    const Queue = TestTasks.layerQueueOf(driver)
    const App = TestTasks.layer({ tasks: [Greet, Notify], queue: Queue }).pipe(
      Layer.provide(Greet.toLayer(() => Effect.as(Effect.orDie(Notify.defer({ text: "" })), ""))),
      Layer.provide(Notify.toLayer(() => Effect.void)),
      Layer.provideMerge(Queue),
    )
    return Effect.gen(function* () {
      yield* Greet.defer(ada)
      assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 2 })
      assert.strictEqual(enqueued, 2)
    }).pipe(Effect.provide(App))
  })

  it.effect("leaves alone what is paused, limited, another task's or of a newer version", () =>
    Effect.gen(function* () {
      const Newer = Task.make("Greet", {
        payload: Task.versions({ a: Schema.String }).to({ a: Schema.String }, (x) => x),
      })
      const queue = yield* TaskQueue
      yield* queue.configure({ queue: "paused", limits: { paused: true }, now: 0 })
      yield* queue.configure({ queue: "slow", limits: { rate: 1, burst: 1 }, now: 0 })
      yield* Greet.defer(ada, { queue: "paused" })
      yield* Greet.deferAll([ada, ada], { queue: "slow" })
      yield* Notify.defer({ text: "" })
      yield* Newer.defer({ a: "" })
      const drained = yield* TestTasks.drain()
      assert.deepStrictEqual(drained.counts, { Succeed: 1 })
      assert.strictEqual(drained.left, 3)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("gives handlers the test's clock: a sleeping one ends when the test moves it", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      const fiber = yield* Effect.forkChild(TestTasks.runNext)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(some(yield* Fiber.join(fiber)).outcome._tag, "Succeed")
      assert.strictEqual(yield* ref.await, "woke at 3000")
    }).pipe(
      Effect.provide(
        greeting(() =>
          Effect.map(Effect.andThen(Effect.sleep("3 seconds"), Clock.currentTimeMillis), (now) => `woke at ${now}`),
        ),
      ),
    ),
  )

  it.effect("stops an attempt at its timeout", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { timeout: "5 seconds" })
      const fiber = yield* Effect.forkChild(TestTasks.runNext)
      yield* TestClock.adjust("5 seconds")
      const { outcome } = some(yield* Fiber.join(fiber))
      assert.strictEqual(outcome._tag === "Retry" ? outcome.failure.kind : "", "timeout")
    }).pipe(Effect.provide(greeting(() => Effect.never))),
  )

  it.effect("interrupts a running handler when its record is cancelled, finalizers first", () =>
    Effect.gen(function* () {
      const running = yield* Latch.make()
      const cleaned = yield* Ref.make(false)
      const handler = () => Effect.andThen(running.open, Effect.never).pipe(Effect.ensuring(Ref.set(cleaned, true)))
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        const fiber = yield* Effect.forkChild(TestTasks.runNext)
        yield* running.await
        assert.strictEqual(yield* ref.cancel({ reason: "changed my mind" }), "Requested")
        assert.deepStrictEqual(some(yield* Fiber.join(fiber)).outcome, { _tag: "Cancel" })
        assert.isTrue(yield* Ref.get(cleaned))
        assert.strictEqual((yield* Effect.flip(ref.await)).message.includes("changed my mind"), true)
      }).pipe(Effect.provide(greeting(handler)))
    }),
  )

  it.effect("gives the record and its attempt back when the test stops waiting, finalizers first", () =>
    Effect.gen(function* () {
      const running = yield* Latch.make()
      const cleaned = yield* Ref.make(false)
      const handler = () => Effect.andThen(running.open, Effect.never).pipe(Effect.ensuring(Ref.set(cleaned, true)))
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        const fiber = yield* Effect.forkChild(TestTasks.runNext)
        yield* running.await
        yield* Fiber.interrupt(fiber)
        assert.isTrue(yield* Ref.get(cleaned))
        assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0, crashes: 0 })
      }).pipe(Effect.provide(greeting(handler)))
    }),
  )

  it.effect("runs handlers that defer and use other services, with what their own layer gave them", () => {
    class Mailer extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<void> }>()("Mailer") {}
    const sent: Array<string> = []
    const Handlers = Layer.mergeAll(
      Greet.toLayer(({ userId }) => Effect.as(Notify.defer({ text: userId }).pipe(Effect.orDie), "")),
      Notify.toLayer(({ text }) => Effect.flatMap(Mailer, (mailer) => mailer.send(text))),
    ).pipe(Layer.provide(Layer.succeed(Mailer, { send: (to) => Effect.sync(() => void sent.push(to)) })))
    // The same queue, whichever way it is asked for.
    const App = TestTasks.layer({ tasks: [Greet, Notify] }).pipe(
      Layer.provide(Handlers),
      Layer.provideMerge(TestTasks.layerQueue),
    )
    return Effect.gen(function* () {
      yield* Greet.defer(ada)
      const { counts, ran } = yield* TestTasks.drain()
      assert.deepStrictEqual(counts, { Succeed: 2 })
      assert.deepStrictEqual(
        ran.map(({ record }) => record.task),
        ["Greet", "Notify"],
      )
      assert.deepStrictEqual(sent, ["ada"])
    }).pipe(Effect.provide(App))
  })

  it.effect("gives handlers their attempt: TaskContext, previous failure and all", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { name: "one" })
      const { ran } = yield* TestTasks.drain({ advance: true })
      assert.deepStrictEqual(ran.at(-1)?.outcome, { _tag: "Succeed", value: "one 2 after boom" })
    }).pipe(
      Effect.provide(
        greeting((_, { attempt, name, previousFailure }) =>
          attempt === 1
            ? Effect.die(new Error("boom"))
            : Effect.succeed(
                `${Option.getOrThrow(name)} ${attempt} after ${Option.getOrThrow(previousFailure).message}`,
              ),
        ),
      ),
    ),
  )
})

describe("TestTasks.drain", () => {
  it.effect("runs all that is due, what that defers and what becomes due meanwhile, and counts outcomes", () => {
    const Chain = Task.make("Chain", { payload: { n: Schema.Int } })
    const App = TestTasks.layer({ tasks: [Chain, Greet] }).pipe(
      Layer.provide(
        Layer.merge(
          Greet.toLayer(hello),
          Chain.toLayer(({ n }) => (n === 0 ? Effect.void : Effect.orDie(Effect.asVoid(Chain.defer({ n: n - 1 }))))),
        ),
      ),
      Layer.provideMerge(TestTasks.layerQueue),
    )
    return Effect.gen(function* () {
      yield* Chain.defer({ n: 3 })
      yield* Greet.defer(ada)
      yield* Greet.defer(ada, { delay: 1 })
      const { counts, left, ran } = yield* TestTasks.drain()
      assert.deepStrictEqual(counts, { Succeed: 5 })
      assert.strictEqual(left, 1)
      assert.strictEqual(ran.map(({ record }) => record.task).join(" "), "Chain Greet Chain Chain Chain")
    }).pipe(Effect.provide(App))
  })

  it.effect("leaves the clock alone unless told to move it, and then moves it just so far", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { delay: "7 days" })
      assert.deepInclude(yield* TestTasks.drain(), { counts: {}, left: 1 })
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.deepInclude(yield* TestTasks.drain({ advance: true }), { counts: { Succeed: 1 }, left: 0 })
      assert.strictEqual(yield* Clock.currentTimeMillis, 7 * 86_400_000)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("goes through a stretch of time and ends at its end, whatever waits beyond", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { delay: "1 hour" })
      yield* Greet.defer(ada, { delay: "2 hours" })
      yield* Greet.defer(ada, { delay: "4 hours" })
      assert.deepInclude(yield* TestTasks.drain({ advance: 7_199_999 }), { counts: { Succeed: 1 }, left: 2 })
      assert.deepInclude(yield* TestTasks.drain({ advance: 1 }), { counts: { Succeed: 1 }, left: 1 })
      assert.strictEqual(yield* Clock.currentTimeMillis, 7_200_000)
      assert.deepInclude(yield* TestTasks.drain({ advance: "1 hour" }), { counts: {}, left: 1 })
      assert.strictEqual(yield* Clock.currentTimeMillis, 10_800_000)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("goes on through retries, snoozes and rates until nothing waits", () =>
    Effect.gen(function* () {
      const { layer } = yield* counted((n) =>
        n <= 2 ? Effect.fail(Snooze.for("1 hour")) : n <= 4 ? Effect.die("boom") : Effect.succeed(""),
      )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* queue.configure({ queue: "default", limits: { rate: 0.1, burst: 1 }, now: 0 })
        yield* Greet.deferAll([ada, ada])
        const { counts, left } = yield* TestTasks.drain({ advance: true })
        assert.deepStrictEqual(counts, { Snooze: 2, Retry: 2, Succeed: 2 })
        assert.strictEqual(left, 0)
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect("ends although a paused queue holds what will never be due, and says so", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
      yield* Greet.defer(ada)
      assert.deepInclude(yield* TestTasks.drain({ advance: true }), { counts: {}, left: 1 })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("does not move the clock for records that are not its own", () =>
    Effect.gen(function* () {
      yield* Notify.defer({ text: "" }, { queue: "default", delay: "1 day" })
      const queue = yield* TaskQueue
      yield* Notify.defer({ text: "" }, { queue: "default" })
      const tasks = [{ name: "Notify", maxVersion: 1 }]
      yield* queue.claim({
        queues: [{ name: "default", limit: 1 }],
        tasks,
        targets: [],
        lease: 50,
        worker: "w",
        now: 0,
      })
      yield* TestTasks.drain({ advance: true })
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("names the records that keep coming back when it does not end", () =>
    Effect.gen(function* () {
      const { id } = yield* Greet.defer(ada)
      const error = yield* Effect.flip(TestTasks.drain({ maxAttempts: 50 }))
      assert.instanceOf(error, TestTasks.DrainDidNotEnd)
      assert.deepStrictEqual(error.records, [{ task: "Greet", id, attempts: 51, last: "Snooze" }])
      assert.include(error.message, `Greet ${id} came back 51 times, the last time Snooze`)
    }).pipe(Effect.provide(greeting(() => Effect.fail(Snooze.for(0))))),
  )

  it.effect("names the task that defers itself for ever, and gives up on its own without being told when", () => {
    const Loop = Task.make("Loop")
    const App = TestTasks.layer({ tasks: [Loop] }).pipe(
      Layer.provide(Loop.toLayer(() => Effect.orDie(Effect.asVoid(Loop.defer(undefined, { delay: "1 day" }))))),
      Layer.provideMerge(TestTasks.layerQueue),
    )
    return Effect.gen(function* () {
      yield* Loop.defer()
      const error = yield* Effect.flip(TestTasks.drain({ advance: true }))
      assert.strictEqual(error._tag, "DrainDidNotEnd")
      assert.include(error.message, "10001 different records of Loop")
    }).pipe(Effect.provide(App))
  })

  it.effect("gives up when time passes and nothing becomes due, as beside a worker that holds a record", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada)
      yield* TestClock.adjust("1 minute")
      const error = yield* Effect.flip(TestTasks.drain({ advance: true }))
      assert.strictEqual(error._tag, "DrainDidNotEnd")
      assert.include(error.message, "1 have not ended")
    }).pipe(
      Effect.provide(
        Worker.layer({ tasks: [Greet], drainTimeout: 0 }).pipe(
          Layer.provideMerge(greeting(() => Effect.never)),
          Layer.provide(Greet.toLayer(() => Effect.never)),
          Layer.provide(Instance.layerBackend()),
        ),
      ),
    ),
  )

  it.effect("moves the clock while a handler sleeps when asked to, to the very time at which it wakes", () =>
    Effect.gen(function* () {
      const wakes: Array<number> = []
      const App = greeting(() =>
        Effect.gen(function* () {
          for (const delay of ["1 second", "1 minute"] as const) {
            yield* Effect.sleep(delay)
            yield* Effect.promise(() => Promise.resolve())
            wakes.push(yield* Clock.currentTimeMillis)
          }
          return ""
        }).pipe(Effect.timeout("2 hours"), Effect.orDie),
      )
      yield* Effect.gen(function* () {
        yield* Greet.defer(ada)
        yield* TestTasks.drain({ advance: true, withinAttempts: true })
        assert.deepStrictEqual(wakes, [1_000, 61_000])
        assert.strictEqual(yield* Clock.currentTimeMillis, 61_000)
      }).pipe(Effect.provide(App))
    }),
  )

  it.effect("does not move the clock while a handler sleeps unless asked to: it might wait under a timeout", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada, { delay: "1 hour" })
      const fiber = yield* Effect.forkChild(TestTasks.drain({ advance: true }))
      for (let turn = 0; turn < 200; turn++) yield* Effect.yieldNow
      assert.strictEqual(yield* Clock.currentTimeMillis, 3_600_000)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* Fiber.join(fiber)).counts, { Succeed: 1 })
    }).pipe(Effect.provide(greeting(() => Effect.as(Effect.sleep("1 minute"), "")))),
  )

  it.effect("waits for a handler that waits for somebody else, and does not move the clock for it", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<string>()
      yield* Effect.gen(function* () {
        yield* Greet.defer(ada)
        const fiber = yield* Effect.forkChild(TestTasks.drain({ advance: true, withinAttempts: true }))
        for (let turn = 0; turn < 200; turn++) yield* Effect.yieldNow
        yield* Deferred.succeed(gate, "opened")
        assert.deepStrictEqual((yield* Fiber.join(fiber)).counts, { Succeed: 1 })
        assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      }).pipe(Effect.provide(greeting(() => Deferred.await(gate))))
    }),
  )

  it.live("says that moving the clock needs a test clock", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(TestTasks.drain({ advance: true }))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "TestClock")
    }).pipe(Effect.provide(greeting(hello))),
  )

  const Step = Schema.Literals(["fail", "die", "snooze", "singular", "permanent", "defer"])
  const Script = Schema.Array(Step).check(Schema.isMaxLength(6))
  class Play extends Task.make("Play", {
    payload: { script: Script, delay: Schema.Int },
    error: NoSuchUser,
    retry: RetryPolicy.exponential({ maxAttempts: 4 }),
    maxCrashes: 2,
  }) {}
  const Fault = Schema.Literals(["beforeHandler", "afterHandler", "loseLease", "deliverTwice", "settle"])
  const small = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

  it.effect.prop(
    "ends with every record ended once, whatever its handlers do and whatever faults strike",
    {
      records: Schema.Array(Schema.Struct({ script: Script, delay: small(3), queue: small(2) })).check(
        Schema.isMaxLength(6),
      ),
      faults: Schema.Array(Fault).check(Schema.isMaxLength(6)),
    },
    ({ faults, records }) => {
      const runs = new Map<string, number>()
      const play = ({ script }: { readonly script: typeof Script.Type }, { id }: TaskContext["Service"]) =>
        Effect.suspend(
          (): Effect.Effect<void, NoSuchUser | Snooze | SingularTaskFailure | PermanentTaskFailure, TaskQueue> => {
            const run = runs.get(id) ?? 0
            runs.set(id, run + 1)
            switch (script[run]) {
              case "fail":
                return Effect.fail(new NoSuchUser({ userId: "" }))
              case "die":
                return Effect.die("boom")
              case "snooze":
                return Effect.fail(Snooze.for("1 hour"))
              case "singular":
                return Effect.fail(new SingularTaskFailure({ message: "" }))
              case "permanent":
                return Effect.fail(new PermanentTaskFailure({ message: "" }))
              case "defer":
                return Effect.orDie(
                  Effect.asVoid(Play.defer({ script: script.slice(run + 1), delay: 0 }, { delay: 5 })),
                )
              default:
                return Effect.void
            }
          },
        )
      const App = TestTasks.layer({ tasks: [Play] }).pipe(
        Layer.provide(Play.toLayer(play)),
        Layer.provideMerge(TestTasks.layerQueue),
      )
      return Effect.gen(function* () {
        for (const fault of faults) {
          if (fault === "loseLease") yield* TestTasks.loseLease()
          else if (fault === "deliverTwice") yield* TestTasks.deliverTwice()
          else if (fault === "settle") yield* TestTasks.failDriver("settle", { lost: "answer" })
          else yield* TestTasks.crash(fault)
        }
        for (const { delay, queue, script } of records) {
          yield* Play.defer({ script, delay }, { delay: `${delay} minutes`, queue: `q${queue}` })
        }
        const { left, ran } = yield* TestTasks.drain({ advance: true })
        assert.strictEqual(left, 0)
        const stored = yield* TestTasks.deferred(Play, { states: "all" })
        assert.isAtLeast(stored.length, records.length)
        const struck = (yield* TestTasks.faults).length
        for (const { id, reason, state } of stored) {
          const ends = ran.filter(({ outcome, record }) => record.id === id && /Succeed|Bury/.test(outcome._tag))
          assert.include(["succeeded", "dead"], state)
          if (struck === 0) assert.lengthOf(ends, 1)
          // An end whose answer was lost is told as lost: it was settled by then.
          assert.isAtMost(ends.length, reason === "Crashed" ? 0 : 1)
          const tag = ends[0]?.outcome._tag
          if (tag !== undefined) assert.strictEqual(tag === "Succeed" ? "succeeded" : "dead", state)
        }
      }).pipe(Effect.provide(Layer.fresh(App)))
    },
  )
})

describe("faults of TestTasks", () => {
  it.effect("crash before the handler: it is not called, and the record comes back when its lease has ended", () =>
    Effect.gen(function* () {
      const { calls, layer } = yield* counted((_, { attempt, crashes }) => Effect.succeed(`${attempt} ${crashes}`))
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.crash("beforeHandler")
        const ran = some(yield* TestTasks.runNext)
        assert.deepStrictEqual(ran.outcome, { _tag: "Crash", when: "beforeHandler" })
        assert.strictEqual(ran.exit, undefined)
        assert.strictEqual(yield* Ref.get(calls), 0)
        yield* TestClock.adjust(29_999)
        assert.deepInclude(yield* TestTasks.drain(), { counts: {}, left: 1 })
        assert.strictEqual(yield* ref.state, "running")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
        assert.strictEqual(yield* ref.await, "2 1")
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect("crash after the handler: it is called again, with the same id, when the lease has ended", () =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      const App = greeting((_, { id }) => Effect.sync(() => `${ids.push(id)}`), { lease: "1 minute" })
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.crash("afterHandler")
        const { counts, ran } = yield* TestTasks.drain({ advance: true })
        assert.deepStrictEqual(counts, { Crash: 1, Succeed: 1 })
        assert.deepStrictEqual(ran[0]?.exit, Exit.succeed("1"))
        assert.deepStrictEqual(ids, [ref.id, ref.id])
        assert.strictEqual(yield* Clock.currentTimeMillis, 60_000)
        assert.strictEqual(yield* ref.await, "2")
      }).pipe(Effect.provide(App))
    }),
  )

  it.effect("crash more often than the task allows: the record is dead Crashed", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      yield* TestTasks.crash("afterHandler", { times: 4 })
      const { counts, left } = yield* TestTasks.drain({ advance: true })
      assert.deepStrictEqual(counts, { Crash: 4 })
      assert.strictEqual(left, 0)
      assert.deepInclude(yield* ref.record, { state: "dead", reason: "Crashed", crashes: 4 })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("lose the lease before the settlement: it changes nothing, and whoever claims next runs the record", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      yield* TestTasks.loseLease()
      assert.deepStrictEqual(some(yield* TestTasks.runNext).outcome, { _tag: "LeaseLost" })
      assert.deepInclude(yield* ref.record, { state: "ready", attempt: 1, crashes: 1, result: undefined })
      assert.strictEqual(some(yield* TestTasks.runNext).record.attempt, 2)
      assert.strictEqual(yield* ref.state, "succeeded")
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("lose the lease when it is extended: the handler hears of it, and its settlement is too late", () =>
    Effect.gen(function* () {
      const ref = yield* Greet.defer(ada)
      yield* TestTasks.loseLease({ when: "extend" })
      const lost = some(yield* TestTasks.runNext)
      assert.deepStrictEqual(lost.exit, Exit.succeed("extended: false"))
      assert.deepStrictEqual(lost.outcome, { _tag: "LeaseLost" })
      yield* TestTasks.runNext
      assert.strictEqual(yield* ref.await, "extended: true")
    }).pipe(
      Effect.provide(
        greeting((_, { extend }) => Effect.map(Effect.orDie(extend("1 minute")), (held) => `extended: ${held}`)),
      ),
    ),
  )

  it.effect("deliver twice: the handler runs again with the same id after its success, not after a failure", () =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      const App = greeting((_, { attempt, id }) =>
        Effect.suspend(() => (attempt === 1 ? Effect.die("boom") : Effect.succeed(`${ids.push(id)}`))),
      )
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.deliverTwice()
        const { counts, ran } = yield* TestTasks.drain({ advance: true })
        assert.deepStrictEqual(counts, { Retry: 1, LeaseLost: 1, Succeed: 1 })
        assert.deepStrictEqual(ran[1]?.exit, Exit.succeed("1"))
        assert.deepStrictEqual(ids, [ref.id, ref.id])
        assert.strictEqual(yield* ref.await, "2")
        assert.strictEqual(yield* Clock.currentTimeMillis, 10_000)
      }).pipe(Effect.provide(App))
    }),
  )

  it.effect("fail the driver: the application's own call fails, and nothing was done", () =>
    Effect.gen(function* () {
      yield* TestTasks.failDriver("enqueue")
      const error = yield* Effect.flip(Greet.defer(ada))
      assert.deepInclude(error, { _tag: "TaskQueueError", operation: "enqueue", isRetryable: true })
      assert.deepStrictEqual(yield* TestTasks.deferred(Greet), [])
      yield* Greet.defer(ada)
      assert.lengthOf(yield* TestTasks.deferred(Greet), 1)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("lose the driver's answer: the call fails all the same, and was done", () =>
    Effect.gen(function* () {
      yield* TestTasks.failDriver("enqueue", { lost: "answer" })
      yield* Effect.flip(Greet.defer(ada))
      assert.lengthOf(yield* TestTasks.deferred(Greet), 1)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("fail the driver with an error of the test's own, for who awaits too", () =>
    Effect.gen(function* () {
      const error = new TaskQueueError({ operation: "get", message: "the disk is full", isRetryable: false })
      const ref = yield* Greet.defer(ada)
      yield* TestTasks.failDriver("get", { error })
      assert.strictEqual(yield* Effect.flip(ref.await), error)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("fail any method of the driver, by its name", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const service = new Set(["nextId", "awaitEnded"])
      const methods = Object.entries(queue).filter(([key, value]) => typeof value === "function" && !service.has(key))
      assert.isAbove(methods.length, 13)
      for (const [method, call] of methods) {
        yield* TestTasks.failDriver(method as TestTasks.DriverMethod)
        const error = yield* Effect.flip((call as (params: object) => Effect.Effect<never, TaskQueueError>)({}))
        assert.deepInclude(error, { _tag: "TaskQueueError", operation: method })
      }
      assert.deepStrictEqual(yield* TestTasks.faultsLeft, [])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("fail the claim: so does who runs the next record, and can try again", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada)
      yield* TestTasks.failDriver("claim")
      assert.strictEqual((yield* Effect.flip(TestTasks.drain()))._tag, "TaskQueueError")
      assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("fail a settlement: it is tried again, and the handler is not", () =>
    Effect.gen(function* () {
      const { calls, layer } = yield* counted(() => Effect.succeed(""))
      yield* Effect.gen(function* () {
        yield* Greet.defer(ada)
        yield* TestTasks.failDriver("settle", { times: 9 })
        assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
        assert.strictEqual(yield* Ref.get(calls), 1)
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect("fail every settlement: the record runs again when its lease has ended", () =>
    Effect.gen(function* () {
      yield* Greet.defer(ada)
      const outage = Effect.gen(function* () {
        yield* TestTasks.failDriver("settle", { times: "always" })
        return some(yield* TestTasks.runNext).outcome
      })
      assert.strictEqual((yield* Effect.scoped(outage))._tag, "Unsettled")
      const { counts, ran } = yield* TestTasks.drain({ advance: true })
      assert.deepStrictEqual(counts, { Succeed: 1 })
      assert.deepInclude(ran[0]?.record, { attempt: 2, crashes: 1 })
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("slow the driver down: by the clock, for the application and, when it may move it, for the drain", () =>
    Effect.gen(function* () {
      yield* TestTasks.slowDriver("enqueue", "5 seconds")
      const fiber = yield* Effect.forkChild(Greet.defer(ada))
      yield* TestClock.adjust(4_999)
      assert.deepStrictEqual(yield* TestTasks.deferred(Greet), [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(fiber)
      yield* TestTasks.slowDriver("claim", "1 second")
      yield* TestTasks.slowDriver("settle", "2 seconds")
      assert.deepStrictEqual((yield* TestTasks.drain({ advance: true })).counts, { Succeed: 1 })
      assert.strictEqual(yield* Clock.currentTimeMillis, 8_000)
    }).pipe(Effect.provide(greeting(hello))),
  )

  it.effect("strike as often as planned, and only the task they are for", () => {
    const App = TestTasks.layer({ tasks: [Greet, Notify] }).pipe(
      Layer.provide(
        Layer.merge(
          Greet.toLayer(hello),
          Notify.toLayer(() => Effect.void),
        ),
      ),
    )
    return Effect.gen(function* () {
      yield* TestTasks.loseLease({ task: Notify, times: 2 })
      yield* Greet.defer(ada)
      const { id } = yield* Notify.defer({ text: "" })
      const { ran } = yield* TestTasks.drain()
      assert.deepStrictEqual(
        ran.map(({ outcome, record }) => `${record.task} ${outcome._tag}`),
        ["Greet Succeed", "Notify LeaseLost", "Notify LeaseLost", "Notify Succeed"],
      )
      const struck = yield* TestTasks.faults
      assert.deepStrictEqual(
        struck.map(({ at, fault, id, task }) => [fault._tag, at, id, task]),
        [
          ["LoseLease", 0, id, "Notify"],
          ["LoseLease", 0, id, "Notify"],
        ],
      )
    }).pipe(Effect.provide(App))
  })

  it.effect("end with their scope when they are for always", () =>
    Effect.gen(function* () {
      const outage = TestTasks.failDriver("enqueue", { times: "always" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* outage
          for (let call = 0; call < 3; call++) yield* Effect.flip(Greet.defer(ada))
        }),
      )
      yield* Greet.defer(ada)
      assert.lengthOf(yield* TestTasks.faults, 3)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("are told when they did not strike, so that a test proves what it means to", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* TestTasks.faultsLeft, [])
      yield* TestTasks.crash("afterHandler", { times: 3, task: Greet })
      yield* TestTasks.deliverTwice({ times: "always" })
      yield* TestTasks.failDriver("enqueue", { times: "always" })
      yield* Effect.flip(Greet.defer(ada))
      const left = yield* TestTasks.faultsLeft
      assert.deepStrictEqual(left, [
        { fault: { _tag: "Crash", when: "afterHandler", tasks: ["Greet"] }, left: 3 },
        { fault: { _tag: "DeliverTwice", tasks: undefined }, left: "always" },
      ])
    }).pipe(Effect.scoped, Effect.provide(greeting(hello))),
  )

  it.effect.each([0, -1, 0.5, Number.NaN])("are refused with %d times", (times) =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(TestTasks.loseLease({ times }))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "times must be a whole number above 0")
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("do not keep a test that gives up from giving its record back", () =>
    Effect.gen(function* () {
      const running = yield* Latch.make()
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.failDriver("settle", { times: "always" })
        yield* TestTasks.slowDriver("settle", "1 hour", { times: "always" })
        const fiber = yield* Effect.forkChild(TestTasks.runNext)
        yield* running.await
        yield* Fiber.interrupt(fiber)
        assert.deepInclude(yield* ref.record, { state: "ready", attempt: 0 })
      }).pipe(Effect.scoped, Effect.provide(greeting(() => Effect.andThen(running.open, Effect.never))))
    }),
  )
})

describe("faults of TestTasks, with a real worker on the queue", () => {
  /** Lets the worker's fibers come to rest before and after time passes. */
  const pass = (millis: number) => {
    const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
    return rest.pipe(Effect.andThen(TestClock.adjust(millis)), Effect.andThen(rest))
  }
  const working = (handler: GreetHandler) =>
    Worker.layer({ tasks: [Greet], lease: "30 seconds" }).pipe(
      Layer.provide(Greet.toLayer(handler)),
      Layer.provideMerge(TestTasks.layerQueue),
      Layer.provide(Instance.layerBackend()),
    )

  it.effect.each([
    ["crash before the handler", TestTasks.crash("beforeHandler"), 1],
    ["crash after the handler", TestTasks.crash("afterHandler"), 2],
  ] as const)("%s: the record runs again when its lease has ended", ([_, fault, expected]) =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      yield* Effect.gen(function* () {
        yield* fault
        const ref = yield* Greet.defer(ada)
        yield* pass(29_999)
        assert.strictEqual(yield* ref.state, "running")
        assert.lengthOf(ids, expected - 1)
        yield* pass(10_001)
        assert.strictEqual(yield* ref.await, String(expected))
        assert.deepInclude(yield* ref.record, { attempt: 2, crashes: 1 })
        assert.deepStrictEqual(yield* TestTasks.faultsLeft, [])
      }).pipe(Effect.provide(working((_, { id }) => Effect.sync(() => `${ids.push(id)}`))))
    }),
  )

  it.effect.each([
    ["the lease is lost", TestTasks.loseLease()],
    ["the record is delivered twice", TestTasks.deliverTwice()],
  ] as const)("%s: the handler runs a second time with the same id", ([_, fault]) =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      yield* Effect.gen(function* () {
        yield* fault
        const ref = yield* Greet.defer(ada)
        yield* pass(0)
        assert.strictEqual(yield* ref.await, "2")
        assert.deepStrictEqual(ids, [ref.id, ref.id])
      }).pipe(Effect.provide(working((_, { id }) => Effect.sync(() => `${ids.push(id)}`))))
    }),
  )

  it.effect("the lease is lost at a heartbeat: the handler is interrupted, and runs again", () =>
    Effect.gen(function* () {
      const interrupted = yield* Ref.make(0)
      const handler: GreetHandler = (_, { attempt }) =>
        attempt === 1
          ? Effect.never.pipe(Effect.onInterrupt(() => Ref.update(interrupted, (n) => n + 1)))
          : Effect.succeed(`attempt ${attempt}`)
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.loseLease({ when: "extend" })
        yield* pass(10_000)
        yield* pass(10_000)
        assert.strictEqual(yield* Ref.get(interrupted), 1)
        assert.strictEqual(yield* ref.await, "attempt 2")
      }).pipe(Effect.provide(working(handler)))
    }),
  )

  it.effect("the driver fails: the worker goes on until it works again, and runs the handler once", () =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      yield* Effect.gen(function* () {
        const ref = yield* Greet.defer(ada)
        yield* TestTasks.failDriver("claim", { times: 2 })
        yield* TestTasks.failDriver("settle", { times: 2 })
        for (let n = 0; n < 10; n++) yield* pass(1_000)
        assert.strictEqual(yield* ref.await, "1")
        assert.deepStrictEqual(yield* TestTasks.faultsLeft, [])
      }).pipe(Effect.provide(working((_, { id }) => Effect.sync(() => `${ids.push(id)}`))))
    }),
  )
})
