import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { TaskDead } from "@outlive/deferred/TaskRef"
import { PushAuthenticator } from "@outlive/node/PushAuthenticator"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as PushDispatcher from "@outlive/node/PushDispatcher"
import * as PushSignature from "@outlive/node/PushSignature"
import { Effect, Latch, Layer, References, Schema } from "effect"
import { FetchHttpClient, type HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { Act, endpoint, type Handle, Keys, port, Rejected } from "./push/endpoint.ts"
import { type Got, type Reply, target } from "./push/target.ts"

const quietly = Effect.provideService(References.MinimumLogLevel, "None")
const App = Layer.merge(TaskQueueMemory.layer, Instance.layerBackend({ id: "dispatcher" }))
const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["fetch", FetchHttpClient.layer],
  ["undici", NodeHttpClient.layerUndici],
]

const dispatching = (
  options: Omit<PushDispatcher.Options, "tasks"> & Partial<PushDispatcher.Options>,
  client: Layer.Layer<HttpClient.HttpClient> = FetchHttpClient.layer,
) =>
  Effect.flatMap(Layer.build(Layer.merge(client, Keys)), (context) =>
    Effect.provideContext(PushDispatcher.make({ tasks: [Act], ...options }), context),
  )

/** A dispatcher and what it delivers to, which answers so. */
const against = (
  reply: (got: Got) => Reply | undefined | Promise<Reply | undefined>,
  options?: Partial<PushDispatcher.Options>,
) => Effect.tap(target(reply), ({ url }) => dispatching({ url, ...options }))

/** What a program in another language answers that knows about results. */
const succeeded = (json: string): Reply => ({
  status: 200,
  headers: { "x-outlive-outcome": "Succeeded" },
  body: JSON.stringify({ outcome: "Succeeded", result: `{"_tag":"Success","value":${json}}` }),
})

const failureOf = (ref: Task.DeferredRef<typeof Act.success, typeof Act.error>) =>
  Effect.map(ref.attempts, (attempts) => attempts.at(-1)?.failure)

describe("PushDispatcher and PushHandler", () => {
  const handle: Handle = ({ how }, { attempt, progress }) => {
    switch (how) {
      case "dead":
        return Effect.fail(new Rejected({ n: 7 }))
      case "permanent":
        return Effect.fail(new PermanentTaskFailure({ message: "no such user" }))
      case "second time":
        return attempt === 1 ? Effect.fail(new SingularTaskFailure({ message: "not yet" })) : Effect.succeed("twice")
      case "later":
        return Effect.suspend(() =>
          snoozes++ === 0 ? Effect.fail(Snooze.for("1 minute")) : Effect.succeed(`${attempt}`),
        )
      default:
        return Effect.as(progress({ done: 2, message: "half" }), `${how} in attempt ${attempt}`)
    }
  }
  let snoozes = 0

  it.effect.each(clients)("give the typed result back to whoever deferred, over %s", ([, client]) =>
    Effect.gen(function* () {
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` }, client)
      const ref = yield* Act.defer({ how: "done" })
      assert.strictEqual(yield* ref.await, "done in attempt 1")
      assert.strictEqual((yield* ref.record).progress, '{"done":2,"message":"half"}')
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("give the handler's own typed error back, and make the dead letter here", () =>
    Effect.gen(function* () {
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` })
      const ref = yield* Act.defer({ how: "dead" })
      const error = yield* Effect.flip(ref.await)
      assert.instanceOf(error, Rejected)
      assert.strictEqual((error as Rejected).n, 7)
      assert.deepInclude(yield* ref.record, { state: "dead", reason: "PermanentFailure" })
      assert.deepInclude(yield* failureOf(ref), { tag: "Rejected" })
      const other = yield* Effect.flip(Effect.flatMap(Act.defer({ how: "permanent" }), (ref) => ref.await))
      assert.instanceOf(other, TaskDead)
      assert.strictEqual((other as TaskDead).detail, "no such user")
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("try again what failed, by the policy here, and count attempts", () =>
    Effect.gen(function* () {
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` })
      const ref = yield* Act.defer({ how: "second time" }, { retry: RetryPolicy.fixed(0) })
      assert.strictEqual(yield* ref.await, "twice")
      assert.deepInclude(yield* ref.record, { attempt: 2 })
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("snooze, and give the attempt back", () =>
    Effect.gen(function* () {
      snoozes = 0
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` })
      const ref = yield* Act.defer({ how: "later" })
      const queue = yield* TaskQueue
      const settled = Effect.map(ref.record, ({ eta }) => eta)
      while ((yield* settled) === 0) yield* Effect.promise(() => new Promise(setImmediate))
      assert.strictEqual((yield* queue.get({ ids: [ref.id], now: 0 }))[0]?.state, "scheduled")
      assert.strictEqual(yield* settled, 60_000)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* ref.await, "1")
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("make a dead letter here of what nobody knows there", () =>
    Effect.gen(function* () {
      const Gone = Task.make("Gone", { payload: { n: Schema.Int } })
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}`, tasks: ["Gone"] })
      const ref = yield* Gone.defer({ n: 1 })
      const error = yield* Effect.flip(ref.await)
      assert.deepInclude(error, { _tag: "TaskDead", reason: "UnknownTask" })
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("are both interrupted by a cancel", () => {
    const begun = Latch.makeUnsafe(false)
    const interrupted = Latch.makeUnsafe(false)
    return Effect.gen(function* () {
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` })
      const ref = yield* Act.defer({ how: "hold" })
      yield* begun.await
      yield* ref.cancel()
      yield* interrupted.await
      assert.deepInclude(yield* Effect.flip(ref.await), { _tag: "TaskCancelled" })
    }).pipe(
      Effect.provide(
        endpoint(() => Effect.andThen(begun.open, Effect.never).pipe(Effect.onInterrupt(() => interrupted.open))),
      ),
      Effect.provide(App),
      quietly,
    )
  })
})

