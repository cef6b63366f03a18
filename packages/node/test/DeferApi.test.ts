import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as DeferApi from "@outlive/node/DeferApi"
import * as PushSignature from "@outlive/node/PushSignature"
import { DateTime, Effect, Layer, Logger, References, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import { Keys, port, send, signedHeaders } from "./push/endpoint.ts"

class Resize extends Task.make("Resize", {
  payload: { path: Schema.String, at: Schema.optionalKey(Schema.Date), width: Schema.Int },
  queue: "images",
}) {}
class Ping extends Task.make("Ping") {}

const options = { tasks: [Resize, Ping] } as const
const served = (more?: Partial<DeferApi.Options<typeof options.tasks>>) =>
  HttpRouter.serve(DeferApi.layer({ ...options, ...more }), { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(PushSignature.layer().pipe(Layer.provide(Keys))),
    Layer.provideMerge(NodeHttpServer.layerTest),
  )
const Api = served().pipe(Layer.provideMerge(TaskQueueMemory.layer))

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

const call = (path: string, body: unknown, headers?: Record<string, string>) =>
  Effect.gen(function* () {
    const text = typeof body === "string" ? body : JSON.stringify(body)
    const timestamp = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const said = yield* send(yield* port, {
      path,
      body: text,
      headers: { ...signedHeaders(text, { path, timestamp, id: "request-1" }), ...headers },
    })
    return { status: said.status, headers: said.headers, json: said.body === "" ? undefined : JSON.parse(said.body) }
  })
const look = (path: string, method = "GET") =>
  Effect.flatMap(port, (port) => send(port, { method, path, headers: signedHeaders("", { path, method }) }))

const records = Effect.flatMap(TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 100, now: 0 }), ({ records }) => records),
)
const resize = { payload: { path: "cat.png", width: 200 } }

