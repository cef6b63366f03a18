/** Encrypted payloads on their way through a push endpoint: nobody on the way can read them, and none of them has to. */
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import * as PushAnswer from "@outlive/node/PushAnswer"
import * as PushDeadLetters from "@outlive/node/PushDeadLetters"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as PushDispatcher from "@outlive/node/PushDispatcher"
import * as PushOidc from "@outlive/node/PushOidc"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Effect, Layer, Redacted, References, Result } from "effect"
import { FetchHttpClient } from "effect/http"
import { account, options, queues } from "./cloudTasks/program.ts"
import { CloudTasksServer, layer as Server } from "./cloudTasks/server.ts"
import { Act, deliver, endpoint, type Handle, Keys, port, Rejected } from "./push/endpoint.ts"
import { target } from "./push/target.ts"

const quietly = Effect.provideService(References.MinimumLogLevel, "None")
const keys = [{ id: "k1", key: Redacted.make(new Uint8Array(32).fill(1)) }]
const codec = Layer.orDie(
  PayloadCodec.layer([PayloadCodec.compression({ above: 0 }), PayloadCodec.encryption({ keys })]),
)
const Queue = TaskQueueMemory.layer.pipe(Layer.provide(codec))
const dispatcher = Instance.layerBackend({ id: "dispatcher" })

/** The sending end: it has the queue, and no keys. */
const dispatching = (url: string) =>
  Effect.gen(function* () {
    const queue = TaskQueue.of({ ...(yield* TaskQueue), codec: undefined })
    const context = yield* Layer.build(Layer.mergeAll(FetchHttpClient.layer, Keys, dispatcher))
    yield* PushDispatcher.make({ url, tasks: ["Act"], queues: { default: {} } }).pipe(
      Effect.provideContext(context),
      Effect.provideService(TaskQueue, queue),
    )
  })

const secret = `a secret of some length, that is packed: ${"a".repeat(300)}`
const handle: Handle = ({ how }) =>
  how.endsWith("!") ? Effect.fail(new Rejected({ n: how.length })) : Effect.succeed(`done: ${how}`)

/** All of it: Cloud Tasks, the queue by which tasks are deferred, and the endpoint that it delivers to. */
const cloudTasks = (handle: Handle) => {
  const queue = Layer.unwrap(
    Effect.gen(function* () {
      const { client, createQueue } = yield* CloudTasksServer
      for (const id of Object.values(queues)) yield* createQueue(id)
      const url = `http://127.0.0.1:${yield* port}/_ah/queue/deferred`
      return TaskQueueCloudTasks.layer({ ...options, client, url, audience: "tasks.test" })
    }),
  ).pipe(Layer.provide(codec))
  const there = Layer.unwrap(
    Effect.map(CloudTasksServer, ({ signer }) => {
      const trusted = PushOidc.layer({ audience: "tasks.test", email: account, keys: signer.keys })
      return endpoint(handle, {}, Layer.orDie(trusted).pipe(Layer.provide(FetchHttpClient.layer)))
    }),
  ).pipe(Layer.provide(codec))
  return queue.pipe(Layer.provideMerge(there), Layer.provideMerge(Server))
}

