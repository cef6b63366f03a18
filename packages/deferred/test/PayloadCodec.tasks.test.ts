/** The codec where it is at work: between tasks and their queue. */
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import { DeferLimits } from "@outlive/deferred/DeferOptions"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import type { PayloadKey } from "@outlive/deferred/PayloadKeys"
import { deferredAsHeader, type Stage, StageError } from "@outlive/deferred/PayloadStage"
import * as PayloadStore from "@outlive/deferred/PayloadStore"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskAttempt from "@outlive/deferred/TaskAttempt"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import * as TaskNotes from "@outlive/deferred/TaskNotes"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { TaskRecord } from "@outlive/deferred/TaskRecord"
import { TaskDead } from "@outlive/deferred/TaskRef"
import * as TaskSchedule from "@outlive/deferred/TaskSchedule"
import * as TaskScheduler from "@outlive/deferred/TaskScheduler"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import * as Worker from "@outlive/deferred/Worker"
import { Context, Duration, Effect, Layer, Logger, Option, Redacted, Result, Schema } from "effect"
import { TestClock } from "effect/testing"

class Unpaid extends Schema.TaggedError<Unpaid>()("Unpaid", { iban: Schema.String }) {}
class Charge extends Task.make("Charge", {
  payload: { card: Schema.String, what: Schema.Literals(["pay", "refuse", "break"]) },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Unpaid,
  retry: { Unpaid: "never" },
}) {}

const card = "4111-secret-1111"
const keyOf = (id: string, fill: number): PayloadKey => ({ id, key: Redacted.make(new Uint8Array(32).fill(fill)) })
const key = keyOf("k1", 1)
const encrypted = (keys: ReadonlyArray<PayloadKey>, options?: Partial<PayloadCodec.EncryptionOptions>) =>
  PayloadCodec.layer([PayloadCodec.compression(), PayloadCodec.encryption({ keys, ...options })])

type Handler = (payload: typeof Charge.payload.Type, context: TaskContext["Service"]) => ReturnType<HandlerOf>
type HandlerOf = Parameters<typeof Charge.toLayer<never>>[0]
const charge: Handler = ({ card, what }) =>
  what === "pay"
    ? Effect.succeed({ receipt: `for ${card}` })
    : what === "refuse"
      ? Effect.fail(new Unpaid({ iban: card }))
      : Effect.die(new Error("the terminal broke"))
const handled = Charge.toLayer(charge)

/** Programs over one queue, each with a codec of its own. */
const overOneQueue = Effect.gen(function* () {
  const shared = yield* Layer.build(TestTasks.layerQueue)
  return <A, E>(
    codec: Layer.Layer<never, unknown>,
    effect: Effect.Effect<A, E, TestTasks.TestTasks | TestTasks.TestTaskQueue | TaskQueue>,
  ) => {
    const queue = Layer.effectContext(
      Effect.map(PayloadCodec.PayloadCodec, (codec) =>
        Context.add(shared, TaskQueue, { ...Context.get(shared, TaskQueue), codec }),
      ),
    )
    const app = TestTasks.layer({ tasks: [Charge], queue }).pipe(
      Layer.provide(handled),
      Layer.provide(Layer.orDie(codec)),
    )
    return Effect.provide(effect, app)
  }
})

const app = (codec: Layer.Layer<never, unknown>) =>
  TestTasks.layer({ tasks: [Charge] }).pipe(Layer.provide(handled), Layer.provide(Layer.orDie(codec)))

/** All that a queue has of a record, as text. */
const storedOf = (record: TaskRecord) =>
  Effect.gen(function* () {
    const [ledger] = yield* (yield* TaskQueue).ledger({ ids: [record.id] })
    return JSON.stringify([record, ledger])
  })

