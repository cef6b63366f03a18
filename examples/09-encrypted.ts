/**
 * Payloads that whoever reads the database cannot read: packed and encrypted on their way to the queue, with a key that is
 * changed while they wait, and a key that somebody took away too early.
 */
import { randomBytes } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Instance from "@outlive/core/Instance"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import type { PayloadKey } from "@outlive/deferred/PayloadKeys"
import * as Task from "@outlive/deferred/Task"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, Redacted, References, Schema } from "effect"

class Transfer extends Task.make("Transfer", {
  // What is redacted stands in no log, ledger or event; what is encrypted, in no file.
  payload: { iban: Schema.Redacted(Schema.String), note: Schema.String },
  success: Schema.String,
}) {}
const TransferHandler = Transfer.toLayer(({ iban, note }) =>
  Effect.succeed(`${note.length} characters for ${Redacted.value(iban)}, logged as ${iban}`),
)

// From the configuration (PayloadCodec.encryptionConfig), in a real program.
const keyOf = (id: string): PayloadKey => ({ id, key: Redacted.make(randomBytes(32)) })
const may = keyOf("2026-05")
const november = keyOf("2026-11")

/** A deploy with these keys: the first writes, all of them read. */
const deploy = (filename: string, keys: ReadonlyArray<PayloadKey>) => {
  const Codec = PayloadCodec.layer([PayloadCodec.compression(), PayloadCodec.encryption({ keys })])
  return TaskQueueSqlite.layer({ filename }).pipe(Layer.provide(Codec))
}
const working = (filename: string, keys: ReadonlyArray<PayloadKey>) =>
  Worker.layer({ tasks: [Transfer] }).pipe(
    Layer.provide([TransferHandler, Instance.layerBackend()]),
    Layer.provideMerge(deploy(filename, keys)),
  )

const transfer = (iban: string) => Transfer.defer({ iban: Redacted.make(iban), note: "for the roof ".repeat(200) })
const resultOf = (id: Parameters<typeof Transfer.ref>[0]) => Effect.flatMap(Transfer.ref(id), (ref) => ref.await)

/** What stands before the body. */
const head = (stored: string) => stored.split(" ").slice(0, 2).join(" ")

/** Whether any file of the database has this in it. */
const isOnDisk = (folder: string, text: string) =>
  readdirSync(folder).some((name) => readFileSync(join(folder, name), "latin1").includes(text))

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  )
  const filename = join(folder, "tasks.db")

  const first = yield* Effect.gen(function* () {
    const ref = yield* transfer("NO93 8601 1117 947")
    const { payload } = yield* ref.record
    yield* Console.log(`stored: ${head(payload)} ...`)
    yield* Console.log(`less than a tenth of it? ${payload.length < 260}`)
    yield* Console.log(
      `the account is on the disk? ${isOnDisk(folder, "NO93")}, the task's name? ${isOnDisk(folder, "Transfer")}`,
    )
    return ref.id
  }).pipe(Effect.provide(deploy(filename, [may])))

  // The new key writes, the old one still reads what waits.
  const second = yield* Effect.gen(function* () {
    const ref = yield* transfer("DE02 1203 0000")
    yield* Console.log(yield* resultOf(first))
    yield* Console.log(yield* ref.await)
    return ref.id
  }).pipe(Effect.provide(working(filename, [november, may])))

  // Without the key it is nobody's: nothing is lost, and the sentence says what to do.
  const third = yield* Effect.map(transfer("FR14 2004"), ({ id }) => id).pipe(
    Effect.provide(deploy(filename, [november])),
  )
  yield* Effect.gen(function* () {
    yield* Effect.flip(resultOf(third))
    const [letter] = (yield* DeadLetters.find()).letters
    yield* Console.log(letter?.sentence.replace(/^.*?: (?=the payload)/s, "dead: "))
  }).pipe(Effect.provide(working(filename, [may])))
  yield* Effect.gen(function* () {
    yield* DeadLetters.redrive([third])
    yield* Console.log(yield* resultOf(third))
  }).pipe(Effect.provide(working(filename, [november])))

  yield* Effect.gen(function* () {
    const { result } = yield* Effect.flatMap(Transfer.ref(second), (ref) => ref.record)
    yield* Console.log(`results, too: ${head(result ?? "")} ...`)
  }).pipe(Effect.provide(deploy(filename, [november])))
}).pipe(
  Effect.scoped,
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)
