import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, Throttled } from "@outlive/deferred/TaskFailure"
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

/** Looks until it is so, a turn of the event loop at a time: what comes from a socket is not on the test's clock. */
const until = <A, E, R>(look: Effect.Effect<A, E, R>, isSo: (value: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    while (true) {
      const value = yield* look
      if (isSo(value)) return value
      yield* Effect.promise(() => new Promise(setImmediate))
    }
  })

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
      case "throttled":
        return Effect.suspend(() =>
          throttles++ === 0 ? Effect.fail(Throttled.for("1 minute")) : Effect.succeed(`${attempt}`),
        )
      default:
        return Effect.as(progress({ done: 2, message: "half" }), `${how} in attempt ${attempt}`)
    }
  }
  let snoozes = 0
  let throttles = 0

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
      assert.deepInclude(yield* until(ref.record, ({ eta }) => eta > 0), { state: "scheduled", eta: 60_000 })
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* ref.await, "1")
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(App), quietly),
  )

  it.effect("hold back all of a key that is throttled there, and nothing of others", () =>
    Effect.gen(function* () {
      throttles = 0
      yield* dispatching({ url: `http://127.0.0.1:${yield* port}` })
      const queue = yield* TaskQueue
      const ref = yield* Act.defer({ how: "throttled" }, { key: "acme" })
      assert.deepInclude(yield* until(ref.record, ({ eta }) => eta > 0), {
        state: "scheduled",
        eta: 60_000,
        attempt: 0,
      })
      const { pausedUntil } = yield* queue.keyStatistics({ queue: "default", key: "acme", now: 0 })
      assert.strictEqual(pausedUntil, 60_000)
      const same = yield* Act.defer({ how: "same" }, { key: "acme" })
      const other = yield* Act.defer({ how: "other" }, { key: "other" })
      assert.strictEqual(yield* other.await, "other in attempt 1")
      assert.strictEqual(yield* same.state, "ready")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* ref.await, "1")
      assert.strictEqual(yield* same.await, "same in attempt 1")
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

  it.effect.each(clients)("does not follow a redirect, over %s: who does hands the task to a stranger", ([, client]) =>
    Effect.gen(function* () {
      const stranger = yield* target(() => ({ status: 200 }))
      const { url } = yield* target(() => ({ status: 307, headers: { location: stranger.url } }))
      yield* dispatching({ url }, client)
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.never })
      assert.deepInclude(yield* Effect.flip(ref.await), { _tag: "TaskDead", reason: "RetriesExhausted" })
      assert.match((yield* failureOf(ref))?.message ?? "", /^HTTP 307 /)
      assert.lengthOf(stranger.got, 0)
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect.each([
    [408, "120", 120_000],
    [429, "120", 120_000],
    [503, "120", 120_000],
    [503, "Thu, 01 Jan 1970 00:02:00 GMT", 120_000],
    [503, undefined, 1_000],
    [503, "soon", 1_000],
    [503, "0", 1_000],
    [500, "120", 1_000],
    [404, "120", 1_000],
    [503, "9999999999", 2_592_000_000],
  ] as const)("tries again after %i with Retry-After %s, no sooner than in %i ms", ([status, retryAfter, eta]) =>
    Effect.gen(function* () {
      yield* against(() => ({ status, ...(retryAfter !== undefined && { headers: { "retry-after": retryAfter } }) }))
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.fixed("1 second") })
      const record = yield* until(ref.record, ({ eta }) => eta > 0)
      assert.deepInclude(record, { eta, attempt: 1, state: "scheduled" })
      assert.deepInclude(yield* failureOf(ref), { tag: "DeliveryFailed" })
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect.each([
    ["Snoozed", 429, "90", 90_000],
    ["Released", 503, "1", 1_000],
    ["Refused", 503, undefined, 1_000],
  ] as const)("gives the attempt back when the other side says %s", ([outcome, status, retryAfter, eta]) =>
    Effect.gen(function* () {
      const headers = { "x-outlive-outcome": outcome, ...(retryAfter !== undefined && { "retry-after": retryAfter }) }
      yield* against(() => ({ status, headers }))
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.never })
      assert.deepInclude(yield* until(ref.record, ({ eta }) => eta > 0), { eta, attempt: 0, state: "scheduled" })
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect("waits for an answer as long as the deadline, then cuts the connection and tries again", () =>
    Effect.gen(function* () {
      const came = Latch.makeUnsafe(false)
      const { url } = yield* against(
        () => {
          came.openUnsafe()
          return undefined
        },
        { deadline: "15 seconds" },
      )
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.fixed("1 hour") })
      yield* came.await
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(yield* ref.state, "running")
      yield* TestClock.adjust("1 second")
      yield* until(ref.record, ({ state }) => state === "scheduled")
      const where = url.replace("?of=a", "")
      assert.strictEqual((yield* failureOf(ref))?.message, `no answer from ${where} within 15000 ms (attempt 1)`)
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect("tries again when nobody is there", () =>
    Effect.gen(function* () {
      const { url } = yield* Effect.scoped(target(() => ({ status: 200 })))
      yield* dispatching({ url })
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.fixed("1 hour") })
      yield* until(ref.record, ({ eta }) => eta > 0)
      assert.match((yield* failureOf(ref))?.message ?? "", /^no answer from http:\/\/127\.0\.0\.1:.*\(attempt 1\)$/)
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect("keeps the error of the last attempt when there is no other, typed", () =>
    Effect.gen(function* () {
      const { url } = yield* target(() => ({
        status: 500,
        headers: { "x-outlive-outcome": "Retry" },
        body: JSON.stringify({
          outcome: "Retry",
          result: '{"_tag":"Failure","cause":[{"_tag":"Fail","error":{"_tag":"Rejected","n":9}}]}',
          failure: { kind: "failure", tag: "Rejected", message: "no" },
        }),
      }))
      yield* dispatching({ url })
      const ref = yield* Act.defer({ how: "it" }, { retry: RetryPolicy.never })
      assert.deepInclude(yield* Effect.flip(ref.await), { _tag: "Rejected", n: 9 })
      assert.deepInclude(yield* ref.record, { reason: "RetriesExhausted" })
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect("tries again by the policy that a task has for the tag of the error over there", () =>
    Effect.gen(function* () {
      const Picky = Task.make("Picky", { error: Rejected, retry: { Rejected: RetryPolicy.fixed("7 seconds") } })
      const failure = { kind: "failure", tag: "Rejected", message: "no" }
      yield* against(
        () => ({
          status: 500,
          headers: { "x-outlive-outcome": "Retry" },
          body: JSON.stringify({ outcome: "Retry", failure }),
        }),
        {
          tasks: [Picky],
        },
      )
      const ref = yield* Picky.defer(undefined)
      assert.deepInclude(yield* until(ref.record, ({ eta }) => eta > 0), { eta: 7_000 })
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect.prop(
    "settles whatever a target answers, and goes on",
    {
      status: Schema.Literals([200, 200, 500, 503]),
      outcome: Schema.Literals(["Succeeded", "Dead", "Retry", "Snoozed", "Else"]),
      body: Schema.Union([
        Schema.String,
        Schema.fromJsonString(
          Schema.Struct({
            outcome: Schema.Literals(["Succeeded", "Dead", "Retry"]),
            reason: Schema.optionalKey(Schema.Literals(["UnknownTask", "Odd"])),
            progress: Schema.optionalKey(Schema.String),
            result: Schema.optionalKey(Schema.String),
          }),
        ),
      ]),
    },
    ({ body, outcome, status }) =>
      Effect.gen(function* () {
        const text = typeof body === "string" ? body : JSON.stringify(body)
        const { got } = yield* against(
          ({ n }) => (n === 0 ? { status, headers: { "x-outlive-outcome": outcome }, body: text } : succeeded("null")),
          { tasks: ["Odd"] },
        )
        const Odd = Task.make("Odd")
        const first = yield* Odd.defer(undefined, { retry: RetryPolicy.fixed("1 hour") })
        yield* until(first.record, ({ eta, state }) => eta > 0 || state === "dead" || state === "succeeded")
        yield* Effect.flatMap(Odd.defer(undefined), (second) => second.await)
        assert.lengthOf(got, 2)
      }).pipe(Effect.provide(App), quietly),
    { arbitrary: { runs: 40 } },
  )

  it.effect("reads no more of an answer than it may, and judges it by its status then", () =>
    Effect.gen(function* () {
      yield* against(() => ({ ...succeeded('"done"'), body: `${succeeded('"done"').body}${" ".repeat(2_000)}` }), {
        answerLimit: 1_000,
        tasks: ["Plain"],
      })
      const ref = yield* Task.make("Plain").defer(undefined)
      yield* ref.await
      assert.strictEqual((yield* ref.record).result, '{"_tag":"Success","value":null}')
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect("signs the path that the receiver sees, when a proxy changes it", () =>
    Effect.gen(function* () {
      const { got } = yield* against(() => succeeded('"done"'), { signedPath: "/behind" })
      yield* Effect.flatMap(Act.defer({ how: "it" }), (ref) => ref.await)
      const { authenticate } = yield* PushAuthenticator
      yield* authenticate({ method: "POST", path: "/behind", header: (name) => String(got[0]?.headers[name]) })
    }).pipe(Effect.provide(PushSignature.layer()), Effect.provide([App, Keys]), quietly),
  )

  it.effect("delivers a payload that is stored apart from its record", () =>
    Effect.gen(function* () {
      const { got } = yield* against(() => succeeded('"done"'))
      const how = "x".repeat(300_000)
      const ref = yield* Act.defer({ how })
      yield* ref.await
      const said = yield* PushDelivery.decode(Buffer.from(got[0]?.body ?? ""))
      assert.deepStrictEqual(JSON.parse(said.payload), { how })
    }).pipe(Effect.provide(App), quietly),
  )

  it.effect.each([
    [{ url: "tasks.example.com" }, /url must be an http or https URL, and is "tasks.example.com"/],
    [{ url: "ftp://x" }, /url must be an http/],
    [{ url: "http://me:secret@x" }, /url must have no password in it$/],
    [{ url: "http://x", deadline: "14 seconds" }, /deadline must be 15 seconds to 30 minutes \(C9\), and is 14000 ms/],
    [{ url: "http://x", deadline: "31 minutes" }, /deadline must be/],
    [{ url: "http://x", deadline: "Infinity" }, /deadline must be/],
    [{ url: "http://x", answerLimit: Number.NaN }, /answerLimit must not be negative, and is NaN/],
    [{ url: "http://x", signedPath: "x\r\ny" }, /signedPath must be a path/],
  ] as const)("refuses %j", ([options, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(dispatching(options))
      assert.match(error.message, message)
      assert.notInclude(error.message, "secret")
    }).pipe(Effect.provide(App)),
  )

  it.effect("does not start on a frontend: there, be delivered to", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(dispatching({ url: "http://x" }))
      assert.strictEqual(error._tag, "FrontendsNotSupported")
    }).pipe(Effect.provide([TaskQueueMemory.layer, Instance.layerFrontend()])),
  )
})