describe("a queue with a PayloadCodec", () => {
  it.effect("stores payloads and results encrypted, and everybody who has the queue reads them", () =>
    Effect.gen(function* () {
      const ref = yield* Charge.defer({ card, what: "pay" })
      const waiting = yield* ref.record
      assert.match(waiting.payload, /^\{"~outlive\/coded":"1 aes-256-gcm:k1 [A-Za-z0-9+/=]+"\}$/)
      assert.deepStrictEqual((yield* TestTasks.deferred(Charge))[0]?.payload, { card, what: "pay" })
      assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
      assert.deepStrictEqual(yield* ref.await, { receipt: `for ${card}` })
      const again = yield* Charge.ref(ref.id)
      assert.deepStrictEqual(yield* again.await, { receipt: `for ${card}` })
      const record = yield* ref.record
      assert.match(record.result ?? "", /^\{"~outlive\/coded":"1 aes-256-gcm:k1 /)
      assert.notInclude(yield* storedOf(record), "secret")
      assert.deepStrictEqual(yield* Charge.payloadOf(record), { card, what: "pay" })
      assert.deepStrictEqual(yield* Charge.loadPayload(record), { card, what: "pay" })
    }).pipe(Effect.provide(app(encrypted([key])))),
  )

  it.effect("stores what deferAll is given as it does the rest, each bound to its own record", () =>
    Effect.gen(function* () {
      const outcomes = yield* Charge.deferAll([
        { card: "secret 1", what: "pay" },
        { card: "secret 2", what: "pay" },
      ])
      const [first, second] = yield* TestTasks.deferred(Charge)
      assert.strictEqual(first?.payload.card, "secret 1")
      assert.strictEqual(second?.payload.card, "secret 2")
      const refs = outcomes.flatMap((each) => (each._tag === "Deferred" ? [each.ref] : []))
      const [one, other] = yield* Effect.forEach(refs, (ref) => ref.record)
      const moved = yield* Effect.flip(Charge.payloadOf({ ...one!, payload: other!.payload }))
      assert.match(moved.message, /^the payload does not open with the key k1: .* it belongs to another record/)
      for (const part of [{ id: undefined }, { task: undefined }, { task: "Other" }, { version: 2 }]) {
        const error = yield* Effect.flip(Charge.payloadOf({ ...one!, ...part } as TaskRecord))
        assert.strictEqual(error._tag, "Undecodable")
      }
    }).pipe(Effect.provide(app(encrypted([key])))),
  )

  it.effect("keeps the typed error of a dead record encrypted, and its tag and message readable", () =>
    Effect.gen(function* () {
      const ref = yield* Charge.defer({ card, what: "refuse" })
      yield* TestTasks.drain()
      const error = yield* Effect.flip(ref.await)
      assert.instanceOf(error, Unpaid)
      assert.strictEqual((error as Unpaid).iban, card)
      const record = yield* ref.record
      assert.include(record.result ?? "", "aes-256-gcm:k1")
      assert.notInclude(yield* storedOf(record), "secret")
      const [letter] = (yield* DeadLetters.of(Charge, { tag: "Unpaid" })).letters
      assert.deepStrictEqual(letter?.payload, Result.succeed({ card, what: "refuse" }))
      const broken = yield* Charge.defer({ card, what: "break" }, { retry: RetryPolicy.fixed(0, { maxAttempts: 1 }) })
      yield* TestTasks.drain({ advance: true })
      const dead = yield* Effect.flip(broken.await)
      assert.instanceOf(dead, TaskDead)
      assert.strictEqual((dead as TaskDead).detail, "the terminal broke")
    }).pipe(Effect.provide(app(encrypted([key])))),
  )

  it.effect("binds what was deferred with a name to the name, under whatever id it comes to be stored", () =>
    Effect.gen(function* () {
      yield* Charge.defer({ card: "secret 1", what: "pay" }, { name: "bill", delay: "1 minute" })
      const ref = yield* Charge.defer({ card: "secret 2", what: "pay" }, { name: "bill", onDuplicate: "replace" })
      assert.strictEqual(ref.outcome, "Replaced")
      const record = yield* ref.record
      assert.deepStrictEqual(yield* Charge.payloadOf(record), { card: "secret 2", what: "pay" })
      for (const other of [{ name: "other" }, { queue: "other" }, { name: undefined }]) {
        const error = yield* Effect.flip(Charge.payloadOf({ ...record, ...other }))
        assert.include(error.message, "does not open with the key k1")
      }
      const kept = { ...record, name: undefined, queue: "kept", headers: { [deferredAsHeader]: "default/bill" } }
      assert.deepStrictEqual(yield* Charge.payloadOf(kept), { card: "secret 2", what: "pay" })
      // The header frees nothing that is bound to an id.
      const unnamed = yield* Effect.flatMap(Charge.defer({ card, what: "pay" }), (each) => each.record)
      const headers = { [deferredAsHeader]: `id ${unnamed.id}` }
      assert.include((yield* Effect.flip(Charge.payloadOf({ ...unnamed, id: record.id, headers }))).message, "open")
      yield* TestTasks.drain()
      assert.deepStrictEqual(yield* ref.await, { receipt: "for secret 2" })
    }).pipe(Effect.provide(app(encrypted([key])))),
  )

  it.effect("runs what was deferred under an older name of the task", () => {
    const Older = Task.make("Bill", { payload: Charge.payload, success: Charge.success })
    const Renamed = Task.make("Charge", { payload: Charge.payload, success: Charge.success, aliases: ["Bill"] })
    return Effect.gen(function* () {
      const ref = yield* Older.defer({ card, what: "pay" })
      yield* TestTasks.drain()
      assert.deepStrictEqual(yield* ref.await, { receipt: "for 4111-secret-1111" })
      assert.deepStrictEqual((yield* TestTasks.deferred(Renamed, { states: "all" }))[0]?.payload.card, card)
    }).pipe(
      Effect.provide(
        TestTasks.layer({ tasks: [Renamed] }).pipe(
          Layer.provide(Renamed.toLayer(({ card }) => Effect.succeed({ receipt: `for ${card}` }))),
          Layer.provide(Layer.orDie(encrypted([key]))),
        ),
      ),
    )
  })

  it.effect("is read by who leases, and written by who settles what was leased", () =>
    Effect.gen(function* () {
      const refs = yield* Effect.forEach(["pay", "refuse"] as const, (what) => Charge.defer({ card, what }))
      const { leases } = yield* PullQueue.lease({ tasks: [Charge], queue: "default", duration: "1 minute", max: 10 })
      assert.deepStrictEqual(
        leases.map(({ payload }) => payload.card),
        [card, card],
      )
      yield* leases[0]!.succeed({ receipt: "a secret" })
      yield* leases[1]!.fail(new Unpaid({ iban: "a secret" }))
      assert.deepStrictEqual(yield* refs[0]!.await, { receipt: "a secret" })
      assert.instanceOf(yield* Effect.flip(refs[1]!.await), Unpaid)
      for (const ref of refs) assert.notInclude(yield* Effect.flatMap(ref.record, storedOf), "secret")
    }).pipe(Effect.provide(app(encrypted([key])))),
  )

  it.effect("puts large payloads apart as it stores them, and only if they are too large then", () => {
    const store = PayloadStore.makeMemory()
    return Effect.gen(function* () {
      const dense = Array.from(crypto.getRandomValues(new Uint8Array(400)), (n) => String.fromCharCode(33 + (n % 90)))
      const large = yield* Charge.defer({ card: `secret${dense.join("")}`, what: "pay" })
      const record = yield* large.record
      assert.deepInclude(record, { payload: "", payloadRef: large.id })
      assert.include(yield* store.get({ ref: large.id }), "aes-256-gcm:k1")
      const packed = yield* Charge.defer({ card: "secret".repeat(5000), what: "pay" })
      assert.include((yield* packed.record).payload, "deflate,aes-256-gcm:k1")
      yield* TestTasks.drain()
      assert.strictEqual((yield* large.await).receipt.length, 410)
      assert.strictEqual((yield* packed.await).receipt.length, 30_004)
    }).pipe(
      Effect.provideService(DeferLimits, { maxDelay: Duration.days(30), payloadLimit: 400 }),
      Effect.provide(app(encrypted([key])).pipe(Layer.provide(Layer.succeed(PayloadStore.PayloadStore, store)))),
    )
  })
})

describe("a task that commits with its handler", () => {
  it.effect("has its result stored by the codec of the queue, too", () => {
    const Commit = Task.make("Commit", { success: Schema.String, commit: "withHandler" })
    let committed = 0
    const Transactional = Layer.effect(
      TaskQueue,
      Effect.map(TaskQueue, (queue) =>
        TaskQueue.of({ ...queue, transaction: (effect) => Effect.tap(effect, () => Effect.sync(() => committed++)) }),
      ),
    ).pipe(Layer.provide(TaskQueueMemory.layer), Layer.provide(encrypted([key])))
    const App = Worker.layer({ tasks: [Commit] }).pipe(
      Layer.provide([Commit.toLayer(() => Effect.succeed("a secret")), Instance.layerBackend()]),
      Layer.provideMerge(Transactional),
    )
    return Effect.gen(function* () {
      const ref = yield* Commit.defer(undefined)
      assert.strictEqual(yield* ref.await, "a secret")
      assert.include((yield* ref.record).result, "aes-256-gcm:k1")
      assert.strictEqual(committed, 1)
    }).pipe(Effect.provide(App))
  })
})

describe("records that were stored with another codec", () => {
  const plain = Layer.empty
  const pay = Charge.defer({ card, what: "pay" })
  const drained = Effect.map(TestTasks.drain({ advance: true }), ({ counts }) => counts)

  it.effect("are run when they were stored without one, waiting and ended ones", () =>
    Effect.gen(function* () {
      const program = yield* overOneQueue
      const [ended, waiting] = yield* program(
        plain,
        Effect.gen(function* () {
          const first = yield* pay
          yield* TestTasks.drain()
          return [first.id, (yield* pay).id] as const
        }),
      )
      yield* program(
        encrypted([key]),
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* drained, { Succeed: 1 })
          for (const id of [ended, waiting]) {
            assert.deepStrictEqual(yield* Effect.flatMap(Charge.ref(id), (ref) => ref.await), {
              receipt: `for ${card}`,
            })
          }
        }),
      )
    }),
  )

  it.effect("are dead letters where there is none, with a sentence, and run when it is there again", () =>
    Effect.gen(function* () {
      const program = yield* overOneQueue
      const id = yield* program(
        encrypted([key]),
        Effect.map(pay, (ref) => ref.id),
      )
      yield* program(
        plain,
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* drained, { Bury: 1 })
          const ref = yield* Charge.ref(id)
          const record = yield* ref.record
          assert.deepInclude(record, { state: "dead", reason: "Undecodable", result: undefined })
          const message =
            "the payload was coded by aes-256-gcm:k1, and there is no PayloadCodec here: " +
            "provide PayloadCodec.layer with all of them to the layer of the queue"
          assert.deepInclude((yield* ref.attempts)[0]?.failure, { tag: "Undecodable", message })
          const [letter] = (yield* DeadLetters.of(Charge)).letters
          assert.strictEqual(letter && Result.isFailure(letter.payload) && letter.payload.failure.message, message)
          const { buried } = yield* Effect.andThen(
            DeadLetters.redrive([id]),
            PullQueue.lease({ tasks: [Charge], queue: "default", duration: "1 minute" }),
          )
          assert.deepStrictEqual(buried[0], { id, task: "Charge", reason: "Undecodable", message })
        }),
      )
      yield* program(
        encrypted([key]),
        Effect.gen(function* () {
          yield* DeadLetters.redrive([id])
          assert.deepStrictEqual(yield* drained, { Succeed: 1 })
        }),
      )
      const result = yield* program(plain, Effect.flip(Effect.flatMap(Charge.ref(id), (ref) => ref.await)))
      assert.strictEqual(result._tag, "SchemaError")
      assert.include(String(result), "the result was coded by aes-256-gcm:k1, and there is no PayloadCodec here")
    }),
  )

  it.effect("name the key that is not known, or is another one, and nothing of what they hold", () =>
    Effect.gen(function* () {
      const program = yield* overOneQueue
      const id = yield* program(
        encrypted([key]),
        Effect.map(pay, (ref) => ref.id),
      )
      const deadWith = (codec: Layer.Layer<never, unknown>) =>
        program(
          codec,
          Effect.gen(function* () {
            yield* DeadLetters.redrive([id])
            assert.deepStrictEqual(yield* drained, { Bury: 1 })
            const record = yield* Effect.flatMap(Charge.ref(id), (ref) => ref.record)
            assert.strictEqual(record.reason, "Undecodable")
            assert.notInclude(yield* storedOf(record), "secret")
            return JSON.parse(record.failure!).message as string
          }),
        )
      assert.strictEqual(
        yield* deadWith(encrypted([keyOf("k2", 2), keyOf("k3", 3)])),
        "the payload was encrypted with the key k1, and the keys known here are k2, k3: " +
          "add it to those of PayloadCodec.encryption",
      )
      assert.match(yield* deadWith(encrypted([keyOf("k1", 9)])), /^the payload does not open with the key k1: /)
    }),
  )

  it.effect("go on through a change of keys, step by step", () =>
    Effect.gen(function* () {
      const program = yield* overOneQueue
      const next = keyOf("k2", 2)
      const steps = [encrypted([key]), encrypted([key, next]), encrypted([next, key]), encrypted([next])]
      // Each deploy leaves a record to the next one, and the processes of two deploys run beside each other.
      for (const [index, codec] of steps.entries()) {
        const id = yield* program(
          codec,
          Effect.map(pay, (ref) => ref.id),
        )
        const [before, after] = [steps[index - 1], steps[index + 1]]
        if (index < 2)
          yield* program(
            after!,
            Effect.flatMap(
              Effect.flatMap(Charge.ref(id), (ref) => ref.record),
              Charge.loadPayload,
            ),
          )
        if (index > 0 && index < 3)
          yield* program(
            before!,
            Effect.flatMap(
              Effect.flatMap(Charge.ref(id), (ref) => ref.record),
              Charge.loadPayload,
            ),
          )
        assert.deepStrictEqual(yield* program(codec, drained), { Succeed: 1 })
      }
    }),
  )

  it.effect("are refused where encryption is required, whoever wrote them", () =>
    Effect.gen(function* () {
      const program = yield* overOneQueue
      const id = yield* program(
        plain,
        Effect.map(pay, (ref) => ref.id),
      )
      const record = yield* program(
        encrypted([key], { required: true }),
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* drained, { Bury: 1 })
          return yield* Effect.flatMap(Charge.ref(id), (ref) => ref.record)
        }),
      )
      assert.include(record.failure, "the payload was stored without aes-256-gcm, which is required here")
    }),
  )
})