describe("PushDispatcher", () => {
  it.effect("signs what it sends, and says what App Engine would say of it", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_500)
      const { got } = yield* against(({ n }) => (n === 0 ? { status: 500 } : succeeded('"done"')))
      const ref = yield* Act.defer(
        { how: "it" },
        { name: "mine", retry: RetryPolicy.fixed(0), headers: { tenant: "a" } },
      )
      assert.strictEqual(yield* ref.await, "done")
      const [first, second] = got
      assert.strictEqual(first?.url, "/tasks?of=a")
      const { authenticate } = yield* PushAuthenticator
      for (const each of got) {
        const sender = yield* authenticate({
          method: "POST",
          path: each.url,
          header: (name) => String(each.headers[name]),
        })
        assert.strictEqual(sender.digest, PushSignature.digestOf(each.body))
        assert.strictEqual(sender.id, ref.id)
      }
      const said = yield* PushDelivery.decode(Buffer.from(second?.body ?? ""))
      assert.deepInclude(said, { task: "Act", name: "mine", headers: { tenant: "a" }, keepsDead: true })
      assert.deepInclude(said.attempt, { number: 2, deadline: 600_000 })
      assert.match(said.attempt?.previousFailure?.message ?? "", /^HTTP 500 from .* after 0 ms \(attempt 1\)$/)
      const engine = (each: Got | undefined) =>
        Object.fromEntries(Object.entries(each?.headers ?? {}).filter(([name]) => name.startsWith("x-appengine-")))
      assert.deepStrictEqual(engine(first), {
        "x-appengine-queuename": "default",
        "x-appengine-taskname": "mine",
        "x-appengine-taskretrycount": "0",
        "x-appengine-taskexecutioncount": "0",
        "x-appengine-tasketa": "1.5",
      })
      assert.deepStrictEqual(engine(second), {
        "x-appengine-queuename": "default",
        "x-appengine-taskname": "mine",
        "x-appengine-taskretrycount": "1",
        "x-appengine-taskexecutioncount": "1",
        "x-appengine-tasketa": "1.5",
        "x-appengine-taskpreviousresponse": "500",
      })
    }).pipe(Effect.provide(PushSignature.layer()), Effect.provide([App, Keys]), quietly),
  )

  it.effect.each([200, 201, 204, 299])("takes %i for success", (status) =>
    Effect.gen(function* () {
      yield* against(() => ({ status, ...(status !== 204 && { body: "whatever" }) }), { tasks: ["Plain"] })
      const ref = yield* Task.make("Plain").defer(undefined)
      yield* ref.await
    }).pipe(Effect.provide(App), quietly),
  )
})
