import { createServer, type IncomingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import type { protos } from "@google-cloud/tasks"
import { status } from "@grpc/grpc-js"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { CloudTasksServer, layer, location, project } from "./server.ts"
import { millisOf } from "./state.ts"

type ITask = protos.google.cloud.tasks.v2beta3.ITask
type IQueue = protos.google.cloud.tasks.v2beta3.IQueue
type Client = CloudTasksServer["Service"]["client"]

const parent = `projects/${project}/locations/${location}`
const queue = `${parent}/queues/q`
const nameOf = (task: string) => `${queue}/tasks/${task}`
const hour = 3_600_000
const day = 24 * hour
const seconds = (millis: number) => ({ seconds: millis / 1000 })

const call = <A>(run: (client: Client) => Promise<readonly [A, ...ReadonlyArray<unknown>]>) =>
  Effect.flatMap(CloudTasksServer, ({ client }) =>
    Effect.map(
      Effect.tryPromise({
        try: () => run(client),
        catch: (error) => error as { readonly code: number; readonly details: string },
      }),
      ([answer]) => answer,
    ),
  )
const create = (task?: ITask) =>
  call((client) => client.createTask({ parent: queue, task: { httpRequest: { url: "http://x" }, ...task } }))
const get = (task: string) => call((client) => client.getTask({ name: nameOf(task) }))
const update = (settings: IQueue) => call((client) => client.updateQueue({ queue: { name: queue, ...settings } }))
const failsWith = <A, R>(
  code: number,
  effect: Effect.Effect<A, { readonly code: number; readonly details: string }, R>,
) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error.code, code, error.details)
    return error.details
  })
const withQueue = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(CloudTasksServer, (server) => Effect.andThen(server.createQueue("q"), effect))