describe("a payload that looks coded", () => {
  class Raw extends Task.make("Raw", {
    payload: Schema.Record(Schema.String, Schema.Json),
    success: Schema.Record(Schema.String, Schema.Json),
  }) {}
  const texts = ["1 - AAAA", "1 aes-256-gcm:k1 AAAA", "", "2 - x"]

  it.effect.each(
    texts.flatMap((text) => [
      [text, Layer.empty],
      [text, encrypted([key])],
    ]) as ReadonlyArray<readonly [string, Layer.Layer<never, unknown>]>,
  )("is a payload as any other: %s", ([text, codec]) =>
    Effect.gen(function* () {
      for (const payload of [{ "~outlive/coded": text }, { "~outlive/coded": text, more: 1 }]) {
        const ref = yield* Raw.defer(payload)
        assert.deepStrictEqual(yield* Effect.flatMap(ref.record, Raw.payloadOf), payload)
        yield* TestTasks.drain()
        assert.deepStrictEqual(yield* ref.await, payload)
      }
    }).pipe(
      Effect.provide(
        TestTasks.layer({ tasks: [Raw] }).pipe(
          Layer.provide(Raw.toLayer((payload) => Effect.succeed(payload))),
          Layer.provide(Layer.orDie(codec)),
        ),
      ),
    ),
  )
})

