/**
 * What must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import type { FrontendsNotSupported, Instance } from "@outlive/core/Instance"
import type {
  DeferOptions,
  InvalidTaskOptions,
  NotInTransaction,
  PayloadTooLarge,
  TaskAlreadyExists,
  TombstonedTask,
} from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, Throttled } from "@outlive/deferred/TaskFailure"
import type { Handler } from "@outlive/deferred/TaskHandler"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { TaskCancelled, TaskDead, TaskNotFound } from "@outlive/deferred/TaskRef"
import * as Worker from "@outlive/deferred/Worker"
import { Context, DateTime, Effect, Layer, Schema } from "effect"

class MailRejected extends Schema.TaggedError<MailRejected>()("MailRejected", { code: Schema.Int }) {}
class MailBusy extends Schema.TaggedError<MailBusy>()("MailBusy", { retryAfter: Schema.Int }) {}

class SendWelcome extends Task.make("SendWelcome", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Schema.Union([MailRejected, MailBusy]),
  retry: {
    MailRejected: "never",
    MailBusy: (error) => Snooze.for(error.retryAfter),
    _: RetryPolicy.exponential(),
  },
}) {}
const Ping = Task.make("Ping")

// ---- retry rules know the task's errors
Task.make("X", { error: MailBusy, retry: { MailBusy: (error) => Throttled.for(error.retryAfter) } })
// @ts-expect-error a tag the task cannot fail with
Task.make("X", { error: MailBusy, retry: { Nope: "never" } })
// @ts-expect-error a rule of another error
Task.make("X", { error: MailBusy, retry: { MailBusy: (error: MailRejected) => Snooze.for(error.code) } })

// ---- payload versions meet
const Renamed = Task.make("Renamed", {
  payload: Task.versions({ user: Schema.String })
    .to({ userId: Schema.String }, (old) => ({ userId: old.user }))
    .to({ userId: Schema.String, lang: Schema.String }, (old) => ({ ...old, lang: "en" })),
})
export const newest = Renamed.defer({ userId: "1", lang: "no" })
// @ts-expect-error a payload of an older version
Renamed.defer({ user: "1" })
// @ts-expect-error a step that does not reach its version
Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ user: old.user }))
// @ts-expect-error a step from fields that the version before does not have
Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.name }))

// ---- handlers
const Live = SendWelcome.toLayer(({ userId }, context) =>
  userId === "" ? Effect.fail(new MailRejected({ code: context.attempt })) : Effect.succeed(1),
)
// @ts-expect-error the wrong success
SendWelcome.toLayer(() => Effect.succeed("1"))
// @ts-expect-error an error that the task does not declare
SendWelcome.toLayer(() => Effect.fail(new Error("?")))
// @ts-expect-error a payload field that is not there
SendWelcome.toLayer(({ name }) => Effect.succeed(name.length))
export const ours = SendWelcome.toLayer(() => Effect.fail(new PermanentTaskFailure({ message: "no" })))
export const quiet = Ping.toLayer(() => Effect.fail(new SingularTaskFailure({ message: "not yet" })))
export const slower = Ping.toLayer(() => Effect.fail(Throttled.for("1 second", { of: "queue" })))
export const later = Ping.toLayer(() => Effect.fail(Snooze.for("1 second")))

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<number> }>()("test/Mailer") {}
const NeedsMailer = SendWelcome.toLayer(() => Mailer.use((mailer) => mailer.send))
// @ts-expect-error what a handler needs does not vanish
export const withoutMailer: Layer.Layer<Handler<"SendWelcome">> = NeedsMailer
// The attempt's scope and context are given by whoever runs it.
export const scoped: Layer.Layer<Handler<"Ping">> = Ping.toLayer(() =>
  Effect.andThen(
    Effect.addFinalizer(() => Effect.void),
    Effect.void,
  ),
)

// ---- a worker without a handler does not compile
const Workers = Worker.layer({ tasks: [SendWelcome, Ping] })
type Needs = TaskQueue | Instance
type Refusals = FrontendsNotSupported | TaskQueueError
export const complete: Layer.Layer<never, Refusals, Needs> = Workers.pipe(
  Layer.provide([Live, Ping.toLayer(() => Effect.void)]),
)
// @ts-expect-error a missing handler
export const missing: Layer.Layer<never, Refusals, Needs> = Workers.pipe(Layer.provide(Live))

// ---- defer
type Errors = InvalidTaskOptions | PayloadTooLarge | Schema.SchemaError | TaskQueueError
const plain = SendWelcome.defer({ userId: "1" }, { delay: "1 minute" })
export const unnamed: Effect.Effect<unknown, Errors, TaskQueue> = plain
const named = SendWelcome.defer({ userId: "1" }, { name: "x" })
export const collides: Effect.Effect<unknown, Errors | TaskAlreadyExists | TombstonedTask, TaskQueue> = named
// @ts-expect-error a name can collide
export const cannotCollide: Effect.Effect<unknown, Errors, TaskQueue> = named
export const ignored: Effect.Effect<unknown, Errors, TaskQueue> = SendWelcome.defer(
  { userId: "1" },
  { name: "x", onDuplicate: "ignore" },
)
// @ts-expect-error both delay and eta
SendWelcome.defer({ userId: "1" }, { delay: "1 minute", eta: DateTime.makeUnsafe(0) })
// @ts-expect-error the wrong payload
SendWelcome.defer({ user: "1" })
// @ts-expect-error an option that does not exist
SendWelcome.defer({ userId: "1" }, { countdown: 5 })

// ---- results are typed across processes
const awaited = Effect.gen(function* () {
  const ref = yield* plain
  return yield* ref.await
}).pipe(Effect.catchTag("MailBusy", (error) => Effect.succeed(error.retryAfter)))
type Ends = MailRejected | TaskDead | TaskCancelled | TaskNotFound
export const typed: Effect.Effect<number, Ends | Errors, TaskQueue> = awaited
// @ts-expect-error the task's own error is left out
export const untyped: Effect.Effect<number, Exclude<Ends, MailRejected> | Errors, TaskQueue> = awaited

// ---- a group is all of its tasks
const Hello = Task.make("Hello", { payload: { name: Schema.String }, success: Schema.Int })
const Bye = Task.make("Bye")
const Greetings = Task.group(Hello, Bye)
declare const length: Effect.Effect<number, never, Mailbox>
interface Mailbox {
  readonly mailbox: true
}
export const greetings: Layer.Layer<Handler<"Hello"> | Handler<"Bye">, never, Mailbox> = Greetings.toLayer({
  Hello: ({ name }) => Effect.map(length, (count) => count + name.length),
  Bye: (_, { attempt }) => Effect.log(attempt),
})
// @ts-expect-error the mailbox does not vanish
export const without: Layer.Layer<Handler<"Hello"> | Handler<"Bye">> = Greetings.toLayer({
  Hello: () => length,
  Bye: () => Effect.void,
})
// @ts-expect-error a handler is missing
Greetings.toLayer({ Hello: () => Effect.succeed(1) })
Greetings.toLayer({
  // @ts-expect-error its success is a number
  Hello: () => Effect.succeed("one"),
  Bye: () => Effect.void,
})
// @ts-expect-error nor is one for the worker
export const unhandled: Layer.Layer<never, Refusals, TaskQueue | Instance> = Worker.layer({
  tasks: [Greetings],
})
export const handled: Layer.Layer<never, Refusals, TaskQueue | Instance | Handler<"Hello"> | Handler<"Bye">> =
  Worker.layer({ tasks: [Greetings] })

// ---- a unique key is made of the payload
Task.make("Sync", { payload: { user: Schema.String }, unique: { key: ({ user }) => user } })
// @ts-expect-error of what it has
Task.make("Sync", { payload: { user: Schema.String }, unique: { key: ({ name }) => name } })
// @ts-expect-error and is a text
Task.make("Sync", { payload: { user: Schema.String }, unique: { key: ({ user }) => user.length } })
// @ts-expect-error scheduled and ready go together
Hello.defer({ name: "" }, { unique: { key: "a", while: ["ready"] } })

// ---- whom a record is for is made of the payload, too
Task.make("Sync", { payload: { user: Schema.String }, key: ({ user }) => user })
// @ts-expect-error of what it has
Task.make("Sync", { payload: { user: Schema.String }, key: ({ name }) => name })
// @ts-expect-error and is a text
Task.make("Sync", { payload: { size: Schema.Int }, key: ({ size }) => size })
Hello.defer({ name: "" }, { key: "a" })
Hello.defer({ name: "" }, { key: false })
// @ts-expect-error there is no key of all
Hello.defer({ name: "" }, { key: true })

// ---- the latest of a key
const Save = Task.make("Save", {
  payload: { doc: Schema.String, size: Schema.Int },
  latest: {
    key: ({ doc }) => doc,
    debounce: { within: "5 seconds", maxWait: "1 minute" },
    merge: (waiting, given) => ({ ...given, size: waiting.size + given.size }),
  },
})
const both = { key: () => "a", debounce: { within: 1 }, throttle: { within: 1 } }
// @ts-expect-error of what its payload has
Task.make("Save", { payload: { doc: Schema.String }, latest: { key: ({ name }) => name } })
// @ts-expect-error a pause and a distance exclude each other
Task.make("Save", { latest: both })
// @ts-expect-error the latest and the first exclude each other
Task.make("Save", { unique: { key: () => "a" }, latest: { key: () => "a" } })
// @ts-expect-error what is merged is a payload
Task.make("Save", { payload: { doc: Schema.String }, latest: { key: ({ doc }) => doc, merge: () => ({ name: "" }) } })
declare const Dictionary: Schema.Codec<string, string, Mailbox>
Task.make("Save", { payload: { word: Dictionary }, latest: { key: ({ word }) => word } })
Task.make("Save", {
  payload: { word: Dictionary },
  // @ts-expect-error whoever defers has not what reading the waiting one needs
  latest: { key: ({ word }) => word, merge: (waiting: { readonly word: string }) => waiting },
})
Save.defer({ doc: "", size: 1 }, { latest: { key: "b", throttle: { within: "1 minute" } } })
Save.defer({ doc: "", size: 1 }, { latest: false, unique: { key: "a" } })
// @ts-expect-error a pause and a distance exclude each other here, too
Save.defer({ doc: "", size: 1 }, { latest: { debounce: { within: 1 }, throttle: { within: 1 } } })
// @ts-expect-error and the latest and the first
Save.defer({ doc: "", size: 1 }, { latest: { key: "b" }, unique: { key: "a" } })

// ---- a deferral that must be in a transaction says what it may fail with
export const inTransaction: Effect.Effect<unknown, Errors | NotInTransaction, TaskQueue> = Hello.defer(
  { name: "" },
  { requireTransaction: true },
)
// @ts-expect-error it may be outside of one
export const careless: Effect.Effect<unknown, Errors, TaskQueue> = Hello.defer(
  { name: "" },
  { requireTransaction: true },
)

// ---- an option that does not exist, also beside others
// @ts-expect-error not duplicates
Hello.defer({ name: "" }, { name: "n", onDuplicates: "ignore" })
declare const options: DeferOptions
// @ts-expect-error options that are not known here may have a name, or require a transaction
export const anyOptions: Effect.Effect<unknown, Errors, TaskQueue> = Hello.defer({ name: "" }, options)
