/**
 * One task in three ways: inline, as a background thread, deferred. Only a word changes.
 */
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Layer, References, Schema } from "effect"

class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", { of: Schema.String }) {}

class Welcome extends Task.make("Welcome", {
  payload: { to: Schema.String },
  success: Schema.Struct({ attempt: Schema.Int }),
  error: MailboxFull,
  retry: RetryPolicy.fixed("10 millis", { maxAttempts: 2 }),
}) {}

/** The mail server is busy at every first attempt, and bob's mailbox is full. */
const WelcomeHandler = Welcome.toLayer(({ to }, { attempt }) =>
  attempt === 1 || to === "bob" ? Effect.fail(new MailboxFull({ of: to })) : Effect.succeed({ attempt }),
)

const App = Worker.layer({ tasks: [Welcome] }).pipe(
  Layer.provideMerge(WelcomeHandler),
  Layer.provideMerge(BackgroundThreads.layer),
  Layer.provideMerge(TaskQueueMemory.layer),
  Layer.provide(Instance.layerBackend()),
  // This program prints what became of each; an application wants the log.
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Fatal")),
)

/** The same of each: a typed success, or the task's own error. */
const told = <E extends { readonly _tag: string }, R>(way: string, sent: Effect.Effect<{ attempt: number }, E, R>) =>
  Effect.matchEffect(sent, {
    onSuccess: ({ attempt }) => Console.log(`${way}: sent in attempt ${attempt}`),
    onFailure: (error) => Console.log(`${way}: ${error._tag}`),
  })

export const program = Effect.gen(function* () {
  // Inline there is no second attempt: the failure is the caller's.
  yield* told("run", Welcome.run({ to: "ada" }))
  for (const way of ["background", "defer"] as const) {
    const ada = yield* Welcome[way]({ to: "ada" })
    const bob = yield* Welcome[way]({ to: "bob" })
    yield* told(`${way} ada`, ada.await)
    yield* told(`${way} bob`, bob.await)
  }
}).pipe(Effect.provide(App))

if (import.meta.main) await Effect.runPromise(program)
