/**
 * What an HTTP request to defer says, what it is answered, and how it is done.
 */
import {
  type DeferOptions,
  namePattern,
  queuePattern,
  type TaskAlreadyExists,
  type TombstonedTask,
} from "@outlive/deferred/DeferOptions"
import type * as Task from "@outlive/deferred/Task"
import { TaskId } from "@outlive/deferred/TaskId"
import type { TaskQueue } from "@outlive/deferred/TaskQueue"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const millis = (description: string) => Schema.optionalKey(Schema.Finite.annotate({ description }))

/** The body of a request, around the task's own payload. */
export const bodyOf = (task: Task.Any) =>
  Schema.Struct({
    payload: task.payload,
    name: Schema.optionalKey(
      Schema.String.check(Schema.isPattern(namePattern)).annotate({
        description: "Unique within the queue: the same name again stores nothing and gives the record that has it.",
      }),
    ),
    onDuplicate: Schema.optionalKey(
      Schema.Literals(["ignore", "fail", "replace"]).annotate({
        description: "What a name does that is taken: give that record (default), answer 409, or take its place.",
      }),
    ),
    delay: millis("Not before so many milliseconds from now."),
    eta: Schema.optionalKey(
      Schema.DateTimeUtcFromString.annotate({ description: "Not before then: ISO 8601. Not together with delay." }),
    ),
    expires: millis("Milliseconds within which it must be started, or it never is."),
    queue: Schema.optionalKey(
      Schema.String.check(Schema.isPattern(queuePattern)).annotate({ description: "Default: the task's." }),
    ),
    priority: Schema.optionalKey(Schema.Finite.annotate({ description: "Higher first. Default: the task's." })),
    key: Schema.optionalKey(
      Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)).annotate({
        description: "Whom it is for: what limits by key and turns go by. Default: what the task says.",
      }),
    ),
    headers: Schema.optionalKey(
      Schema.Record(Schema.String, Schema.String).annotate({ description: "Carried to the handler." }),
    ),
  })

/** What a body decodes to, whatever the payload. */
export interface Deferral {
  readonly payload: unknown
  readonly name?: string
  readonly onDuplicate?: "ignore" | "fail" | "replace"
  readonly delay?: number
  readonly eta?: DateTime.Utc
  readonly expires?: number
  readonly queue?: string
  readonly priority?: number
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** It is stored (201). */
export const Inserted = Schema.Struct({ id: TaskId, outcome: Schema.Literal("Inserted") })
/** A record is there that has the name or the unique key (200): nothing new was stored, or it has the new content (`latest`). */
export const Found = Schema.Struct({ id: TaskId, outcome: Schema.Literals(["Existing", "Replaced"]) })

export class InvalidDeferral extends Schema.TaggedError<InvalidDeferral>()(
  "InvalidDeferral",
  { message: Schema.String },
  { httpApiStatus: 400 },
) {}
export class NameTaken extends Schema.TaggedError<NameTaken>()(
  "NameTaken",
  { message: Schema.String, id: Schema.optionalKey(Schema.String) },
  { httpApiStatus: 409 },
) {}
export class TooLarge extends Schema.TaggedError<TooLarge>()(
  "TooLarge",
  { message: Schema.String },
  { httpApiStatus: 413 },
) {}
export class QueueUnavailable extends Schema.TaggedError<QueueUnavailable>()(
  "QueueUnavailable",
  { message: Schema.String },
  { httpApiStatus: 503 },
) {}

type Stored = typeof Inserted.Type | typeof Found.Type

/** A task as far as it can be deferred; `Task.Any` says nothing of that, for its payload may be anything. */
interface Deferrable {
  readonly defer: (
    payload: unknown,
    options: DeferOptions,
  ) => Effect.Effect<
    { readonly id: TaskId; readonly outcome: Stored["outcome"] },
    Task.DeferError | TaskAlreadyExists | TombstonedTask,
    TaskQueue
  >
}

export const store = (
  task: Task.Any,
  { delay, eta, payload, ...options }: Deferral,
): Effect.Effect<Stored, InvalidDeferral | NameTaken | TooLarge | QueueUnavailable, TaskQueue> => {
  const { defer } = task as unknown as Deferrable
  // Both at once is refused by `defer` itself, with a sentence; its type does not even let one write that.
  const when = { delay, eta } as { readonly delay?: number }
  return defer(payload, { onDuplicate: "ignore", ...options, ...when }).pipe(
    Effect.map(({ id, outcome }): Stored => ({ id, outcome }) as Stored),
    Effect.catchTags({
      InvalidTaskOptions: ({ message }) => Effect.fail(new InvalidDeferral({ message })),
      SchemaError: ({ message }) => Effect.fail(new InvalidDeferral({ message })),
      PayloadTooLarge: ({ message }) => Effect.fail(new TooLarge({ message })),
      TaskAlreadyExists: ({ id, message }) => Effect.fail(new NameTaken({ message, id })),
      TombstonedTask: ({ message }) => Effect.fail(new NameTaken({ message })),
      TaskQueueError: (error) =>
        Effect.andThen(
          Effect.logError("a task could not be deferred", error),
          // What is wrong with the storage is nothing for who asks from outside.
          Effect.fail(new QueueUnavailable({ message: "the queue cannot store tasks now: try again" })),
        ),
    }),
  )
}