describe("DeferApi", () => {
  it.effect("stores a task as `defer` would, and gives its id", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000)
      const said = yield* call("/tasks/Resize", {
        payload: { path: "cat.png", width: 200, at: "2026-01-01T00:00:00.000Z" },
        delay: 60_000,
        priority: 5,
        key: "acme",
        headers: { tenant: "a" },
        expires: 90_000,
      })
      assert.strictEqual(said.status, 201)
      const [record] = yield* records
      assert.deepStrictEqual(said.json, { id: record?.id, outcome: "Inserted" })
      assert.deepInclude(record, { task: "Resize", queue: "images", priority: 5, eta: 61_000, expiresAt: 91_000 })
      assert.strictEqual(record?.key, "acme")
      assert.deepStrictEqual(record?.headers, { tenant: "a" })
      const payload = yield* Resize.payloadOf(record!)
      assert.deepStrictEqual(payload.at, new Date("2026-01-01T00:00:00.000Z"))
    }).pipe(Effect.provide(Api), quietly),
  )

  it.effect("can be asked the same again, by name: one record", () =>
    Effect.gen(function* () {
      const first = yield* call("/tasks/Resize", { ...resize, name: "cat" })
      const again = yield* call("/tasks/Resize", { ...resize, name: "cat" })
      assert.deepStrictEqual([again.status, again.json], [200, { id: first.json.id, outcome: "Existing" }])
      const replaced = yield* call("/tasks/Resize", { ...resize, name: "cat", onDuplicate: "replace" })
      assert.deepStrictEqual(replaced.json, { id: first.json.id, outcome: "Replaced" })
      const failed = yield* call("/tasks/Resize", { ...resize, name: "cat", onDuplicate: "fail" })
      assert.strictEqual(failed.status, 409)
      assert.deepInclude(failed.json, { _tag: "NameTaken", id: first.json.id })
      assert.lengthOf(yield* records, 1)
    }).pipe(Effect.provide(Api), quietly),
  )

  it.effect("takes a time for a time", () =>
    Effect.gen(function* () {
      yield* call("/tasks/Resize", { ...resize, eta: "1970-01-01T01:00:00Z" })
      assert.strictEqual((yield* records)[0]?.eta, DateTime.makeUnsafe("1970-01-01T01:00:00Z").epochMilliseconds)
    }).pipe(Effect.provide(Api), quietly),
  )

  it.effect.each([
    ["a payload that does not decode", { payload: { path: "cat.png", width: "wide" } }, /width/],
    ["a payload with a part missing", { payload: { path: "cat.png" } }, /width/],
    ["no payload", {}, /payload/],
    ["a property that nobody knows", { ...resize, dalay: 5 }, /dalay/],
    ["a name that is none", { ...resize, name: "a b" }, /name/],
    ["a queue that is none", { ...resize, queue: "a/b" }, /queue/],
    ["a key that is none", { ...resize, key: "" }, /key/],
    ["a key that is too long", { ...resize, key: "k".repeat(256) }, /key/],
    ["a delay and a time", { ...resize, delay: 1, eta: "2026-01-01T00:00:00Z" }, /delay and eta exclude each other/],
    ["a delay into the past", { ...resize, delay: -1 }, /delay must not be negative/],
    ["a delay that is too long", { ...resize, delay: 1e12 }, /delay is .* ahead/],
    ["a header that is reserved", { ...resize, headers: { "x-appengine-user": "me" } }, /reserved/],
    ["a time that is none", { ...resize, eta: "tomorrow" }, /eta/],
    ["what is no JSON", "{", /JSON/],
  ] as const)("refuses %s with 400 and says what is wrong; nothing is stored", ([, body, message]) =>
    Effect.gen(function* () {
      const said = yield* call("/tasks/Resize", body)
      assert.strictEqual(said.status, 400)
      assert.strictEqual(said.json._tag, "InvalidDeferral")
      assert.match(said.json.message, message)
      assert.lengthOf(yield* records, 0)
    }).pipe(Effect.provide(Api), quietly),
  )

  it.effect("says 404, 405, 413 and 415 to who is known", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* call("/tasks/Nothing", resize)).status, 404)
      const get = yield* look("/tasks/Resize")
      assert.deepStrictEqual([get.status, get.headers.allow], [405, "POST"])
      assert.strictEqual((yield* call("/tasks/Resize", { ...resize, headers: { x: "y".repeat(2_000) } })).status, 413)
      assert.strictEqual((yield* call("/tasks/Resize", resize, { "content-type": "text/plain" })).status, 415)
      assert.strictEqual((yield* call("/tasks/Ping", { payload: null })).status, 201)
    }).pipe(Effect.provide(served({ bodyLimit: 1_000 }).pipe(Layer.provideMerge(TaskQueueMemory.layer))), quietly),
  )

  it.effect("tells a stranger nothing, not even which tasks there are", () =>
    Effect.gen(function* () {
      const at = yield* port
      const body = JSON.stringify(resize)
      const headers = { "content-type": "application/json" }
      const good = signedHeaders(body, { path: "/tasks/Resize" })
      const said = yield* Effect.all([
        send(at, { path: "/tasks/Resize", body, headers }),
        send(at, { path: "/tasks/Nothing", body, headers }),
        send(at, { path: "/tasks/Resize", method: "GET" }),
        send(at, { path: "/tasks/openapi.json", method: "GET" }),
        send(at, { path: "/tasks/Resize", body: "{", headers }),
        // Signed for another task, and for another body.
        send(at, { path: "/tasks/Ping", body, headers: good }),
        send(at, { path: "/tasks/Resize", body: body.replace("cat", "dog"), headers: good }),
      ])
      assert.deepStrictEqual([...new Set(said.map(({ body, status }) => `${status} ${body}`))], ["403 "])
      assert.lengthOf(yield* records, 0)
    }).pipe(Effect.provide(Api), quietly),
  )

  it.effect("says of strangers one line a minute, whatever the server says of others", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => {
      lines.push(String(Array.isArray(message) ? message[0] : message))
    })
    const noisy = HttpRouter.serve(DeferApi.layer(options), { disableListenLog: true }).pipe(
      Layer.provide(PushSignature.layer().pipe(Layer.provide(Keys))),
      Layer.provideMerge(NodeHttpServer.layerTest),
      Layer.provideMerge(TaskQueueMemory.layer),
    )
    return Effect.gen(function* () {
      const at = yield* port
      yield* send(at, { path: "/tasks/Resize", body: "{}" })
      yield* send(at, { path: "/tasks/Nothing", body: "{}" })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(lines, ["refused 2 requests to /tasks within a minute: 2 without a signature or a token"])
      yield* call("/tasks/Resize", resize)
      assert.deepStrictEqual(lines.slice(1), ["Sent HTTP response"])
    }).pipe(Effect.provide(noisy), Effect.provide(Logger.layer([logger])))
  })

  it.effect("says 503 when the queue cannot store, and not why", () =>
    Effect.gen(function* () {
      const said = yield* call("/tasks/Resize", resize)
      assert.strictEqual(said.status, 503)
      assert.notInclude(said.json.message, "disk")
    }).pipe(
      Effect.provide(
        served().pipe(
          Layer.provide(
            Layer.effect(
              TaskQueue,
              Effect.map(TaskQueue, (queue) => ({
                ...queue,
                enqueue: () =>
                  Effect.fail(new TaskQueueError({ operation: "enqueue", message: "disk full", isRetryable: true })),
              })),
            ),
          ),
          Layer.provide(TaskQueueMemory.layer),
        ),
      ),
      quietly,
    ),
  )

  it.effect("describes itself, with the payload of each task", () =>
    Effect.gen(function* () {
      const document = JSON.parse((yield* look("/tasks/openapi.json")).body)
      assert.deepStrictEqual(document, JSON.parse(JSON.stringify(DeferApi.openApi(options))))
      assert.deepStrictEqual(Object.keys(document.paths), ["/tasks/Resize", "/tasks/Ping"])
      const { post } = document.paths["/tasks/Resize"]
      assert.includeMembers(Object.keys(post.responses), ["200", "201", "400", "409", "413", "503"])
      assert.include(JSON.stringify(document), '"width":{"type":"integer"')
    }).pipe(Effect.provide(Api), quietly),
  )

  it("refuses a task whose name does not fit into a path", () => {
    assert.throws(() => DeferApi.openApi({ tasks: [Task.make("a/b")] }), /"a\/b" does not fit into a path/)
  })
})
