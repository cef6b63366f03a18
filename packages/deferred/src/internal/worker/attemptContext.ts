/**
 * What a handler knows about its attempt, over the claimed record.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { TaskContext } from "../../TaskContext.ts"
import type { ClaimedRecord, TaskQueue } from "../../TaskQueue.ts"
import type { AttemptFailure } from "../../TaskRecord.ts"

type Attempt = TaskContext["Service"]

/** What a handler's progress is written to. */
export interface Speaking {
  readonly record: ClaimedRecord
  /** What the handler said last and nobody has noted yet. */
  progress?: string | undefined
  /** Called when it said something. */
  readonly progressed?: (() => void) | undefined
}

/** Made for every attempt and looked at by few: what costs something is made when it is asked for. */
export class AttemptContext implements Attempt {
  private readonly taskQueue: Pick<TaskQueue["Service"], "extend">
  private readonly slot: Speaking
  private readonly record: ClaimedRecord

  constructor(taskQueue: Pick<TaskQueue["Service"], "extend">, slot: Speaking) {
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
  get extend(): Attempt["extend"] {
    const { record, taskQueue } = this
    return (duration) =>
      Effect.clockWith((clock) => {
        const now = clock.currentTimeMillisUnsafe()
        const until = now + Duration.toMillis(Duration.fromInputUnsafe(duration))
        return Effect.map(
          taskQueue.extend({ leases: [{ id: record.id, token: record.token }], until, now }),
          ([outcome]) => outcome !== "LeaseLost",
        )
      })
  }
  get progress(): Attempt["progress"] {
    const { slot } = this
    return (progress) =>
      Effect.sync(() => {
        slot.progress = JSON.stringify(progress)
        slot.progressed?.()
      })
  }
}