describe("without the queue", () => {
  it.effect("the codec of the context reads records, before that of a queue in it", () =>
    Effect.gen(function* () {
      const record = yield* Effect.gen(function* () {
        return yield* (yield* Charge.defer({ card, what: "pay" })).record
      }).pipe(Effect.provide(app(encrypted([key]))))
      const alone = yield* Effect.flip(Charge.payloadOf(record))
      assert.include(alone.message, "there is no PayloadCodec here")
      const read = Charge.payloadOf(record).pipe(Effect.provide(encrypted([key])))
      assert.deepStrictEqual(yield* read, { card, what: "pay" })
      assert.deepStrictEqual(yield* Effect.provide(read, app(encrypted([keyOf("other", 5)]))), { card, what: "pay" })
    }),
  )

  it.effect("attempts of what was given decode it and encode their results, for that record alone", () =>
    Effect.gen(function* () {
      const codec = encrypted([key])
      const program = yield* overOneQueue
      const record = yield* program(
        codec,
        Effect.flatMap(pay, (ref) => ref.record),
      )
      const run = yield* TaskAttempt.make({ tasks: [Charge], worker: "endpoint" }).pipe(
        Effect.provide(handled),
        Effect.provide(codec),
      )
      const given: TaskAttempt.Given = {
        ...record,
        attempt: 1,
        firstAttemptAt: 0,
        previousFailure: undefined,
        until: 60_000,
      }
      const { outcome, result } = yield* run(given).ended
      assert.strictEqual(outcome._tag, "Succeeded")
      assert.include(result, "aes-256-gcm:k1")
      const other = yield* program(
        codec,
        Effect.map(pay, (ref) => ref.id),
      )
      const moved = yield* run({ ...given, id: other }).ended
      assert.deepInclude(moved.outcome, { _tag: "Dead", reason: "Undecodable" })
      // The sender settles with what it was answered, and knows nothing of the content.
      yield* program(
        Layer.empty,
        Effect.gen(function* () {
          const queue = yield* TaskQueue
          const [claimed] = (yield* queue.claim({
            queues: [{ name: "default", limit: 1 }],
            tasks: [{ name: "Charge", maxVersion: 1 }],
            targets: [],
            lease: 1000,
            worker: "dispatcher",
            now: 0,
          })).records
          assert.strictEqual(claimed?.id, record.id)
          yield* queue.settle({ settlements: [{ ...claimed!, _tag: "Succeed", result }], now: 0 } as never)
        }),
      )
      const ref = program(
        codec,
        Effect.flatMap(Charge.ref(record.id), (ref) => ref.await),
      )
      assert.deepStrictEqual(yield* ref, { receipt: `for ${card}` })
    }),
  )
  const pay = Charge.defer({ card, what: "pay" })
})

