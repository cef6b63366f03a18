import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { assert, beforeEach, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import type * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, Throttled } from "@outlive/deferred/TaskFailure"
import { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as PushAnswer from "@outlive/node/PushAnswer"
import { PushAuthenticator } from "@outlive/node/PushAuthenticator"
import * as PushDeadLetters from "@outlive/node/PushDeadLetters"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as PushHandler from "@outlive/node/PushHandler"
import * as PushSignature from "@outlive/node/PushSignature"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Clock, Deferred, Effect, Fiber, Latch, Layer, Logger, Option, References, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { TestClock } from "effect/testing"
import {
  Act,
  act,
  Busy,
  deliver,
  delivery,
  endpoint,
  type Handle,
  headText,
  id,
  Keys,
  oldKey,
  path,
  port,
  Quiet,
  Rejected,
  raw,
  secretOf,
  send,
  signedHeaders,
} from "./push/endpoint.ts"

const handle: Handle = ({ how }) => {
  switch (how) {
    case "succeed":
      return Effect.succeed("done")
    case "quiet failure":
      return Effect.fail(new SingularTaskFailure({ message: "not yet" }))
    case "quiet tag":
      return Effect.fail(new Quiet())
    case "permanent failure":
      return Effect.fail(new PermanentTaskFailure({ message: "no such user" }))
    case "never again":
      return Effect.fail(new Rejected({ n: 1 }))
    case "failure":
      return Effect.fail(new Busy())
    case "snooze":
      return Effect.fail(Snooze.for("90 seconds"))
    case "throttle":
      return Effect.fail(Throttled.for("90 seconds"))
    case "throttle all":
      return Effect.fail(Throttled.for("90 seconds", { of: "queue" }))
    default:
      return Effect.die(new Error("boom"))
  }
}

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

let calls = 0
const counted: Handle = () => Effect.sync(() => `call ${++calls}`)
let seen: TaskContext["Service"] | undefined
const looking: Handle = (_, context) =>
  Effect.as(
    Effect.tap(context.progress({ done: 1 }), () =>
      Effect.sync(() => {
        seen = context
      }),
    ),
    "seen",
  )
const begun = Latch.makeUnsafe(false)
const may = Latch.makeUnsafe(false)
const interrupted = Latch.makeUnsafe(false)
const holding: Handle = ({ how }) =>
  how === "hold"
    ? Effect.andThen(begun.open, may.await).pipe(
        Effect.as("held"),
        Effect.onInterrupt(() => interrupted.open),
      )
    : Effect.succeed("done")

beforeEach(() => {
  calls = 0
  seen = undefined
  for (const latch of [begun, may, interrupted]) latch.closeUnsafe()
})

const anybody = { name: "anybody", digest: undefined }
const other = TaskId.make("018bcfe5-6800-7000-8000-000000000002")
const keeping = (handle: Handle, queue: Layer.Layer<TaskQueue, TaskQueueError> = TaskQueueMemory.layer) =>
  endpoint(handle).pipe(Layer.provide(PushDeadLetters.layerTaskQueue()), Layer.provideMerge(queue))
const newFile = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true })),
)
const drivers = [
  ["memory", TaskQueueMemory.layer],
  [
    "SQLite",
    Layer.unwrap(Effect.map(newFile, (folder) => TaskQueueSqlite.layer({ filename: join(folder, "queue.db") }))),
  ],
] as const
const everything = Effect.flatMap(TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 100, now: 0 }), ({ records }) => records),
)

