/**
 * What must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as BackgroundCall from "@outlive/core/BackgroundCall"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as CallQueue from "@outlive/core/CallQueue"
import { Context, Effect, type Option, type Scope, type Tracer } from "effect"
import { HttpRouter, HttpServerRequest } from "effect/http"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<number, "down"> }>()("test/Mailer") {}
const send = Mailer.use((mailer) => mailer.send)
type Threads = BackgroundThread.BackgroundThreads

// ---- a thread's services are its creator's, and its errors are typed
const thread = BackgroundThread.start(send)
export const needsMailer: Effect.Effect<
  BackgroundThread.BackgroundThread<number, "down">,
  BackgroundThread.Refusal,
  Threads | Mailer
> = thread
// @ts-expect-error the mailer does not vanish
export const noMailer: Effect.Effect<unknown, BackgroundThread.Refusal, Threads> = thread
// @ts-expect-error nor do the refusals
export const noRefusal: Effect.Effect<unknown, never, Threads | Mailer> = thread
export const joined: Effect.Effect<number, BackgroundThread.Refusal | "down", Threads | Mailer> = Effect.flatMap(
  thread,
  (started) => started.join(),
)
export const looked: Effect.Effect<
  Option.Option<number>,
  BackgroundThread.Refusal | "down",
  Threads | Mailer
> = Effect.flatMap(thread, (started) => started.join({ timeout: 0 }))

// ---- a scope is the thread's own
const scoped = Effect.acquireRelease(Effect.succeed(1), () => Effect.void)
export const ownScope: Effect.Effect<unknown, BackgroundThread.Refusal, Threads> = BackgroundThread.start(scoped)

// ---- what belongs to the request does not compile
const request = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => url)
// @ts-expect-error the request is over when the thread runs
BackgroundThread.start(request)
// @ts-expect-error so is its route
BackgroundThread.start(HttpRouter.params)
// @ts-expect-error in two steps neither
BackgroundThread.make(request)
// @ts-expect-error nor as a call
BackgroundCall.make(request)
const span: Effect.Effect<unknown, never, Tracer.ParentSpan> = Effect.never
// @ts-expect-error the creator's span
BackgroundThread.start(span)

// @ts-expect-error an open transaction of memory
BackgroundThread.start(Effect.txRetry)

// ---- calls
const call = BackgroundCall.make(send)
export const late = Effect.flatMap(call, (made) => made.result({ timeout: "1 second" }))
// @ts-expect-error a timeout that may pass
export const never: Effect.Effect<number, BackgroundThread.Refusal | "down", Threads | Mailer> = late
export const fallback: Effect.Effect<number | "else", BackgroundThread.Refusal, Threads | Mailer> = Effect.flatMap(
  call,
  (made) => made.result({ timeout: "1 second", orElse: () => "else" as const }),
)

// ---- call queues
export const queued: Effect.Effect<
  number,
  "down" | CallQueue.CallQueueFull | CallQueue.CallQueueClosed,
  Mailer | Scope.Scope
> = Effect.flatMap(CallQueue.make(), (queue) => queue.call(send))
export const hidden = Effect.flatMap(CallQueue.make(), (queue) =>
  // @ts-expect-error a failure that the caller does not see needs a fallback
  queue.call(send, { failIn: "receiver" }),
)
