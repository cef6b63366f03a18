/**
 * What an attempt leaves to the next one of its record: steps that are done, and how far a long work has come. A queue keeps
 * it with the record, so a crash, a deploy or a retry goes on where the last attempt was.
 *
 * What is written is there when the effect that wrote it returns (in a transaction, when that is committed), and is fenced by
 * the attempt's lease: an attempt that lost its lease is interrupted instead. It goes with the record, and a dead letter that is redriven begins without it. It is JSON
 * beside the record's progress, each note through the queue's `PayloadCodec`; at most 65,536 characters in all. Without a queue
 * (`Task.run`), and at a push endpoint, it lasts for the attempt; in the background, as long as the thread.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type { Undecodable } from "./Outcome.ts"
import { NotTransactional, TaskContext } from "./TaskContext.ts"
import type { TaskQueueError } from "./TaskQueue.ts"

export { NotTransactional }

/** Characters of all notes of a record as JSON texts: each is written with all others. */
const mostCharacters = 65_536

/**
 * A note is too large to be kept with a record, by itself or beside the others: keep it where large things are, and a reference to it here.
 *
 * @since 0.1.0
 */
export class NoteTooLarge extends Schema.TaggedError<NoteTooLarge>()("NoteTooLarge", {
  note: Schema.String,
  size: Schema.Finite,
  limit: Schema.Finite,
}) {
  override get message() {
    return `with the note ${this.note} the notes of the record have ${this.size} characters, more than the limit of ${this.limit}`
  }
}

/** What writing a note can fail with. @since 0.1.0 */
export type NoteError = NoteTooLarge | Schema.SchemaError | TaskQueueError

/** A value as it is kept: JSON, for which there is room. */
const noteOf = <S extends Schema.Top>(
  key: string,
  schema: S,
  value: S["Type"],
): Effect.Effect<unknown, NoteTooLarge | Schema.SchemaError, TaskContext | S["EncodingServices"]> =>
  Effect.gen(function* () {
    const { notes } = yield* TaskContext
    const encoded = yield* Schema.encodeUnknownEffect(Schema.toCodecJson(schema))(value)
    const json = encoded === undefined ? null : encoded
    const size = JSON.stringify(json).length + (yield* notes.sizeBeside(key))
    if (size > mostCharacters) return yield* new NoteTooLarge({ note: key, size, limit: mostCharacters })
    return json
  })

const write = <S extends Schema.Top>(
  key: string,
  schema: S,
  value: S["Type"],
): Effect.Effect<void, NoteError, TaskContext | S["EncodingServices"]> =>
  Effect.gen(function* () {
    const { notes } = yield* TaskContext
    yield* notes.set(key, yield* noteOf(key, schema, value))
  })

/** What the record has under a key. */
const readKept = <S extends Schema.Top>(
  key: string,
  schema: S,
): Effect.Effect<
  Option.Option<S["Type"]>,
  Undecodable | Schema.SchemaError | TaskQueueError,
  TaskContext | S["DecodingServices"]
> =>
  Effect.gen(function* () {
    const { notes } = yield* TaskContext
    const kept = yield* notes.get(key)
    if (kept === undefined) return Option.none()
    return Option.some(yield* Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(kept))
  })

/** The same, if it decodes: what an older version of the program wrote may not. */
const read = <S extends Schema.Top>(
  key: string,
  schema: S,
): Effect.Effect<Option.Option<S["Type"]>, TaskQueueError, TaskContext | S["DecodingServices"]> =>
  Effect.catchTag(readKept(key, schema), ["Undecodable", "SchemaError"], () =>
    Effect.as(Effect.logWarning(`the note ${key} does not decode any more and is left out`), Option.none()),
  )

