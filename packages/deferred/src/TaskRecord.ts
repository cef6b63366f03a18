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
  /** What a record does where another one holds the key. Default: it is not stored. */
  readonly latest?: Latest | undefined
}

/**
 * The latest wins: a record takes the place of the one that waits with its key.
 *
 * - The holder is waiting: it gets the new content and keeps its id and its place in the order of insertion, as with
 *   `onDuplicate: "replace"` (`Replaced`).
 * - The holder is running, and nothing follows it yet: the record is stored and held back until the holder ends, whatever
 *   its end is, and then takes the key (`Inserted`). An attempt that is not the holder's last is: instead of waiting again,
 *   the holder is cancelled, since what it would do is out of date.
 * - The holder is running and something follows it: that gets the new content (`Replaced`).
 * - The holder has ended and holds the key still, or it is a join or a member of one (`Join`): it stays (`Existing`).
 *
 * A record that is a join or a member of one takes nobody's place either, by this or by `onDuplicate: "replace"`. A name is
 * looked at before the key.
 *
 * @since 0.1.0
 */
export interface Latest {
  /** What takes its place must not be later than then, and this time goes with the place: the limit of a debounce. */
  readonly dueBy?: number | undefined
  /**
   * Milliseconds at the least between the etas of records of this task and key, those long ended included: a new one that
   * comes too soon is later, one that takes another's place has its eta. A throttle.
   */
  readonly spacing?: number | undefined
  /**
   * What was there when the record was made, so that nothing is lost or done twice in between. A text: it takes a place
   * whose `payloadRef`, or else `payload`, is this, and else is not stored (`Existing`: whose place it would be, or the holder,
   * or itself). The empty text, which no payload is: it takes nobody's place, and is stored where there is none to take.
   */
  readonly expects?: string | undefined
}

/**
 * A record that waits for others, its members: held back until all of them have ended.
 *
 * @since 0.1.0
 */
export interface Join {
  /**
   * How many report to it: those whose `memberOf` is its id, which are enqueued with it in one call. At least 1. One that is
   * not stored then, since its name or its unique key is taken, counts as cancelled.
   */
  readonly total: number
  /**
   * What happens when a member ends otherwise than by success:
   *
   * - `continue`: nothing, the others go on
   * - `cancelSiblings`: the others are cancelled, and when all have ended the record comes to its turn
   * - `cancel`: the record itself is cancelled, with all that waits for it
   */
  readonly onFailure: "continue" | "cancelSiblings" | "cancel"
  /** `run`: when all have ended it is ready, as any other. `end`: it has succeeded, without a result or an attempt. */
  readonly afterwards: "run" | "end"
}

/** How the members of a join ended, so far. @since 0.1.0 */
export interface JoinTally extends Join {
  readonly succeeded: number
  readonly cancelled: number
  readonly dead: number
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
  /** Whom its work is for: what limits by key and turns go by (`KeyLimits`). 1 to 255 characters. */
  readonly key?: string | undefined
  /** It waits for its members. Until then its eta is `Infinity`; the one given counts from when it is released. */
  readonly join?: Join | undefined
  /**
   * The record that waits for this one. How this one ended is counted there, while that one is held back; what is removed or
   * purged counts as cancelled. A dead letter that is redriven is counted again.
   */
  readonly memberOf?: TaskId | undefined
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
  /** `Infinity` while it is held back: for its members, or for the holder of its unique key (`Latest`). */
  readonly eta: number
  readonly name: string | undefined
  readonly uniqueKey: string | undefined
  readonly key: string | undefined
  readonly memberOf: TaskId | undefined
  readonly join: JoinTally | undefined
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