describe("PushHandler", () => {
  it.effect("says what starts nothing before then either, where its sender has that", () =>
    Effect.gen(function* () {
      const pauses = yield* Effect.forEach(["snooze", "throttle", "throttle all"], (how) =>
        Effect.map(
          Effect.flatMap(port, (port) => deliver(port, act(how))),
          ({ body }) => PushAnswer.parse(body)?.pause,
        ),
      )
      assert.deepStrictEqual(pauses, [undefined, "key", "queue"])
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )

  it.effect.each([
    ["succeed", 200, "Succeeded", undefined],
    ["quiet failure", 408, "Retry", undefined],
    ["quiet tag", 408, "Retry", undefined],
    ["failure", 500, "Retry", undefined],
    ["defect", 500, "Retry", undefined],
    ["snooze", 429, "Snoozed", "90"],
    ["throttle", 429, "Snoozed", "90"],
    ["permanent failure", 200, "Dead", undefined],
    ["never again", 200, "Dead", undefined],
  ] as const)("answers a handler that ends so: %s, with %i", ([how, status, outcome, retryAfter]) =>
    Effect.gen(function* () {
      const said = yield* deliver(yield* port, act(how))
      assert.strictEqual(said.status, status)
      assert.strictEqual(said.headers[PushAnswer.outcomeHeader], outcome)
      assert.strictEqual(said.headers["retry-after"], retryAfter)
      assert.strictEqual(PushAnswer.parse(said.body)?.outcome, outcome)
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )

  it.effect("gives the encoded exit with the answer, of failures too", () =>
    Effect.gen(function* () {
      const said = (how: string) => Effect.map(deliver(at, act(how)), ({ body }) => PushAnswer.parse(body))
      const at = yield* port
      assert.deepInclude(yield* said("succeed"), { result: '{"_tag":"Success","value":"done"}' })
      const dead = yield* said("never again")
      assert.deepInclude(dead, { reason: "PermanentFailure" })
      assert.deepInclude(dead?.failure, { kind: "failure", tag: "Rejected" })
      assert.include(dead?.result, '"Rejected"')
      assert.deepInclude((yield* said("defect"))?.failure, { kind: "defect", tag: "Error", message: "boom" })
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )

  it.effect("is deaf to who cannot prove itself: 403, nothing said, nothing read, no handler called", () =>
    Effect.gen(function* () {
      const at = yield* port
      const body = act("succeed")
      const good = signedHeaders(body)
      const strangers: ReadonlyArray<Parameters<typeof send>[1]> = [
        { body, headers: { "content-type": "application/json" } },
        { method: "GET" },
        { method: "DELETE", headers: { "x-appengine-taskname": "mine", "x-appengine-fake-is-admin": "1" } },
        { body, headers: { ...good, [PushSignature.headers.attempt]: "2" } },
        { body, headers: signedHeaders(body, { key: { id: "k1", secret: secretOf("z") } }) },
        { body, headers: signedHeaders(body, { timestamp: 300_001 }) },
        { body, headers: signedHeaders(body, { path: `${path}?x=1` }) },
        { body, headers: good, path: `${path}?x=1` },
        { body, headers: signedHeaders(body, { method: "PUT" }) },
        { body, headers: { ...good, "content-type": "text/plain", [PushSignature.headers.id]: "other" } },
        { body: act("failure"), headers: good },
        { body, headers: { ...good, authorization: ["Bearer a", "Bearer b"] as never } },
        { body: "x".repeat(100_000), headers: { "content-type": "text/plain" } },
      ]
      for (const stranger of strangers) {
        const said = yield* send(at, stranger)
        assert.deepStrictEqual([said.status, said.body], [403, ""])
        const told = Object.keys(said.headers).filter((name) => !/^(content-length|transfer-encoding|date)$/.test(name))
        assert.deepStrictEqual(told, ["connection"])
      }
      assert.strictEqual(calls, 0)
    }).pipe(Effect.provide(endpoint(counted)), quietly),
  )

  it.effect.each(Object.keys(signedHeaders("{}")).concat("host", "content-length", "authorization"))(
    "refuses an authentic delivery with %s twice: a proxy may have looked at the other one",
    (name) =>
      Effect.gen(function* () {
        const body = act("succeed")
        const headers = { ...signedHeaders(body), "content-length": `${body.length}`, connection: "close" }
        const twice = { host: "localhost", authorization: "Bearer x", ...headers }[name]
        const once = name === "authorization" ? `\r\n${name}: ${twice}` : ""
        const text = `${headText("POST", headers)}${once}\r\n${name.toUpperCase()}: ${twice}\r\n\r\n${body}`
        // Node itself refuses some of them: with 400, before anybody sees the request.
        assert.match(yield* raw(yield* port, text), /^HTTP\/1\.1 (403|400) /)
        assert.strictEqual(calls, 0)
      }).pipe(Effect.provide(endpoint(counted)), quietly),
  )

  it.effect("does not even ask a stranger for the body, and asks a known sender", () =>
    Effect.gen(function* () {
      const at = yield* port
      const body = act("succeed")
      const headers = { ...signedHeaders(body), "content-length": `${body.length}`, connection: "close" }
      const said = (more: Readonly<Record<string, string>>) =>
        raw(at, `${headText("POST", { ...headers, ...more, expect: "100-continue" })}\r\n\r\n`, (all, socket) => {
          if (all.endsWith("100 Continue\r\n\r\n")) socket.write(body)
        })
      assert.match(yield* said({ "x-outlive-attempt": "2" }), /^HTTP\/1\.1 403 /)
      assert.match(yield* said({}), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /)
      // Nor for one that is too long.
      assert.match(yield* said({ "content-length": "3000000" }), /^HTTP\/1\.1 413 /)
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )

  it.effect("accepts a delivery that is signed with a key that is on its way out", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* deliver(yield* port, act("succeed"), {}, { key: oldKey })).status, 200)
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )

  it.effect("says to a known sender what is wrong with the form of a delivery", () =>
    Effect.gen(function* () {
      const at = yield* port
      const body = act("succeed")
      const get = yield* send(at, { method: "GET", headers: signedHeaders("", { method: "GET" }) })
      assert.deepStrictEqual([get.status, get.headers.allow], [405, "POST"])
      assert.strictEqual((yield* deliver(at, body, { "content-type": "text/plain" })).status, 415)
      assert.strictEqual((yield* deliver(at, body, { "content-type": "application/jsonx" })).status, 415)
      assert.strictEqual((yield* deliver(at, body, { "content-type": "application/json; charset=utf-8" })).status, 200)
      const zipped = gzipSync(body)
      const packed = { ...signedHeaders(zipped), "content-encoding": "gzip" }
      assert.strictEqual((yield* send(at, { body: zipped, headers: packed })).status, 415)
      assert.strictEqual((yield* deliver(at, act("x".repeat(2_000)))).status, 413)
      assert.strictEqual((yield* deliver(at, act("x".repeat(300_000)))).status, 413)
    }).pipe(Effect.provide(endpoint(handle, { bodyLimit: 1_000 })), quietly),
  )

  it.effect("counts the bytes of a body that does not say how long it is", () =>
    Effect.gen(function* () {
      const at = yield* port
      const chunked = (body: string) =>
        deliver(at, body, { "transfer-encoding": "chunked" }).pipe(Effect.map(({ status }) => status))
      assert.strictEqual(yield* chunked(act("succeed")), 200)
      assert.strictEqual(yield* chunked(act("x".repeat(2_000))), 413)
    }).pipe(Effect.provide(endpoint(handle, { bodyLimit: 1_000 })), quietly),
  )

  it.effect("waits for a slow sender as long as it may take, and no longer", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const body = act("succeed")
      const headers = { ...signedHeaders(body), "content-length": `${body.length}`, expect: "100-continue" }
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const said = yield* raw(yield* port, `${headText("POST", headers)}\r\n\r\n`, (all, socket) => {
        socket.write(body[0] ?? "")
        if (all.includes("100 Continue")) run(Deferred.succeed(asked, undefined))
      }).pipe(Effect.forkChild)
      yield* Deferred.await(asked)
      yield* TestClock.adjust("30 seconds")
      assert.match(yield* Fiber.join(said), /\r\n\r\nHTTP\/1\.1 408 /)
      assert.strictEqual(calls, 0)
    }).pipe(Effect.provide(endpoint(counted)), quietly),
  )

  it.effect("takes a body that breaks off for none", () =>
    Effect.gen(function* () {
      const at = yield* port
      const body = act("succeed")
      const headers = { ...signedHeaders(body), "content-length": `${body.length}`, expect: "100-continue" }
      yield* raw(at, `${headText("POST", headers)}\r\n\r\n`, (_, socket) => {
        socket.write(body.slice(0, 20))
        socket.destroy()
      })
      assert.strictEqual((yield* deliver(at, body)).status, 200)
      assert.strictEqual(calls, 1)
    }).pipe(Effect.provide(endpoint(counted)), quietly),
  )

  it.effect.prop(
    "stays up and lets nobody in, whatever bytes are sent to it",
    { lines: Schema.Array(Schema.String), body: Schema.String },
    ({ body, lines }) =>
      Effect.gen(function* () {
        const forged = signedHeaders(body, { key: { id: "k1", secret: secretOf("z") } })
        const signed = headText("POST", { ...forged, "content-length": `${Buffer.byteLength(body)}` })
        const injected = lines.map((line) => `x-outlive-id: ${line}\r\n`).join("")
        const said = yield* raw(yield* port, `${signed}\r\n${injected}connection: close\r\n\r\n${body}`)
        assert.match(said, /^HTTP\/1\.1 (400|403) |^$/)
        assert.notInclude(said, "x-outlive-id")
        assert.strictEqual(calls, 0)
      }).pipe(Effect.provide(endpoint(counted)), quietly),
    { arbitrary: { runs: 60 } },
  )

  it.effect("tells the handler what its sender knows of the attempt", () =>
    Effect.gen(function* () {
      const previousFailure = { attempt: 2, at: 5, kind: "failure", tag: "Busy", message: "no" } as const
      const body = PushDelivery.encode(
        delivery({
          name: "mine",
          headers: { tenant: "a" },
          enqueuedAt: 1,
          eta: 2,
          attempt: { number: 3, crashes: 1, firstAttemptAt: 3, deadline: 20_000, previousFailure },
        }),
      )
      const said = yield* deliver(yield* port, body, { "x-appengine-taskretrycount": "77" }, { attempt: 3 })
      assert.strictEqual(said.status, 200)
      assert.deepInclude(seen, { id, attempt: 3, crashes: 1, queue: "default", headers: { tenant: "a" } })
      assert.deepStrictEqual(seen?.previousFailure, Option.some(previousFailure))
      assert.strictEqual(seen?.firstAttemptAt.epochMilliseconds, 3)
      assert.deepStrictEqual(PushAnswer.parse(said.body)?.progress, '{"done":1}')
    }).pipe(Effect.provide(endpoint(looking)), quietly),
  )

  it.effect("reads the headers of Cloud Tasks and App Engine once it knows who sent them", () =>
    Effect.gen(function* () {
      const at = yield* port
      const { attempt: _, ...uncounted } = delivery()
      const headers = {
        "content-type": "application/json",
        "x-cloudtasks-taskretrycount": "4",
        "x-cloudtasks-tasketa": "12.5",
        "x-cloudtasks-taskpreviousresponse": "503",
        "x-cloudtasks-taskretryreason": "busy",
      }
      yield* send(at, { body: PushDelivery.encode(uncounted), headers })
      assert.strictEqual(seen?.attempt, 5)
      assert.strictEqual(seen?.eta.epochMilliseconds, 12_500)
      const previous = Option.getOrUndefined(seen!.previousFailure)
      assert.deepInclude(previous, { attempt: 4, message: "answered with 503: busy" })
      yield* send(at, {
        body: PushDelivery.encode(uncounted),
        headers: { "content-type": "application/json", "x-appengine-taskretrycount": "-1 or so" },
      })
      assert.strictEqual(seen?.attempt, 1)
    }).pipe(
      Effect.provide(
        endpoint(looking, {}, Layer.succeed(PushAuthenticator, { authenticate: () => Effect.succeed(anybody) })),
      ),
      quietly,
    ),
  )

  it.effect("refuses what it has no room for, and takes it when there is some again", () =>
    Effect.gen(function* () {
      const at = yield* port
      const first = yield* Effect.forkChild(deliver(at, act("hold")))
      yield* begun.await
      const said = yield* deliver(at, act("succeed"))
      assert.deepStrictEqual([said.status, said.headers["retry-after"]], [503, "1"])
      assert.strictEqual(said.headers[PushAnswer.outcomeHeader], "Refused")
      // Strangers do not learn that it is busy.
      assert.strictEqual((yield* send(at, { body: "{}" })).status, 403)
      yield* may.open
      assert.strictEqual((yield* Fiber.join(first)).status, 200)
      assert.strictEqual((yield* deliver(at, act("succeed"))).status, 200)
    }).pipe(Effect.provide(endpoint(holding, { concurrency: 1 })), quietly),
  )

  it.effect("takes nothing more when the instance shuts down, and answers what is under way", () =>
    Effect.gen(function* () {
      const at = yield* port
      const { shutdown } = yield* Instance.Instance
      const first = yield* Effect.forkChild(deliver(at, act("hold")))
      yield* begun.await
      const down = yield* Effect.forkChild(shutdown, { startImmediately: true })
      const refused = yield* deliver(at, act("succeed"))
      assert.deepStrictEqual([refused.status, refused.headers["retry-after"]], [503, "1"])
      yield* may.open
      assert.strictEqual((yield* Fiber.join(first)).status, 200)
      assert.strictEqual((yield* Fiber.join(down)).hooks[0]?.outcome, "done")
    }).pipe(Effect.provide(endpoint(holding)), quietly),
  )

  it.effect("gives back what has not ended within the time to drain", () =>
    Effect.gen(function* () {
      const at = yield* port
      const { shutdown } = yield* Instance.Instance
      const first = yield* Effect.forkChild(deliver(at, act("hold")))
      yield* begun.await
      const down = yield* Effect.forkChild(shutdown, { startImmediately: true })
      yield* TestClock.adjust("20 seconds")
      const said = yield* Fiber.join(first)
      assert.deepStrictEqual([said.status, said.headers[PushAnswer.outcomeHeader]], [503, "Released"])
      yield* Fiber.join(down)
    }).pipe(Effect.provide(endpoint(holding)), quietly),
  )

  it.effect("runs nothing whose body comes when the time to drain is over", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<(more: string) => void>()
      const body = act("succeed")
      const headers = { ...signedHeaders(body), "content-length": `${body.length}`, expect: "100-continue" }
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const first = yield* raw(yield* port, `${headText("POST", headers)}\r\n\r\n`, (_, { write }) => {
        run(Deferred.succeed(asked, write))
      }).pipe(Effect.forkChild)
      const write = yield* Deferred.await(asked)
      const { shutdown } = yield* Instance.Instance
      const down = yield* Effect.forkChild(shutdown, { startImmediately: true })
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* Fiber.join(down)).hooks[0]?.outcome, "done")
      write(body)
      assert.match(yield* Fiber.join(first), /\r\n\r\nHTTP\/1\.1 503 /)
      assert.strictEqual(calls, 0)
    }).pipe(Effect.provide(endpoint(counted)), quietly),
  )

  it.effect("interrupts the handler of a sender that hangs up, and frees its place", () =>
    Effect.gen(function* () {
      const at = yield* port
      const first = yield* Effect.forkChild(deliver(at, act("hold")))
      yield* begun.await
      yield* Fiber.interrupt(first)
      yield* interrupted.await
      yield* may.open
      // The place is free when the interruption is through: until then there is none.
      const again = deliver(at, act("succeed")).pipe(
        Effect.flatMap(({ status }) => (status === 200 ? Effect.succeed(status) : Effect.fail("busy"))),
      )
      assert.strictEqual(yield* Effect.retry(again, { times: 100 }), 200)
    }).pipe(Effect.provide(endpoint(holding, { concurrency: 1 })), quietly),
  )

  it.effect("answers as a fetch handler, too, as functions have them", () =>
    Effect.gen(function* () {
      const routes = PushHandler.layer({ tasks: [Act], bodyLimit: 1_000 }).pipe(
        Layer.provide(Act.toLayer(handle)),
        Layer.provide(PushSignature.layer().pipe(Layer.provide(Keys))),
        Layer.provide(Instance.layerFrontend()),
        Layer.provide(HttpServer.layerServices),
      )
      const clock = yield* Effect.clockWith(Effect.succeed)
      const { handler } = yield* Effect.acquireRelease(
        Effect.sync(() =>
          HttpRouter.toWebHandler(Layer.provide(routes, Layer.succeed(Clock.Clock, clock)), { disableLogger: true }),
        ),
        ({ dispose }) => Effect.promise(dispose),
      )
      const post = (body: string, headers: Record<string, string>, to = path) =>
        Effect.promise(() => handler(new Request(`https://f.example.com${to}`, { method: "POST", body, headers })))
      const said = yield* post(act("succeed"), signedHeaders(act("succeed")))
      assert.strictEqual(said.status, 200)
      assert.deepInclude(PushAnswer.parse(yield* Effect.promise(() => said.text())), { outcome: "Succeeded" })
      const long = act("x".repeat(2_000))
      assert.strictEqual((yield* post(long, signedHeaders(long))).status, 413)
      assert.strictEqual((yield* post(act("succeed"), {})).status, 403)
      assert.strictEqual((yield* post(act("succeed"), signedHeaders(act("succeed")), `${path}?x`)).status, 403)
    }).pipe(quietly),
  )

  it.effect("ends an attempt whose sender waits no longer, also when the connection says nothing of that", () =>
    Effect.gen(function* () {
      const body = act("hold", { attempt: { ...delivery().attempt!, deadline: 20_000 } })
      const first = yield* Effect.forkChild(deliver(yield* port, body))
      yield* begun.await
      yield* TestClock.adjust("19 seconds")
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(first)).status, 503)
      yield* interrupted.await
    }).pipe(Effect.provide(endpoint(holding)), quietly),
  )

  it.effect.each([
    [{ concurrency: 0 }, /option concurrency must be 1, 2, \.\.\., and is 0/],
    [{ concurrency: Number.NaN }, /option concurrency/],
    [{ bodyLimit: 1.5 }, /option bodyLimit/],
    [{ bodyTimeout: Number.NaN }, /option bodyTimeout must be a finite time, and not negative/],
    [{ deadline: "Infinity" }, /option deadline/],
    [{ drainTimeout: -1 }, /option drainTimeout/],
  ] as const)("does not start with %j", ([options, message]) =>
    Effect.gen(function* () {
      assert.match(String(yield* Effect.exit(Layer.build(endpoint(handle, options)))), message)
    }),
  )

  it("does not compile without a handler for each task, or without an authenticator", () => {
    type Needs<L> = L extends Layer.Layer<never, never, infer R> ? R : never
    const layer = PushHandler.layer({ tasks: [Act] })
    const needs = <R>(..._: ReadonlyArray<(needed: R) => void>) => true
    type All = HttpRouter.HttpRouter | PushAuthenticator | Instance.Instance | Task.HandlersOf<typeof Act>
    const all: (needed: All) => void = () => undefined
    assert.isTrue(needs<Needs<typeof layer>>(all))
    const unhandled: (needed: Exclude<All, Task.HandlersOf<typeof Act>>) => void = () => undefined
    // @ts-expect-error: the handler of Act is missing
    assert.isTrue(needs<Needs<typeof layer>>(unhandled))
    const unauthenticated: (needed: Exclude<All, PushAuthenticator>) => void = () => undefined
    // @ts-expect-error: the authenticator is missing
    assert.isTrue(needs<Needs<typeof layer>>(unauthenticated))
  })

  it.effect("serves who is known while thousands of strangers knock, and says so in one line a minute", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => {
      lines.push(String(message))
    })
    return Effect.gen(function* () {
      const at = yield* port
      const forged = signedHeaders("{}", { key: { id: "k1", secret: secretOf("z") } })
      const strangers = Array.from({ length: 3_000 }, (_, index) =>
        send(at, { body: "{}", headers: index % 3 === 0 ? {} : forged }).pipe(Effect.map(({ status }) => status)),
      )
      const storm = yield* Effect.forkChild(Effect.all(strangers, { concurrency: "unbounded" }))
      const known = yield* Effect.all(
        Array.from({ length: 100 }, () => deliver(at, act("succeed"))),
        { concurrency: 10 },
      )
      assert.isTrue(known.every(({ status }) => status === 200))
      assert.deepStrictEqual([...new Set(yield* Fiber.join(storm))], [403])
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(lines, [
        `refused 3000 requests to ${path} within a minute: 1000 without a signature or a token, 2000 with a wrong signature`,
      ])
      yield* TestClock.adjust("1 hour")
      assert.lengthOf(lines, 1)
      yield* send(at, { body: "{}" })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(lines.slice(1), [
        `refused 1 request to ${path} within a minute: 1 without a signature or a token`,
      ])
    }).pipe(Effect.provide(endpoint(handle)), Effect.provide(Logger.layer([logger])))
  })
})

