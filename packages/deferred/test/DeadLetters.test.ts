import { assert, describe, it } from "@effect/vitest"
import { InvalidDeadLetterFilter } from "@outlive/deferred/DeadLetterFilter"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import * as Task from "@outlive/deferred/Task"
import { TaskId } from "@outlive/deferred/TaskId"
import { type Settlement, TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { DeadReason } from "@outlive/deferred/TaskRecord"
import { DateTime, Duration, Effect, Layer, Option, Result, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Mail extends Task.make("Mail", { payload: { to: Schema.String }, queue: "mail", aliases: ["Letter"] }) {}
const Letter = Task.make("Letter", { payload: { to: Schema.String }, queue: "mail" })
const Resize = Task.make("Resize", { payload: { width: Schema.Int }, queue: "images" })
const memory = Layer.fresh(TaskQueueMemory.layer)
const nobody = TaskId.make("00000000-0000-7000-8000-000000000000")
const hour = 3_600_000

/** Claims everything that is ready and ends every attempt so. */
const settleAll = (settlement: Buried | { readonly _tag: "Succeed"; readonly result: undefined }) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const { records } = yield* queue.claim({
      queues: ["mail", "images"].map((name) => ({ name, limit: 5000 })),
      tasks: ["Mail", "Letter", "Resize"].map((name) => ({ name, maxVersion: 1 })),
      targets: [],
      lease: 1000,
      worker: "w",
      now,
    })
    yield* queue.settle({
      settlements: records.map(({ attempt, id, token }): Settlement => {
        if (settlement._tag === "Succeed") return { id, token, ...settlement }
        const { reason, tag } = settlement
        const failure = { attempt, at: now, kind: "failure", tag, message: `${tag} happened` }
        return {
          id,
          token,
          _tag: "Bury",
          reason,
          result: undefined,
          failure: tag === undefined ? undefined : JSON.stringify(failure),
        }
      }),
      now,
    })
    return records.map(({ id }) => id)
  })
type Buried = { readonly _tag: "Bury"; readonly reason: DeadReason; readonly tag: string | undefined }
const buryAll = (reason: DeadReason, tag?: string) => settleAll({ _tag: "Bury", reason, tag })
const ids = (letters: ReadonlyArray<DeadLetters.DeadLetter>) => letters.map(({ id }) => id)
const stateOf = (id: TaskId) =>
  Effect.flatMap(TaskQueue, (queue) =>
    Effect.map(queue.get({ ids: [id], now: Number.MAX_SAFE_INTEGER }), ([record]) => record?.state),
  )

/** Three dead letters an hour apart, one by each task, and a record that waits. */
const three = Effect.gen(function* () {
  const mail = yield* Mail.defer({ to: "ada" })
  yield* buryAll("RetriesExhausted", "MailBusy")
  yield* TestClock.adjust("1 hour")
  const letter = yield* Letter.defer({ to: "bob" })
  yield* buryAll("PermanentFailure", "MailRejected")
  yield* TestClock.adjust("1 hour")
  const resize = yield* Resize.defer({ width: 1 })
  yield* buryAll("Undecodable", "Undecodable")
  const waiting = yield* Mail.defer({ to: "eve" })
  return { mail: mail.id, letter: letter.id, resize: resize.id, waiting: waiting.id }
})