/**
 * A step of a handler: runs `effect` in the first attempt that comes so far, keeps its value under `name`, and gives that
 * value in every later attempt without running it again. A failure is not kept: the step is tried again. An attempt that dies
 * between the effect and its note runs it once more: see `once`.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskNotes from "@outlive/deferred/TaskNotes"
 * import { Effect, Schema } from "effect"
 *
 * const Order = Task.make("Order", { payload: { id: Schema.Int } })
 * const charge = (id: number) => Effect.succeed(`receipt ${id}`)
 * const ship = (receipt: string) => Effect.log(`shipped for ${receipt}`)
 *
 * const OrderHandler = Order.toLayer(({ id }) =>
 *   Effect.gen(function* () {
 *     // Charged once, however often shipping has to be tried.
 *     const receipt = yield* TaskNotes.step("charge", Schema.String, charge(id))
 *     yield* ship(receipt)
 *   }).pipe(Effect.orDie),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const step = <S extends Schema.Top, E, R>(
  name: string,
  schema: S,
  effect: Effect.Effect<S["Type"], E, R>,
): Effect.Effect<S["Type"], E | NoteError, R | TaskContext | S["DecodingServices"] | S["EncodingServices"]> =>
  Effect.gen(function* () {
    const key = `step ${name}`
    const done = yield* read(key, schema)
    if (Option.isSome(done)) return done.value
    const value = yield* effect
    yield* write(key, schema, value)
    return value
  })

/**
 * A step whose effect on the application's database happens exactly once, with its note, in one transaction: what `effect`
 * writes with the client that the queue was made with, and the value that it gives, are kept together or not at all. Every
 * later attempt is given the value without running it; a `step` of the same name is the same step.
 *
 * - What `effect` fails with, an interruption, or a process that dies rolls back all of it: it is run again by the next
 *   attempt, or by who runs it again in this one. Where the answer to the commit was lost, the queue is asked before.
 * - An attempt that has lost its lease cannot commit: it is rolled back, and the attempt is interrupted.
 * - What `effect` does elsewhere (a mail, another database, another client) is not part of it, and may happen again.
 * - In a handler that commits with its success (`commit: "withHandler"`) it is part of that transaction.
 * - A value that was kept and does not decode any more, after a change of its schema, is a `SchemaError`, and nothing runs:
 *   nobody can say that it was not done.
 *
 * The transaction is open as long as `effect` runs: keep it short, on SQLite above all, where nothing else is written
 * meanwhile, heartbeats included. Other notes of the attempt wait for its end. A dead letter that is redriven begins without
 * notes, and does it again.
 *
 * Fails with `NotTransactional`, and has run nothing, where there are no such transactions: `capabilities.transactional`.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskNotes from "@outlive/deferred/TaskNotes"
 * import { Effect, Schema } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const Import = Task.make("Import", { payload: { rows: Schema.Array(Schema.String) } })
 * const publish = (booked: number) => Effect.log(`${booked} rows are booked`)
 *
 * const ImportHandler = Import.toLayer(({ rows }) =>
 *   Effect.gen(function* () {
 *     const sql = yield* SqlClient.SqlClient
 *     const book = Effect.as(sql`INSERT INTO bookings ${sql.insert(rows.map((text) => ({ text })))}`, rows.length)
 *     // However often publishing has to be tried, and whatever dies meanwhile, each row is there once.
 *     const booked = yield* TaskNotes.once("book", Schema.Int, book)
 *     yield* publish(booked)
 *   }).pipe(Effect.orDie),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const once = <S extends Schema.Top, E, R>(
  name: string,
  schema: S,
  effect: Effect.Effect<S["Type"], E, R>,
): Effect.Effect<
  S["Type"],
  E | NoteError | NotTransactional,
  R | TaskContext | S["DecodingServices"] | S["EncodingServices"]
> =>
  Effect.gen(function* () {
    const key = `step ${name}`
    const kept = Effect.catchTag(readKept(key, schema), "Undecodable", ({ message }) =>
      Effect.fail(new Schema.SchemaError(new SchemaIssue.InvalidValue({ message }))),
    )
    const done = yield* kept
    if (Option.isSome(done)) return done.value
    const { notes } = yield* TaskContext
    const first = Effect.gen(function* () {
      // Another fiber of this attempt may have done it meanwhile.
      const since = yield* kept
      if (Option.isSome(since)) return { value: since.value }
      const value = yield* effect
      return { value, note: { json: yield* noteOf(key, schema, value) } }
    })
    return yield* notes.once(key, first)
  })

/**
 * Where a long work is: what the last `set` of any attempt of the record wrote.
 *
 * @example
 * ```ts
 * import * as TaskNotes from "@outlive/deferred/TaskNotes"
 * import { Effect, Option, Schema } from "effect"
 *
 * const importRows = Effect.gen(function* () {
 *   const cursor = TaskNotes.checkpoint(Schema.Int)
 *   const from = Option.getOrElse(yield* cursor.get, () => 0)
 *   for (let row = from; row < 1_000_000; row += 1000) {
 *     yield* Effect.log(`rows from ${row}`)
 *     yield* cursor.set(row + 1000)
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 */
export const checkpoint = <S extends Schema.Top>(
  schema: S,
): {
  readonly get: Effect.Effect<Option.Option<S["Type"]>, TaskQueueError, TaskContext | S["DecodingServices"]>
  readonly set: (value: S["Type"]) => Effect.Effect<void, NoteError, TaskContext | S["EncodingServices"]>
} => ({
  get: read("checkpoint", schema),
  set: (value) => write("checkpoint", schema, value),
})
