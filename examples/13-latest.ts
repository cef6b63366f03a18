/**
 * The latest wins: a document that is saved at every letter is written after a pause, shown at a distance, and indexed with
 * all that changed while it was being indexed.
 */
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Latch, Layer, References, Schema } from "effect"

const payload = { doc: Schema.String, text: Schema.String }
const key = ({ doc }: { readonly doc: string }) => doc

// When nobody has typed for a while, and every ten seconds at the latest.
const Save = Task.make("Save", { payload, latest: { key, debounce: { within: "500 millis", maxWait: "10 seconds" } } })

// At once, and then not more often than that; the last state is always shown.
const Preview = Task.make("Preview", { payload, latest: { key, throttle: { within: "1 second" } } })

// Not two at once, and once more if something changed meanwhile: of that, all.
const Index = Task.make("Index", {
  payload: { doc: Schema.String, words: Schema.Array(Schema.String) },
  latest: {
    key: ({ doc }) => doc,
    merge: (waiting, given) => ({ ...given, words: [...new Set([...waiting.words, ...given.words])] }),
  },
})

const begun = Latch.makeUnsafe(false)
const mayEnd = Latch.makeUnsafe(false)
const Workers = Worker.layer({ tasks: [Save, Preview, Index] }).pipe(
  Layer.provide([
    Save.toLayer(({ text }) => Console.log(`saved: ${text}`)),
    Preview.toLayer(({ text }) => Console.log(`preview: ${text}`)),
    Index.toLayer(({ words }) =>
      Console.log(`indexing: ${words.join(" ")}`).pipe(Effect.andThen(begun.open), Effect.andThen(mayEnd.await)),
    ),
  ]),
  Layer.provideMerge(TaskQueueMemory.layer),
  Layer.provide(Instance.layerBackend()),
)

const letters = (text: string) => Array.from(text, (_, at) => text.slice(0, at + 1))
const outcomes = (refs: ReadonlyArray<{ readonly outcome: string }>) => refs.map(({ outcome }) => outcome).join(", ")

export const program = Effect.gen(function* () {
  const saves = yield* Effect.forEach(letters("hello"), (text) => Save.defer({ doc: "a", text }))
  yield* Console.log(`five letters: ${outcomes(saves)}`)
  yield* saves[4]!.await

  const first = yield* Preview.defer({ doc: "a", text: "h" })
  yield* first.await
  const previews = yield* Effect.forEach(letters("hello").slice(1), (text) => Preview.defer({ doc: "a", text }))
  yield* previews[3]!.await

  yield* Index.defer({ doc: "a", words: ["hello"] })
  yield* begun.await
  const second = yield* Index.defer({ doc: "a", words: ["big"] })
  const third = yield* Index.defer({ doc: "a", words: ["world"] })
  yield* Console.log(`while it is indexed: ${outcomes([second, third])}`)
  yield* mayEnd.open
  yield* third.await
}).pipe(
  Effect.provide(Workers),
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)
