import { assert, describe, it } from "@effect/vitest"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { Effect, Schedule } from "effect"

const oneQueue = (fields: object) => ({ queue: [{ name: "mail", ...fields }] })
const decodeQueue = (fields: object) => Effect.map(QueueConfig.decode(oneQueue(fields)), ({ queues }) => queues[0]!)

const plain: QueueConfig.Queue = {
  name: "mail",
  rate: undefined,
  burst: 5,
  maxConcurrent: undefined,
  paused: undefined,
  ageing: undefined,
  byKey: { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false },
  keys: [],
  retry: undefined,
  target: undefined,
  mode: "push",
  acl: [],
}

describe("QueueConfig.decode", () => {
  it.effect.each<{ readonly row: string; readonly written: object; readonly read: Partial<QueueConfig.Queue> }>([
    { row: "a queue that says nothing has App Engine's bucket and no limits", written: {}, read: {} },
    { row: "Q131: a rate of 0", written: { rate: 0 }, read: { rate: 0 } },
    { row: "Q131: a rate of 0 as a text", written: { rate: "0" }, read: { rate: 0 } },
    { row: "Q131: starts per second", written: { rate: "5/s" }, read: { rate: 5 } },
    { row: "Q131: starts per minute", written: { rate: "500/m" }, read: { rate: 500 / 60 } },
    { row: "Q131: starts per hour", written: { rate: "90/h" }, read: { rate: 0.025 } },
    { row: "Q131: starts per day", written: { rate: "86400/d" }, read: { rate: 1 } },
    { row: "Q131: a rate with decimals", written: { rate: "0.5/s" }, read: { rate: 0.5 } },
    {
      row: "Q132: bucket and concurrency",
      written: { bucket_size: 40, max_concurrent_requests: 10 },
      read: { burst: 40, maxConcurrent: 10 },
    },
    { row: "Q132: a target with a version", written: { target: "v2.worker" }, read: { target: "v2.worker" } },
    { row: "Q132: a target that YAML takes for a number", written: { target: 7 }, read: { target: "7" } },
    {
      row: "Q132: a pull queue and its acl",
      written: { mode: "pull", acl: [{ user_email: "a@b.c" }, { writer_email: "d@e.f" }] },
      read: {
        mode: "pull",
        acl: [
          { userEmail: "a@b.c", writerEmail: undefined },
          { userEmail: undefined, writerEmail: "d@e.f" },
        ],
      },
    },
    { row: "paused", written: { paused: true }, read: { paused: true } },
    { row: "running", written: { paused: false }, read: { paused: false } },
    { row: "ageing, which is ours, not cut to seconds", written: { ageing: "1.5s" }, read: { ageing: 1500 } },
    {
      row: "what each key may do",
      written: { by_key: { max_concurrent_requests: 2, rate: "60/m", bucket_size: 10, ordered: true } },
      read: { byKey: { maxConcurrent: 2, rate: 1, burst: 10, ordered: true } },
    },
    { row: "keys that may do anything", written: { by_key: {} }, read: {} },
    {
      row: "a pull queue whose keys have an order",
      written: { mode: "pull", by_key: { ordered: true } },
      read: {
        mode: "pull",
        byKey: { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: true },
      },
    },
    {
      row: "what single keys may do instead",
      written: {
        keys: [
          { name: "acme", weight: 3, max_concurrent_requests: 10, rate: "20/s", bucket_size: 40 },
          { name: 7, rate: "unlimited", max_concurrent_requests: "unlimited" },
          { name: "none", rate: 0 },
        ],
      },
      read: {
        keys: [
          { name: "acme", weight: 3, maxConcurrent: 10, rate: 20, burst: 40 },
          { name: "7", rate: Number.POSITIVE_INFINITY, maxConcurrent: Number.POSITIVE_INFINITY },
          { name: "none", rate: 0 },
        ],
      },
    },
    {
      row: "Q81: empty retry parameters are App Engine's",
      written: { retry_parameters: {} },
      read: { retry: RetryPolicy.appEngine() },
    },
    {
      row: "all retry parameters",
      written: {
        retry_parameters: {
          task_retry_limit: 7,
          task_age_limit: "2d",
          min_backoff_seconds: 10,
          max_backoff_seconds: 200,
          max_doublings: 0,
        },
      },
      read: {
        retry: RetryPolicy.appEngine({
          retryLimit: 7,
          ageLimit: "2 days",
          minBackoff: "10 seconds",
          maxBackoff: "200 seconds",
          maxDoublings: 0,
        }),
      },
    },
    {
      row: "backoffs in parts of a second",
      written: { retry_parameters: { min_backoff_seconds: 0.1, max_backoff_seconds: 1.001 } },
      read: { retry: RetryPolicy.appEngine({ minBackoff: 100, maxBackoff: 1001 }) },
    },
    {
      row: "Q89: one backoff that crosses the other's default",
      written: { retry_parameters: { min_backoff_seconds: 7200 } },
      read: { retry: RetryPolicy.appEngine({ minBackoff: 7_200_000, maxBackoff: 7_200_000 }) },
    },
    {
      row: "Q89: the other one",
      written: { retry_parameters: { max_backoff_seconds: 0.05 } },
      read: { retry: RetryPolicy.appEngine({ minBackoff: 50, maxBackoff: 50 }) },
    },
    {
      row: "fields that YAML left empty",
      written: { rate: null, retry_parameters: { task_retry_limit: null } },
      read: { retry: RetryPolicy.appEngine() },
    },
  ])("reads $row", ({ read, written }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* decodeQueue(written), { ...plain, ...read })
    }),
  )

  it.effect.each([
    ["45s", 45_000],
    ["30m", 1_800_000],
    ["12h", 43_200_000],
    ["2d", 172_800_000],
    ["1.5m", 90_000],
    ["1.5s", 1000],
    ["2.05m", 123_000],
    ["1e3s", 1_000_000],
    ["2.5e-1d", 21_600_000],
    ["1.s", 1000],
  ] as const)("reads the age limit %s, cut to seconds (Q133)", ([written, millis]) =>
    Effect.gen(function* () {
      const { retry } = yield* decodeQueue({ retry_parameters: { task_age_limit: written } })
      assert.strictEqual((retry as RetryPolicy.AppEngine).ageLimit, millis)
    }),
  )

  it.effect("reads the fields of the root (Q130)", () =>
    Effect.gen(function* () {
      const root = (fields: object) => QueueConfig.decode({ queue: [], ...fields })
      const found = yield* root({ application: "shop", resume_paused_queues: true })
      assert.strictEqual(found.application, "shop")
      assert.isTrue(found.resumePausedQueues)
      assert.isFalse((yield* root({})).resumePausedQueues)
      const sizes = { "120B": 120, "1K": 1024, "1.5M": 1_572_864, "2G": 2 ** 31, "1T": 2 ** 40, "500": 500 }
      for (const [written, bytes] of Object.entries(sizes)) {
        assert.strictEqual((yield* root({ total_storage_limit: written })).totalStorageLimit, bytes)
      }
      assert.strictEqual((yield* root({ total_storage_limit: 500 })).totalStorageLimit, 500)
    }),
  )

  it.effect.each([undefined, null, {}, { queue: null }, { queue: [] }])(
    "takes a file with nothing in it for no queues: %o",
    (parsed) =>
      Effect.gen(function* () {
        assert.deepStrictEqual((yield* QueueConfig.decode(parsed)).queues, [])
      }),
  )

  const refused: ReadonlyArray<{ readonly written: unknown; readonly field: string; readonly says: string }> = [
    ...["5", 5, "5/x", "/s", "five/s", "-1/s", "5/ms", "5 / s", "Infinity/s", "1e999/s", true, {}].map((rate) => ({
      written: oneQueue({ rate }),
      field: "rate",
      says: "as in 5/s",
    })),
    ...[0, 0.5, -1, "5", Number.NaN, Number.POSITIVE_INFINITY].map((bucket_size) => ({
      written: oneQueue({ bucket_size }),
      field: "bucket_size",
      says: "a number of at least 1",
    })),
    ...[0, 1.5, -1, "5", Number.POSITIVE_INFINITY].map((max_concurrent_requests) => ({
      written: oneQueue({ max_concurrent_requests }),
      field: "max_concurrent_requests",
      says: "a whole number of at least 1",
    })),
    ...["", "1.v2.worker", "a b", ".worker", "x".repeat(101), -1].map((target) => ({
      written: oneQueue({ target }),
      field: "target",
      says: "[version.]service",
    })),
    ...["2", 2, "d", "0s", "0.9s", "-1s", "2w", "1e0.5s", "1 d", ""].map((task_age_limit) => ({
      written: oneQueue({ retry_parameters: { task_age_limit } }),
      field: "retry_parameters.task_age_limit",
      says: "as in 2d",
    })),
    ...[
      { task_retry_limit: -1 },
      { task_retry_limit: 1.5 },
      { max_doublings: -1 },
      { max_doublings: 2.5 },
      { min_backoff_seconds: -0.1 },
      { max_backoff_seconds: -1 },
      { max_backoff_seconds: "10" },
    ].map((retry_parameters) => ({
      written: oneQueue({ retry_parameters }),
      field: `retry_parameters.${Object.keys(retry_parameters)[0]}`,
      says: "number of at least 0",
    })),
    {
      written: oneQueue({ retry_parameters: { min_backoff_seconds: 20, max_backoff_seconds: 10 } }),
      field: "retry_parameters.max_backoff_seconds",
      says: "must not be less than min_backoff_seconds, which is 20, and is 10",
    },
    {
      written: oneQueue({ retry_parameters: { max_backoff_seconds: 1e15 } }),
      field: "retry_parameters.max_backoff_seconds",
      says: "a time from 0",
    },
    { written: oneQueue({ retry_parameters: 5 }), field: "retry_parameters", says: "a set of fields, and is 5" },
    { written: oneQueue({ mode: "poll" }), field: "mode", says: 'push or pull, and is "poll"' },
    { written: oneQueue({ paused: "yes" }), field: "paused", says: 'true or false, and is "yes"' },
    { written: oneQueue({ ageing: "0s" }), field: "ageing", says: "above 0" },
    { written: oneQueue({ ageing: 600 }), field: "ageing", says: "with its unit" },
    { written: oneQueue({ acl: { user_email: "a@b.c" } }), field: "acl", says: "a list" },
    { written: oneQueue({ acl: [{ email: "a@b.c" }] }), field: "acl.0.email", says: "user_email, writer_email" },
    // Q135: a pull queue has nothing to do with a pace.
    ...[{ rate: "5/s" }, { bucket_size: 5 }, { max_concurrent_requests: 1 }].map((fields) => ({
      written: oneQueue({ mode: "pull", ...fields }),
      field: Object.keys(fields)[0]!,
      says: "pull queue",
    })),
    ...[{ min_backoff_seconds: 1 }, { max_backoff_seconds: 1 }, { max_doublings: 1 }].map((retry_parameters) => ({
      written: oneQueue({ mode: "pull", retry_parameters }),
      field: `retry_parameters.${Object.keys(retry_parameters)[0]}`,
      says: "pull queue",
    })),
    ...[{ rate: 5 }, { bucket_size: 0 }, { max_concurrent_requests: 0.5 }, { ordered: "yes" }].map((by_key) => ({
      written: oneQueue({ by_key }),
      field: `by_key.${Object.keys(by_key)[0]}`,
      says: "must be",
    })),
    ...[{ rate: 5 }, { max_concurrent_requests: 0 }, { max_concurrent_requests: "none" }].map((fields) => ({
      written: oneQueue({ keys: [{ name: "acme" }, { name: "b", ...fields }] }),
      field: `keys.1.${Object.keys(fields)[0]}`,
      says: "must be unlimited, or ",
    })),
    ...[0, -1, 0.0009, 1001, "3", Number.NaN].map((weight) => ({
      written: oneQueue({ keys: [{ name: "acme", weight }] }),
      field: "keys.0.weight",
      says: "a number from 0.001 to 1000",
    })),
    ...["", "k".repeat(256), "a\0b", "a\ud800", true].map((name) => ({
      written: oneQueue({ keys: [{ name }] }),
      field: "keys.0.name",
      says: "a key of 1 to 255 characters",
    })),
    { written: oneQueue({ keys: [{ weight: 3 }] }), field: "keys.0.name", says: "is missing" },
    {
      written: oneQueue({ keys: [{ name: "a" }, { name: "b" }, { name: "a" }] }),
      field: "keys.2.name",
      says: 'once, and is "a" again',
    },
    { written: oneQueue({ keys: { acme: { weight: 3 } } }), field: "keys", says: "must be a list" },
    // Fields that are not known, and what was probably meant.
    { written: oneQueue({ by_keys: {} }), field: "by_keys", says: "is it by_key?" },
    { written: oneQueue({ by_key: { orderd: true } }), field: "by_key.orderd", says: "is it ordered?" },
    {
      written: oneQueue({ by_key: { weight: 3 } }),
      field: "by_key.weight",
      says: "it belongs in keys, to single keys",
    },
    { written: oneQueue({ keys: [{ name: "a", ordered: true }] }), field: "keys.0.ordered", says: "belongs in by_key" },
    { written: oneQueue({ ordered: true }), field: "ordered", says: "it belongs in by_key" },
    { written: oneQueue({ weight: 3 }), field: "weight", says: "it belongs in an item of keys" },
    { written: oneQueue({ bucket_sise: 5 }), field: "bucket_sise", says: "is it bucket_size?" },
    { written: oneQueue({ bucketSize: 5 }), field: "bucketSize", says: "is it bucket_size?" },
    {
      written: oneQueue({ "max-concurrent-requests": 5 }),
      field: "max-concurrent-requests",
      says: "is it max_concurrent_requests?",
    },
    { written: oneQueue({ raet: "5/s" }), field: "raet", says: "is it rate?" },
    { written: oneQueue({ colour: "blue" }), field: "colour", says: "there are name, mode, rate, bucket_size" },
    { written: oneQueue({ toString: 1 }), field: "toString", says: "is no field here" },
    { written: oneQueue({ task_retry_limit: 3 }), field: "task_retry_limit", says: "it belongs in retry_parameters" },
    {
      written: oneQueue({ retry_parameters: { retry_limit: 3 } }),
      field: "retry_parameters.retry_limit",
      says: "task_retry_limit",
    },
  ]
  it.effect.each(refused)("refuses $field: $says", ({ field, says, written }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(QueueConfig.decode(written))
      assert.strictEqual(error.queue, "mail")
      assert.strictEqual(error.field, field)
      assert.include(error.reason, says)
      assert.include(error.message, `queue mail: ${field} `)
    }),
  )

  it.effect.each([
    { written: { queues: [] }, message: "queue configuration: queues is no field here: is it queue?" },
    { written: { rate: "5/s" }, message: "queue configuration: rate is no field here: it belongs in an item of queue" },
    { written: [], message: "queue configuration: it must be a set of fields, and is a list" },
    { written: "queue", message: 'queue configuration: it must be a set of fields, and is "queue"' },
    { written: { queue: {} }, message: "queue configuration: queue must be a list, and is a set of fields" },
    { written: { queue: ["mail"] }, message: 'queue #1: it must be a set of fields, and is "mail"' },
    { written: { queue: [{ name: "a" }, { rate: "5/s" }] }, message: "queue #2: name is missing: every queue has one" },
    {
      written: { queue: [{ name: "a b" }] },
      message: 'queue a b: name must be a name of ^[a-zA-Z0-9._-]{1,100}$, and is "a b"',
    },
    { written: { queue: [{ name: "x".repeat(101) }] }, message: `name must be a name` },
    // Q135
    {
      written: { queue: [{ name: "a" }, { name: "b" }, { name: "a" }] },
      message: "queue a: name must be there once, and is the name of the queues 1 and 3",
    },
    { written: { application: 5 }, message: "queue configuration: application must be a text, and is 5" },
    {
      written: { total_storage_limit: "5X" },
      message: 'total_storage_limit must be a size as in 500M, 2G, 120B, and is "5X"',
    },
    { written: { total_storage_limit: -1 }, message: "total_storage_limit must be a size" },
    { written: { resume_paused_queues: "yes" }, message: 'resume_paused_queues must be true or false, and is "yes"' },
  ])("says of the whole: $message", ({ message, written }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(QueueConfig.decode(written))
      assert.strictEqual(error._tag, "InvalidQueueConfig")
      assert.include(error.message, message)
    }),
  )

  it.effect("says where in the data the mistake is", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        QueueConfig.decode({ queue: [{ name: "a" }, { name: "b", retry_parameters: { max_doublings: -1 } }] }),
      )
      assert.deepStrictEqual(error.path, ["queue", 1, "retry_parameters", "max_doublings"])
    }),
  )
})

