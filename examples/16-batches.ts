/**
 * Many at once: a mail service that takes a hundred letters in one call, where each letter stays a record with its own result
 * and retries; and a task that is asked like a function, by many callers who share what they ask for.
 */
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskBatch from "@outlive/deferred/TaskBatch"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Exit, Layer, References, Schema } from "effect"

class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", { to: Schema.String }) {}
class NoSuchCity extends Schema.TaggedError<NoSuchCity>()("NoSuchCity", { city: Schema.String }) {}

const Send = Task.make("Send", {
  payload: { to: Schema.String },
  success: Schema.String,
  error: MailboxFull,
  retry: RetryPolicy.fixed("100 millis", { maxAttempts: 3 }),
})

// Whoever asks for a city that is being asked for waits for that record.
const Forecast = Task.make("Forecast", {
  payload: { city: Schema.String },
  success: Schema.String,
  error: NoSuchCity,
  retry: { NoSuchCity: "never" },
  unique: { key: ({ city }) => city },
})

const Handlers = Layer.mergeAll(
  // One call for all of them, and an exit for each, in their order.
  TaskBatch.toLayer(
    Send,
    (letters) =>
      Effect.as(
        Console.log(`sending to ${letters.map(({ payload }) => payload.to).join(", ")}`),
        letters.map(({ context, payload: { to } }) =>
          to === "bob" && context.attempt === 1
            ? Exit.fail(new MailboxFull({ to }))
            : Exit.succeed(`${to} has it, attempt ${context.attempt}`),
        ),
      ),
    { max: 100, within: "20 millis" },
  ),
  TaskBatch.toLayer(
    Forecast,
    (asked) => {
      const cities = asked.map(({ payload }) => payload.city)
      const exits = cities.map((city) =>
        city === "Atlantis" ? Exit.fail(new NoSuchCity({ city })) : Exit.succeed(`${city}: fair`),
      )
      return Effect.as(Console.log(`looking up ${cities.join(", ")}`), exits)
    },
    { within: "20 millis" },
  ),
)

// A worker gathers no more than it runs at once.
const App = Worker.layer({ tasks: [Send, Forecast], concurrency: 100 }).pipe(
  Layer.provide([Handlers, Instance.layerBackend()]),
  Layer.provideMerge(TaskQueueMemory.layer),
)

const forecast = Task.resolver(Forecast)

export const program = Effect.gen(function* () {
  const letters = yield* Send.deferAll(["ada", "bob", "cyd"].map((to) => ({ to })))
  const refs = letters.flatMap((letter) => (letter._tag === "Deferred" ? [letter.ref] : []))
  const ends = yield* Effect.forEach(refs, (ref) => ref.await)
  yield* Effect.forEach(ends, (end) => Console.log(end))

  // Callers who know nothing of each other: what they ask for in one turn is one round trip to the queue.
  const line = (city: string) =>
    forecast({ city }).pipe(
      Effect.catchTag("NoSuchCity", (error) => Effect.succeed(`${error.city}: there is no such city`)),
    )
  const lines = yield* Effect.forEach(["Oslo", "Atlantis", "Rome", "Oslo"], line, { concurrency: "unbounded" })
  yield* Effect.forEach(lines, (text) => Console.log(text))
}).pipe(
  Effect.provide(App),
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)
