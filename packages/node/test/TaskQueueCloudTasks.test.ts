import { assert, describe, it, layer } from "@effect/vitest"
import type { v2beta3 } from "@google-cloud/tasks"
import { status } from "@grpc/grpc-js"
import * as Instance from "@outlive/core/Instance"
import { DeferLimits } from "@outlive/deferred/DeferOptions"
import * as PayloadStore from "@outlive/deferred/PayloadStore"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Context, Duration, Effect, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { account, Greet, held, Mail, options, queueLayer } from "./cloudTasks/program.ts"
import { CloudTasksServer } from "./cloudTasks/server.ts"

const idOf = (path: string) => path.slice(path.lastIndexOf("/") + 1)

/** What a call is refused with. */
const refusal = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert(error instanceof TaskQueueError, String(error))
    return error
  })
const notSupported = <A, E, R>(effect: Effect.Effect<A, E, R>, says: string) =>
  Effect.map(refusal(effect), (error) => {
    assert.strictEqual(error.reason, "NotSupported", error.message)
    assert.isFalse(error.isRetryable)
    assert.include(error.message, says)
  })

/** Steps the clock until the fiber has ended: real answers come when they come, pauses between tries are the clock's. */
const stepping = <A, E, R>(effect: Effect.Effect<A, E, R>, step: Duration.Input = "1 second") =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    while (fiber.pollUnsafe() === undefined) {
      yield* TestClock.adjust(step)
      yield* TestClock.withLive(Effect.sleep("5 millis"))
    }
    return yield* Fiber.join(fiber)
  })