/** An endpoint that answers as it is told, and what it was sent. */
const endpoint = (answers: ReadonlyArray<readonly [number, Record<string, string>?]>) =>
  Effect.gen(function* () {
    const requests: Array<{ readonly headers: IncomingHttpHeaders; readonly body: string }> = []
    const server = yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const made = createServer((request, response) => {
          const chunks: Array<Buffer> = []
          request.on("data", (chunk) => chunks.push(chunk))
          request.on("end", () => {
            const [code, headers] = answers[requests.length] ?? [200]
            requests.push({ headers: request.headers, body: Buffer.concat(chunks).toString() })
            response.writeHead(code, headers).end()
          })
        })
        made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
      }),
      (made) => Effect.sync(() => made.close()),
    )
    return { requests, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/run?x=1` }
  })

/** The tests' Cloud Tasks is only worth something if it is like the real one: these are the facts that were recorded of it. */
describe("Cloud Tasks, as the tests have it", () => {
  const facts = (name: string, effect: Effect.Effect<void, unknown, CloudTasksServer>) =>
    it.effect(name, () => withQueue(effect).pipe(Effect.provide(layer)))

  facts(
    "C2: ids of queues and tasks",
    Effect.gen(function* () {
      for (const id of ["a_b", "a".repeat(101), "a.b", ""]) {
        const made = call((client) => client.createQueue({ parent, queue: { name: `${parent}/queues/${id}` } }))
        yield* failsWith(status.INVALID_ARGUMENT, made)
      }
      for (const id of ["a.b", "a".repeat(501), "ä"]) {
        yield* failsWith(status.INVALID_ARGUMENT, create({ name: nameOf(id) }))
      }
      yield* create({ name: nameOf(`${"a".repeat(498)}_-`) })
    }),
  )
  facts(
    "C3, C5: rates and their bounds, and what a new queue has",
    Effect.gen(function* () {
      const made = yield* call((client) => client.getQueue({ name: queue }))
      assert.deepInclude(made.rateLimits, {
        maxDispatchesPerSecond: 500,
        maxBurstSize: 100,
        maxConcurrentDispatches: 1000,
      })
      assert.strictEqual(made.retryConfig?.maxAttempts, 100)
      assert.strictEqual(millisOf(made.retryConfig?.minBackoff), 100)
      assert.strictEqual(made.retryConfig?.maxDoublings, 16)
      yield* failsWith(status.INVALID_ARGUMENT, update({ rateLimits: { maxDispatchesPerSecond: 501 } }))
      yield* failsWith(status.INVALID_ARGUMENT, update({ rateLimits: { maxConcurrentDispatches: 5001 } }))
    }),
  )
  facts(
    "C4: times are cut off at the second",
    Effect.gen(function* () {
      const { retryConfig } = yield* update({
        retryConfig: { minBackoff: { seconds: 2, nanos: 9e8 }, maxBackoff: { seconds: 9, nanos: 9e8 } },
      })
      assert.deepStrictEqual([millisOf(retryConfig?.minBackoff), millisOf(retryConfig?.maxBackoff)], [2_000, 9_000])
    }),
  )
  facts(
    "C6: at most 30 days ahead; what is past is now; gone after 31 days",
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* TestClock.setTime(10 * day)
      yield* create({ name: nameOf("a"), scheduleTime: seconds(40 * day) })
      yield* failsWith(status.INVALID_ARGUMENT, create({ scheduleTime: seconds(40 * day + 1_000) }))
      const past = yield* create({ scheduleTime: seconds(1_000) })
      assert.strictEqual(millisOf(past.scheduleTime), 10 * day)
      yield* call((client) => client.pauseQueue({ name: queue }))
      yield* server.advance(31 * day)
      yield* failsWith(status.NOT_FOUND, get("a"))
      assert.deepStrictEqual(new Set(server.state.endings.map(({ how }) => how)), new Set(["expired"]))
    }),
  )
  facts(
    "C7, C21: a name is taken while its task lives and for the tombstone after; who looks is told so in other words",
    Effect.gen(function* () {
      yield* create({ name: nameOf("a") })
      yield* failsWith(status.ALREADY_EXISTS, create({ name: nameOf("a") }))
      yield* call((client) => client.deleteTask({ name: nameOf("a") }))
      yield* failsWith(status.ALREADY_EXISTS, create({ name: nameOf("a") }))
      const recently = yield* failsWith(status.NOT_FOUND, get("a"))
      const never = yield* failsWith(status.NOT_FOUND, get("b"))
      assert.notStrictEqual(recently, never)
      yield* TestClock.adjust(hour)
      yield* create({ name: nameOf("a") })
      yield* failsWith(status.INVALID_ARGUMENT, update({ tombstoneTtl: seconds(hour - 1000) }))
      yield* failsWith(status.INVALID_ARGUMENT, update({ tombstoneTtl: seconds(10 * day) }))
    }),
  )
  facts(
    "C8: 1,048,569 bytes of a stored task",
    Effect.gen(function* () {
      const sized = (bytes: number) =>
        create({ httpRequest: { url: "http://x", httpMethod: "POST", body: Buffer.alloc(bytes) } })
      yield* sized(1_048_000)
      yield* failsWith(status.INVALID_ARGUMENT, sized(1_048_569))
      const headers = { "x-large": "x".repeat(80 * 1024) }
      yield* failsWith(status.INVALID_ARGUMENT, create({ httpRequest: { url: "http://x", headers } }))
    }),
  )
  facts(
    "C9, C10, C21: deadlines, bodies and urls",
    Effect.gen(function* () {
      for (const millis of [14_000, 1_801_000]) {
        yield* failsWith(status.INVALID_ARGUMENT, create({ dispatchDeadline: seconds(millis) }))
      }
      assert.strictEqual(millisOf((yield* create()).dispatchDeadline), 600_000)
      const body = Buffer.from("x")
      const withBody = create({ httpRequest: { url: "http://x", httpMethod: "GET", body } })
      yield* failsWith(status.INVALID_ARGUMENT, withBody)
      yield* failsWith(status.INVALID_ARGUMENT, create({ httpRequest: { url: "ftp://x" } }))
      yield* create({ httpRequest: { url: "http://x/%zz" } })
    }),
  )
  facts(
    "C11, C12, C19: what a delivery carries",
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const { requests, url } = yield* endpoint([])
      yield* TestClock.setTime(1_700_000_000_500)
      yield* create({
        name: nameOf("a"),
        httpRequest: {
          url,
          headers: { "x-own": "1", "User-Agent": "mine", "X-AppEngine-TaskName": "forged", Authorization: "mine" },
          body: Buffer.from("hello"),
          oidcToken: { serviceAccountEmail: "me@x" },
        },
      })
      yield* server.advance(0)
      const [{ body, headers }] = requests as [(typeof requests)[number]]
      assert.strictEqual(body, "hello")
      assert.deepInclude(headers, {
        "x-own": "1",
        "user-agent": "Google-Cloud-Tasks",
        "x-cloudtasks-queuename": "q",
        "x-cloudtasks-taskname": "a",
        "x-cloudtasks-taskretrycount": "0",
        "x-cloudtasks-taskexecutioncount": "0",
        "x-cloudtasks-tasketa": "1700000000.5",
      })
      assert.isUndefined(headers["x-appengine-taskname"])
      assert.isUndefined(headers["x-cloudtasks-taskpreviousresponse"])
      const claims = JSON.parse(Buffer.from(headers.authorization!.split(".")[1]!, "base64url").toString())
      assert.deepInclude(claims, { aud: url, email: "me@x", iss: "https://accounts.google.com" })
    }).pipe(Effect.scoped),
  )
  facts(
    "C13, C18, C20: answers, what is remembered of them, and which of them count",
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const { requests, url } = yield* endpoint([[503], [404], [301], [500, { "retry-after": "77" }], [204]])
      yield* TestClock.setTime(1_500)
      yield* create({ name: nameOf("a"), httpRequest: { url } })
      yield* server.advance(5_000)
      assert.deepStrictEqual(
        requests.map(({ headers }) => [
          headers["x-cloudtasks-taskretrycount"],
          headers["x-cloudtasks-taskexecutioncount"],
          headers["x-cloudtasks-taskpreviousresponse"],
        ]),
        [
          ["0", "0", undefined],
          ["1", "0", "503"],
          ["2", "1", "404"],
          ["3", "2", "301"],
        ],
      )
      const task = yield* get("a")
      assert.strictEqual(task.dispatchCount, 4)
      assert.strictEqual(task.responseCount, 4)
      assert.strictEqual(millisOf(task.createTime), 1_000)
      assert.strictEqual(millisOf(task.firstAttempt?.dispatchTime), 1_500)
      assert.isNull(task.firstAttempt?.responseTime ?? null)
      const answered = millisOf(task.lastAttempt?.responseTime)!
      assert.strictEqual(task.lastAttempt?.responseStatus?.code, status.INTERNAL)
      assert.strictEqual(millisOf(task.scheduleTime), answered + 77_000)
      yield* server.advance(100_000)
      yield* failsWith(status.NOT_FOUND, get("a"))
    }).pipe(Effect.scoped),
  )
  facts(
    "C14, C16: deleting, running by force, pausing, purging",
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      const { requests, url } = yield* endpoint([])
      yield* call((client) => client.pauseQueue({ name: queue }))
      yield* create({ name: nameOf("a"), httpRequest: { url }, scheduleTime: seconds(hour) })
      yield* create({ name: nameOf("b"), httpRequest: { url } })
      yield* server.advance(1_000)
      assert.lengthOf(requests, 0)
      yield* call((client) => client.runTask({ name: nameOf("a") }))
      yield* server.advance(0)
      while (server.state.endings.length === 0) yield* TestClock.withLive(Effect.sleep("1 millis"))
      assert.lengthOf(requests, 1)
      yield* failsWith(
        status.NOT_FOUND,
        call((client) => client.runTask({ name: nameOf("a") })),
      )
      yield* failsWith(
        status.NOT_FOUND,
        call((client) => client.deleteTask({ name: nameOf("a") })),
      )
      yield* call((client) => client.purgeQueue({ name: queue }))
      yield* failsWith(status.NOT_FOUND, get("b"))
      yield* call((client) => client.resumeQueue({ name: queue }))
      yield* create({ httpRequest: { url } })
      yield* server.advance(0)
      assert.lengthOf(requests, 2)
    }).pipe(Effect.scoped),
  )
  facts(
    "C15: pages and views",
    Effect.gen(function* () {
      for (let n = 0; n < 5; n++)
        yield* create({ httpRequest: { url: "http://x", httpMethod: "POST", body: Buffer.from("b") } })
      const list = (pageToken: string, responseView: "BASIC" | "FULL") =>
        Effect.flatMap(CloudTasksServer, ({ client }) =>
          Effect.promise(() =>
            client.listTasks({ parent: queue, pageSize: 2, pageToken, responseView }, { autoPaginate: false }),
          ),
        )
      const [first, , { nextPageToken }] = yield* list("", "BASIC")
      assert.lengthOf(first, 2)
      assert.strictEqual(first[0]!.httpRequest?.body?.length, 0)
      const [full] = yield* list("", "FULL")
      assert.strictEqual(full[0]!.httpRequest?.body?.length, 1)
      yield* TestClock.adjust("3 hours")
      const late = call((client) =>
        client.listTasks({ parent: queue, pageToken: nextPageToken! }, { autoPaginate: false }),
      )
      yield* failsWith(status.INVALID_ARGUMENT, late)
    }),
  )
  facts(
    "C21: queues that are there, were there, and are not there",
    Effect.gen(function* () {
      const again = call((client) => client.createQueue({ parent, queue: { name: queue } }))
      yield* failsWith(status.ALREADY_EXISTS, again)
      yield* call((client) => client.deleteQueue({ name: queue }))
      yield* failsWith(status.FAILED_PRECONDITION, again)
      yield* failsWith(status.NOT_FOUND, create())
      yield* TestClock.adjust("7 days")
      yield* again
      const backoff = { minBackoff: seconds(10_000), maxBackoff: seconds(5_000) }
      yield* failsWith(status.INVALID_ARGUMENT, update({ retryConfig: backoff }))
      const elsewhere = create({ name: `${parent}/queues/other/tasks/a` })
      yield* failsWith(status.INVALID_ARGUMENT, elsewhere)
    }),
  )
})
