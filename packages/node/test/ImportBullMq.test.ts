import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Import from "@outlive/node/Import"
import * as ImportBullMq from "@outlive/node/ImportBullMq"
import { Deferred, Effect, Fiber, Layer, Schema } from "effect"
import { Redis } from "effect/persistence"
import { isAbsent, load } from "./import/peers.ts"
import { isMissing, useRedis } from "./import/redis.ts"

class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
const jobs = {
  mail: Import.to(Mail, { options: (_, { attempts }) => ({ headers: { "failed-before": String(attempts) } }) }),
}

const redis = useRedis()
const app = Layer.fresh(Layer.merge(TaskQueueMemory.layer, redis.layer))
const records = Effect.flatMap(TaskQueue.TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 1000, now: 0 }), ({ records }) => records),
)
const addresses = Effect.map(records, (found) => found.map(({ payload }) => JSON.parse(payload).to))

/** A queue as BullMQ 6.7 writes it, as far as it matters here. */
const makeQueue = Effect.gen(function* () {
  const { send } = yield* Redis.Redis
  const queue = randomUUID()
  const key = (name: string) => `bull:${queue}:${name}`
  yield* send("HSET", key("meta"), "opts.maxLenEvents", "10000")
  let ids = 0
  const add = Effect.fnUntraced(function* (data: unknown, fields: Readonly<Record<string, string>> = {}) {
    const id = String(++ids)
    const row = { name: "mail", data: JSON.stringify(data), opts: "{}", timestamp: "1000", priority: "0", ...fields }
    yield* send("HSET", key(id), ...Object.entries(row).flat())
    return id
  })
  const wait = (id: string) => send("LPUSH", key("wait"), id)
  const keys = Effect.map(send<ReadonlyArray<string>>("KEYS", `bull:${queue}:*`), (found) =>
    found.map((name) => name.slice(`bull:${queue}:`.length)).sort(),
  )
  return { queue, key, add, wait, keys, send }
})