describe("a stage that cannot", () => {
  const failing = (when: "payload" | "result"): Stage => ({
    name: "failing",
    encode: (body, { part }) =>
      part === when ? Effect.fail(new StageError({ reason: "was not taken" })) : Effect.succeed({ body }),
    decode: (body) => Effect.succeed(body),
  })

  it.effect("fails who defers, and stores nothing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Charge.defer({ card, what: "pay" }))
      assert.deepInclude(error, { _tag: "TaskQueueError", operation: "codec.encode", isRetryable: false })
      assert.strictEqual(error.message, "the payload of task Charge was not taken")
      assert.deepStrictEqual(yield* TestTasks.deferred(Charge, { states: "all" }), [])
    }).pipe(Effect.provide(app(PayloadCodec.layer([failing("payload")])))),
  )

  it.effect("fails the attempt whose result it does not take, which is tried again", () =>
    Effect.gen(function* () {
      const ref = yield* Charge.defer({ card, what: "pay" })
      const { ran } = yield* TestTasks.drain()
      const [{ outcome } = { outcome: undefined }] = ran
      assert.strictEqual(outcome?._tag, "Retry")
      const [attempt] = yield* ref.attempts
      assert.deepInclude(attempt?.failure, { kind: "defect", message: "the result of task Charge was not taken" })
    }).pipe(Effect.provide(app(PayloadCodec.layer([failing("result")])))),
  )
})

