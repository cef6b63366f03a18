/**
 * Committing with the handler: what it writes to the application's database and its success are one transaction.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import { PayloadTooLarge } from "../../DeferOptions.ts"
import type { Stop } from "../../Outcome.ts"
import type { PayloadCodec } from "../../PayloadCodec.ts"
import type * as Task from "../../Task.ts"
import { Snooze } from "../../TaskFailure.ts"
import type { TaskHandler } from "../../TaskHandler.ts"
import { type ClaimedRecord, type TaskQueue, TaskQueueError } from "../../TaskQueue.ts"
import { permanent, successOf } from "../handOver.ts"
import { Joined } from "../keptNotes.ts"
import type { Page } from "../notes.ts"

/** An attempt that may commit by itself. */
export interface Committing {
  readonly record: ClaimedRecord
  readonly known: {
    readonly task: Task.Any
    readonly handler: Pick<TaskHandler, "encodeExit">
    readonly codec: PayloadCodec | undefined
  }
  page?: Page | undefined
  stop: Stop | undefined
  /** Its success is written already. */
  committed?: boolean
}

/** Another worker owns the record: the handler's writes are rolled back. */
class LeaseLost {
  readonly _tag = "LeaseLost"
}

/**
 * The work in a transaction that also settles its success. What it fails with rolls everything back and is settled as
 * ever. A transaction that the database did not take is not the handler's fault: the attempt is given back.
 */
export const committing = (
  queue: TaskQueue["Service"],
  slot: Committing,
  work: Effect.Effect<unknown, unknown>,
): Effect.Effect<unknown, unknown> => {
  const { known, record } = slot
  const { transaction } = queue
  if (known.task.settings.commit === "afterHandler" || transaction === undefined) return work

  const settle = Effect.fnUntraced(function* (value: unknown) {
    const encode = () => known.handler.encodeExit(Exit.succeed(value), record, known.codec)
    const success = successOf(record, known.task.settings.keep, encode, queue)
    const { handOver, result } = yield* Effect.catch(success, (error) =>
      // A success that its own schema does not know is a defect of the handler.
      error instanceof PayloadTooLarge ? Effect.fail(new Failed(permanent(error))) : Effect.die(error),
    )
    const now = yield* Clock.currentTimeMillis
    const progress = slot.page?.isUnsaid === true ? slot.page.text : undefined
    const settlement = { id: record.id, token: record.token, _tag: "Succeed", result, handOver, progress } as const
    const [outcome] = yield* queue.settle({ settlements: [settlement], now })
    if (outcome !== "Settled") yield* Effect.fail(new LeaseLost())
    return value
  })
  // The handler's own errors are carried around the transaction's, which may be of the same class.
  type Ended = Effect.Effect<unknown, LeaseLost | TaskQueueError | Failed>
  const tried = Effect.flatMap(
    Effect.result(work),
    (result): Ended => (result._tag === "Success" ? settle(result.success) : Effect.fail(new Failed(result.failure))),
  )
  return transaction(Effect.provideService(tried, Joined, Semaphore.makeUnsafe(1))).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) slot.committed = true
        else if (slot.page !== undefined) {
          // Its notes are gone with the rest.
          slot.page.turnBack(record.progress)
          slot.page.isDoubtful = false
        }
      }),
    ),
    Effect.catch((error): Effect.Effect<never, unknown> => {
      if (error instanceof Failed) return Effect.fail(error.error)
      if (error instanceof TaskQueueError) {
        return Effect.andThen(
          Effect.logWarning(`the transaction was not committed, trying again in a second: ${error.message}`),
          Effect.fail(Snooze.for("1 second")),
        )
      }
      slot.stop = "leaseLost"
      return Effect.interrupt
    }),
  )
}

class Failed {
  readonly error: unknown
  constructor(error: unknown) {
    this.error = error
  }
}