describe.skipIf(isMissing)("an import from BullMQ", () => {
  it.live("moves what waits, is paused, prioritized or delayed, with time and priority, in order", () =>
    Effect.gen(function* () {
      const { add, key, keys, queue, send, wait } = yield* makeQueue
      for (const to of ["a", "b"]) yield* wait(yield* add({ to }))
      yield* send("LPUSH", key("paused"), yield* add({ to: "paused" }))
      yield* send("ZADD", key("prioritized"), String(7 * 2 ** 32 + 1), yield* add({ to: "late" }, { priority: "7" }))
      yield* send("ZADD", key("prioritized"), String(2 * 2 ** 32 + 2), yield* add({ to: "soon" }, { priority: "2" }))
      const at = Date.UTC(2100, 0, 1)
      const delayed = yield* add({ to: "then" }, { atm: "3", deid: "once" })
      yield* send("ZADD", key("delayed"), String(at * 4096 + 5), delayed)
      yield* send("SET", key("de:once"), delayed)
      yield* send("LPUSH", key(`${delayed}:logs`), "a line")
      const report = yield* ImportBullMq.run({ queue, jobs })
      assert.deepStrictEqual(report, { dryRun: false, moved: 6, already: 0, movedByName: { mail: 6 }, left: [] })
      const found = yield* records
      assert.deepStrictEqual(
        found.map(({ payload, priority }) => [JSON.parse(payload).to, priority]),
        [
          ["a", 0],
          ["b", 0],
          ["paused", 0],
          ["soon", -2],
          ["late", -7],
          ["then", 0],
        ],
      )
      assert.strictEqual(found[5]?.eta, at)
      assert.strictEqual(found[5]?.headers["failed-before"], "3")
      assert.deepStrictEqual(yield* keys, ["meta"])
    }).pipe(Effect.provide(app)),
  )

  it.live("leaves what it cannot move where it was, and says why", () =>
    Effect.gen(function* () {
      const { add, key, keys, queue, send, wait } = yield* makeQueue
      const refused = yield* add({ to: 5 })
      for (const id of [
        refused,
        yield* add({ to: "a" }, { name: "other" }),
        yield* add({ to: "a" }, { parentKey: "bull:parents:1" }),
        yield* add({ to: "a" }, { rjk: "every day" }),
      ]) {
        yield* wait(id)
      }
      yield* send("LPUSH", key("active"), yield* add({ to: "a" }))
      yield* send("ZADD", key("failed"), "1", yield* add({ to: "a" }))
      const before = yield* keys
      const { left, moved } = yield* ImportBullMq.run({ queue, jobs })
      assert.strictEqual(moved, 0)
      assert.deepStrictEqual(
        left.map(({ count, name, why }) => `${count} ${name} ${why}`).sort(),
        ["1 * failed", "1 * running", "1 other unmapped", "1 mail refused", "2 mail dependent"].sort(),
      )
      assert.strictEqual(left.find(({ why }) => why === "refused")?.examples[0]?.id, refused)
      assert.deepStrictEqual(yield* keys, before)
      assert.deepStrictEqual(yield* send("LRANGE", key("wait"), "0", "-1"), ["4", "3", "2", "1"])
    }).pipe(Effect.provide(app)),
  )

  it.live("changes nothing in a dry run", () =>
    Effect.gen(function* () {
      const { add, key, queue, send, wait } = yield* makeQueue
      yield* wait(yield* add({ to: "a" }))
      assert.deepInclude(yield* ImportBullMq.run({ queue, jobs, dryRun: true }), { dryRun: true, moved: 1, left: [] })
      assert.deepStrictEqual(yield* send("LRANGE", key("wait"), "0", "-1"), ["1"])
      assert.deepStrictEqual(yield* records, [])
    }).pipe(Effect.provide(app)),
  )

  it.live("has a job out of the workers' reach before its record is stored, and finishes one that was cut off", () =>
    Effect.gen(function* () {
      const { add, key, keys, queue, send, wait } = yield* makeQueue
      yield* wait(yield* add({ to: "a" }))
      const { enqueue, ...driver } = yield* TaskQueueMemory.make
      const stored = yield* Deferred.make<void>()
      const mute = TaskQueue.layer(
        Effect.succeed({
          ...driver,
          enqueue: (params) =>
            Effect.andThen(enqueue(params), Effect.andThen(Deferred.succeed(stored, undefined), Effect.never)),
        }),
      )
      const imported = ImportBullMq.run({ queue, jobs })
      const first = yield* Effect.forkChild(Effect.provide(imported, mute))
      yield* Deferred.await(stored)
      assert.deepStrictEqual(yield* send("LRANGE", key("wait"), "0", "-1"), [])
      yield* Fiber.interrupt(first)
      assert.include(yield* keys, "outlive-moving")
      yield* wait(yield* add({ to: "b" }))
      const sound = TaskQueue.layer(Effect.succeed({ ...driver, enqueue }))
      const [report, found] = yield* Effect.provide(Effect.all([imported, addresses]), sound)
      assert.deepInclude(report, { moved: 1, already: 1, left: [] })
      assert.deepStrictEqual(found, ["a", "b"])
      assert.deepStrictEqual(yield* keys, ["meta"])
    }).pipe(Effect.provide(app)),
  )

  it.live("puts back what the queue refuses after all, where it was, and tells the workers", () =>
    Effect.gen(function* () {
      const { add, key, keys, queue, send } = yield* makeQueue
      yield* send("ZADD", key("delayed"), "4096000", yield* add({ to: "x".repeat(200_000) }))
      const driver = yield* TaskQueueMemory.make
      const small = TaskQueue.layer(Effect.succeed({ ...driver, payloads: undefined }))
      const { left } = yield* Effect.provide(ImportBullMq.run({ queue, jobs }), small)
      assert.deepStrictEqual(
        left.map(({ count, why }) => [count, why]),
        [[1, "refused"]],
      )
      assert.include(left[0]?.examples[0]?.detail, "more than the limit")
      assert.strictEqual(Number(yield* send("ZSCORE", key("delayed"), "1")), 4_096_000)
      assert.deepStrictEqual(yield* keys, ["1", "delayed", "marker", "meta"])
    }).pipe(Effect.provide(app)),
  )

  it.live("moves each once when two import at the same time", () =>
    Effect.gen(function* () {
      const { add, queue, wait } = yield* makeQueue
      for (let to = 0; to < 100; to++) yield* wait(yield* add({ to: String(to) }))
      const imported = ImportBullMq.run({ queue, jobs })
      yield* Effect.all([imported, imported], { concurrency: 2 })
      const found = yield* addresses
      assert.strictEqual(found.length, 100)
      assert.strictEqual(new Set(found).size, 100)
    }).pipe(Effect.provide(app)),
  )

  it.live("leaves a job to a worker that was faster", () =>
    Effect.gen(function* () {
      const { add, key, queue, send, wait } = yield* makeQueue
      yield* wait(yield* add({ to: "a" }))
      const service = yield* Redis.Redis
      let claims = 0
      // It takes the job after it was looked at, and before it is taken for the move.
      const raced = Redis.Redis.of({
        ...service,
        send: <A>(command: string, ...args: ReadonlyArray<string>) =>
          command === "EVAL" && claims++ === 0
            ? Effect.andThen(send("RPOPLPUSH", key("wait"), key("active")), service.send<A>(command, ...args))
            : service.send<A>(command, ...args),
      })
      const { left, moved } = yield* Effect.provideService(ImportBullMq.run({ queue, jobs }), Redis.Redis, raced)
      assert.deepStrictEqual([moved, claims], [0, 1])
      assert.deepStrictEqual(
        left.map(({ count, why }) => [count, why]),
        [[1, "running"]],
      )
      assert.deepStrictEqual(yield* records, [])
      assert.deepStrictEqual(yield* send("LRANGE", key("active"), "0", "-1"), ["1"])
    }).pipe(Effect.provide(app)),
  )

  it.live("says that there is no such queue", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ImportBullMq.run({ queue: "nowhere", jobs }))
      assert.include(error.message, "there is no queue nowhere under the prefix bull")
    }).pipe(Effect.provide(app)),
  )
})

