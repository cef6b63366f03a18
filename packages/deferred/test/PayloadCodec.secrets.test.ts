/** What is `Schema.Redacted` in a payload is told to nobody but the handler, whatever goes wrong. */

import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import { Cause, Effect, Exit, Layer, Logger, Redacted, References, Schema, Stream } from "effect"

const secret = "hunter2-the-password"
const number = 4_111_222_233_334_444

class Refused extends Schema.TaggedError<Refused>()("Refused", {
  password: Schema.Redacted(Schema.String),
  why: Schema.String,
}) {}

const Login = Task.make("Login", {
  payload: {
    how: Schema.String,
    password: Schema.Redacted(Schema.String),
    card: Schema.Struct({ number: Schema.RedactedFromValue(Schema.Number) }),
    either: Schema.optional(
      Schema.Union([Schema.Redacted(Schema.NonEmptyString), Schema.Struct({ token: Schema.Redacted(Schema.String) })]),
    ),
  },
  success: Schema.Struct({ token: Schema.Redacted(Schema.String) }),
  error: Refused,
  retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }),
})

const handle: Parameters<typeof Login.toLayer<never>>[0] = (payload) =>
  Effect.gen(function* () {
    const { how, password } = payload
    yield* Effect.logInfo("begun with", payload)
    yield* Effect.logInfo(`begun with ${payload.password} and ${JSON.stringify(payload)}`)
    yield* Effect.logDebug(payload).pipe(Effect.annotateLogs({ payload, password }))
    switch (how) {
      case "fail":
        return yield* Effect.fail(new Refused({ password, why: `not with ${password}` }))
      case "die":
        return yield* Effect.die(new Error(`not with ${password}`, { cause: payload }))
      case "die of a value":
        return yield* Effect.die(payload)
      case "throw":
        throw new TypeError(`cannot read ${JSON.stringify(payload)}`)
      case "permanent":
        return yield* Effect.fail(new PermanentTaskFailure({ message: `${password}` }))
      case "unfit":
        // What its own schema does not take: nobody redacted it.
        return { token: Redacted.value(password) } as never
      case "unfit number":
        return { token: Redacted.make(Redacted.value(payload.card.number)) } as never
      default:
        return { token: password }
    }
  })

/** All that is logged, in every form that there is for logs. */
const logging = (lines: Array<string>) => {
  const into = (text: unknown) =>
    void lines.push(typeof text === "string" ? text : inspect(text, { depth: 20, showHidden: true }))
  return Layer.mergeAll(
    Logger.layer([
      Logger.map(Logger.formatSimple, into),
      Logger.map(Logger.formatLogFmt, into),
      Logger.map(Logger.formatStructured, into),
      Logger.map(Logger.formatJson, into),
      Logger.make(({ cause, message }) => {
        into(message)
        into(Cause.pretty(cause))
        into(inspect(cause, { depth: 20 }))
      }),
    ]),
    Layer.succeed(References.MinimumLogLevel, "All"),
  )
}

/** Everything that anybody but the handler is told while `work` goes on: logs, ledgers, events, dead letters. */
const told = <A, E>(
  work: Effect.Effect<A, E, TestTasks.TestTasks | TestTasks.TestTaskQueue | TaskQueue>,
  codec: Layer.Layer<never> = Layer.empty,
) => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    const queue = yield* TaskQueue
    const events: Array<unknown> = []
    yield* Effect.forkScoped(
      Stream.runForEach(yield* queue.events.subscribe, (event) => Effect.sync(() => void events.push(event))),
    )
    yield* work
    const { letters } = yield* DeadLetters.find()
    const ids = (yield* TestTasks.deferred(Login, { states: "all" }).pipe(Effect.orElseSucceed(() => []))).map(
      ({ id }) => id,
    )
    const all = [...new Set([...ids, ...letters.map(({ id }) => id)])]
    const ledgers = yield* queue.ledger({ ids: all })
    const records = yield* queue.get({ ids: all, now: 0 })
    // What is stored of payload and result is the codec's part, the rest of a record is for everybody.
    const open = records.map((record) => ({ ...record, payload: "", result: "" }))
    const sentences = letters.map(({ failure, sentence }) => ({ failure, sentence }))
    yield* Effect.yieldNow
    const text = [
      ...lines,
      ...[events, ledgers, open, sentences].flatMap((each) => [JSON.stringify(each), inspect(each, { depth: 20 })]),
    ]
    return { text: text.join("\n"), events, attempts: ledgers.flat().length, lines: lines.length }
  }).pipe(
    Effect.provide(
      TestTasks.layer({ tasks: [Login] }).pipe(Layer.provide(Login.toLayer(handle)), Layer.provide(codec)),
    ),
    Effect.provide(logging(lines)),
  )
}