describe("what is said of strangers", () => {
  it.effect("is one line a minute, however they are spread, and the last one when the endpoint ends", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => {
      lines.push(String(message).slice(0, 18))
    })
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const at = yield* port
        const knock = send(at, { body: "{}" })
        yield* knock
        yield* TestClock.adjust("30 seconds")
        yield* knock
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(lines, ["refused 2 requests"])
        yield* TestClock.adjust("10 seconds")
        yield* knock
        yield* TestClock.adjust("59 seconds")
        assert.lengthOf(lines, 1)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(lines.slice(1), ["refused 1 request "])
        yield* knock
      }).pipe(Effect.provide(endpoint(handle)))
      assert.deepStrictEqual(lines.slice(2), ["refused 1 request "])
    }).pipe(Effect.provide(Logger.layer([logger])))
  })
})

describe("a dead letter of a PushHandler", () => {
  const unreadable = [
    ["is no JSON", "{", undefined],
    ["is no object", "[]", undefined],
    ["has no payload", '{"outlive":1,"task":"Act"}', "Act"],
    ["has an id of its own making", act("succeed").replace(id, "1"), "Act"],
    ["is of another format", act("succeed").replace('"outlive":1', '"outlive":2'), "Act"],
    ["is of version 0", act("succeed", { version: 0 }), "Act"],
    ["has a task with a line break", act("succeed", { task: "Act\n" }), "Act?"],
    ["was signed for another attempt", act("succeed", { attempt: { ...delivery().attempt!, number: 2 } }), "Act"],
  ] as const

  it.effect.each(unreadable)(
    "is what %s; it is answered with 200 and kept, and no handler is called",
    ([, body, task]) =>
      Effect.gen(function* () {
        const said = yield* deliver(yield* port, body)
        assert.strictEqual(said.status, 200)
        assert.deepInclude(PushAnswer.parse(said.body), { outcome: "Dead", reason: "Undecodable" })
        const [record] = yield* everything
        assert.deepInclude(record, { state: "dead", reason: "Undecodable", task: task ?? "(not a delivery)", id })
        assert.strictEqual(calls, 0)
      }).pipe(Effect.provide(keeping(counted)), quietly),
  )

  it.effect("keeps bytes that are no text from being taken for text", () =>
    Effect.gen(function* () {
      const body = Buffer.from(act("succeed").replace("succeed", "succe\u0080d"), "latin1")
      const said = yield* send(yield* port, { body, headers: signedHeaders(body) })
      assert.deepInclude(PushAnswer.parse(said.body), { reason: "Undecodable" })
    }).pipe(Effect.provide(keeping(counted)), quietly),
  )

  it.effect.each(drivers)("is found where dead letters are looked for, with its payload, once: %s", ([, queue]) =>
    Effect.gen(function* () {
      const at = yield* port
      yield* deliver(at, act("never again"))
      yield* deliver(at, act("never again"))
      yield* deliver(at, act("x", { task: "Gone", id: other }), {}, { id: other })
      const records = yield* everything
      assert.deepStrictEqual(
        records.map(({ queue, reason, task }) => [queue, task, reason]),
        [
          ["push-dead-letters", "Act", "PermanentFailure"],
          ["push-dead-letters", "Gone", "UnknownTask"],
        ],
      )
      assert.strictEqual(records[0]?.payload, '{"how":"never again"}')
      const page = yield* DeadLetters.find({ limit: 10 })
      assert.lengthOf(page.letters, 2)
    }).pipe(Effect.provide(keeping(handle, queue)), quietly),
  )

  it.effect("is run again by who serves its queue when it is redriven, and is not buried by the next one", () =>
    Effect.gen(function* () {
      const at = yield* port
      const queue = yield* TaskQueue
      yield* deliver(at, act("never again"))
      yield* queue.redrive({ ids: [id], now: 0 })
      yield* deliver(at, act("x", { task: "Act", id: other, payload: "1" }), {}, { id: other })
      const states = (yield* everything).map((record) => [record.id, record.state])
      assert.deepStrictEqual(states, [
        [id, "ready"],
        [other, "dead"],
      ])
    }).pipe(Effect.provide(keeping(handle)), quietly),
  )

  it.effect.each(drivers)("is buried at once, however many wait in its queue that were redriven: %s", ([, driver]) =>
    Effect.gen(function* () {
      const at = yield* port
      const queue = yield* TaskQueue
      const ids = Array.from({ length: 12 }, (_, n) => TaskId.make(`${id.slice(0, -2)}${n + 10}`))
      const die = (id: TaskId) => deliver(at, act("never again", { id }), {}, { id })
      const last = ids.pop()!
      yield* Effect.forEach(ids, die)
      yield* queue.redrive({ ids, now: 0 })
      yield* die(last)
      const states = (yield* everything).map((record) => [record.id, record.state])
      assert.deepStrictEqual(states, [...ids.map((id) => [id, "ready"]), [last, "dead"]])
    }).pipe(Effect.provide(keeping(handle, driver)), quietly),
  )

  it.effect("is left to a sender that keeps it", () =>
    Effect.gen(function* () {
      const said = yield* deliver(yield* port, act("never again", { keepsDead: true }))
      assert.deepInclude(PushAnswer.parse(said.body), { outcome: "Dead" })
      assert.deepStrictEqual(yield* everything, [])
    }).pipe(Effect.provide(keeping(handle)), quietly),
  )

  it.effect("comes again when it cannot be kept: it is never lost", () =>
    Effect.gen(function* () {
      const said = yield* deliver(yield* port, act("never again"))
      assert.deepStrictEqual([said.status, said.headers["retry-after"]], [500, "10"])
    }).pipe(
      Effect.provide(
        endpoint(handle).pipe(
          Layer.provide(
            Layer.succeed(PushDeadLetters.PushDeadLetters, {
              keep: () =>
                Effect.fail(new TaskQueueError({ operation: "enqueue", message: "disk full", isRetryable: true })),
            }),
          ),
        ),
      ),
      quietly,
    ),
  )

  it.effect("is not kept in a queue that would deliver it again", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(PushDeadLetters.layerTaskQueue()))
      assert.match(error.message, /cannot be kept in memory/)
    }).pipe(
      Effect.updateService(TaskQueue, (queue) => ({
        ...queue,
        capabilities: { ...queue.capabilities, claims: false },
      })),
      Effect.provide(TaskQueueMemory.layer),
    ),
  )
})
