import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import { retryAfter } from "@outlive/deferred/Outcome"
import { appEngine, fixed } from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, type TaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as PushDeadLetters from "@outlive/node/PushDeadLetters"
import * as PushHandler from "@outlive/node/PushHandler"
import * as PushOidc from "@outlive/node/PushOidc"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Clock, Context, Deferred, Effect, Fiber, Layer, Option, References, Schema } from "effect"
import { FetchHttpClient, HttpRouter, HttpServer } from "effect/http"
import { account, held, options, queues } from "./cloudTasks/program.ts"
import { CloudTasksServer, layer as Server } from "./cloudTasks/server.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { millis: Schema.Int }) {
  get [retryAfter]() {
    return this.millis
  }
}
class Wrong extends Schema.TaggedError<Wrong>()("Wrong", {}) {}

class Late extends Schema.TaggedError<Late>()("Late", {}) {}

class Work extends Task.make("Work", {
  payload: { n: Schema.Int },
  error: Schema.Union([Busy, Wrong, Late]),
  retry: { Late: fixed("20 seconds", { maxAttempts: 3 }) },
}) {}
/** Nobody handles it. */
class Other extends Task.make("Other", {}) {}

type Handle = (n: number, context: TaskContext["Service"]) => Effect.Effect<void, Busy | Wrong | Late | TaskFailure>

/** Where dead letters go. */
class Graveyard extends Context.Service<Graveyard, TaskQueue["Service"]>()("test/Graveyard") {}

/**
 * All of it: Cloud Tasks, an endpoint that trusts its tokens and runs tasks, and the queue by which they are deferred. Each
 * speaks to the next over a socket.
 */
const program = (handle: Handle, more?: Partial<TaskQueueCloudTasks.Options>) => {
  const authenticator = Layer.unwrap(
    Effect.map(CloudTasksServer, ({ signer }) =>
      PushOidc.layer({ audience: "tasks.test", email: account, keys: signer.keys }),
    ),
  ).pipe(Layer.provide(FetchHttpClient.layer))
  const endpoint = HttpRouter.serve(PushHandler.layer({ tasks: [Work] }), {
    disableLogger: true,
    disableListenLog: true,
  }).pipe(
    Layer.provide(Work.toLayer(({ n }, context) => handle(n, context))),
    Layer.provide(authenticator),
    Layer.provide(PushDeadLetters.layerTaskQueue()),
    Layer.provideMerge(Layer.effect(Graveyard, TaskQueue)),
    Layer.provide(TaskQueueMemory.layer),
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(Instance.layerBackend()),
  )
  const queue = Layer.unwrap(
    Effect.gen(function* () {
      const { client, createQueue } = yield* CloudTasksServer
      const { address } = yield* HttpServer.HttpServer
      const port = address._tag === "UnixPathAddress" ? 0 : address.port
      for (const id of Object.values(queues)) yield* createQueue(id)
      return TaskQueueCloudTasks.layer({
        ...options,
        client,
        url: `http://127.0.0.1:${port}/_ah/queue/deferred`,
        audience: "tasks.test",
        ...more,
      })
    }),
  )
  return queue.pipe(Layer.provideMerge(endpoint), Layer.provideMerge(Server))
}

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

/** What handlers saw. */
interface Seen {
  readonly n: number
  readonly at: number
  readonly context: TaskContext["Service"]
}
const recorder = () => {
  const seen: Array<Seen> = []
  const note = (n: number, context: TaskContext["Service"]) =>
    Effect.map(Clock.currentTimeMillis, (at) => void seen.push({ n, at, context }))
  return { seen, note, times: () => seen.map(({ at }) => at) }
}

const dead = Effect.gen(function* () {
  const graveyard = yield* Graveyard
  return (yield* graveyard.find({ state: "dead", limit: 10, now: yield* Clock.currentTimeMillis })).records
})

const endings = Effect.map(CloudTasksServer, ({ state }) => state.endings.map(({ how }) => how))