const assertKept = (text: string) => {
  assert.notInclude(text, "hunter2")
  assert.notInclude(text, Buffer.from(secret).toString("base64").slice(2, 12))
  assert.notInclude(text, `${number}`)
  assert.notInclude(text, `${number}`.slice(0, 8))
}

const payload = (how: string): typeof Login.payload.Type => ({
  how,
  password: Redacted.make(secret),
  card: { number: Redacted.make(number) },
})

const ways = ["succeed", "fail", "die", "die of a value", "throw", "permanent", "unfit", "unfit number"]

describe("what is redacted in a payload", () => {
  it.effect.each(ways)("is in no log, ledger, event or dead letter when its handler is to %s", (how) =>
    Effect.gen(function* () {
      const seen = yield* told(Effect.andThen(Login.defer(payload(how)), TestTasks.drain({ advance: true })))
      // Enough was told to have told it.
      assert.include(seen.text, "begun with")
      assert.include(seen.text, how)
      assert.isAtLeast(seen.attempts, 1)
      assert.isAtLeast(seen.events.length, 3)
      assert.include(seen.text, "<redacted>")
      assertKept(seen.text)
    }),
  )

  const broken: Record<string, string> = {
    "another type": `{"how":"x","password":{"is":"${secret}"},"card":{"number":"${number}"}}`,
    "a number for it": `{"how":"x","password":${number},"card":{"number":1}}`,
    "text for a number": `{"how":"x","password":"${secret}","card":{"number":"${secret}"}}`,
    "something missing": `{"password":"${secret}","card":{"number":${number}}}`,
    "no member of a union": `{"how":"x","password":"${secret}","card":{"number":${number}},"either":{"tokn":"${secret}"}}`,
    "no member at all": `{"how":"x","password":"${secret}","card":{"number":${number}},"either":[${number}]}`,
    "another shape": `["${secret}",${number}]`,
    "a text": `"${secret}"`,
    "no JSON": `${secret} {"password":"${secret}"}`,
    "JSON that was cut off": `{"password":"${secret}","card":{"number":${number}`,
    "JSON with something behind it": `{"how":"x"}${secret}`,
  }
  it.effect.each(Object.entries(broken))("is in none when the stored payload has %s", ([, text]) =>
    Effect.gen(function* () {
      const seen = yield* told(
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const ref = yield* Login.defer(payload("x"))
          const record = yield* ref.record
          const other = {
            ...record,
            id: queue.nextId(0, () => 0.5),
            payload: text,
            onDuplicate: "fail",
            tombstone: 0,
          } as const
          yield* queue.enqueue({ records: [other], now: 0 })
          yield* TestTasks.drain()
          yield* DeadLetters.redrive([other.id])
          yield* PullQueue.lease({ tasks: [Login], queue: "default", duration: "1 minute" })
          const dead = yield* queue.get({ ids: [other.id], now: 0 })
          assert.deepInclude(dead[0], { state: "dead", reason: "Undecodable" })
          yield* Effect.logError("not decoded", Exit.getCause(yield* Effect.exit(Login.payloadOf(other))))
        }),
      )
      assert.include(seen.text, "Undecodable")
      assertKept(seen.text)
    }),
  )

  it.effect("is not even in what is stored, when the queue encrypts", () =>
    Effect.gen(function* () {
      const keys = [{ id: "k1", key: Redacted.make(new Uint8Array(32).fill(1)) }]
      const codec = Layer.orDie(PayloadCodec.layer([PayloadCodec.encryption({ keys })]))
      const stored = Effect.gen(function* () {
        for (const how of ways) yield* Login.defer(payload(how))
        yield* TestTasks.drain({ advance: true })
        const queue = yield* TaskQueue
        const { records } = yield* queue.find({ limit: 100, now: 0 })
        assert.lengthOf(records, ways.length)
        assertKept(JSON.stringify(records))
        // In a queue that does not encrypt it is: for the handler.
        return yield* Effect.logInfo(JSON.stringify(records))
      })
      assertKept((yield* told(stored, codec)).text)
      const exit = yield* Effect.exit(told(stored))
      assert.isTrue(Exit.isFailure(exit))
    }),
  )

  it.effect("is told where a handler unwraps it: that is the handler's own", () =>
    Effect.gen(function* () {
      const seen = yield* told(Effect.logInfo(Redacted.value(payload("x").password)))
      assert.include(seen.text, "hunter2")
    }),
  )
})
