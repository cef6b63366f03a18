/**
 * A deferred task with a typed result, on a queue in memory and a test clock: a week passes in no time.
 */
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Clock, Console, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

class Remind extends Task.make("Remind", {
  payload: { text: Schema.NonEmptyString },
  success: Schema.Struct({ saidAt: Schema.Int }),
}) {}

const RemindHandler = Remind.toLayer(({ text }, { attempt }) =>
  Effect.gen(function* () {
    yield* Console.log(`${text} (attempt ${attempt})`)
    return { saidAt: yield* Clock.currentTimeMillis }
  }),
)

const App = Worker.layer({ tasks: [Remind] }).pipe(
  Layer.provide(RemindHandler),
  Layer.provideMerge(TaskQueueMemory.layer),
  Layer.provide(Instance.layerBackend()),
  // In production: none of it, and another queue.
  Layer.provideMerge(TestClock.layer()),
)

export const program = Effect.gen(function* () {
  const ref = yield* Remind.defer({ text: "water the plants" }, { delay: "7 days" })
  yield* Console.log(`it is ${yield* ref.state}`)
  yield* TestClock.adjust("6 days")
  yield* Console.log(`after six days it is ${yield* ref.state}`)
  yield* TestClock.adjust("1 day")
  const { saidAt } = yield* ref.await
  yield* Console.log(`said after ${saidAt / 86_400_000} days, it is ${yield* ref.state}`)
  const wrong = yield* Effect.flip(Remind.defer({ text: "" }))
  yield* Console.log(`an empty text is refused at once: ${wrong._tag}`)
}).pipe(Effect.provide(App))

if (import.meta.main) await Effect.runPromise(program)
