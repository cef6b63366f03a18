/**
 * A task record: one deferred task as a queue stores it. It knows JSON text, ids and milliseconds, nothing of schemas or
 * handlers; `Task` is the typed side.
 *
 * @since 0.1.0
 */
import type { TaskId } from "./TaskId.ts"

/**
 * Where a record is in its life (`docs/task-states.md`). `scheduled` and `ready` are the two faces of a waiting record:
 * it is `ready` from its `eta` on, by the clock of whoever looks, without anybody writing that down.
 *
 * @since 0.1.0
 */
export type TaskState = "scheduled" | "ready" | "running" | "succeeded" | "cancelled" | "dead"

/**
 * Why a record is a dead letter.
 *
 * - `PermanentFailure`: the handler failed with `PermanentTaskFailure`, or with an error whose retry rule is `"never"`
 * - `RetriesExhausted`: the retry policy allows no further attempt
 * - `Undecodable`: the payload does not decode with the task's schema
 * - `UnknownTask`: a pushed record names a task that the receiver does not know
 * - `Expired`: not started by its `expiresAt`
 * - `Crashed`: its worker died (its lease expired) more often than `maxCrashes`
 * - `PayloadMissing`: the payload was stored apart and is gone
 *
 * @since 0.1.0
 */
export type DeadReason =
  | "PermanentFailure"
  | "RetriesExhausted"
  | "Undecodable"
  | "UnknownTask"
  | "Expired"
  | "Crashed"
  | "PayloadMissing"

/**
 * The states in which a record holds its unique key. `waiting` is `scheduled` and `ready` together: which of the two it is
 * nobody writes down, so a key cannot be for one of them.
 *
 * @since 0.1.0
 */
export type UniqueWhile = "waiting" | "running" | "succeeded" | "cancelled" | "dead"

/**
 * A key that at most one record of a task holds, in whichever queues they are.
 *
 * @since 0.1.0
 */
export interface Unique {
  readonly key: string
  /** `waiting` is always among them. */
  readonly while: ReadonlyArray<UniqueWhile>
}

/**
 * What `enqueue` is given. Times are epoch milliseconds, durations milliseconds.
 *
 * @since 0.1.0
 */
export interface NewRecord {
  readonly id: TaskId
  /** The task's stable name. */
  readonly task: string
  /** The payload's version, counted from 1: a worker claims only versions it knows. */
  readonly version: number
  readonly queue: string
  /** The encoded payload: JSON text; empty when it is stored apart. */
  readonly payload: string
  /** Where the payload is in the `PayloadStore`, when it is stored apart. */
  readonly payloadRef?: string | undefined
  readonly headers: Readonly<Record<string, string>>
  /** Higher first; any finite number. */
  readonly priority: number
  /** Not before. A time in the past means now. */
  readonly eta: number
  /** The name that makes it unique within its queue, while it lives and for `tombstone` milliseconds after. */
  readonly name?: string | undefined
  /** What to do when the name is taken; without a name it means nothing. */
  readonly onDuplicate: "fail" | "ignore" | "replace"
  /** Milliseconds for which the name stays taken after the record ended (Q14). */
  readonly tombstone: number
  /**
   * While another record holds the key, this one is not stored. A record holds its key until it comes into a state that is
   * not in `while`, and then no more, also when it is tried again. A dead letter that is redriven takes it again if it is
   * free, and goes on without it if not.
   */
  readonly unique?: Unique | undefined
  /** Only workers that carry this target claim it. */
  readonly target?: string | undefined
  /** Never claimed by then: dead `Expired`. Once claimed it no longer expires. */
  readonly expiresAt?: number | undefined
  /** The retry policy of this record as JSON text; it replaces the task's whole (Q88). */
  readonly retry?: string | undefined
  /** Milliseconds one attempt may take; replaces the task's. */
  readonly timeout?: number | undefined
  /** Milliseconds of its leases; replaces the worker's. */
  readonly lease?: number | undefined
  /** How often its worker may die before the record is dead `Crashed`. */
  readonly maxCrashes: number
  /** Milliseconds for which it stays, with its result, after it succeeded or was cancelled. 0 removes it at once, `Infinity` keeps it. */
  readonly keep: number
}

/**
 * What a queue knows of a record.
 *
 * @since 0.1.0
 */
export interface TaskRecord {
  readonly id: TaskId
  readonly task: string
  readonly version: number
  readonly queue: string
  readonly state: TaskState
  readonly payload: string
  readonly payloadRef: string | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly priority: number
  readonly eta: number
  readonly name: string | undefined
  readonly uniqueKey: string | undefined
  readonly target: string | undefined
  readonly expiresAt: number | undefined
  readonly retry: string | undefined
  readonly timeout: number | undefined
  readonly lease: number | undefined
  readonly maxCrashes: number
  readonly keep: number
  readonly enqueuedAt: number
  /** Attempts so far, the running one included; interruption and snoozing give theirs back. */
  readonly attempt: number
  /** How often a worker died with it. */
  readonly crashes: number
  readonly firstAttemptAt: number | undefined
  readonly startedAt: number | undefined
  /** Who runs it, or ran it last. */
  readonly worker: string | undefined
  readonly leaseUntil: number | undefined
  /** Somebody asked to cancel it while it was running, and why. */
  readonly cancelRequested: string | undefined
  readonly endedAt: number | undefined
  /** Only of dead letters. */
  readonly reason: DeadReason | undefined
  /** The encoded exit: JSON text. Of succeeded and dead records. */
  readonly result: string | undefined
  /** How the last attempt that failed did so: JSON text of `AttemptFailure`. */
  readonly failure: string | undefined
  /** How far the last attempt that said so had come: JSON text of `Progress`. */
  readonly progress: string | undefined
}

/**
 * How an attempt failed, as a queue keeps it for people and for the next attempt: the tag and message of a typed error
 * or of a defect, without the payload.
 *
 * @since 0.1.0
 */
export interface AttemptFailure {
  readonly attempt: number
  readonly at: number
  readonly kind: "failure" | "defect" | "timeout" | "crash"
  readonly tag: string
  readonly message: string
}

/**
 * An attempt that has ended, as the ledger of its record has it.
 *
 * @since 0.1.0
 */
export interface Attempt {
  /** As it was counted: attempts that were given back have the number of the one after them. */
  readonly attempt: number
  readonly worker: string
  readonly startedAt: number
  readonly endedAt: number
  /** How it was settled; `Crash`: its lease expired. */
  readonly outcome: "Succeed" | "Retry" | "Snooze" | "Release" | "Cancel" | "Bury" | "Crash"
  /** JSON text of `AttemptFailure`. */
  readonly failure: string | undefined
}

/** How many attempts a ledger keeps at the least, the newest. @since 0.1.0 */
export const ledgerLength = 50
