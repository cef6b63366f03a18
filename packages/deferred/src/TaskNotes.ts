/**
 * What an attempt leaves to the next one of its record: steps that are done, and how far a long work has come. A queue keeps
 * it with the record, so a crash, a deploy or a retry goes on where the last attempt was.
 *
 * What is written is there when the effect that wrote it returns, and is fenced by the attempt's lease: an attempt that lost
 * its lease is interrupted instead. It goes with the record, and a dead letter that is redriven begins without it. It is JSON
 * beside the record's progress, each note through the queue's `PayloadCodec`; at most 65,536 characters in all. Without a queue
 * (`Task.run`), and at a push endpoint, it lasts for the attempt; in the background, as long as the thread.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { TaskContext } from "./TaskContext.ts"
import type { TaskQueueError } from "./TaskQueue.ts"

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

const write = <S extends Schema.Top>(
  key: string,
  schema: S,
  value: S["Type"],
): Effect.Effect<void, NoteError, TaskContext | S["EncodingServices"]> =>
  Effect.gen(function* () {
    const { notes } = yield* TaskContext
    const encoded = yield* Schema.encodeUnknownEffect(Schema.toCodecJson(schema))(value)
    const json = encoded === undefined ? null : encoded
    const size = JSON.stringify(json).length + (yield* notes.sizeBeside(key))
    if (size > mostCharacters) return yield* new NoteTooLarge({ note: key, size, limit: mostCharacters })
    yield* notes.set(key, json)
  })

/** What the record has under a key, if it decodes: what an older version of the program wrote may not. */
const read = <S extends Schema.Top>(
  key: string,
  schema: S,
): Effect.Effect<Option.Option<S["Type"]>, never, TaskContext | S["DecodingServices"]> =>
  Effect.gen(function* () {
    const { notes } = yield* TaskContext
    const kept = yield* Effect.option(notes.get(key))
    if (Option.isSome(kept) && kept.value === undefined) return Option.none()
    const decoded = Option.isNone(kept)
      ? kept
      : yield* Effect.option(Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(kept.value))
    if (Option.isNone(decoded)) yield* Effect.logWarning(`the note ${key} does not decode any more and is left out`)
    return decoded
  })

/**
 * A step of a handler: runs `effect` in the first attempt that comes so far, keeps its value under `name`, and gives that
 * value in every later attempt without running it again. A failure is not kept: the step is tried again. An attempt that dies
 * between the effect and its note runs it once more.
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
  readonly get: Effect.Effect<Option.Option<S["Type"]>, never, TaskContext | S["DecodingServices"]>
  readonly set: (value: S["Type"]) => Effect.Effect<void, NoteError, TaskContext | S["EncodingServices"]>
} => ({
  get: read("checkpoint", schema),
  set: (value) => write("checkpoint", schema, value),
})
