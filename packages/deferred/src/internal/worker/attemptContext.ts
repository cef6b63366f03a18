/**
 * What a handler knows about its attempt, over the claimed record.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Stop } from "../../Outcome.ts"
import type { TaskContext } from "../../TaskContext.ts"
import { type ClaimedRecord, type TaskQueue, TaskQueueError } from "../../TaskQueue.ts"
import type { AttemptFailure } from "../../TaskRecord.ts"
import { summaryOf } from "../groups.ts"
import { heldNotes, type Keeping, keptNotes } from "../keptNotes.ts"
import { Page } from "../notes.ts"
import { readNote, storeNote } from "../storedText.ts"

type Attempt = TaskContext["Service"]

/** What a handler's progress is written to. */
export interface Speaking {
  readonly record: ClaimedRecord
  /** What it wrote, once it did. */
  page?: Page | undefined
  /** Called when it said something. */
  readonly progressed?: ((slot: Speaking) => void) | undefined
}

/** Why an attempt is to end, once somebody wants it to. */
interface Stoppable {
  stop?: Stop | undefined
}

/** What an attempt can ask of the queue; one that no queue gave out keeps its notes to itself. */
type Queue = Pick<TaskQueue["Service"], "extend"> &
  Partial<Pick<TaskQueue["Service"], "name" | "progress" | "get" | "transaction" | "inTransaction" | "codec">>

/**
 * A call that is not answered at all (a connection that was cut without a word) must not hold a handler up for ever: the
 * worker's heartbeats keep its lease meanwhile.
 */
const withinLease = <A>(
  { leaseUntil, startedAt }: ClaimedRecord,
  operation: string,
  call: Effect.Effect<A, TaskQueueError>,
) => {
  const duration = leaseUntil - startedAt
  return Effect.timeoutOrElse(call, {
    duration,
    orElse: () =>
      Effect.fail(new TaskQueueError({ operation, message: `no answer within ${duration} ms`, isRetryable: true })),
  })
}

/** Made for every attempt and looked at by few: what costs something is made when it is asked for. */
export class AttemptContext implements Attempt {
  private readonly taskQueue: Queue
  private readonly slot: Speaking & Stoppable
  private readonly record: ClaimedRecord

  private opened: Attempt["notes"] | undefined

  constructor(taskQueue: Queue, slot: Speaking & Stoppable) {
    this.taskQueue = taskQueue
    this.slot = slot
    this.record = slot.record
  }

  get id() {
    return this.record.id
  }
  get task() {
    return this.record.task
  }
  get queue() {
    return this.record.queue
  }
  get attempt() {
    return this.record.attempt
  }
  get crashes() {
    return this.record.crashes
  }
  get headers() {
    return this.record.headers
  }
  get name() {
    return Option.fromUndefinedOr(this.record.name)
  }
  get eta() {
    return DateTime.makeUnsafe(this.record.eta)
  }
  get enqueuedAt() {
    return DateTime.makeUnsafe(this.record.enqueuedAt)
  }
  get firstAttemptAt() {
    return DateTime.makeUnsafe(this.record.firstAttemptAt)
  }
  get deadline() {
    const { startedAt, timeout } = this.record
    return timeout === undefined ? Option.none() : Option.some(DateTime.makeUnsafe(startedAt + timeout))
  }
  get previousFailure() {
    const { failure } = this.record
    return failure === undefined ? Option.none() : Option.some(JSON.parse(failure) as AttemptFailure)
  }
  get members() {
    return Option.fromUndefinedOr(summaryOf(this.record))
  }
  get extend(): Attempt["extend"] {
    const { record, taskQueue } = this
    return (duration) =>
      Effect.clockWith((clock) => {
        const now = clock.currentTimeMillisUnsafe()
        const until = now + Duration.toMillis(Duration.fromInputUnsafe(duration))
        return Effect.map(
          withinLease(
            record,
            "extend",
            taskQueue.extend({ leases: [{ id: record.id, token: record.token }], until, now }),
          ),
          ([outcome]) => outcome !== "LeaseLost",
        )
      })
  }
  get progress(): Attempt["progress"] {
    return (progress) =>
      Effect.sync(() => {
        this.page.say(progress)
        this.slot.progressed?.(this.slot)
      })
  }
  get notes(): Attempt["notes"] {
    this.opened ??= this.open()
    return this.opened
  }

  private open(): Attempt["notes"] {
    const { record } = this
    const { codec } = this.taskQueue
    const keeping = this.keeping()
    const kept =
      keeping === undefined
        ? heldNotes(this.page, () => this.slot.progressed?.(this.slot))
        : keptNotes(this.page, keeping)
    return {
      ...kept,
      get: (key) => Effect.flatMap(kept.get(key), (found) => readNote(codec, key, found, record)),
      set: (key, value) => Effect.flatMap(storeNote(codec, key, value, record), (stored) => kept.set(key, stored)),
      once: (key, effect) =>
        kept.once(
          key,
          Effect.flatMap(effect, ({ note, value }) =>
            note === undefined
              ? Effect.succeed({ value })
              : Effect.map(storeNote(codec, key, note.json, record), (json) => ({ value, note: { json } })),
          ),
        ),
    }
  }
  private get page(): Page {
    this.slot.page ??= new Page(this.record.progress)
    return this.slot.page
  }
  private keeping(): Keeping | undefined {
    const { record, slot, taskQueue } = this
    const { get, inTransaction, name = "", progress: note, transaction } = taskQueue
    if (note === undefined || get === undefined) return undefined
    return {
      name,
      transaction,
      inTransaction,
      progressed: () => slot.progressed?.(slot),
      told: Effect.suspend(() => withinLease(record, "progress", slot.page?.telling?.await ?? Effect.void)),
      read: Effect.clockWith((clock) =>
        Effect.map(
          withinLease(record, "get", get({ ids: [record.id], now: clock.currentTimeMillisUnsafe() })),
          ([found]) => found?.progress,
        ),
      ),
      write: (progress) =>
        Effect.clockWith((clock) => {
          const updates = [{ id: record.id, token: record.token, progress }]
          const noted = withinLease(record, "progress", note({ updates, now: clock.currentTimeMillisUnsafe() }))
          return Effect.flatMap(noted, ([outcome]) => {
            if (outcome === "Recorded") return Effect.void
            slot.stop ??= "leaseLost"
            return Effect.interrupt
          })
        }),
    }
  }
}
