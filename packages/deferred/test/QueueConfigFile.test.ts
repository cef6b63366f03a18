import { assert, describe, it } from "@effect/vitest"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { Effect, Schema } from "effect"

describe("QueueConfig.File", () => {
  const encode = Schema.encodeEffect(QueueConfig.File)
  const decode = Schema.decodeUnknownEffect(QueueConfig.File)

  it.effect("writes what App Engine writes", () =>
    Effect.gen(function* () {
      const written = {
        application: "shop",
        total_storage_limit: "120B",
        resume_paused_queues: true,
        queue: [
          {
            name: "mail",
            rate: "5/s",
            bucket_size: 40,
            max_concurrent_requests: 10,
            retry_parameters: {
              task_retry_limit: 7,
              task_age_limit: "172800s",
              min_backoff_seconds: 10,
              max_backoff_seconds: 200,
              max_doublings: 0,
            },
            target: "v2.worker",
            paused: true,
            ageing: "600s",
            by_key: { max_concurrent_requests: 2, rate: "10/s", bucket_size: 20, ordered: true },
            keys: [
              { name: "acme", weight: 3, max_concurrent_requests: 10, rate: "20/s", bucket_size: 40 },
              { name: "free", max_concurrent_requests: "unlimited", rate: "unlimited" },
              { name: "none", rate: 0 },
            ],
          },
          { name: "stopped", rate: 0 },
          { name: "leased", mode: "pull", retry_parameters: { task_retry_limit: 3 }, acl: [{ user_email: "a@b.c" }] },
        ],
      }
      assert.deepStrictEqual(yield* encode(yield* decode(written)), written)
    }),
  )

  const text = Schema.fromJsonString(QueueConfig.File)
  it.effect("composes: a configuration in a text", () =>
    Effect.gen(function* () {
      const config = yield* Schema.decodeEffect(text)('{ "queue": [{ "name": "mail", "rate": "5/s" }] }')
      assert.strictEqual(config.queues[0]?.rate, 5)
      const error = yield* Effect.flip(Schema.decodeEffect(text)('{ "queue": [{ "name": "mail", "rate": 5 }] }'))
      assert.include(error.message, "queue mail: rate must be 0, or a number of starts")
    }),
  )

  it.effect.each([
    { retry: RetryPolicy.exponential(), says: "cannot hold a policy Exponential" },
    { retry: RetryPolicy.appEngine({ jitter: "full" }), says: "cannot hold jitter" },
    { retry: RetryPolicy.appEngine({ maxAttempts: 3 }), says: "cannot hold maxAttempts" },
    { retry: RetryPolicy.appEngine({ maxAge: "1 hour" }), says: "cannot hold maxAge" },
    { retry: RetryPolicy.appEngine({ ageLimit: 1500 }), says: "task_age_limit cannot hold 1500 ms" },
    { retry: RetryPolicy.appEngine({ minBackoff: 12_345_678_901.123455 }), says: "min_backoff_seconds cannot hold" },
  ])("does not write what App Engine has no words for: $says", ({ retry, says }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(encode(yield* QueueConfig.make({ mail: { retry } })))
      assert.include(error.message, "queue mail: retry_parameters")
      assert.include(error.message, says)
    }),
  )

  const whole = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
  const positive = Schema.Finite.check(Schema.isBetween({ minimum: 1e-6, maximum: 1e12 }))
  const maybe = Schema.UndefinedOr
  const names = Schema.String.check(Schema.isPattern(/^[a-z0-9._-]{1,20}$/))
  const rate = Schema.Union([Schema.Literal(0), Schema.Struct({ perSecond: positive })])
  const burst = Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 1e6 }))
  const queue = Schema.Struct({
    rate: maybe(rate),
    burst: maybe(burst),
    maxConcurrent: maybe(whole(1, 1e6)),
    paused: maybe(Schema.Boolean),
    ageing: maybe(whole(1, 1e12)),
    byKey: maybe(
      Schema.Struct({
        maxConcurrent: maybe(whole(1, 1e6)),
        rate: maybe(rate),
        burst: maybe(burst),
        ordered: maybe(Schema.Boolean),
      }),
    ),
    keys: maybe(
      Schema.Record(
        Schema.String.check(Schema.isPattern(/^[a-zA-Z0-9 ä.-]{1,20}$/)),
        Schema.Struct({
          maxConcurrent: maybe(Schema.Union([whole(1, 1e6), Schema.Literal("unlimited")])),
          rate: maybe(Schema.Union([rate, Schema.Literal("unlimited")])),
          burst: maybe(burst),
          weight: maybe(Schema.Finite.check(Schema.isBetween({ minimum: 0.001, maximum: 1000 }))),
        }),
      ),
    ),
    target: maybe(Schema.String.check(Schema.isPattern(/^([a-z0-9_-]{1,9}\.)?[a-z0-9_-]{1,9}$/))),
    retry: maybe(
      Schema.Struct({
        minBackoff: maybe(whole(0, 1e7)),
        maxBackoff: maybe(whole(1e7, 1e12)),
        maxDoublings: maybe(whole(0, 40)),
        retryLimit: maybe(whole(0, 1000)),
        ageLimit: maybe(whole(1, 1e6)),
      }),
    ),
  })
  it.effect.prop(
    "writes what reads back as the same configuration",
    { queues: Schema.Record(names, queue), resumePausedQueues: Schema.Boolean },
    ({ queues, resumePausedQueues }) =>
      Effect.gen(function* () {
        const options = Object.entries(queues).map(([name, { retry, ...rest }]): [string, QueueConfig.QueueOptions] => {
          const ageLimit = retry?.ageLimit === undefined ? undefined : retry.ageLimit * 1000
          return [name, { ...rest, retry: retry && RetryPolicy.appEngine({ ...retry, ageLimit }) }]
        })
        const config = yield* QueueConfig.make(Object.fromEntries(options), { resumePausedQueues })
        assert.deepStrictEqual(yield* QueueConfig.decode(yield* encode(config)), config)
        // As text, too, in which a file is.
        assert.deepStrictEqual(yield* Schema.decodeEffect(text)(yield* Schema.encodeEffect(text)(config)), config)
      }),
    { arbitrary: { runs: 300 } },
  )
})
