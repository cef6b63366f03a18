/**
 * Where a `PushHandler` keeps dead letters whose sender forgets them: Google Cloud Tasks, or App Engine's queues, take a
 * status of 200 for the end of a task, and any other for a reason to deliver it again, for ever. A `PushDispatcher` keeps
 * the dead letters of its own queue, so nothing has to be done for it.
 *
 * By default there is only the log and the event. With `layerTaskQueue` they go into a task queue, where the tools for
 * dead letters find them.
 *
 * @since 0.1.0
 */
import { deferredAsHeader } from "@outlive/deferred/PayloadStage"
import type { TaskId } from "@outlive/deferred/TaskId"
import { type ClaimedRecord, type Settlement, TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import type { DeadReason, NewRecord } from "@outlive/deferred/TaskRecord"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"

/** @since 0.1.0 */
export interface DeadLetter
  extends Pick<NewRecord, "task" | "version" | "queue" | "name" | "payload" | "headers" | "timeout"> {
  /** `undefined` when not even that could be read. */
  readonly id: TaskId | undefined
  readonly reason: DeadReason
  /** The encoded exit: JSON text. */
  readonly result: string | undefined
  /** JSON text of `AttemptFailure`. */
  readonly failure: string
}

/**
 * Keeps a dead letter for good before it returns. When it fails, the delivery is answered with 500, so that it comes again.
 *
 * @since 0.1.0
 */
export const PushDeadLetters = Context.Reference<{
  readonly keep: (letter: DeadLetter) => Effect.Effect<void, TaskQueueError>
}>("outlive/node/PushDeadLetters", { defaultValue: () => ({ keep: () => Effect.void }) })

/** Says that a record is to be buried, and how. Nobody who defers can write it: the name is reserved. */
const marker = "outlive-dead-letter"

const Mark = Schema.fromJsonString(
  Schema.Struct({
    reason: Schema.Literals([
      "PermanentFailure",
      "RetriesExhausted",
      "Undecodable",
      "UnknownTask",
      "Expired",
      "Crashed",
      "PayloadMissing",
    ] satisfies ReadonlyArray<DeadReason>),
    result: Schema.optionalKey(Schema.String),
    failure: Schema.String,
  }),
)
const readMark = Schema.decodeUnknownOption(Mark)

/**
 * Keeps them in the task queue of the context, as dead letters of the queue `queue` (default `push-dead-letters`), each
 * with the id of its task, so that a delivery that comes twice is kept once. Redriven, a record is ready in that queue: a
 * worker or a `PushDispatcher` that serves the queue runs it again.
 *
 * Fails with `TaskQueueError` (`NotSupported`) over a queue that has nothing to claim, such as Cloud Tasks itself.
 *
 * They are stored, claimed and buried, with which the contract of every driver that can claim will do. Whoever is
 * interrupted in between leaves the record ready in that queue, which the next one that is kept makes up for.
 *
 * @since 0.1.0
 */
export const layerTaskQueue = (options?: {
  readonly queue?: string | undefined
}): Layer.Layer<never, TaskQueueError, TaskQueue> =>
  Layer.effect(
    PushDeadLetters,
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      if (!queue.capabilities.claims) return yield* Effect.fail(nothingKept(queue.name))
      const name = options?.queue ?? "push-dead-letters"
      let last = 0
      return {
        keep: (letter) =>
          Effect.clockWith((clock) => {
            last = Math.max(last + 1, clock.currentTimeMillisUnsafe())
            return keep(queue, name, letter, last)
          }),
      }
    }),
  )

/** Stored there, a dead letter would be delivered again. */
const nothingKept = (driver: string) =>
  new TaskQueueError({
    operation: "claim",
    message: `dead letters cannot be kept in ${driver}, which forgets what has ended: give PushDeadLetters a queue in a database`,
    isRetryable: false,
    reason: "NotSupported",
  })

/** Drivers may store versions in 32 bits. */
const highestVersion = 2_147_483_647

const keep = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  name: string,
  letter: DeadLetter,
  priority: number,
) {
  const now = yield* Clock.currentTimeMillis
  const random = yield* Random.Random
  const { failure, reason, result } = letter
  const id = letter.id ?? queue.nextId(now, () => random.nextDoubleUnsafe())
  const mark = JSON.stringify({ reason, failure, ...(result !== undefined && { result }) })
  const record: NewRecord = {
    id,
    task: letter.task,
    version: letter.version,
    queue: name,
    payload: letter.payload,
    headers: { ...letter.headers, ...deferredAs(letter), [marker]: mark },
    // It rises, so that the newest is claimed before all that was redriven and waits for its worker.
    priority,
    eta: now,
    onDuplicate: "ignore",
    tombstone: 0,
    timeout: letter.timeout,
    maxCrashes: 3,
    keep: 86_400_000,
  }
  const [outcome] = yield* queue.enqueue({ records: [record], now })
  if (outcome?._tag !== "Inserted") return
  const { records } = yield* queue.claim({
    queues: [{ name, limit: 10 }],
    tasks: [{ name: letter.task, maxVersion: highestVersion }],
    targets: [],
    lease: 60_000,
    worker: "push-dead-letters",
    now,
  })
  yield* queue.settle({ settlements: records.map(burial), now })
})

/** The name is taken in the queue of its own, and not in this one; a payload may be bound to it, or to what its headers say. */
const deferredAs = ({ headers, name, queue }: DeadLetter): Record<string, string> =>
  name === undefined || headers[deferredAsHeader] !== undefined ? {} : { [deferredAsHeader]: `${queue}/${name}` }

/** Buries what this module stored, and gives back what somebody redrove meanwhile: that has a failure already. */
const burial = (record: ClaimedRecord): Settlement => {
  const lease = { id: record.id, token: record.token }
  const mark = record.failure === undefined ? readMark(record.headers[marker]) : undefined
  if (mark === undefined || mark._tag === "None") return { ...lease, _tag: "Release" }
  const { failure, reason, result } = mark.value
  return { ...lease, _tag: "Bury", reason, result, failure }
}