describe("notes in a queue with a codec", () => {
  const Order = Task.make("Order", { success: Schema.Json, retry: RetryPolicy.fixed("1 second") })
  const receipts = [{ receipt: "secret" }, { "~outlive/coded": "1 - AAAA" }]

  it.effect.each([
    ["none", Layer.empty, ""],
    ["encryption", encrypted([key]), "aes-256-gcm:k1"],
  ] as ReadonlyArray<readonly [string, Layer.Layer<never, unknown>, string]>)(
    "are given to the next attempt, and are not in the record as they are: %s",
    ([, codec, step]) => {
      let charged = 0
      const handler = Order.toLayer((_, { attempt, progress }) =>
        Effect.gen(function* () {
          yield* progress({ done: attempt })
          const values: Array<Schema.Json> = []
          for (const [index, receipt] of receipts.entries()) {
            const charge = Effect.sync(() => {
              charged++
              return receipt as Schema.Json
            })
            values.push(yield* TaskNotes.step(`charge ${index}`, Schema.Json, charge))
          }
          const checkpoint = TaskNotes.checkpoint(Schema.String)
          const before = yield* checkpoint.get
          yield* checkpoint.set(`after the secret ${attempt}`)
          if (attempt < 3) return yield* Effect.die(new Error("the shop is closed"))
          return [...values, Option.getOrThrow(before)]
        }).pipe(Effect.orDie),
      )
      const app = TestTasks.layer({ tasks: [Order] }).pipe(Layer.provide(handler), Layer.provide(Layer.orDie(codec)))
      return Effect.gen(function* () {
        const ref = yield* Order.defer(undefined)
        yield* TestTasks.runNext
        const { progress } = yield* ref.record
        const kept = JSON.parse(progress!)
        assert.deepInclude(kept, { done: 1 })
        assert.lengthOf(Object.keys(kept.notes), 3)
        for (const note of Object.values(kept.notes)) assert.include(JSON.stringify(note), step)
        if (step !== "") assert.notInclude(progress, "secret")
        yield* TestTasks.drain({ advance: true })
        assert.deepStrictEqual(yield* ref.await, [...receipts, "after the secret 2"])
        assert.strictEqual(charged, receipts.length)
      }).pipe(Effect.provide(app))
    },
  )

  const noteIn = ({ progress }: TaskRecord): string => JSON.parse(progress!).notes["step charge"]["~outlive/coded"]
  it.effect("that cannot be read are left out, with a warning that names the key and not the content", () =>
    Effect.gen(function* () {
      const lines: Array<unknown> = []
      const logger = Logger.make(({ message }) => void lines.push(message))
      const handler = Order.toLayer((_, { attempt }) =>
        Effect.gen(function* () {
          const charge = Effect.succeed(`secret ${attempt}`)
          const value = yield* TaskNotes.step("charge", Schema.String, charge)
          return attempt < 2 ? yield* Effect.die(new Error("closed")) : value
        }).pipe(Effect.orDie),
      )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const refs = [yield* Order.defer(undefined), yield* Order.defer(undefined)]
        yield* TestTasks.drain()
        const [one, other] = yield* Effect.forEach(refs, (ref) => ref.record)
        // The note of one record in the place of the other's.
        const progress = one!.progress!.replace(noteIn(one!), noteIn(other!))
        const params = { tasks: [{ name: "Order", maxVersion: 1 }], targets: [], lease: 1000, worker: "thief" }
        yield* TestClock.adjust("1 second")
        const { records } = yield* queue.claim({ ...params, queues: [{ name: "default", limit: 1 }], now: 1000 })
        const [claimed] = records
        assert.strictEqual(claimed?.id, one!.id)
        const moved = { id: claimed!.id, token: claimed!.token, progress }
        yield* queue.progress({ updates: [moved], now: 1000 })
        yield* queue.settle({ settlements: [{ id: moved.id, token: moved.token, _tag: "Release" }], now: 1000 })
        yield* TestTasks.drain()
        assert.strictEqual(yield* refs[0]!.await, "secret 2")
        assert.strictEqual(yield* refs[1]!.await, "secret 1")
      }).pipe(
        Effect.provide(
          TestTasks.layer({ tasks: [Order] }).pipe(
            Layer.provide(handler),
            Layer.provide(Layer.orDie(encrypted([key]))),
          ),
        ),
        Effect.provide(Logger.layer([logger])),
      )
      const told = lines.map((line) => JSON.stringify(line)).filter((line) => line.includes("does not decode"))
      assert.deepStrictEqual(told, ['["the note step charge does not decode any more and is left out"]'])
      assert.notInclude(JSON.stringify(lines), "secret")
    }),
  )
})

