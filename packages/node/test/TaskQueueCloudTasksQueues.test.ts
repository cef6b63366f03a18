import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import { unlimited } from "@outlive/deferred/QueueLimits"
import * as QueueStatistics from "@outlive/deferred/QueueStatistics"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Greet, held, Mail, options, queueLayer } from "./cloudTasks/program.ts"
import { CloudTasksServer, layer as Server } from "./cloudTasks/server.ts"

const refusal = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert(error instanceof TaskQueueError, String(error))
    return error
  })

/** As if Cloud Tasks had dispatched a task that has not answered yet. */
const dispatchAll = Effect.map(CloudTasksServer, ({ state }) => state.take())

const now = Clock.currentTimeMillis

describe("a record in Cloud Tasks", () => {
  it.effect("is found by its id in any queue, with a name and without", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_700_000_000_000)
      const refs = [
        yield* Greet.defer({ who: "a" }, { delay: "1 minute", headers: { tenant: "7" } }),
        yield* Greet.defer({ who: "b" }, { name: "b-name" }),
        yield* Greet.defer({ who: "c" }, { queue: "mail" }),
        yield* Mail.defer({ to: "d" }, { name: "b-name", timeout: "5 minutes" }),
      ]
      const records = yield* Effect.forEach(refs, (ref) => ref.record)
      assert.deepStrictEqual(
        records.map(({ id, name, payload, queue, state, task }) => ({ id, name, payload, queue, state, task })),
        [
          {
            id: refs[0]!.id,
            name: undefined,
            payload: '{"who":"a"}',
            queue: "default",
            state: "scheduled",
            task: "Greet",
          },
          { id: refs[1]!.id, name: "b-name", payload: '{"who":"b"}', queue: "default", state: "ready", task: "Greet" },
          { id: refs[2]!.id, name: undefined, payload: '{"who":"c"}', queue: "mail", state: "ready", task: "Greet" },
          { id: refs[3]!.id, name: "b-name", payload: '{"to":"d"}', queue: "mail", state: "ready", task: "Mail" },
        ],
      )
      assert.strictEqual(records[0]!.eta, 1_700_000_060_000)
      assert.deepStrictEqual(records[0]!.headers, { tenant: "7" })
      assert.strictEqual(records[3]!.timeout, 300_000)
      // In another process there is only the id.
      assert.strictEqual((yield* (yield* Mail.ref(refs[3]!.id)).record).payload, '{"to":"d"}')
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("runs from its dispatch to its answer, and is ready again after one that failed", () =>
    Effect.gen(function* () {
      const { state } = yield* CloudTasksServer
      yield* TestClock.setTime(5_000)
      const ref = yield* Greet.defer({ who: "a" })
      const [taken] = yield* dispatchAll
      const running = yield* ref.record
      assert.strictEqual(running.state, "running")
      assert.strictEqual(running.attempt, 1)
      assert.strictEqual(running.startedAt, 5_000)
      assert.strictEqual(running.leaseUntil, 605_000)
      assert.isUndefined(running.failure)
      yield* TestClock.adjust("3 seconds")
      state.answered(taken!.queue, taken!.task, { status: 500, retryAfter: undefined })
      const waiting = yield* ref.record
      assert.strictEqual(waiting.state, "scheduled")
      assert.isUndefined(waiting.leaseUntil)
      assert.strictEqual(waiting.firstAttemptAt, 5_000)
      assert.deepInclude(JSON.parse(waiting.failure!), { attempt: 1, at: 8_000, message: "HTTP status code 500" })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* ref.state, "ready")
      const [again] = yield* dispatchAll
      state.answered(again!.queue, again!.task, { status: 200, retryAfter: undefined })
      // What has ended is gone.
      assert.strictEqual((yield* Effect.flip(ref.record))._tag, "TaskNotFound")
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("is cancelled while it waits, between attempts too, and not while it runs", () =>
    Effect.gen(function* () {
      const { state } = yield* CloudTasksServer
      const waiting = yield* Greet.defer({ who: "a" }, { delay: "1 hour" })
      const running = yield* Greet.defer({ who: "b" }, { name: "b" })
      const [taken] = yield* dispatchAll
      const queue = yield* TaskQueue
      const both = queue.cancel({ ids: [waiting.id, running.id], reason: "test", now: yield* now })
      const refused = yield* refusal(both)
      assert.strictEqual(refused.reason, "NotSupported")
      assert.include(refused.message, `${running.id} is running`)
      // Nothing of the call was done.
      assert.lengthOf(yield* held("tasks"), 2)
      assert.strictEqual(yield* waiting.cancel(), "Cancelled")
      assert.strictEqual(yield* waiting.cancel(), "NotFound")
      state.answered(taken!.queue, taken!.task, { status: 500, retryAfter: undefined })
      assert.strictEqual(yield* running.cancel(), "Cancelled")
      assert.lengthOf(yield* held("tasks"), 0)
      const unknown = TaskId.make("018bcfe5-6800-7000-8000-000000000001")
      assert.strictEqual(yield* (yield* Greet.ref(unknown)).cancel(), "NotFound")
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("is removed while it does not run", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const running = yield* Greet.defer({ who: "a" })
      yield* dispatchAll
      const waiting = yield* Greet.defer({ who: "b" })
      const ids = [running.id, waiting.id, TaskId.make("018bcfe5-6800-7000-8000-000000000001")]
      assert.deepStrictEqual(yield* queue.remove({ ids }), ["Running", "Removed", "NotFound"])
      assert.lengthOf(yield* held("tasks"), 1)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("is cancelled although the answer to that was lost", () =>
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Greet.defer({ who: "a" })
      yield* server.fail({ method: "DeleteTask", status: status.UNAVAILABLE, when: "after" })
      const fiber = yield* Effect.forkChild(ref.cancel())
      while (fiber.pollUnsafe() === undefined) {
        yield* TestClock.adjust("1 second")
        yield* TestClock.withLive(Effect.sleep("2 millis"))
      }
      assert.strictEqual(yield* Fiber.join(fiber), "Cancelled")
    }).pipe(Effect.provide(queueLayer())),
  )
})

describe("looking at Cloud Tasks", () => {
  const filled = Effect.gen(function* () {
    for (let n = 0; n < 12; n++) yield* Greet.defer({ who: `${n}` }, { delay: n < 4 ? "1 hour" : 0 })
    yield* Greet.defer({ who: "x" }, { name: "ann-1" })
    yield* Mail.defer({ to: "y" }, { name: "ann-2" })
    yield* Mail.defer({ to: "z" })
  })

  it.effect("finds records a page at a time, each once, by what they are", () =>
    Effect.gen(function* () {
      yield* filled
      const queue = yield* TaskQueue
      const all: Array<string> = []
      let cursor: string | undefined
      let pages = 0
      do {
        const page = yield* queue.find({ limit: 4, now: yield* now, cursor })
        assert.isAtMost(page.records.length, 4)
        all.push(...page.records.map(({ id }) => id))
        cursor = page.cursor
        pages++
      } while (cursor !== undefined)
      assert.strictEqual(new Set(all).size, 15)
      assert.lengthOf(all, 15)
      assert.isAtLeast(pages, 4)

      const find = (filter: object) =>
        Effect.flatMap(now, (at) =>
          Effect.map(queue.find({ limit: 100, now: at, ...filter }), ({ records }) => records),
        )
      assert.lengthOf(yield* find({ state: "scheduled" }), 4)
      assert.lengthOf(yield* find({ state: "ready", queue: "default" }), 9)
      assert.lengthOf(yield* find({ task: "Mail" }), 2)
      assert.lengthOf(yield* find({ namePrefix: "ann-" }), 2)
      assert.lengthOf(yield* find({ namePrefix: "ann-", queue: "mail" }), 1)
      assert.lengthOf(yield* find({ queue: "video" }), 0)
      // What has ended is not there to be found.
      assert.lengthOf(yield* find({ state: "dead" }), 0)
      assert.lengthOf(yield* find({ reason: "PermanentFailure" }), 0)
      assert.lengthOf(yield* find({ endedAfter: 0 }), 0)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("keeps to the size of a page, and goes through all queues with it", () =>
    Effect.gen(function* () {
      yield* filled
      const queue = yield* TaskQueue
      const all = new Set<string>()
      let cursor: string | undefined
      do {
        const page = yield* queue.find({ limit: 2, now: 0, cursor })
        assert.isAtMost(page.records.length, 2)
        for (const { id } of page.records) all.add(id)
        cursor = page.cursor
      } while (cursor !== undefined)
      assert.strictEqual(all.size, 15)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("tells queues apart that share one of Cloud Tasks, and their names", () =>
    Effect.gen(function* () {
      yield* Greet.defer({ who: "a" }, { name: "once" })
      const other = yield* Mail.defer({ to: "b" }, { name: "once" })
      assert.lengthOf(yield* held("tasks"), 2)
      const queue = yield* TaskQueue
      const counts = yield* queue.counts({ now: 0 })
      assert.sameMembers(
        counts.map(({ count, queue: name, task }) => `${name} ${task} ${count}`),
        ["default Greet 1", "mail Mail 1"],
      )
      const { records } = yield* queue.find({ queue: "mail", limit: 10, now: 0 })
      assert.deepStrictEqual(
        records.map(({ id }) => id),
        [other.id],
      )
    }).pipe(Effect.provide(queueLayer({ queues: { default: "tasks", mail: "tasks" } }))),
  )

  it.effect("counts them by queue, task and state", () =>
    Effect.gen(function* () {
      yield* filled
      const queue = yield* TaskQueue
      const counts = yield* queue.counts({ now: yield* now })
      const nothing = { reason: undefined, tag: undefined }
      assert.sameDeepMembers(
        [...counts],
        [
          { queue: "default", task: "Greet", state: "scheduled", count: 4, ...nothing },
          { queue: "default", task: "Greet", state: "ready", count: 9, ...nothing },
          { queue: "mail", task: "Mail", state: "ready", count: 2, ...nothing },
        ],
      )
      assert.deepStrictEqual(yield* queue.counts({ now: yield* now, state: "dead" }), [])
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("leaves the tasks of other programs out", () =>
    Effect.gen(function* () {
      const { client, state } = yield* CloudTasksServer
      const [queue] = [...state.queues.values()]
      yield* Effect.promise(() =>
        client.createTask({ parent: queue!.name, task: { httpRequest: { url: "http://x", body: Buffer.from("hi") } } }),
      )
      yield* Greet.defer({ who: "a" })
      const driver = yield* TaskQueue
      assert.lengthOf((yield* driver.find({ limit: 10, now: 0 })).records, 1)
      assert.deepStrictEqual(
        (yield* driver.counts({ now: 0 })).map(({ count }) => count),
        [1],
      )
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("tells how a queue stands", () =>
    Effect.gen(function* () {
      const { state } = yield* CloudTasksServer
      yield* filled
      const [first, second] = yield* dispatchAll
      state.answered(first!.queue, first!.task, { status: 200, retryAfter: undefined })
      state.answered(second!.queue, second!.task, { status: 200, retryAfter: undefined })
      yield* Greet.defer({ who: "late" })
      const queue = yield* TaskQueue
      // Nine were due and dispatched, two of them have ended.
      assert.deepStrictEqual(yield* queue.statistics({ queue: "default", now: yield* now }), {
        waiting: 5,
        ready: 1,
        oldestEta: 0,
        inFlight: 7,
        executedLastMinute: 2,
        nextTokenAt: undefined,
        pausedUntil: undefined,
      })
      assert.include(
        (yield* refusal(queue.statistics({ queue: "video", now: 0 }))).message,
        "name one in the layer's queues",
      )
      assert.strictEqual((yield* QueueStatistics.statistics("default")).inFlight, 7)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("estimates how a long queue stands by one page of it", () =>
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* Greet.deferAll(
        Array.from({ length: 1500 }, (_, n) => ({ who: `${n}` })),
        ({ who }) => (Number(who) % 2 === 0 ? { delay: "1 hour" } : {}),
      )
      const queue = yield* TaskQueue
      const before = server.calls.length
      const { inFlight, ready, waiting } = yield* queue.statistics({ queue: "default", now: 0 })
      assert.strictEqual(server.calls.length - before, 2)
      assert.strictEqual(waiting, 1500)
      assert.strictEqual(inFlight, 0)
      assert.isTrue(Math.abs(ready - 750) < 150, `${ready}`)
      assert.deepStrictEqual((yield* queue.counts({ now: 0 })).map(({ count, state }) => [state, count]).sort(), [
        ["ready", 750],
        ["scheduled", 750],
      ])
    }).pipe(Effect.provide(queueLayer())),
  )
})

describe("the limits of a queue in Cloud Tasks", () => {
  const limitsOf = (queue: string) => Effect.flatMap(TaskQueue, (driver) => driver.limits({ queue }))

  it.effect("are those of its Cloud Tasks queue; its greatest are none", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueue
      // C5
      assert.deepStrictEqual(yield* limitsOf("default"), {
        paused: false,
        rate: undefined,
        burst: 100,
        maxConcurrent: 1000,
        ageing: undefined,
        byKey: unlimited.byKey,
      })
      const limits = { rate: 5, burst: 20, maxConcurrent: 7, paused: true }
      yield* driver.configure({ queue: "default", limits, now: 0 })
      assert.deepStrictEqual(yield* limitsOf("default"), { ...limits, ageing: undefined, byKey: unlimited.byKey })
      // A new rate leaves the burst, where Cloud Tasks would choose another; and the rest.
      yield* driver.configure({ queue: "default", limits: { rate: 50 }, now: 0 })
      assert.deepStrictEqual(yield* limitsOf("default"), {
        ...limits,
        rate: 50,
        ageing: undefined,
        byKey: unlimited.byKey,
      })
      yield* driver.configure({ queue: "default", limits: { rate: undefined, paused: false }, now: 0 })
      assert.deepStrictEqual(yield* limitsOf("default"), {
        ...limits,
        rate: undefined,
        paused: false,
        ageing: undefined,
        byKey: unlimited.byKey,
      })
      yield* driver.configure({ queue: "default", limits: { maxConcurrent: undefined }, now: 0 })
      assert.strictEqual((yield* limitsOf("default")).maxConcurrent, undefined)
      assert.strictEqual((yield* limitsOf("mail")).burst, 100)
    }).pipe(Effect.provide(queueLayer())),
  )

  const beyond: ReadonlyArray<[string, object, string]> = [
    ["ageing", { ageing: 1000 }, "no priorities"],
    ["a rate of 0", { rate: 0 }, "pause it"],
    ["a rate above 500 (C3)", { rate: 501 }, "500 a second"],
    ["a burst above 500", { burst: 501 }, "500"],
    ["more than 5000 at the same time (C3)", { maxConcurrent: 5001 }, "5000"],
    ["each key's rate", { byKey: { ...unlimited.byKey, rate: 5 } }, "a queue for each key"],
    ["each key's concurrency", { byKey: { ...unlimited.byKey, maxConcurrent: 5 } }, "a queue for each key"],
    ["the order of a key", { byKey: { ...unlimited.byKey, ordered: true } }, "no order"],
  ]
  it.effect.each(beyond)("do not go to %s", ([, limits, says]) =>
    Effect.gen(function* () {
      const driver = yield* TaskQueue
      const error = yield* refusal(driver.configure({ queue: "default", limits, now: 0 }))
      assert.strictEqual(error.reason, "NotSupported")
      assert.include(error.message, says)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("have none for single keys, and no time until which a queue is paused", () =>
    Effect.gen(function* () {
      const driver = yield* TaskQueue
      const of = { queue: "default", key: "acme", now: 0 }
      for (const [call, says] of [
        [driver.configureKey({ ...of, override: { weight: 2 } }), "a queue for each key"],
        [driver.keyStatistics(of), "a queue for each key"],
        [driver.pauseUntil({ ...of, until: 5 }), "QueueConfig.pause"],
        [QueueConfig.overrideKey("default", "acme", { weight: 2 }), "a queue for each key"],
      ] as const) {
        const error = yield* refusal<unknown, unknown, TaskQueue>(call)
        assert.strictEqual(error.reason, "NotSupported")
        assert.include(error.message, says)
      }
      assert.deepStrictEqual(
        (yield* driver.find({ memberOf: (yield* Greet.defer({ who: "a" })).id, limit: 9, now: 0 })).records,
        [],
      )
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("of one that is not there: the error says how to make it, and nothing is made", () =>
    Effect.gen(function* () {
      const { state } = yield* CloudTasksServer
      state.queues.clear()
      const driver = yield* TaskQueue
      for (const call of [
        driver.limits({ queue: "default" }),
        driver.configure({ queue: "default", limits: { rate: 1 }, now: 0 }),
        driver.configure({ queue: "default", limits: { paused: true }, now: 0 }),
        driver.purge({ queue: "default" }),
        driver.counts({ now: 0 }),
        Greet.defer({ who: "x" }),
      ]) {
        assert.include((yield* refusal<unknown, unknown, TaskQueue>(call)).message, "TaskQueueCloudTasks.setUp")
      }
      assert.strictEqual(state.queues.size, 0)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("are set by QueueConfig, which changes nothing the second time", () =>
    Effect.gen(function* () {
      const config = yield* QueueConfig.make({ default: { rate: "5/s", burst: 9 }, mail: { paused: true } })
      const changes = yield* QueueConfig.apply(config)
      assert.sameMembers(
        changes.map(({ field, queue }) => `${queue}.${field}`),
        ["default.rate", "default.burst", "default.maxConcurrent", "mail.burst", "mail.maxConcurrent", "mail.paused"],
      )
      assert.deepStrictEqual(yield* QueueConfig.apply(config), [])
      assert.isTrue(yield* QueueConfig.resume("mail"))
      assert.isFalse((yield* limitsOf("mail")).paused)
    }).pipe(Effect.provide(queueLayer())),
  )

  it.effect("purging deletes what waits", () =>
    Effect.gen(function* () {
      yield* Greet.deferAll([{ who: "a" }, { who: "b" }])
      yield* Mail.defer({ to: "c" })
      assert.strictEqual(yield* QueueConfig.purge("default"), 2)
      assert.lengthOf(yield* held("tasks"), 0)
      assert.lengthOf(yield* held("tasks-mail"), 1)
    }).pipe(Effect.provide(queueLayer())),
  )
})

describe("setUp", () => {
  const config = QueueConfig.make({
    mail: { rate: "5/s", burst: 9, maxConcurrent: 3, retry: RetryPolicy.appEngine({ retryLimit: 4 }), paused: true },
  })
  const setUp = Effect.fnUntraced(function* (more?: Parameters<typeof TaskQueueCloudTasks.setUp>[2]) {
    const { client } = yield* CloudTasksServer
    return yield* TaskQueueCloudTasks.setUp({ ...options, client }, yield* config, more)
  })
  const queueOf = (id: string) =>
    Effect.map(CloudTasksServer, ({ state }) => [...state.queues.values()].find(({ name }) => name.endsWith(`/${id}`))!)

  it.effect("makes the queues that are not there, and says which", () =>
    Effect.gen(function* () {
      const made = yield* setUp({ tombstone: "9 days" })
      assert.deepStrictEqual(
        made.map((path) => path.slice(path.lastIndexOf("/") + 1)),
        ["tasks", "tasks-mail"],
      )
      const mail = yield* queueOf("tasks-mail")
      assert.deepInclude(mail, { state: "PAUSED", rate: 5, burst: 9, concurrent: 3, tombstoneTtl: 777_600_000 })
      assert.deepInclude(mail.retry, { maxAttempts: 5, minBackoff: 1000, maxBackoff: 3_600_000, maxDoublings: 16 })
      const other = yield* queueOf("tasks")
      assert.deepInclude(other, { state: "RUNNING", rate: 500, tombstoneTtl: 777_600_000 })
      assert.deepStrictEqual(yield* setUp(), [])
    }).pipe(Effect.provide(Server)),
  )

  it.effect("brings those that are there to what is configured, and leaves the others and what is not said", () =>
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* server.createQueue("tasks", { rateLimits: { maxDispatchesPerSecond: 77 } })
      yield* server.createQueue("tasks-mail", { tombstoneTtl: { seconds: 7200 } })
      assert.deepStrictEqual(yield* setUp(), [])
      assert.strictEqual((yield* queueOf("tasks")).rate, 77)
      assert.deepInclude(yield* queueOf("tasks-mail"), { rate: 5, tombstoneTtl: 7_200_000 })
    }).pipe(Effect.provide(Server)),
  )

  it.effect("never lets a queue that says nothing of retries give up before its receiver does", () =>
    Effect.gen(function* () {
      const { client } = yield* CloudTasksServer
      yield* TaskQueueCloudTasks.setUp({ ...options, client }, yield* QueueConfig.make({ default: {} }))
      assert.deepInclude((yield* queueOf("tasks")).retry, {
        maxAttempts: -1,
        maxRetryDuration: 0,
        minBackoff: 1_000,
        maxBackoff: 3_600_000,
      })
    }).pipe(Effect.provide(Server)),
  )

  it.effect("changes nothing when something cannot be said in Cloud Tasks' terms", () =>
    Effect.gen(function* () {
      const { calls, client } = yield* CloudTasksServer
      const cases: ReadonlyArray<[Parameters<typeof QueueConfig.make>[0], string]> = [
        [{ video: {} }, "it has no Cloud Tasks queue"],
        [{ mail: { rate: "1000/s" } }, "500 a second"],
        [{ mail: { ageing: "1 minute" } }, "no priorities"],
        [{ mail: { retry: RetryPolicy.exponential({ factor: 3 }) } }, "retry.factor must be 2"],
      ]
      for (const [queues, says] of cases) {
        const error = yield* refusal(
          TaskQueueCloudTasks.setUp({ ...options, client }, yield* QueueConfig.make({ default: {}, ...queues })),
        )
        assert.strictEqual(error.reason, "NotSupported")
        assert.include(error.message, says)
      }
      const shared = { ...options, client, queues: { a: "tasks", b: "tasks" } }
      const both = yield* refusal(TaskQueueCloudTasks.setUp(shared, yield* QueueConfig.make({ a: {}, b: {} })))
      assert.include(both.message, "and so has a")
      const tombstone = yield* refusal(setUp({ tombstone: "10 days" }))
      assert.include(tombstone.message, "1 hour to 9 days")
      assert.lengthOf(calls, 0)
    }).pipe(Effect.provide(Server)),
  )
})