interface Queue {
  readonly add: (name: string, data: unknown, options?: object) => Promise<{ readonly id: string }>
  readonly pause: () => Promise<void>
  readonly resume: () => Promise<void>
  readonly getJobCounts: () => Promise<Readonly<Record<string, number>>>
  readonly upsertJobScheduler: (id: string, repeat: object, template: object) => Promise<unknown>
  readonly close: () => Promise<void>
}
interface Worker {
  readonly waitUntilReady: () => Promise<unknown>
  readonly close: (force?: boolean) => Promise<void>
}
interface BullMq {
  readonly Queue: new (name: string, options: object) => Queue
  readonly Worker: new (name: string, handle: (job: { data: unknown }) => Promise<void>, options: object) => Worker
}

describe.skipIf(isMissing || isAbsent("bullmq"))("an import from the real BullMQ", () => {
  it.live("moves what it has waiting, and its worker gets the rest", () =>
    Effect.gen(function* () {
      const { Queue, Worker } = yield* Effect.promise(() => load<BullMq>("bullmq"))
      const name = randomUUID()
      const connection = { host: "127.0.0.1", port: redis.port(), maxRetriesPerRequest: null }
      const queue = yield* Effect.acquireRelease(
        Effect.sync(() => new Queue(name, { connection })),
        (queue) => Effect.promise(() => queue.close()),
      )
      const before = Date.now()
      yield* Effect.promise(async () => {
        await queue.add("mail", { to: "a" })
        await queue.add("mail", { to: "b" }, { priority: 5 })
        await queue.add("mail", { to: "c" }, { delay: 3_600_000, jobId: "own-id", deduplication: { id: "once" } })
        await queue.add("other", { to: "other" })
        await queue.upsertJobScheduler("daily", { every: 86_400_000 }, { name: "mail", data: { to: "scheduled" } })
      })
      const { left, moved } = yield* ImportBullMq.run({ queue: name, jobs })
      assert.strictEqual(moved, 3)
      assert.deepStrictEqual(
        left.map(({ count, name, why }) => `${count} ${name} ${why}`),
        ["1 other unmapped", "1 mail dependent"],
      )
      const found = yield* records
      assert.deepStrictEqual(
        found.map(({ payload, priority }) => [JSON.parse(payload).to, priority]),
        [
          ["a", 0],
          ["b", -5],
          ["c", 0],
        ],
      )
      assert.isAtLeast(found[2]!.eta, before + 3_600_000)
      assert.isAtMost(found[2]!.eta, Date.now() + 3_600_000)
      const ran: Array<unknown> = []
      const got = yield* Deferred.make<void>()
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const handle = async ({ data }: { data: unknown }) => {
            ran.push(data)
            if (ran.length === 2) Effect.runSync(Deferred.succeed(got, undefined))
          }
          return new Worker(name, handle, { connection })
        }),
        (worker) => Effect.promise(() => worker.close(true)),
      )
      yield* Deferred.await(got)
      assert.sameDeepMembers(ran, [{ to: "other" }, { to: "scheduled" }])
    }).pipe(Effect.provide(app)),
  )
})