describe("TaskQueueCloudTasks", () => {
  describe("puts a record into Cloud Tasks", () => {
    it.effect("as a delivery for PushHandler, in the queue that belongs to its own", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_123)
        const ref = yield* Mail.defer({ to: "ann" }, { headers: { tenant: "7" }, timeout: "1 minute" })
        assert.strictEqual(ref.outcome, "Inserted")
        assert.lengthOf(yield* held("tasks"), 0)
        const [task] = yield* held("tasks-mail")
        const delivery = yield* PushDelivery.decode(Buffer.from(task!.http.body as Uint8Array))
        assert.deepStrictEqual(delivery, {
          outlive: 1,
          id: ref.id,
          task: "Mail",
          version: 1,
          queue: "mail",
          headers: { tenant: "7" },
          enqueuedAt: 1_700_000_000_123,
          eta: 1_700_000_000_123,
          timeout: 60_000,
          payload: '{"to":"ann"}',
        })
        const { headers, oidcToken, url } = task!.http
        assert.strictEqual(url, options.url)
        assert.strictEqual(headers?.["content-type"], "application/json")
        assert.strictEqual(headers?.["x-outlive-id"], ref.id)
        assert.strictEqual(oidcToken?.serviceAccountEmail, account)
        assert.strictEqual(oidcToken?.audience, options.url)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("at its eta to the millisecond, and at once by Cloud Tasks' own clock without one (C6)", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_500)
        yield* Greet.defer({ who: "now" })
        yield* Greet.defer({ who: "soon" }, { delay: 1_234 })
        const [now, soon] = (yield* held("tasks")).sort((a, b) => a.scheduleTime - b.scheduleTime)
        assert.strictEqual(now!.scheduleTime, 1_700_000_000_500)
        assert.strictEqual(soon!.scheduleTime, 1_700_000_001_734)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("with the time of its handler and a little more to answer in, else with the layer's (C9)", () =>
      Effect.gen(function* () {
        for (const timeout of [undefined, "1 second", "10 minutes", "30 minutes"] as const) {
          yield* Greet.defer({ who: `${timeout}` }, { timeout })
        }
        const deadlines = (yield* held("tasks")).map((task) => [
          JSON.parse(Buffer.from(task.http.body as Uint8Array).toString()).payload.who,
          task.dispatchDeadline,
        ])
        assert.deepStrictEqual(Object.fromEntries(deadlines), {
          undefined: 120_000,
          "1 second": 15_000,
          "10 minutes": 605_000,
          "30 minutes": 1_800_000,
        })
      }).pipe(Effect.provide(queueLayer({ dispatchDeadline: "2 minutes" }))),
    )

    it.effect("for the url and the audience of its target", () =>
      Effect.gen(function* () {
        yield* Greet.defer({ who: "x" }, { target: "big" })
        const [task] = yield* held("tasks")
        assert.strictEqual(task!.http.url, "https://big.example.com/run")
        assert.strictEqual(task!.http.oidcToken?.audience, "big")
        yield* notSupported(Greet.defer({ who: "x" }, { target: "small" }), "the target small has no url")
      }).pipe(
        Effect.provide(queueLayer({ targets: { big: { url: "https://big.example.com/run", audience: "big" } } })),
      ),
    )

    it.effect("with a retry policy of its own in Cloud Tasks' terms", () =>
      Effect.gen(function* () {
        const policy = RetryPolicy.appEngine({ minBackoff: "2 seconds", maxDoublings: 3, retryLimit: 4 })
        yield* Greet.defer({ who: "x" }, { retry: policy })
        const [task] = yield* held("tasks")
        assert.deepStrictEqual(task!.retry, {
          maxAttempts: 5,
          maxRetryDuration: 0,
          minBackoff: 2_000,
          maxBackoff: 3_600_000,
          maxDoublings: 3,
        })
        yield* notSupported(
          Greet.defer({ who: "x" }, { retry: RetryPolicy.exponential({ factor: 3 }) }),
          "its retry policy: factor must be 2",
        )
        assert.lengthOf(yield* held("tasks"), 1)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("many at once, in parallel and in bounds, with an outcome for each", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        const outcomes = yield* Greet.deferAll(
          Array.from({ length: 300 }, (_, index) => ({ who: `${index}` })),
          ({ who }) => (who === "7" || who === "8" ? { name: "same" } : {}),
        )
        assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Deferred").length, 299)
        // The first of the two, in the order given.
        assert.strictEqual(outcomes[7]!._tag, "Deferred")
        assert.strictEqual(outcomes[8]!._tag, "Refused")
        assert.lengthOf(yield* held("tasks"), 299)
        assert.isAbove(server.most(), 1)
        assert.isAtMost(server.most(), 64)
      }).pipe(Effect.provide(queueLayer())),
    )
  })

  it.effect("of two records of one name in one call stores the first, also when that takes longer", () =>
    Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE })
      const payloads = [{ who: "first" }, { who: "second" }]
      const outcomes = yield* stepping(Greet.deferAll(payloads, { name: "once" }))
      assert.deepStrictEqual(
        outcomes.map(({ _tag }) => _tag),
        ["Deferred", "Refused"],
      )
    }).pipe(Effect.provide(queueLayer())),
  )

  describe("refuses what Cloud Tasks cannot do, and says what to do instead", () => {
    layer(queueLayer())("before anything is sent", (it) => {
      const cases: ReadonlyArray<[string, Parameters<typeof Greet.defer>[1], string]> = [
        ["a priority", { priority: 1 }, "use a queue for each"],
        ["a unique key", { unique: { key: "k" } }, "make a name of the key"],
        ["the latest of a key", { latest: { key: "k" } }, "looks what is to be done when it runs"],
        ["whom it is for", { key: "acme" }, "a queue for each"],
        ["replacing what has a name", { name: "n", onDuplicate: "replace" }, "use another name"],
        ["an expiry", { expires: "1 hour" }, "TaskContext.eta"],
        ["a timeout above half an hour (C9)", { timeout: "31 minutes" }, "make it shorter"],
        ["a queue that it has no queue for", { queue: "video" }, "name one in the layer's queues"],
      ]
      for (const [what, deferOptions, says] of cases) {
        it.effect(what, () =>
          Effect.gen(function* () {
            yield* notSupported(Greet.defer({ who: "x" }, deferOptions), says)
            assert.lengthOf(yield* held("tasks"), 0)
            assert.lengthOf((yield* CloudTasksServer).calls, 0)
          }),
        )
      }

      it.effect("a schedule more than 30 days ahead (C6), and takes 30 days", () =>
        Effect.gen(function* () {
          const far = { maxDelay: Duration.days(60), payloadLimit: 102_400 }
          yield* notSupported(
            Effect.provideService(Greet.defer({ who: "x" }, { delay: "31 days" }), DeferLimits, far),
            "at most 30 days ahead",
          )
          const ref = yield* Greet.defer({ who: "x" }, { delay: "30 days" })
          yield* ref.cancel()
        }),
      )

      it.effect("a transaction to be part of", () =>
        Effect.gen(function* () {
          const refused = yield* Effect.flip(Greet.defer({ who: "x" }, { requireTransaction: true }))
          assert.strictEqual(refused._tag, "NotInTransaction")
          assert.lengthOf(yield* held("tasks"), 0)
        }),
      )

      it.effect("one of many: then none is stored (Q50)", () =>
        Effect.gen(function* () {
          yield* notSupported(
            Greet.deferAll([{ who: "a" }, { who: "b" }], ({ who }) => (who === "b" ? { priority: 1 } : {})),
            "use a queue for each",
          )
          assert.lengthOf(yield* held("tasks"), 0)
        }),
      )

      it.effect("waiting for a result, its progress, its attempts, and why it does not run", () =>
        Effect.gen(function* () {
          const ref = yield* Greet.defer({ who: "x" })
          yield* notSupported(ref.await, "let the handler write what is waited for")
          yield* notSupported(Stream.runDrain(ref.progress), "let the handler write it")
          yield* notSupported(ref.attempts, "read the logs")
          yield* notSupported(ref.explain, "PushHandler")
          yield* ref.cancel()
        }),
      )

      it.effect("all that workers do", () =>
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const now = 0
          const lease = { id: TaskId.make("018bcfe5-6800-7000-8000-000000000001"), token: 1 }
          const { id } = lease
          yield* notSupported(
            queue.claim({
              queues: [{ name: "default", limit: 1 }],
              tasks: [],
              targets: [],
              lease: 1,
              worker: "w",
              now,
            }),
            "serve PushHandler",
          )
          yield* notSupported(queue.extend({ leases: [lease], until: 1, now }), "dispatch deadline")
          yield* notSupported(queue.settle({ settlements: [{ ...lease, _tag: "Release" }], now }), "the answer")
          yield* notSupported(queue.progress({ updates: [{ ...lease, progress: "{}" }], now }), "let the handler")
          yield* notSupported(queue.redrive({ ids: [id], now }), "defer it again")
          yield* notSupported(queue.ledger({ ids: [id] }), "logs")
          yield* notSupported(queue.payloadRefs({ refs: ["r"] }), "does not say")
          yield* notSupported(queue.workers({ now }), "PushHandler")
          assert.strictEqual(yield* queue.prune({ now, deadBefore: 0, limit: 10 }), 0)
          assert.deepInclude(queue.capabilities, {
            claims: false,
            results: false,
            priorities: false,
            uniqueKeys: false,
          })
        }),
      )

      it.effect("a worker, when it starts", () =>
        Effect.gen(function* () {
          yield* notSupported(
            Worker.make({ tasks: [Greet] }).pipe(
              Effect.provide([Instance.layerBackend(), Greet.toLayer(() => Effect.void)]),
            ),
            "serve PushHandler of @outlive/node",
          )
        }),
      )
    })

    it.effect("a payload that would have to be stored apart, and a task above the limit of size (C8)", () =>
      Effect.gen(function* () {
        const apart = yield* Effect.flip(Greet.defer({ who: "x".repeat(200_000) }))
        assert.strictEqual(apart._tag, "PayloadTooLarge")
        const limits = { maxDelay: Duration.days(30), payloadLimit: 10_000_000 }
        const deferSized = (bytes: number) =>
          Effect.provideService(Greet.defer({ who: "x".repeat(bytes) }), DeferLimits, limits)
        yield* deferSized(1_047_000)
        const large = yield* refusal(deferSized(1_048_569))
        assert.strictEqual(large.reason, "TooLarge")
        assert.isFalse(large.isRetryable)
        assert.include(large.message, "1048569")
        assert.lengthOf(yield* held("tasks"), 1)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect(
      "a payload that a store of the application would keep apart: Cloud Tasks would deliver an empty one",
      () =>
        Effect.gen(function* () {
          const refused = yield* Effect.flip(Greet.defer({ who: "x".repeat(200_000) }))
          assert.strictEqual(refused._tag, "PayloadTooLarge")
          const queue = yield* TaskQueue
          const record = {
            id: queue.nextId(0, () => 0),
            task: "Greet",
            version: 1,
            queue: "default",
            payload: "",
            payloadRef: "there",
            headers: {},
            priority: 0,
            eta: 0,
            onDuplicate: "fail" as const,
            tombstone: 0,
            maxCrashes: 3,
            keep: 0,
          }
          yield* notSupported(queue.enqueue({ records: [record], now: 0 }), "defer a reference to it")
          assert.lengthOf(yield* held("tasks"), 0)
        }).pipe(Effect.provide(queueLayer().pipe(Layer.provide(PayloadStore.layerMemory())))),
    )

    it.effect("never sends a task that the service would find too large", () =>
      Effect.gen(function* () {
        // Sizes around the limit: what is sent is taken, what would not be taken is not sent.
        const { calls } = yield* CloudTasksServer
        const limits = { maxDelay: Duration.days(30), payloadLimit: 10_000_000 }
        let refused = 0
        for (let bytes = 1_047_300; bytes < 1_048_600; bytes += 50) {
          const result = yield* Effect.result(
            Effect.provideService(Greet.defer({ who: "x".repeat(bytes) }, { name: `n${bytes}` }), DeferLimits, limits),
          )
          if (result._tag === "Failure") {
            assert(result.failure instanceof TaskQueueError)
            assert.strictEqual(result.failure.reason, "TooLarge")
            refused++
          }
        }
        assert.isAbove(refused, 0)
        assert.isAbove(calls.length, 0)
      }).pipe(Effect.provide(queueLayer())),
    )
  })

  describe("keeps names apart", () => {
    it.effect("a name that a task has is a duplicate: of the record that has it", () =>
      Effect.gen(function* () {
        const first = yield* Greet.defer({ who: "a" }, { name: "once" })
        yield* TestClock.adjust("1 minute")
        const second = yield* Effect.flip(Greet.defer({ who: "b" }, { name: "once" }))
        assert(second._tag === "TaskAlreadyExists")
        assert.strictEqual(second.id, first.id)
        const ignored = yield* Greet.defer({ who: "c" }, { name: "once", onDuplicate: "ignore" })
        assert.strictEqual(ignored.outcome, "Existing")
        assert.strictEqual(ignored.id, first.id)
        // Names are of a queue.
        yield* Greet.defer({ who: "d" }, { name: "once", queue: "mail" })
        assert.lengthOf(yield* held("tasks"), 1)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("two records of one name and one millisecond are two", () =>
      Effect.gen(function* () {
        yield* Greet.defer({ who: "a" }, { name: "once" })
        const second = yield* Effect.flip(Greet.defer({ who: "b" }, { name: "once" }))
        assert.strictEqual(second._tag, "TaskAlreadyExists")
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("a name whose task has gone is a tombstone, until Cloud Tasks forgets it (C7)", () =>
      Effect.gen(function* () {
        const first = yield* Greet.defer({ who: "a" }, { name: "once" })
        assert.strictEqual(yield* first.cancel(), "Cancelled")
        const refused = yield* Effect.flip(Greet.defer({ who: "b" }, { name: "once" }))
        assert(refused._tag === "TombstonedTask")
        assert.strictEqual(refused.until, 7_200_000)
        const ignored = yield* Greet.defer({ who: "b" }, { name: "once", onDuplicate: "ignore" })
        assert.strictEqual(ignored.outcome, "Existing")
        assert.strictEqual((yield* Effect.flip(ignored.state))._tag, "TaskNotFound")
        yield* TestClock.adjust("1 hour")
        const again = yield* Greet.defer({ who: "b" }, { name: "once" })
        assert.strictEqual(again.outcome, "Inserted")
        assert.notStrictEqual(again.id, first.id)
        // The handle on the old one does not reach the new one.
        assert.strictEqual(yield* first.cancel(), "NotFound")
        assert.strictEqual(yield* again.state, "ready")
      }).pipe(Effect.provide(queueLayer({ tombstone: "2 hours" }))),
    )

    it.effect("a record that is enqueued again is there once", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        for (const name of [undefined, "once"]) {
          const id = queue.nextId(5, () => 0.5)
          const record = {
            id,
            name,
            task: "Greet",
            version: 1,
            queue: "default",
            payload: "{}",
            headers: {},
            priority: 0,
            eta: 0,
            onDuplicate: "fail" as const,
            tombstone: 0,
            maxCrashes: 3,
            keep: 0,
          }
          const [first] = yield* queue.enqueue({ records: [record], now: 5 })
          const [second] = yield* queue.enqueue({ records: [record], now: 6 })
          assert(first?._tag === "Inserted")
          assert.deepStrictEqual(second, { _tag: "Existing", id: first.id })
          assert.isTrue(Schema.is(TaskId)(first.id))
        }
        assert.lengthOf(yield* held("tasks"), 2)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("a task of another program with the same id is not taken for a record", () =>
      Effect.gen(function* () {
        const { client, state } = yield* CloudTasksServer
        yield* Greet.defer({ who: "a" }, { name: "once" })
        const [task] = yield* held("tasks")
        const queue = yield* Effect.sync(() => [...state.queues.values()][0]!)
        queue.tasks.clear()
        yield* Effect.promise(() =>
          client.createTask({ parent: queue.name, task: { name: task!.name, httpRequest: { url: "http://x" } } }),
        )
        const error = yield* refusal(Greet.defer({ who: "b" }, { name: "once" }))
        assert.include(error.message, "give it a queue of its own")
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("ids of tasks are Cloud Tasks' (C2), spread by what is not time", () =>
      Effect.gen(function* () {
        yield* Greet.deferAll(Array.from({ length: 50 }, (_, index) => ({ who: `${index}` })))
        yield* Greet.defer({ who: "x" }, { name: "a".repeat(500) })
        const ids = (yield* held("tasks")).map(({ name }) => idOf(name))
        for (const id of ids) assert.match(id, /^[A-Za-z0-9_-]{1,500}$/)
        assert.isAbove(new Set(ids.map((id) => id.slice(0, 2))).size, 20)
      }).pipe(Effect.provide(queueLayer())),
    )
  })

  describe("calls", () => {
    it.effect("are made again when Cloud Tasks cannot be reached, without making two tasks", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE, times: 2 })
        yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE, when: "after" })
        const ref = yield* stepping(Greet.defer({ who: "x" }))
        // The third try did it, and its answer was lost; the fourth found that it was done.
        assert.strictEqual(ref.outcome, "Inserted")
        assert.strictEqual(server.calls.filter((method) => method === "CreateTask").length, 4)
        assert.lengthOf(yield* held("tasks"), 1)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("with a name too: it is not a duplicate of itself", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: status.DEADLINE_EXCEEDED, when: "after" })
        const ref = yield* stepping(Greet.defer({ who: "x" }, { name: "once" }))
        assert.strictEqual(ref.outcome, "Inserted")
        assert.strictEqual(yield* ref.state, "ready")
        // And another record of the name still is one.
        yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE, when: "before" })
        const other = yield* stepping(Effect.flip(Greet.defer({ who: "y" }, { name: "once" })))
        assert.strictEqual(other._tag, "TaskAlreadyExists")
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("say so when a lost answer leaves open whose task a name had", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        const first = yield* Greet.defer({ who: "x" }, { name: "once" })
        yield* first.cancel()
        yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE })
        const error = yield* stepping(refusal(Greet.defer({ who: "y" }, { name: "once" })))
        assert.include(error.message, "by this call, whose task has ended already, or by an earlier one")
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("give up after six tries", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: status.UNAVAILABLE, times: 100 })
        const error = yield* stepping(refusal(Greet.defer({ who: "x" })))
        assert.strictEqual(server.calls.length, 6)
        assert.isTrue(error.isRetryable)
        assert.include(error.message, "may have happened or not")
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("end at their deadline when nobody answers", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: 0, when: "hang", times: 100 })
        const error = yield* stepping(refusal(Greet.defer({ who: "x" })))
        assert.isTrue(error.isRetryable)
        assert.strictEqual(server.calls.length, 6)
      }).pipe(Effect.provide(queueLayer({ deadline: "50 millis" }))),
    )

    it.effect("end when they are interrupted", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: 0, when: "hang" })
        const fiber = yield* Effect.forkChild(Greet.defer({ who: "x" }))
        while (server.calls.length === 0) yield* TestClock.withLive(Effect.sleep("1 millis"))
        yield* Fiber.interrupt(fiber)
        while (server.cancelled() === 0) yield* TestClock.withLive(Effect.sleep("1 millis"))
        assert.strictEqual(server.calls.length, 1)
      }).pipe(Effect.provide(queueLayer())),
    )

    const meanings: ReadonlyArray<[keyof typeof status, boolean, string]> = [
      ["INVALID_ARGUMENT", false, "refused a call"],
      ["NOT_FOUND", false, "create the queue with TaskQueueCloudTasks.setUp or gcloud"],
      ["PERMISSION_DENIED", false, "docs/cloud-tasks.md has the roles"],
      ["UNAUTHENTICATED", false, "give the layer credentials"],
      ["FAILED_PRECONDITION", false, "refused a call"],
      ["RESOURCE_EXHAUSTED", true, "quota"],
      ["ABORTED", true, "refused a call"],
      ["INTERNAL", true, "refused a call"],
      ["UNKNOWN", true, "refused a call"],
      ["UNAVAILABLE", true, "does not answer"],
      ["DEADLINE_EXCEEDED", true, "does not answer"],
    ]
    it.effect.each(meanings)("%s is retryable: %s, and says %s", ([name, isRetryable, says]) =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: status[name], message: "as it is", times: 100 })
        const error = yield* stepping(refusal(Greet.defer({ who: "x" })))
        assert.strictEqual(error.isRetryable, isRetryable)
        assert.strictEqual(error.operation, "enqueue")
        assert.include(error.message, says)
        assert.include(error.message, "as it is")
        assert.isUndefined(error.reason)
      }).pipe(Effect.provide(queueLayer())),
    )

    it.effect("that the client fails before it asks anybody are no reason to try again", () =>
      Effect.gen(function* () {
        let calls = 0
        const client = {
          createTask: () => {
            calls++
            return Promise.reject(new Error("Could not load the default credentials"))
          },
        } as unknown as v2beta3.CloudTasksClient
        const error = yield* refusal(
          Effect.provide(Greet.defer({ who: "x" }), TaskQueueCloudTasks.layer({ ...options, client })),
        )
        assert.strictEqual(calls, 1)
        assert.isFalse(error.isRetryable)
        assert.include(error.message, "Could not load the default credentials")
        assert.include(error.message, "give the layer credentials")
      }),
    )

    it.effect("of a batch: what was stored stays, and the error says how many (Q49)", () =>
      Effect.gen(function* () {
        const server = yield* CloudTasksServer
        yield* server.fail({ method: "CreateTask", status: status.RESOURCE_EXHAUSTED, times: 2 })
        const error = yield* refusal(Greet.deferAll([{ who: "a" }, { who: "b" }, { who: "c" }, { who: "d" }]))
        assert.include(error.message, "2 of the 4 records of this call are stored")
        assert.isTrue(error.isRetryable)
        assert.lengthOf(yield* held("tasks"), 2)
      }).pipe(Effect.provide(queueLayer())),
    )
  })

  describe("options", () => {
    const wrong: ReadonlyArray<[string, Partial<TaskQueueCloudTasks.Options>, string]> = [
      ["no queues", { queues: {} }, "queues must name"],
      [
        "a queue id that Cloud Tasks does not have (C2)",
        { queues: { default: "my_queue" } },
        "queues.default must match",
      ],
      ["a queue id that is too long", { queues: { default: "a".repeat(101) } }, "queues.default must match"],
      ["a deadline that is too short (C9)", { dispatchDeadline: "14 seconds" }, "15 seconds to 30 minutes"],
      ["a deadline that is too long", { dispatchDeadline: "31 minutes" }, "15 seconds to 30 minutes"],
      ["a url that is none", { url: "tasks.example.com" }, "url must be an https url"],
      ["a url of another kind", { url: "ftp://tasks.example.com" }, "url must be an https url"],
      ["a url by which tokens can be read", { url: "http://tasks.example.com/run" }, "for all on its way to read"],
      ["a number by which tokens can be read", { url: "http://34.1.2.3/run" }, "for all on its way to read"],
      ["a target whose url is none", { targets: { big: { url: "https://" } } }, "targets.big.url must be an https url"],
      ["no service account", { serviceAccount: "" }, "nobody could tell a delivery from a forgery"],
      ["a size of nothing", { sizeLimit: 0 }, "sizeLimit must be"],
      ["a deadline of calls without end", { deadline: Duration.infinity }, "at most 10 minutes"],
      ["names that are kept longer than they are (C7)", { tombstone: "10 days" }, "at most 9 days"],
      ["a project that is none", { project: "a/b" }, "project must be an id"],
    ]
    it.effect.each(wrong)("refuses %s", ([, more, says]) =>
      Effect.gen(function* () {
        const error = yield* refusal(Effect.provide(Effect.void, queueLayer(more)))
        assert.strictEqual(error.operation, "open")
        assert.isFalse(error.isRetryable)
        assert.include(error.message, says)
      }),
    )

    it.effect("makes a client of its own and closes it, without asking Google anything", () =>
      Effect.gen(function* () {
        const credentials = Redacted.make({ client_email: account, private_key: "not a key" })
        const context = yield* Layer.build(TaskQueueCloudTasks.layer({ ...options, credentials }))
        assert.strictEqual(Context.get(context, TaskQueue).name, "Google Cloud Tasks")
      }),
    )
  })
})
