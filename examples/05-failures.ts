/**
 * How a handler says what becomes of its record: tried again, tried again quietly, later, or never again.
 */
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Layer, References, Schema } from "effect"

class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { card: Schema.String }) {}

class Charge extends Task.make("Charge", {
  payload: { card: Schema.String },
  success: Schema.String,
  error: CardDeclined,
  // A declined card is declined the next time too: no retry. Everything else: three attempts, 20 ms apart.
  retry: { CardDeclined: "never", _: RetryPolicy.fixed("20 millis", { maxAttempts: 3 }) },
}) {}

let snoozed = false

const ChargeHandler = Charge.toLayer(({ card }, { attempt }) => {
  switch (card) {
    case "declined":
      return Effect.fail(new CardDeclined({ card }))
    case "expired":
      return Effect.fail(new PermanentTaskFailure({ message: "the card has expired" }))
    case "busy":
      // Expected, and not worth a line in the log.
      return attempt < 3
        ? Effect.fail(new SingularTaskFailure({ message: "the bank is busy" }))
        : charged(card, attempt)
    case "holiday": {
      // Not an attempt at all: it comes again, and counts from where it was.
      const closed = !snoozed
      snoozed = true
      return closed ? Effect.fail(Snooze.for("50 millis")) : charged(card, attempt)
    }
    case "broken":
      return Effect.die(new Error("cannot read the card"))
    default:
      return charged(card, attempt)
  }
})

const charged = (card: string, attempt: number) => Effect.succeed(`${card} charged in attempt ${attempt}`)

const App = Worker.layer({ tasks: [Charge] }).pipe(
  Layer.provide(ChargeHandler),
  Layer.provideMerge(TaskQueueMemory.layer),
  Layer.provide(Instance.layerBackend()),
  // This program prints what became of each; an application wants the log.
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Fatal")),
)

export const program = Effect.gen(function* () {
  for (const card of ["good", "busy", "holiday", "declined", "expired", "broken"]) {
    const ref = yield* Charge.defer({ card })
    const said = yield* ref.await.pipe(
      Effect.catchTags({
        CardDeclined: (error) => Effect.succeed(`${error.card}: its own typed error, by type`),
        TaskDead: ({ detail, reason }) => Effect.succeed(`${card}: a dead letter, ${reason}: ${detail}`),
      }),
    )
    yield* Console.log(said)
  }
}).pipe(Effect.provide(App))

if (import.meta.main) await Effect.runPromise(program)
