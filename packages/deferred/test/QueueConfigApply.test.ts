import { assert, describe, it } from "@effect/vitest"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import { QueueDefaults } from "@outlive/deferred/QueueDefaults"
import { type QueueLimits, unlimited } from "@outlive/deferred/QueueLimits"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { Clock, DateTime, Effect, Exit, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"

const Send = Task.make("Send", { queue: "mail" })

interface Configured {
  readonly queue: string
  readonly limits: Partial<QueueLimits>
  readonly now: number
}

/** Queues in memory, and what they were configured with. */
const onMemory = () => {
  const calls: Array<Configured> = []
  const driver = Effect.map(
    TaskQueueMemory.make,
    (memory): TaskQueue.Driver => ({
      ...memory,
      configure: (params) => {
        calls.push(params)
        return memory.configure(params)
      },
    }),
  )
  return { calls, layer: TaskQueue.layer(driver) }
}

const limitsOf = (queue: string) => TaskQueue.TaskQueue.use((taskQueue) => taskQueue.limits({ queue }))

/** How many records of a queue a worker may start now. */
const claimable = (queue: string) =>
  Effect.gen(function* () {
    const taskQueue = yield* TaskQueue.TaskQueue
    const { records } = yield* taskQueue.claim({
      queues: [{ name: queue, limit: 100 }],
      tasks: [{ name: "Send", maxVersion: 1 }],
      targets: [],
      lease: 30_000,
      worker: "w",
      now: yield* Clock.currentTimeMillis,
    })
    return records.length
  })

const apply = (
  queues: Readonly<Record<string, QueueConfig.QueueOptions>>,
  options?: QueueConfig.ApplyOptions & { readonly resumePausedQueues?: boolean },
) => Effect.flatMap(QueueConfig.make(queues, options), (config) => QueueConfig.apply(config, options))

const mail = { rate: "5/s", burst: 2, maxConcurrent: 10, ageing: "1 minute" } as const

describe("QueueConfig.apply", () => {
  it.effect("gives the queues their limits and says what that changed", () =>
    Effect.gen(function* () {
      const changes = yield* apply({ mail, web: { paused: true } })
      assert.deepStrictEqual(yield* limitsOf("mail"), {
        paused: false,
        rate: 5,
        burst: 2,
        maxConcurrent: 10,
        ageing: 60_000,
        byKey: unlimited.byKey,
      })
      assert.deepStrictEqual(yield* limitsOf("web"), { ...unlimited, paused: true })
      assert.deepStrictEqual(changes, [
        { queue: "mail", field: "rate", before: undefined, after: 5 },
        { queue: "mail", field: "burst", before: 5, after: 2 },
        { queue: "mail", field: "maxConcurrent", before: undefined, after: 10 },
        { queue: "mail", field: "ageing", before: undefined, after: 60_000 },
        { queue: "web", field: "paused", before: false, after: true },
      ])
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("changes nothing when it is applied again, and only what is new after that", () => {
    const { calls, layer } = onMemory()
    return Effect.gen(function* () {
      yield* apply({ mail, web: {} })
      assert.lengthOf(calls, 1)
      assert.deepStrictEqual(yield* apply({ mail, web: {} }), [])
      assert.lengthOf(calls, 1)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* apply({ mail: { ...mail, rate: "6/s" }, web: {} }), [
        { queue: "mail", field: "rate", before: 5, after: 6 },
      ])
      assert.deepStrictEqual(calls.slice(1), [{ queue: "mail", limits: { rate: 6 }, now: 60_000 }])
    }).pipe(Effect.provide(layer))
  })

  it.effect("lifts the limits that are no longer named", () =>
    Effect.gen(function* () {
      yield* apply({ mail })
      yield* apply({ mail: {} })
      assert.deepStrictEqual(yield* limitsOf("mail"), unlimited)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("starts nothing at a rate of 0, and again with another (Q136)", () =>
    Effect.gen(function* () {
      yield* Send.defer(undefined)
      yield* apply({ mail: { rate: 0 } })
      assert.strictEqual(yield* claimable("mail"), 0)
      yield* apply({ mail: { rate: "5/s" } })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* claimable("mail"), 1)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("starts no more at once than the bucket holds, and refills it by the rate", () =>
    Effect.gen(function* () {
      yield* Send.deferAll(Array.from({ length: 9 }, () => undefined))
      yield* apply({ mail: { rate: "120/m", burst: 3 } })
      assert.strictEqual(yield* claimable("mail"), 3)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* claimable("mail"), 2)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("leaves a pause made by hand unless the configuration says otherwise", () =>
    Effect.gen(function* () {
      yield* QueueConfig.pause("mail")
      assert.deepStrictEqual(yield* apply({ mail: {} }), [])
      assert.isTrue((yield* limitsOf("mail")).paused)

      const resumed = [{ queue: "mail", field: "paused", before: true, after: false }]
      assert.deepStrictEqual<unknown>(yield* apply({ mail: { paused: false } }), resumed)
      yield* QueueConfig.pause("mail")
      assert.deepStrictEqual<unknown>(yield* apply({ mail: {} }, { resumePausedQueues: true }), resumed)
      assert.deepStrictEqual(yield* apply({ mail: { paused: true } }, { resumePausedQueues: true }), [
        { queue: "mail", field: "paused", before: false, after: true },
      ])
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("leaves queues that it does not name, and their limits", () =>
    Effect.gen(function* () {
      yield* apply({ mail })
      yield* Send.defer(undefined)
      assert.deepStrictEqual(yield* apply({ web: {} }), [])
      assert.strictEqual((yield* limitsOf("mail")).rate, 5)
      assert.strictEqual(yield* claimable("mail"), 1)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("pauses queues that were dropped when it is asked to, and keeps their records (Q136)", () =>
    Effect.gen(function* () {
      const previous = yield* QueueConfig.make({ mail: {}, empty: {}, web: {} })
      for (const queue of ["mail", "other", "web", "default"]) yield* Send.defer(undefined, { queue })
      const dropped = { unlisted: "pause", previous } as const
      assert.deepStrictEqual(
        yield* apply({ web: {} }, dropped),
        ["empty", "mail", "other"].map((queue) => ({ queue, field: "paused", before: false, after: true })),
      )
      assert.deepStrictEqual(yield* apply({ web: {} }, dropped), [])
      assert.deepStrictEqual(yield* Effect.forEach(["mail", "web", "default"], claimable), [0, 1, 1])
      yield* QueueConfig.resume("mail")
      assert.strictEqual(yield* claimable("mail"), 1)
    }).pipe(Effect.provide(onMemory().layer)),
  )
})

describe("what a configuration says of keys", () => {
  const overrideOf = (key: string) =>
    TaskQueue.TaskQueue.use((queue) =>
      Effect.map(queue.keyStatistics({ queue: "mail", key, now: 0 }), ({ override }) => override),
    )
  const byKey = { maxConcurrent: 2, rate: "5/s", burst: 7, ordered: true } as const
  const keys = { acme: { weight: 3, rate: "unlimited" }, small: { rate: 0 } } as const

  it.effect("is applied, and told as a change of each", () =>
    Effect.gen(function* () {
      const changes = yield* apply({ mail: { byKey, keys } })
      const limits = { maxConcurrent: 2, rate: 5, burst: 7, ordered: true }
      assert.deepStrictEqual((yield* limitsOf("mail")).byKey, limits)
      const override = { weight: 3, rate: Number.POSITIVE_INFINITY }
      assert.deepStrictEqual(yield* overrideOf("acme"), override)
      assert.deepStrictEqual(changes, [
        { queue: "mail", field: "byKey", before: unlimited.byKey, after: limits },
        { queue: "mail", field: "keys", key: "acme", before: {}, after: override },
        { queue: "mail", field: "keys", key: "small", before: {}, after: { rate: 0 } },
      ])
      assert.deepStrictEqual(yield* apply({ mail: { byKey, keys } }), [])
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("replaces all that was said of a key, and leaves the keys that it does not name", () =>
    Effect.gen(function* () {
      yield* apply({ mail: { byKey, keys } })
      const changes = yield* apply({ mail: { byKey, keys: { acme: { maxConcurrent: 9 } } } })
      assert.deepStrictEqual(
        changes.map(({ field }) => field),
        ["keys"],
      )
      assert.deepStrictEqual(yield* overrideOf("acme"), { maxConcurrent: 9 })
      assert.deepStrictEqual(yield* overrideOf("small"), { rate: 0 })
      yield* apply({ mail: { keys: { acme: {} } } })
      assert.deepStrictEqual(yield* overrideOf("acme"), {})
      // What all keys may do is a limit as any other: lifted when it is no longer named.
      assert.deepStrictEqual((yield* limitsOf("mail")).byKey, unlimited.byKey)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("is logged by the layer", () =>
    Effect.gen(function* () {
      const config = QueueConfig.make({ mail: { keys } })
      assert.deepStrictEqual(yield* linesOf(Effect.provide(Effect.void, QueueConfig.layer(config))), [
        'Info queue mail: keys.acme {} -> {"rate":"unlimited","weight":3}',
        'Info queue mail: keys.small {} -> {"rate":0}',
      ])
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("can be said of one key while the queue runs", () =>
    Effect.gen(function* () {
      yield* QueueConfig.overrideKey("mail", "acme", { rate: "30/m", burst: 2 })
      assert.deepStrictEqual(yield* overrideOf("acme"), { rate: 0.5, burst: 2 })
      yield* QueueConfig.overrideKey("mail", "acme", {})
      assert.deepStrictEqual(yield* overrideOf("acme"), {})
      const wrong = yield* Effect.flip(QueueConfig.overrideKey("mail", "acme", { weight: 0 }))
      assert.strictEqual(wrong.message, "queue mail: keys.acme.weight must be a number from 0.001 to 1000, and is 0")
      const none = yield* Effect.flip(QueueConfig.overrideKey("mail", "", {}))
      assert.include(none.message, "a key of 1 to 255 characters")
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("has nothing to do with a pause until a time, which starts again by itself", () =>
    Effect.gen(function* () {
      yield* Send.deferAll([undefined, undefined], { key: "acme" })
      yield* Send.defer(undefined, { key: "other" })
      const until = DateTime.makeUnsafe(10_000)
      yield* QueueConfig.pauseUntil("mail", until, { key: "acme" })
      assert.strictEqual(yield* claimable("mail"), 1)
      yield* QueueConfig.pauseUntil("mail", until)
      yield* QueueConfig.pauseUntil("mail", DateTime.makeUnsafe(0), { key: "acme" })
      assert.strictEqual(yield* claimable("mail"), 0)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* claimable("mail"), 2)
      const error = yield* Effect.flip(QueueConfig.pauseUntil("mail", until, { key: "k".repeat(256) }))
      assert.include(error.message, "queue mail: key must be a key of 1 to 255 characters")
    }).pipe(Effect.provide(onMemory().layer)),
  )
})

describe("QueueConfig.layer", () => {
  const retry = RetryPolicy.fixed("1 minute")

  it.effect("applies when it is built, and says what the queues say of retries and targets", () => {
    const { layer } = onMemory()
    const queues = QueueConfig.layer(QueueConfig.make({ mail: { ...mail, retry }, web: { target: "v2" }, plain: {} }))
    return Effect.gen(function* () {
      assert.strictEqual((yield* limitsOf("mail")).rate, 5)
      const defaults = yield* QueueDefaults
      assert.deepStrictEqual(
        [...defaults],
        [
          ["mail", { retry, target: undefined }],
          ["web", { retry: undefined, target: "v2" }],
        ],
      )
    }).pipe(Effect.provide(queues.pipe(Layer.provideMerge(layer))))
  })

  it.effect("takes a configuration that is there already", () =>
    Effect.gen(function* () {
      const config = yield* QueueConfig.make({ mail })
      const queues = QueueConfig.layer(config).pipe(Layer.provideMerge(onMemory().layer))
      assert.strictEqual((yield* Effect.provide(limitsOf("mail"), queues)).rate, 5)
    }),
  )

  it.effect("shows what is applied later to who has its defaults already", () => {
    const queues = QueueConfig.layer(QueueConfig.make({ mail: { retry }, web: { target: "v2" } }))
    return Effect.gen(function* () {
      const defaults = yield* QueueDefaults
      const changes = yield* apply({ mail: { retry: RetryPolicy.never, target: "v3" } })
      assert.deepStrictEqual([...defaults], [["mail", { retry: RetryPolicy.never, target: "v3" }]])
      assert.deepStrictEqual(changes, [
        { queue: "mail", field: "retry", before: retry, after: RetryPolicy.never },
        { queue: "mail", field: "target", before: undefined, after: "v3" },
        { queue: "web", field: "target", before: "v2", after: undefined },
      ])
      assert.deepStrictEqual(
        yield* apply({ mail: { retry: RetryPolicy.fixed(0, { maxAttempts: 1 }), target: "v3" } }),
        [],
      )
    }).pipe(Effect.provide(queues.pipe(Layer.provideMerge(onMemory().layer))))
  })

  it.effect("gives its defaults to the layers that it is provided to", () => {
    const seen: Array<string | undefined> = []
    const workers = Layer.effectDiscard(
      Effect.map(QueueDefaults, (defaults) => seen.push(defaults.get("mail")?.target)),
    )
    const queues = QueueConfig.layer(QueueConfig.make({ mail: { target: "v2" } }))
    const app = workers.pipe(Layer.provideMerge(queues), Layer.provideMerge(onMemory().layer))
    return Effect.gen(function* () {
      yield* Effect.provide(Effect.void, app)
      assert.deepStrictEqual(seen, ["v2"])
    })
  })

  it.effect("keeps the defaults of programs apart", () => {
    const { layer } = onMemory()
    const queues = QueueConfig.layer(QueueConfig.make({ mail: { retry } })).pipe(Layer.provideMerge(layer))
    return Effect.gen(function* () {
      yield* Effect.provide(Effect.void, queues)
      assert.strictEqual((yield* QueueDefaults).size, 0)
    })
  })

  it.effect("fails with the mistake, and applies nothing", () => {
    const { calls, layer } = onMemory()
    const wrong = QueueConfig.layer(QueueConfig.make({ mail, web: { burst: 0 } })).pipe(Layer.provideMerge(layer))
    return Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.provide(Effect.void, wrong))
      assert.strictEqual(error._tag, "InvalidQueueConfig")
      assert.deepStrictEqual(calls, [])
    })
  })

  it.effect("logs what it changed, and what has no effect", () =>
    Effect.gen(function* () {
      const config = QueueConfig.decode({
        application: "shop",
        total_storage_limit: "1G",
        queue: [{ name: "mail", rate: "5/s", acl: [{ user_email: "a@b.c" }] }],
      })
      const lines = yield* linesOf(Effect.provide(Effect.void, QueueConfig.layer(config)))
      assert.deepStrictEqual(lines, [
        "Info queue mail: rate none -> 5",
        "Info of no effect in the queue configuration: application, total_storage_limit, acl of the queue mail",
      ])
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("is missed by who applies retries or targets without it", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf(apply({ mail: { retry }, web: {} }))
      assert.lengthOf(lines, 1)
      assert.match(lines[0]!, /^Warn .* no effect here, in the queues mail: provide QueueConfig.layer/)
      assert.deepStrictEqual(yield* linesOf(apply({ web: {} })), [])
    }).pipe(Effect.provide(onMemory().layer)),
  )
})

describe("QueueConfig", () => {
  it.effect("pauses and resumes a queue, and says whether that changed it", () =>
    Effect.gen(function* () {
      yield* Send.defer(undefined)
      assert.isTrue(yield* QueueConfig.pause("mail"))
      assert.isFalse(yield* QueueConfig.pause("mail"))
      assert.strictEqual(yield* claimable("mail"), 0)
      yield* Send.defer(undefined)
      assert.isTrue(yield* QueueConfig.resume("mail"))
      assert.isFalse(yield* QueueConfig.resume("mail"))
      assert.strictEqual(yield* claimable("mail"), 2)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("keeps the other limits of a queue that it pauses, by the caller's clock", () => {
    const { calls, layer } = onMemory()
    return Effect.gen(function* () {
      yield* apply({ mail })
      yield* TestClock.adjust("5 seconds")
      yield* QueueConfig.pause("mail")
      assert.deepStrictEqual(calls.at(-1), { queue: "mail", limits: { paused: true }, now: 5000 })
      assert.strictEqual((yield* limitsOf("mail")).rate, 5)
    }).pipe(Effect.provide(layer))
  })

  it.effect("purges what waits in a queue, and says how many", () =>
    Effect.gen(function* () {
      yield* Send.deferAll([undefined, undefined, undefined])
      yield* Send.defer(undefined, { queue: "web" })
      assert.strictEqual(yield* QueueConfig.purge("mail"), 3)
      assert.strictEqual(yield* QueueConfig.purge("mail"), 0)
      assert.strictEqual(yield* claimable("web"), 1)
    }).pipe(Effect.provide(onMemory().layer)),
  )

  it.effect("fails as the storage fails", () =>
    Effect.gen(function* () {
      const failure = new TaskQueue.TaskQueueError({ operation: "configure", message: "disk full", isRetryable: false })
      const driver = Effect.map(TaskQueueMemory.make, (memory) => ({
        ...memory,
        configure: () => Effect.fail(failure),
      }))
      const exit = yield* Effect.exit(Effect.provide(QueueConfig.pause("mail"), TaskQueue.layer(driver)))
      assert.deepStrictEqual(exit, Exit.fail(failure))
    }),
  )
})

/** What an effect logs, by level. */
const linesOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${String(message)}`)
    })
    yield* Effect.provide(effect, Logger.layer([logger]))
    return lines
  })
