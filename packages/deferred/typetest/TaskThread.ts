/**
 * Promotion: the same task inline, in the background or deferred, with one word changed. Checked by `check`, never run.
 */
import type { BackgroundThreads, Refusal } from "@outlive/core/BackgroundThread"
import * as Task from "@outlive/deferred/Task"
import type { Handler } from "@outlive/deferred/TaskHandler"
import type { TaskCancelled, TaskDead, TaskRef } from "@outlive/deferred/TaskRef"
import type { TaskThread } from "@outlive/deferred/TaskThread"
import { Effect, Schema } from "effect"

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { code: Schema.Int }) {}
class Mail extends Task.make("Mail", {
  payload: { to: Schema.String, lang: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("en"))) },
  success: Schema.Int,
  error: Rejected,
}) {}

// ---- one word changed: the same payload
const payload = { to: "ada" }
const words = ["run", "background", "defer"] as const
words.map((word) => Mail[word](payload))
// @ts-expect-error by none of them
words.map((word) => Mail[word]({ from: "ada" }))
export const run = Mail.run(payload)
export const background = Mail.background(payload)
export const defer = Mail.defer(payload)

// ---- and the same result, in the end
const length = (sent: number) => `${sent}`
export const inline = Effect.map(run, length)
export const detached = Effect.flatMap(background, (mail) => Effect.map(mail.await, length))
export const durable = Effect.flatMap(defer, (mail) => Effect.map(mail.await, length))
const recovered = (rejected: Rejected) => Effect.succeed(`${rejected.code}`)
Effect.catchTag(inline, "Rejected", recovered)
Effect.catchTag(detached, "Rejected", recovered)
Effect.catchTag(durable, "Rejected", recovered)

// ---- who takes the one takes the other
const follow = (mail: Pick<TaskRef<number, Rejected>, "id" | "task" | "await" | "state" | "progress" | "cancel">) =>
  mail.await
export const followed = Effect.flatMap(background, follow)
export const followedToo = Effect.flatMap(defer, follow)

// ---- what it needs, and how it is refused
export const needs: Effect.Effect<
  TaskThread<number, Rejected>,
  Refusal | Schema.SchemaError,
  Handler<"Mail"> | BackgroundThreads
> = background
// @ts-expect-error somebody must handle it
export const unhandled: Effect.Effect<unknown, unknown, BackgroundThreads> = background
// @ts-expect-error it needs an instance's threads
export const nowhere: Effect.Effect<unknown, unknown, Handler<"Mail">> = background
// @ts-expect-error a frontend refuses it, and a full instance
export const always: Effect.Effect<unknown, Schema.SchemaError, Handler<"Mail"> | BackgroundThreads> = background

// ---- how it ends: without a queue that could fail
declare const mail: TaskThread<number, Rejected>
export const ends: Effect.Effect<number, Rejected | TaskDead | TaskCancelled> = mail.await
// @ts-expect-error the task's own error
export const careless: Effect.Effect<number, TaskDead | TaskCancelled> = mail.await
// @ts-expect-error the task's policy decides when it is tried again
Mail.background(payload, { restart: undefined })
Mail.background(payload, { whenFull: "wait", daemon: true, name: "welcome" })