describe("schedules in a queue with a codec", () => {
  it.effect("are found, paused and kept to", () =>
    Effect.gen(function* () {
      const schedule = TaskSchedule.make("charges", Charge, {
        every: "1 minute",
        payload: () => ({ card, what: "pay" as const }),
      })
      yield* Layer.build(TaskScheduler.layer({ schedules: [schedule] }))
      const until = <A, E, R>(look: Effect.Effect<ReadonlyArray<A>, E, R>) =>
        Effect.repeat(
          Effect.andThen(
            Effect.promise(() => new Promise(setImmediate)),
            look,
          ),
          {
            until: (found) => found.length > 0,
          },
        )
      const [listed] = yield* until(TaskScheduler.list)
      assert.strictEqual(listed?.name, "charges")
      const queue = yield* TaskQueue
      const find = Effect.map(queue.find({ limit: 10, now: 0 }), ({ records }) => records)
      assert.include((yield* find)[0]?.payload, "aes-256-gcm:k1")
      yield* TestClock.adjust("1 minute")
      const charges = yield* until(Effect.map(find, (records) => records.filter(({ task }) => task === "Charge")))
      assert.include(charges[0]?.payload, "aes-256-gcm:k1")
      assert.strictEqual((yield* Charge.loadPayload(charges[0]!)).card, card)
      yield* TaskScheduler.pause("charges")
      assert.isTrue((yield* TaskScheduler.list)[0]?.paused)
    }).pipe(
      Effect.provide(TaskQueueMemory.layer.pipe(Layer.provide(encrypted([key])))),
      Effect.provide(Instance.layerBackend()),
    ),
  )
})