describe("push delivery of what is encrypted", () => {
  it.effect("carries it as it is stored", () =>
    Effect.gen(function* () {
      const { got, url } = yield* target(() => ({ status: 204 }))
      yield* dispatching(url)
      const ref = yield* Act.defer({ how: secret })
      yield* ref.await.pipe(Effect.exit)
      const { payload } = yield* ref.record
      assert.include(payload, "1 deflate,aes-256-gcm:k1 ")
      assert.lengthOf(got, 1)
      assert.notInclude(JSON.stringify(got), "secret")
      const delivery = yield* PushDelivery.decode(Buffer.from(got[0]!.body))
      assert.strictEqual(delivery.payload, payload)
    }).pipe(Effect.provide(Queue), quietly),
  )

  it.effect("runs it where the keys are, and brings the result back encrypted", () =>
    Effect.gen(function* () {
      yield* dispatching(`http://127.0.0.1:${yield* port}`)
      for (const name of [undefined, "a-name"]) {
        const ref = yield* Act.defer({ how: secret }, { name })
        assert.strictEqual(yield* ref.await, `done: ${secret}`)
        const { result } = yield* ref.record
        assert.include(result, "aes-256-gcm:k1 ")
      }
      const dead = yield* Act.defer({ how: `${secret}!` })
      const error = yield* Effect.flip(dead.await)
      assert.deepStrictEqual([error._tag, (error as Rejected).n], ["Rejected", secret.length + 1])
      assert.include((yield* dead.record).result, "aes-256-gcm:k1 ")
    }).pipe(Effect.provide(Queue), Effect.provide(endpoint(handle).pipe(Layer.provide(codec))), quietly),
  )

  it.effect("is dead where the endpoint has no codec, with a sentence that says what to do", () =>
    Effect.gen(function* () {
      const without = yield* Layer.build(endpoint(handle))
      yield* dispatching(`http://127.0.0.1:${yield* Effect.provideContext(port, without)}`)
      const ref = yield* Act.defer({ how: secret })
      const error = yield* Effect.flip(ref.await)
      assert.deepInclude(error, { _tag: "TaskDead", reason: "Undecodable" })
      const failure = (yield* ref.attempts)[0]?.failure
      assert.match(
        failure?.message ?? "",
        /: the payload was coded by deflate, aes-256-gcm:k1, and there is no PayloadCodec here: /,
      )
    }).pipe(Effect.provide(Queue), Effect.provide(endpoint(handle)), quietly),
  )

  it.effect("keeps a dead letter of its endpoint readable, with a name or without, and what is redriven runs", () => {
    let fails = true
    const once: Handle = ({ how }) => (fails ? Effect.fail(new Rejected({ n: 1 })) : Effect.succeed(`done: ${how}`))
    // Somebody else's queue delivers, and forgets what is dead: the endpoint keeps it in a queue of its own.
    const graveyard = PushDeadLetters.layerTaskQueue().pipe(Layer.provideMerge(Queue))
    const foreign = Effect.provide(
      Effect.gen(function* () {
        const refs = [
          yield* Act.defer({ how: secret }, { name: "a-name", queue: "mail" }),
          yield* Act.defer({ how: secret }),
        ]
        return yield* Effect.forEach(refs, (ref) => ref.record)
      }),
      Layer.fresh(Queue),
    )
    return Effect.gen(function* () {
      const at = yield* port
      for (const record of yield* foreign) {
        const { headers, id, name, payload, queue, task, version } = record
        const named = name === undefined ? {} : { name }
        const body = PushDelivery.encode({
          outlive: 1,
          id,
          task,
          version,
          queue,
          headers,
          payload,
          enqueuedAt: 0,
          eta: 0,
          ...named,
        })
        const said = yield* deliver(at, body, {}, { id })
        assert.deepInclude(PushAnswer.parse(said.body), { outcome: "Dead", reason: "PermanentFailure" })
      }
      const { letters } = yield* DeadLetters.of(Act, { queue: "push-dead-letters" })
      assert.deepStrictEqual(
        letters.map(({ payload }) => Result.getOrThrow(payload).how),
        [secret, secret],
      )
      assert.notInclude(JSON.stringify(letters.map(({ record }) => record)), "secret")
      fails = false
      yield* DeadLetters.redrive({ task: Act })
      const worker = Worker.make({ tasks: [Act], queues: { "push-dead-letters": {} } }).pipe(
        Effect.provide(Act.toLayer(once)),
      )
      yield* Effect.provide(worker, dispatcher)
      for (const { id } of letters) {
        assert.strictEqual(yield* Effect.flatMap(Act.ref(id), (ref) => ref.await), `done: ${secret}`)
      }
    }).pipe(Effect.provide(endpoint(once).pipe(Layer.provide(codec), Layer.provideMerge(graveyard))), quietly)
  })

  it.effect("goes through Cloud Tasks, which gives records with a name another id", () => {
    const seen: Array<string> = []
    const note: Handle = ({ how }) =>
      Effect.as(
        Effect.sync(() => void seen.push(how)),
        "",
      )
    return Effect.gen(function* () {
      const server = yield* CloudTasksServer
      yield* Act.defer({ how: `${secret} 1` })
      yield* Act.defer({ how: `${secret} 2` }, { name: "two" })
      const queue = yield* TaskQueue
      const { records } = yield* queue.find({ limit: 10, now: 0 })
      assert.lengthOf(records, 2)
      for (const { payload } of records) assert.include(payload, "aes-256-gcm:k1 ")
      yield* server.advance(1_000)
      assert.deepStrictEqual(seen.sort(), [`${secret} 1`, `${secret} 2`])
    }).pipe(Effect.provide(cloudTasks(note)), quietly)
  })
})