describe("QueueConfig.make", () => {
  it.effect.each<{ readonly options: QueueConfig.QueueOptions; readonly read: Partial<QueueConfig.Queue> }>([
    { options: {}, read: {} },
    { options: { rate: "500/m" }, read: { rate: 500 / 60 } },
    { options: { rate: { perSecond: 2.5 } }, read: { rate: 2.5 } },
    { options: { rate: 0 }, read: { rate: 0 } },
    { options: { burst: 1, maxConcurrent: 1, paused: true }, read: { burst: 1, maxConcurrent: 1, paused: true } },
    { options: { ageing: "10 minutes" }, read: { ageing: 600_000 } },
    {
      options: { byKey: { maxConcurrent: 2, rate: "60/m", burst: 10, ordered: true } },
      read: { byKey: { maxConcurrent: 2, rate: 1, burst: 10, ordered: true } },
    },
    {
      options: {
        keys: {
          acme: { weight: 3, maxConcurrent: 10, rate: { perSecond: 20 }, burst: 40 },
          free: { maxConcurrent: "unlimited", rate: "unlimited" },
          none: {},
        },
      },
      read: {
        keys: [
          { name: "acme", weight: 3, maxConcurrent: 10, rate: 20, burst: 40 },
          { name: "free", maxConcurrent: Number.POSITIVE_INFINITY, rate: Number.POSITIVE_INFINITY },
          { name: "none" },
        ],
      },
    },
    {
      options: { retry: RetryPolicy.never, target: "v2.worker" },
      read: { retry: RetryPolicy.never, target: "v2.worker" },
    },
  ])("gives what a file gives: $options", ({ options, read }) =>
    Effect.gen(function* () {
      const config = yield* QueueConfig.make({ mail: options })
      assert.deepStrictEqual(config, { ...(yield* QueueConfig.decode({})), queues: [{ ...plain, ...read }] })
    }),
  )

  it.effect.each<{ readonly options: object; readonly field: string; readonly says: string }>([
    { options: { rate: "5/y" }, field: "rate", says: "as in 5/s" },
    { options: { rate: "-5/s" }, field: "rate", says: "as in 5/s" },
    { options: { rate: { perSecond: -1 } }, field: "rate.perSecond", says: "at least 0" },
    { options: { rate: { perSecond: Number.POSITIVE_INFINITY } }, field: "rate.perSecond", says: "at least 0" },
    { options: { burst: 0 }, field: "burst", says: "at least 1" },
    { options: { maxConcurrent: 0 }, field: "maxConcurrent", says: "at least 1" },
    { options: { ageing: 0 }, field: "ageing", says: "above 0" },
    { options: { ageing: "Infinity" }, field: "ageing", says: "finite" },
    { options: { ageing: "soon" }, field: "ageing", says: "duration" },
    { options: { target: "1.v2.worker" }, field: "target", says: "without an instance" },
    { options: { retry: RetryPolicy.fixed(-1) }, field: "retry.delay", says: "is -1 ms" },
    { options: { retry: RetryPolicy.fromSchedule(Schedule.forever) }, field: "retry", says: "schedule" },
    { options: { retry: { _tag: "Fixed", delay: 1 } }, field: "retry", says: "RetryPolicy" },
    { options: { max_concurrent: 5 }, field: "max_concurrent", says: "is it maxConcurrent?" },
    { options: { byKey: { burst: 0 } }, field: "byKey.burst", says: "at least 1" },
    { options: { byKey: { rate: "unlimited" } }, field: "byKey.rate", says: "as in 5/s" },
    { options: { byKey: { weight: 2 } }, field: "byKey.weight", says: "it belongs in keys" },
    {
      options: { keys: { acme: { rate: "5" } } },
      field: "keys.acme.rate",
      says: "must be unlimited, or 0, or a number",
    },
    { options: { keys: { acme: { wieght: 5 } } }, field: "keys.acme.wieght", says: "is it weight?" },
    { options: { keys: { acme: { ordered: true } } }, field: "keys.acme.ordered", says: "it belongs in byKey" },
    { options: { keys: { "": {} } }, field: "keys.", says: "a key of 1 to 255 characters" },
    { options: { keys: ["acme"] }, field: "keys", says: "a set of fields" },
    { options: { ordered: true }, field: "ordered", says: "it belongs in byKey" },
  ])("refuses $field: $says", ({ field, options, says }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(QueueConfig.make({ ok: {}, mail: options }))
      assert.strictEqual(error.message, `queue mail: ${field} ${error.reason}`)
      assert.include(error.reason, says)
    }),
  )

  it.effect("refuses a name that no queue can have", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(QueueConfig.make({ "my mail": {} }))
      assert.include(error.message, "queue my mail: name must be a name of")
    }),
  )
})