describe("a codec beside a queue that has none", () => {
  /** Built where there is no codec. */
  const bare = Layer.effectContext(
    Effect.flatMap(Layer.build(TestTasks.layerQueue), (built) =>
      Effect.succeed(Context.add(built, TaskQueue, { ...Context.get(built, TaskQueue), codec: undefined })),
    ),
  )

  it.effect("is that of all who have both", () =>
    Effect.gen(function* () {
      const ref = yield* Charge.defer({ card, what: "pay" })
      const record = yield* ref.record
      assert.include(record.payload, "aes-256-gcm:k1")
      assert.deepStrictEqual(yield* ref.await, { receipt: `for ${card}` })
      assert.deepStrictEqual(yield* (yield* Charge.ref(ref.id)).await, { receipt: `for ${card}` })
      assert.include((yield* ref.record).result, "aes-256-gcm:k1")
      assert.strictEqual((yield* Charge.loadPayload(record)).card, card)
      yield* Charge.defer({ card, what: "pay" }, { queue: "pulled" })
      const { leases } = yield* PullQueue.lease({ tasks: [Charge], queue: "pulled", duration: "1 minute" })
      assert.strictEqual(leases[0]?.payload.card, card)
    }).pipe(
      Effect.provide(
        Worker.layer({ tasks: [Charge] }).pipe(
          Layer.provide([handled, Instance.layerBackend()]),
          Layer.provideMerge(Layer.merge(Layer.fresh(TaskQueueMemory.layer), encrypted([key]))),
        ),
      ),
    ),
  )

  it.effect("is that of its tests", () =>
    Effect.gen(function* () {
      yield* Charge.defer({ card, what: "pay" })
      assert.deepStrictEqual((yield* TestTasks.drain()).counts, { Succeed: 1 })
      assert.strictEqual((yield* TestTasks.deferred(Charge, { states: "all" }))[0]?.payload.card, card)
    }).pipe(
      Effect.provide(
        TestTasks.layer({ tasks: [Charge], queue: bare }).pipe(
          Layer.provide(handled),
          Layer.provideMerge(Layer.orDie(encrypted([key]))),
        ),
      ),
    ),
  )
})

describe("TaskQueueMemory with a codec", () => {
  it.effect("has it from where its layer is built, and not from who defers", () =>
    Effect.gen(function* () {
      const ref = yield* Charge.defer({ card, what: "pay" }).pipe(Effect.provide(encrypted([keyOf("other", 5)])))
      assert.include((yield* ref.record).payload, "aes-256-gcm:k1")
    }).pipe(Effect.provide(TaskQueueMemory.layer.pipe(Layer.provide(encrypted([key]))))),
  )
})