describe("DeadLetters.find", () => {
  it.effect("gives dead letters as data, with their last failure and a sentence that says why", () =>
    Effect.gen(function* () {
      const { mail } = yield* three
      const { letters } = yield* DeadLetters.find({ reason: "RetriesExhausted" })
      assert.strictEqual(letters.length, 1)
      const [letter] = letters
      assert.deepInclude(letter, { id: mail, queue: "mail", task: "Mail", reason: "RetriesExhausted" })
      assert.strictEqual(letter!.endedAt.epochMilliseconds, 0)
      const failure = { attempt: 1, at: 0, kind: "failure" as const, tag: "MailBusy", message: "MailBusy happened" }
      assert.deepStrictEqual(letter!.failure, Option.some(failure))
      assert.strictEqual(
        letter!.sentence,
        `task Mail ${mail} of queue mail is dead since 1970-01-01T00:00:00.000Z: attempt 1 failed, and its retry policy ` +
          "allows no other; MailBusy: MailBusy happened",
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("narrows by each of its fields, by several together, and gives all without any", () =>
    Effect.gen(function* () {
      const { letter, mail, resize } = yield* three
      const found = (filter: DeadLetters.FindOptions) =>
        Effect.map(DeadLetters.find(filter), (page) => ids(page.letters))
      assert.deepStrictEqual(yield* found({}), [mail, letter, resize])
      assert.deepStrictEqual(yield* found({ queue: "mail" }), [mail, letter])
      assert.deepStrictEqual(yield* found({ task: "Mail" }), [mail])
      assert.deepStrictEqual(yield* found({ reason: "PermanentFailure" }), [letter])
      assert.deepStrictEqual(yield* found({ tag: "Undecodable" }), [resize])
      assert.deepStrictEqual(yield* found({ queue: "mail", tag: "MailBusy" }), [mail])
      assert.deepStrictEqual(yield* found({ queue: "images", tag: "MailBusy" }), [])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("takes a task with its aliases, and a name alone", () =>
    Effect.gen(function* () {
      const { letter, mail } = yield* three
      assert.deepStrictEqual(ids((yield* DeadLetters.find({ task: Mail })).letters), [mail, letter])
      assert.deepStrictEqual(ids((yield* DeadLetters.find({ task: Letter })).letters), [letter])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("takes times as dates or ago: endedAfter holds its moment, endedBefore does not", () =>
    Effect.gen(function* () {
      const { letter, mail, resize } = yield* three
      const found = (filter: DeadLetters.FindOptions) =>
        Effect.map(DeadLetters.find(filter), (page) => ids(page.letters))
      // It is two hours past now.
      const at = (millis: number) => DateTime.makeUnsafe(millis)
      assert.deepStrictEqual(yield* found({ endedAfter: at(hour) }), [letter, resize])
      assert.deepStrictEqual(yield* found({ endedAfter: at(hour + 1) }), [resize])
      assert.deepStrictEqual(yield* found({ endedBefore: at(hour) }), [mail])
      assert.deepStrictEqual(yield* found({ endedBefore: at(hour + 1) }), [mail, letter])
      assert.deepStrictEqual(yield* found({ endedAfter: "1 hour" }), [letter, resize])
      assert.deepStrictEqual(yield* found({ endedAfter: "59 minutes" }), [resize])
      assert.deepStrictEqual(yield* found({ endedBefore: Duration.hours(1) }), [mail])
      assert.deepStrictEqual(yield* found({ endedAfter: "2 hours", endedBefore: "30 minutes" }), [mail, letter])
      assert.deepStrictEqual(yield* found({ endedAfter: { weeks: 1e12 } }), [mail, letter, resize])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("pages through everything once, also from one name of a task to the next", () =>
    Effect.gen(function* () {
      const letters = yield* Letter.deferAll([1, 2, 3].map((n) => ({ to: `${n}` })))
      const mails = yield* Mail.deferAll([4, 5, 6, 7].map((n) => ({ to: `${n}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      const refs = [...mails, ...letters].flatMap((each) => (each._tag === "Deferred" ? [each.ref.id] : []))
      for (const limit of [1, 2, 3, 4, 7, 8]) {
        const found: Array<TaskId> = []
        let cursor: string | undefined
        do {
          const page = yield* DeadLetters.find({ task: Mail, limit, cursor })
          assert.isAtMost(page.letters.length, limit)
          found.push(...ids(page.letters))
          cursor = page.cursor
        } while (cursor !== undefined)
        assert.deepStrictEqual(found, refs)
      }
    }).pipe(Effect.provide(memory)),
  )

  it.effect.each([
    ["limit", { limit: 0 }],
    ["limit", { limit: 1001 }],
    ["limit", { limit: 1.5 }],
    ["limit", { limit: Number.NaN }],
    ["cursor", { cursor: "x" }],
    ["cursor", { cursor: "1:5" }],
    ["endedAfter", { endedAfter: Duration.infinity }],
    ["endedAfter", { endedAfter: "soon" as never }],
    ["endedBefore", { endedBefore: "Infinity" }],
  ] as const)("refuses an invalid %s: %o", ([field, options]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(DeadLetters.find(options))
      assert.instanceOf(error, InvalidDeadLetterFilter)
      assert.strictEqual((error as InvalidDeadLetterFilter).field, field)
      assert.include(error.message, field)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("says of every reason why the record is dead", () =>
    Effect.gen(function* () {
      const expiring = yield* Resize.defer({ width: 1 }, { queue: "slow", expires: "1 second" })
      yield* TestClock.adjust("1 second")
      const sentences: Record<string, string> = {
        PermanentFailure: "trying again does not mend; Broken: Broken happened",
        RetriesExhausted: "its retry policy allows no other; Broken: Broken happened",
        Undecodable: "its payload, of version 1, does not decode",
        UnknownTask: "nobody knows its task",
        Crashed: "its lease expired 0 times, and 3 are allowed",
        PayloadMissing: "its payload was stored apart, and is gone",
      }
      for (const reason of Object.keys(sentences)) {
        yield* Mail.defer({ to: reason })
        yield* buryAll(reason as DeadReason, "Broken")
        const { letters } = yield* DeadLetters.find({ queue: "mail", reason: reason as DeadReason })
        assert.include(letters[0]?.sentence, sentences[reason])
      }
      const { letters } = yield* DeadLetters.find({ queue: "slow" })
      assert.deepStrictEqual(ids(letters), [expiring.id])
      assert.include(
        letters[0]?.sentence,
        "nobody had started it when its time was over since 1970-01-01T00:00:01.000Z",
      )
      assert.isTrue(Option.isNone(letters[0]!.failure))
    }).pipe(Effect.provide(memory)),
  )

  it.effect("shows a failure that no worker wrote as it is", () =>
    Effect.gen(function* () {
      yield* Mail.defer({ to: "ada" })
      const queue = yield* TaskQueue
      const { records } = yield* queue.claim({
        queues: [{ name: "mail", limit: 1 }],
        tasks: [{ name: "Mail", maxVersion: 1 }],
        targets: [],
        lease: 1,
        worker: "w",
        now: 0,
      })
      const { id, token } = records[0]!
      const bury = { _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: `["by hand"]` } as const
      yield* queue.settle({ settlements: [{ id, token, ...bury }], now: 0 })
      const { letters } = yield* DeadLetters.find()
      assert.isTrue(Option.isNone(letters[0]!.failure))
      assert.include(letters[0]!.sentence, `; its last failure is noted as ["by hand"]`)
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.of", () => {
  it.effect("types the payloads, and tells one that does not decode in its own letter", () =>
    Effect.gen(function* () {
      const Old = Task.make("Mail", { payload: { address: Schema.String }, queue: "mail" })
      yield* Old.defer({ address: "ada" })
      yield* Letter.defer({ to: "bob" })
      yield* buryAll("RetriesExhausted", "MailBusy")
      const { letters } = yield* DeadLetters.of(Mail, { reason: "RetriesExhausted" })
      const told = letters.map(({ payload, task }) =>
        Result.match(payload, {
          onSuccess: ({ to }) => [task, to satisfies string],
          onFailure: (error) => [task, error._tag satisfies "Undecodable" | "PayloadMissing"],
        }),
      )
      assert.deepStrictEqual(told, [
        ["Mail", "Undecodable"],
        ["Letter", "bob"],
      ])
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.stream", () => {
  it.effect("gives all of them, over as many pages as there are", () =>
    Effect.gen(function* () {
      const deferred = yield* Mail.deferAll(Array.from({ length: 250 }, (_, index) => ({ to: `${index}` })))
      yield* Resize.defer({ width: 1 })
      yield* buryAll("RetriesExhausted", "MailBusy")
      const all = yield* Stream.runCollect(DeadLetters.stream({ queue: "mail" }))
      assert.strictEqual(deferred.length, 250)
      assert.deepStrictEqual(
        ids(all),
        deferred.flatMap((each) => (each._tag === "Deferred" ? [each.ref.id] : [])),
      )
      const typed = yield* Stream.runCollect(DeadLetters.streamOf(Mail))
      assert.deepStrictEqual(
        typed.map(({ payload }) => Result.getOrThrow(payload).to),
        Array.from({ length: 250 }, (_, index) => `${index}`),
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("counts a time ago from its beginning, however long it is read", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 101 }, (_, index) => ({ to: `${index}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      yield* TestClock.adjust("1 hour")
      const read = DeadLetters.stream({ endedAfter: "1 hour" }).pipe(
        Stream.tap(() => TestClock.adjust("1 second")),
        Stream.runCount,
      )
      assert.strictEqual(yield* read, 101)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("fails with an invalid filter when it is run", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Stream.runDrain(DeadLetters.stream({ endedAfter: Duration.infinity })))
      assert.strictEqual(error._tag, "InvalidDeadLetterFilter")
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.counts", () => {
  it.effect("counts by queue, task, reason and tag, the largest first", () =>
    Effect.gen(function* () {
      yield* Letter.deferAll([1, 2].map((n) => ({ to: `${n}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      yield* Mail.deferAll([1, 2, 3].map((n) => ({ to: `${n}` })))
      yield* Resize.defer({ width: 1 })
      yield* buryAll("PermanentFailure", "Broken")
      yield* Mail.defer({ to: "waits" })
      assert.deepStrictEqual(yield* DeadLetters.counts(), [
        { queue: "mail", task: "Mail", reason: "PermanentFailure", tag: "Broken", count: 3 },
        { queue: "mail", task: "Letter", reason: "RetriesExhausted", tag: "MailBusy", count: 2 },
        { queue: "images", task: "Resize", reason: "PermanentFailure", tag: "Broken", count: 1 },
      ])
      const ofMail = yield* DeadLetters.counts({ task: Mail, tag: "MailBusy" })
      assert.deepStrictEqual(
        ofMail.map(({ count, task }) => [task, count]),
        [["Letter", 2]],
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("gives counts that are filters", () =>
    Effect.gen(function* () {
      const { letter } = yield* three
      const letters = (yield* DeadLetters.counts()).find(({ task }) => task === "Letter")
      assert.deepStrictEqual(yield* DeadLetters.redrive(letters!), { redriven: 1, notDead: [], notFound: [] })
      assert.strictEqual(yield* stateOf(letter), "ready")
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.redrive", () => {
  it.effect("makes one ready again, and keeps its ledger and its last failure", () =>
    Effect.gen(function* () {
      const { mail } = yield* three
      assert.deepStrictEqual(yield* DeadLetters.redrive(mail), { redriven: 1, notDead: [], notFound: [] })
      const queue = yield* TaskQueue
      const [record] = yield* queue.get({ ids: [mail], now: 3 * hour })
      assert.deepInclude(record, { state: "ready", attempt: 0, eta: 2 * hour, reason: undefined })
      assert.include(record?.failure, "MailBusy")
      const [ledger] = yield* queue.ledger({ ids: [mail] })
      assert.deepStrictEqual(
        ledger?.map(({ outcome }) => outcome),
        ["Bury"],
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("tells apart what is not dead and what is not there, and counts an id once", () =>
    Effect.gen(function* () {
      const { letter, mail, waiting } = yield* three
      assert.deepStrictEqual(yield* DeadLetters.redrive([mail, waiting, nobody, letter, mail]), {
        redriven: 2,
        notDead: [waiting],
        notFound: [nobody],
      })
      assert.deepStrictEqual(yield* DeadLetters.redrive(new Set<TaskId>()), { redriven: 0, notDead: [], notFound: [] })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("redrives by filter, in batches, and leaves the others dead", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 1234 }, (_, index) => ({ to: `${index}` })))
      const resize = yield* Resize.defer({ width: 1 })
      yield* buryAll("RetriesExhausted", "MailBusy")
      const { queue, sizes } = yield* counting
      const report = yield* Effect.provideService(
        DeadLetters.redrive({ tag: "MailBusy", queue: "mail" }),
        TaskQueue,
        queue,
      )
      assert.deepStrictEqual(report, { redriven: 1234, notDead: [], notFound: [] })
      assert.deepStrictEqual(sizes, [500, 500, 234])
      assert.strictEqual(yield* resize.state, "dead")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("goes on no longer than its limit", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 600 }, (_, index) => ({ to: `${index}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      assert.strictEqual((yield* DeadLetters.redrive("all", { limit: 2 })).redriven, 2)
      assert.strictEqual((yield* DeadLetters.redrive({ task: Mail }, { limit: 501 })).redriven, 501)
      assert.strictEqual((yield* DeadLetters.redrive("all")).redriven, 97)
      const error = yield* Effect.flip(DeadLetters.redrive("all", { limit: 0 }))
      assert.deepInclude(error, { _tag: "InvalidDeadLetterFilter", field: "limit" })
    }).pipe(Effect.provide(memory)),
  )

  /** A queue on which whatever is redriven dies at once, nobody having mended it, and a new record with it. */
  const deadly = (millis: number) =>
    Effect.map(TaskQueue, (queue) =>
      TaskQueue.of({
        ...queue,
        redrive: (params) =>
          Effect.gen(function* () {
            const outcomes = yield* queue.redrive(params)
            yield* TestClock.adjust(millis)
            yield* Effect.orDie(Mail.defer({ to: "new" }))
            yield* buryAll("RetriesExhausted", "MailBusy")
            return outcomes
          }).pipe(Effect.provideService(TaskQueue, queue)),
      }),
    )

  it.effect.each([0, 1])("redrives nothing in a circle: what dies again meanwhile stays dead, after %i ms", (millis) =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 700 }, (_, index) => ({ to: `${index}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      const queue = yield* deadly(millis)
      const report = yield* Effect.provideService(DeadLetters.redrive("all"), TaskQueue, queue)
      // What dies for the first time in the millisecond in which it began is met, what dies later is not.
      assert.deepStrictEqual(report, { redriven: millis === 0 ? 701 : 700, notDead: [], notFound: [] })
      const counts = yield* DeadLetters.counts()
      assert.deepStrictEqual(
        counts.map(({ count }) => count),
        [702],
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("refuses a filter that says nothing, unless it is said: all", () =>
    Effect.gen(function* () {
      yield* three
      const tenant: string | undefined = undefined
      for (const act of [DeadLetters.redrive({ queue: tenant }), DeadLetters.remove({ queue: tenant })]) {
        const error = yield* Effect.flip<unknown, InvalidDeadLetterFilter | TaskQueueError, TaskQueue>(act)
        assert.deepInclude(error, { _tag: "InvalidDeadLetterFilter", field: "filter" })
        assert.include(error.message, `say "all"`)
      }
      assert.strictEqual((yield* DeadLetters.find()).letters.length, 3)
      assert.strictEqual((yield* DeadLetters.redrive("all")).redriven, 3)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("leaves what was redriven so when the queue fails, and says that it failed", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 600 }, (_, index) => ({ to: `${index}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      const queue = yield* TaskQueue
      let calls = 0
      const failure = new TaskQueueError({ operation: "redrive", message: "gone", isRetryable: true })
      const failing = TaskQueue.of({
        ...queue,
        redrive: (params) => (++calls === 2 ? Effect.fail(failure) : queue.redrive(params)),
      })
      const error = yield* Effect.flip(Effect.provideService(DeadLetters.redrive("all"), TaskQueue, failing))
      assert.strictEqual(error, failure)
      assert.deepStrictEqual((yield* DeadLetters.redrive("all")).redriven, 100)
    }).pipe(Effect.provide(memory)),
  )
})

/** The queue, and how many ids each redrive was given. */
const counting = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const sizes: Array<number> = []
  return {
    sizes,
    queue: TaskQueue.of({
      ...queue,
      redrive: (params) => {
        sizes.push(params.ids.length)
        return queue.redrive(params)
      },
    }),
  }
})

describe("DeadLetters.remove", () => {
  it.effect("deletes dead letters, and nothing that lives", () =>
    Effect.gen(function* () {
      const { letter, mail, resize, waiting } = yield* three
      const done = yield* Mail.defer({ to: "done" }, { priority: 1 })
      yield* settleAll({ _tag: "Succeed", result: undefined })
      const later = yield* Mail.defer({ to: "later" }, { delay: "1 hour" })
      assert.deepStrictEqual(yield* DeadLetters.remove([mail, later.id, nobody, done.id, letter, waiting]), {
        removed: 2,
        notDead: [later.id, done.id, waiting],
        notFound: [nobody],
      })
      assert.deepStrictEqual(ids((yield* DeadLetters.find()).letters), [resize])
      assert.strictEqual(yield* later.state, "scheduled")
      assert.strictEqual(yield* done.state, "succeeded")
      assert.deepStrictEqual(yield* DeadLetters.remove(mail), { removed: 0, notDead: [], notFound: [mail] })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("deletes by filter, in batches", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 1001 }, (_, index) => ({ to: `${index}` })))
      const resize = yield* Resize.defer({ width: 1 })
      yield* buryAll("RetriesExhausted", "MailBusy")
      assert.deepStrictEqual(yield* DeadLetters.remove({ task: Mail }), { removed: 1001, notDead: [], notFound: [] })
      assert.deepStrictEqual(ids((yield* DeadLetters.find()).letters), [resize.id])
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.remove beside somebody who redrives", () => {
  it.effect("leaves what was redriven since it was found", () =>
    Effect.gen(function* () {
      const { mail, letter } = yield* three
      const queue = yield* TaskQueue
      const late = TaskQueue.of({
        ...queue,
        remove: (params) => Effect.andThen(queue.redrive({ ids: [mail], now: 3 * hour }), queue.remove(params)),
      })
      const removed = DeadLetters.remove({ queue: "mail" }).pipe(Effect.provideService(TaskQueue, late))
      assert.deepStrictEqual(yield* removed, { removed: 1, notDead: [mail], notFound: [] })
      assert.strictEqual(yield* stateOf(mail), "ready")
      assert.isUndefined(yield* stateOf(letter))
    }).pipe(Effect.provide(memory)),
  )
})

describe("DeadLetters.prune", () => {
  it.effect("deletes what has been dead for longer, and counts only dead letters", () =>
    Effect.gen(function* () {
      const Brief = Task.make("Letter", { payload: { to: Schema.String }, queue: "mail", keep: "1 second" })
      yield* Brief.deferAll([1, 2, 3].map((n) => ({ to: `${n}` })))
      yield* settleAll({ _tag: "Succeed", result: undefined })
      const { letter, resize } = yield* three
      assert.strictEqual(yield* DeadLetters.prune({ olderThan: "1 hour" }), 1)
      assert.deepStrictEqual(ids((yield* DeadLetters.find()).letters), [letter, resize])
      const queue = yield* TaskQueue
      assert.deepStrictEqual((yield* queue.counts({ now: 2 * hour })).map(({ state }) => state).sort(), [
        "dead",
        "dead",
        "ready",
      ])
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* DeadLetters.prune({ olderThan: 0 }), 2)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("goes on until all are gone", () =>
    Effect.gen(function* () {
      yield* Mail.deferAll(Array.from({ length: 1001 }, (_, index) => ({ to: `${index}` })))
      yield* buryAll("RetriesExhausted", "MailBusy")
      yield* TestClock.adjust("1 day")
      assert.strictEqual(yield* DeadLetters.prune({ olderThan: "1 hour" }), 1001)
    }).pipe(Effect.provide(memory)),
  )

  it.effect.each([-1, Duration.infinity, "x" as never])("refuses %s as an age", (olderThan) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(DeadLetters.prune({ olderThan }))
      assert.deepInclude(error, { _tag: "InvalidDeadLetterFilter", field: "olderThan" })
    }).pipe(Effect.provide(memory)),
  )
})