describe("a task on its way through Cloud Tasks", () => {
  it.effect("is deferred, delivered and run, with what its handler needs to know", () => {
    const { note, seen } = recorder()
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const plain = yield* Work.defer({ n: 1 }, { headers: { tenant: "7" } })
      const named = yield* Work.defer({ n: 2 }, { name: "two", delay: "90 seconds" })
      yield* server.advance(60_000)
      assert.lengthOf(seen, 1)
      yield* server.advance(60_000)
      assert.deepStrictEqual(
        seen.map(({ at, context, n }) => ({ n, at, id: context.id, name: Option.getOrUndefined(context.name) })),
        [
          { n: 1, at: 0, id: plain.id, name: undefined },
          { n: 2, at: 90_000, id: named.id, name: "two" },
        ],
      )
      const { context } = seen[0]!
      assert.strictEqual(context.attempt, 1)
      assert.strictEqual(context.queue, "default")
      assert.deepStrictEqual(context.headers, { tenant: "7" })
      assert.isTrue(Option.isNone(context.previousFailure))
      assert.deepStrictEqual(yield* endings, ["succeeded", "succeeded"])
      assert.strictEqual((yield* Effect.flip(plain.state))._tag, "TaskNotFound")
    }).pipe(Effect.provide(program(note)))
  })

  it.effect("is tried again with its queue's pauses until it succeeds, each time as the next attempt", () => {
    const { note, seen, times } = recorder()
    const handle: Handle = (n, context) =>
      Effect.andThen(note(n, context), context.attempt < 4 ? Effect.fail(new Wrong()) : Effect.void)
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const [queue] = [...server.state.queues.values()]
      queue!.retry = { ...queue!.retry, minBackoff: 10_000, maxBackoff: 300_000, maxDoublings: 3 }
      const ref = yield* Work.defer({ n: 1 })
      yield* server.advance(600_000)
      // Q83
      assert.deepStrictEqual(times(), [0, 10_000, 30_000, 70_000])
      assert.deepStrictEqual(
        seen.map(({ context }) => [context.id, context.attempt]),
        [1, 2, 3, 4].map((attempt) => [ref.id, attempt]),
      )
      const failure = Option.getOrThrow(seen[1]!.context.previousFailure)
      assert.include(failure.message, "500")
      assert.deepStrictEqual(yield* endings, ["succeeded"])
    }).pipe(quietly, Effect.provide(program(handle)))
  })

  it.effect("is tried again as its own policy says (Q87), and kept as a dead letter when that gives up", () => {
    const { note, times } = recorder()
    const handle: Handle = (n, context) => Effect.andThen(note(n, context), Effect.fail(new Wrong()))
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Work.defer(
        { n: 1 },
        { retry: appEngine({ minBackoff: "7 seconds", maxDoublings: 0, retryLimit: 3 }) },
      )
      yield* server.advance(3_600_000)
      assert.deepStrictEqual(times(), [0, 7_000, 21_000, 42_000])
      // Cloud Tasks would have given up now, too, and kept nothing (Q113).
      assert.deepStrictEqual(yield* endings, ["succeeded"])
      const [letter] = yield* dead
      assert.deepInclude(letter, { id: ref.id, reason: "RetriesExhausted" })
      assert.deepInclude(JSON.parse(letter!.failure!), { attempt: 4, tag: "Wrong" })
    }).pipe(quietly, Effect.provide(program(handle)))
  })

  it.effect("is tried again as its task says of an error, with pauses that are longer than its queue's", () => {
    const { note, times } = recorder()
    const handle: Handle = (n, context) => Effect.andThen(note(n, context), Effect.fail(new Late()))
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* Work.defer({ n: 1 })
      yield* server.advance(3_600_000)
      assert.deepStrictEqual(times(), [0, 20_000, 40_000])
      assert.deepStrictEqual(
        (yield* dead).map(({ reason }) => reason),
        ["RetriesExhausted"],
      )
    }).pipe(quietly, Effect.provide(program(handle)))
  })

  it.effect("comes again when its error or its snooze says so, not earlier", () => {
    const { note, times } = recorder()
    const failures = [
      new Busy({ millis: 120_000 }),
      Snooze.for("10 minutes"),
      new SingularTaskFailure({ message: "no" }),
    ]
    const handle: Handle = (n, context) => {
      const failure: Busy | TaskFailure | undefined = failures[context.attempt - 1]
      return Effect.andThen(note(n, context), failure === undefined ? Effect.void : Effect.fail(failure))
    }
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* Work.defer({ n: 1 })
      yield* server.advance(3_600_000)
      const [first, second, third, fourth] = times()
      assert.deepStrictEqual([first, second, third], [0, 120_000, 720_000])
      assert.isAtMost(fourth! - third!, 1_000)
      assert.deepStrictEqual(yield* endings, ["succeeded"])
    }).pipe(quietly, Effect.provide(program(handle)))
  })

  it.effect("that can never succeed is delivered once, and is a dead letter in the application's own queue", () => {
    const { note, seen } = recorder()
    const handle: Handle = (n, context) =>
      Effect.andThen(note(n, context), Effect.fail(new PermanentTaskFailure({ message: "no such user" })))
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Work.defer({ n: 42 })
      yield* Other.defer()
      yield* server.advance(3_600_000)
      assert.lengthOf(seen, 1)
      assert.deepStrictEqual(yield* endings, ["succeeded", "succeeded"])
      const records = yield* dead
      assert.deepStrictEqual(
        records
          .map(({ payload, reason, task }) => ({ payload, reason, task }))
          .sort((a, b) => (a.task < b.task ? -1 : 1)),
        [
          { payload: "null", reason: "UnknownTask", task: "Other" },
          { payload: '{"n":42}', reason: "PermanentFailure", task: "Work" },
        ],
      )
      assert.isTrue(records.some(({ id }) => id === ref.id))
    }).pipe(quietly, Effect.provide(program(handle)))
  })

  it.effect("is refused when its token is of another account or for somebody else, and its handler never runs", () => {
    const { note, seen } = recorder()
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* Work.defer({ n: 1 })
      yield* Work.defer({ n: 2 })
      const [one, two] = yield* held("tasks")
      one!.http.oidcToken = {
        serviceAccountEmail: "stranger@elsewhere.iam.gserviceaccount.com",
        audience: "tasks.test",
      }
      two!.http.oidcToken = { serviceAccountEmail: account, audience: "another.service" }
      yield* server.advance(1_000)
      assert.lengthOf(seen, 0)
      for (const task of yield* held("tasks")) assert.strictEqual(task.previousResponse, 403)
      // Without any.
      for (const task of yield* held("tasks")) task.http.oidcToken = null
      yield* server.advance(10_000)
      assert.lengthOf(seen, 0)
      for (const task of yield* held("tasks"))
        task.http.oidcToken = { serviceAccountEmail: account, audience: "tasks.test" }
      yield* server.advance(60_000)
      assert.lengthOf(seen, 2)
    }).pipe(quietly, Effect.provide(program(note)))
  })

  it.effect("comes twice when its answer is lost: under the same id, as the next attempt", () => {
    const { note, seen } = recorder()
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Work.defer({ n: 1 }, { name: "once" })
      yield* server.loseAnswers(1)
      yield* server.advance(60_000)
      assert.deepStrictEqual(
        seen.map(({ context }) => [context.id, context.attempt]),
        [
          [ref.id, 1],
          [ref.id, 2],
        ],
      )
      assert.deepStrictEqual(yield* endings, ["succeeded"])
    }).pipe(Effect.provide(program(note)))
  })

  it.effect("runs while its queue says that it runs, and ends", () => {
    const begun = Deferred.makeUnsafe<void>()
    const may = Deferred.makeUnsafe<void>()
    const handle: Handle = () => Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(may))
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Work.defer({ n: 1 })
      const advancing = yield* Effect.forkChild(server.advance(1_000))
      yield* Deferred.await(begun)
      assert.strictEqual(yield* ref.state, "running")
      assert.strictEqual((yield* (yield* TaskQueue).statistics({ queue: "default", now: 0 })).inFlight, 1)
      yield* Deferred.succeed(may, undefined)
      yield* Fiber.join(advancing)
      assert.deepStrictEqual(yield* endings, ["succeeded"])
    }).pipe(Effect.provide(program(handle)))
  })

  it.effect("comes no faster than its queue's rate, and not while it is paused", () => {
    const { note, times } = recorder()
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const queue = yield* TaskQueue
      yield* queue.configure({ queue: "default", limits: { rate: 2, burst: 1, paused: true }, now: 0 })
      // What the bucket had before is used up.
      server.state.queues.forEach((each) => {
        each.tokens = 1
      })
      yield* Work.deferAll(Array.from({ length: 5 }, (_, n) => ({ n })))
      yield* server.advance(10_000)
      assert.deepStrictEqual(times(), [])
      yield* queue.configure({ queue: "default", limits: { paused: false }, now: 10_000 })
      yield* server.advance(10_000)
      assert.deepStrictEqual(times(), [10_000, 10_500, 11_000, 11_500, 12_000])
    }).pipe(Effect.provide(program(note)))
  })

  it.effect("whose endpoint is not there yet waits for it", () => {
    const { note, seen } = recorder()
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const ref = yield* Work.defer({ n: 1 }, { target: "later" })
      yield* server.advance(1_000)
      const record = yield* ref.record
      assert.isAbove(record.attempt, 0)
      assert.strictEqual(record.state, "scheduled")
      const [task] = yield* held("tasks")
      const url = yield* HttpServer.addressFormattedWith(Effect.succeed)
      task!.http.url = `${url}/_ah/queue/deferred`
      yield* server.advance(60_000)
      assert.lengthOf(seen, 1)
      // Attempts that reached nobody count (Q101).
      assert.isAbove(seen[0]!.context.attempt, 1)
    }).pipe(Effect.provide(program(note, { targets: { later: { url: "http://127.0.0.1:1/" } } })))
  })
})
