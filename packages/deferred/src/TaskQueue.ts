/**
 * The task queue: the storage engine behind all queues, as a service with interchangeable drivers (memory, SQLite,
 * Postgres, ...). A driver implements `Driver`, its layer is `TaskQueue.layer(driver)`, and `TaskQueueTest.suite` of
 * `@outlive/deferred/testing` checks that it keeps the contract.
 *
 * The contract, which every driver keeps (DESIGN 4.5):
 *
 * 1. Nothing that `enqueue` acknowledged is lost; nothing leaves without a terminal state.
 * 2. At most one live lease on a record. Every settlement and extension is fenced by the lease's token; a late one
 *    changes nothing and says `LeaseLost`.
 * 3. A record whose lease expired becomes claimable again without any action of its old worker; its crash count rises.
 * 4. Claims from a queue come in order: higher priority first, then eta, then insertion; or by ageing, see `QueueLimits`.
 *    Where records have keys, the keys take turns, see `claim`.
 * 5. A queue's `rate`, `burst`, `maxConcurrent` and `paused`, and those of each key, hold over all workers together. Slots
 *    are a count of live leases, so a crash cannot leak one.
 * 6. `now` is a parameter: whoever calls reads its own `Clock`, so a test clock drives every driver.
 * 7. One bad record never stops the others; a failed call never half-applies.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Capabilities } from "./Capabilities.ts"
import { type Endings, makeEndings } from "./internal/endings.ts"
import { makeTaskEvents } from "./internal/taskEvents.ts"
import type { KeyOverride, KeyStatistics } from "./KeyLimits.ts"
import { PayloadCodec } from "./PayloadCodec.ts"
import { PayloadStore } from "./PayloadStore.ts"
import type { QueueLimits, QueueStatistics } from "./QueueLimits.ts"
import type {
  ExtendOutcome,
  ExtendParams,
  Lease,
  ProgressOutcome,
  ProgressUpdate,
  Settlement,
  SettleOutcome,
} from "./Settlement.ts"
import type { TaskEvents } from "./TaskEvent.ts"
import { makeGenerator, type TaskId } from "./TaskId.ts"
import type { Attempt, DeadReason, NewRecord, TaskRecord, TaskState } from "./TaskRecord.ts"
import type { WorkerInfo } from "./WorkerInfo.ts"

export type { ExtendOutcome, ExtendParams, Lease, ProgressOutcome, ProgressUpdate, Settlement, SettleOutcome }

/**
 * The storage engine failed: the disk is full, the database does not answer, a file is not what it should be. What was
 * asked has not happened, or may have happened when the connection broke before the answer came.
 *
 * @since 0.1.0
 */
export class TaskQueueError extends Schema.TaggedError<TaskQueueError>()("TaskQueueError", {
  /** The driver's method, or `open`. */
  operation: Schema.String,
  message: Schema.String,
  /** Whether the same call may work later without anybody mending anything. */
  isRetryable: Schema.Boolean,
  /**
   * What callers may want to tell apart:
   *
   * - `NotSupported`: this storage engine cannot do it, ever (`capabilities`); the message says what to do instead
   * - `TooLarge`: a record is larger than this storage engine takes
   */
  reason: Schema.optionalKey(Schema.Literals(["NotSupported", "TooLarge"])),
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** What became of a record that was given to `enqueue`. @since 0.1.0 */
export type EnqueueOutcome =
  | { readonly _tag: "Inserted"; readonly id: TaskId }
  /**
   * The name is taken and `onDuplicate` is `ignore`: the record that has it. Or another record holds the unique key: that
   * one. Or a record with this very id is there already: to enqueue again what may have been enqueued is safe.
   */
  | { readonly _tag: "Existing"; readonly id: TaskId }
  /** The name was taken by a waiting record and `onDuplicate` is `replace`: that record, now with the new content. */
  | { readonly _tag: "Replaced"; readonly id: TaskId }
  /** The name is taken by a record that has not ended (Q47). */
  | { readonly _tag: "Duplicate"; readonly id: TaskId }
  /** The name belonged to a record that has ended, until `until` (Q48). */
  | { readonly _tag: "Tombstoned"; readonly until: number }

/** @since 0.1.0 */
export interface ClaimParams {
  /** The queues to claim from and how many records at the most of each. */
  readonly queues: ReadonlyArray<{ readonly name: string; readonly limit: number }>
  /** What the worker knows: newer versions and other tasks stay where they are. */
  readonly tasks: ReadonlyArray<{ readonly name: string; readonly maxVersion: number }>
  /** Records without a target, and those with one of these. */
  readonly targets: ReadonlyArray<string>
  /** Milliseconds; a record's own `lease` comes first. */
  readonly lease: number
  readonly worker: string
  readonly now: number
}

/** @since 0.1.0 */
export interface ClaimResult {
  /** In the order of the contract within each queue. */
  readonly records: ReadonlyArray<ClaimedRecord>
  /**
   * When the next record that this call could have claimed will be claimable, as far as is known now: the earliest eta,
   * lease expiry or rate token. `undefined`: nothing is waiting. Never later than that, and never in the past; it may be
   * earlier, as when a lease ends whose record is for others.
   */
  readonly nextAt: number | undefined
}

/** A record with the lease just given on it. @since 0.1.0 */
export interface ClaimedRecord extends TaskRecord {
  readonly state: "running"
  readonly worker: string
  readonly leaseUntil: number
  readonly startedAt: number
  readonly firstAttemptAt: number
  /** The fencing token: it rises with every claim of the record. */
  readonly token: number
}

/**
 * - `Cancelled`: it was waiting and never runs
 * - `Requested`: it is running; its worker is told and ends it
 * - `TooLate`: it has ended
 *
 * @since 0.1.0
 */
export type CancelOutcome = "Cancelled" | "Requested" | "TooLate" | "NotFound"

/** `NotDead`: only dead letters are redriven. @since 0.1.0 */
export type RedriveOutcome = "Redriven" | "NotDead" | "NotFound"

/** `Running`: a running record is cancelled first. @since 0.1.0 */
export type RemoveOutcome = "Removed" | "Running" | "NotDead" | "NotFound"

/** Which records; what is left out does not matter. @since 0.1.0 */
export interface Filter {
  readonly queue?: string | undefined
  readonly task?: string | undefined
  readonly state?: TaskState | undefined
  readonly reason?: DeadReason | undefined
  /** The error tag of the last failure (`AttemptFailure.tag`). */
  readonly tag?: string | undefined
  /** Ended then or later. */
  readonly endedAfter?: number | undefined
  /** Ended before then. */
  readonly endedBefore?: number | undefined
  /** Records whose name starts so. */
  readonly namePrefix?: string | undefined
  /** Records that this one waits for, or waited for. */
  readonly memberOf?: TaskId | undefined
}

/** @since 0.1.0 */
export interface FindParams extends Filter {
  /** Where the page before ended. */
  readonly cursor?: string | undefined
  readonly limit: number
  readonly now: number
}

/** One page, in the order of insertion, or of the ids, which begin with the time; members by insertion. @since 0.1.0 */
export interface Page {
  readonly records: ReadonlyArray<TaskRecord>
  /** `undefined` when this is the last page. */
  readonly cursor: string | undefined
}

/** @since 0.1.0 */
export interface Count {
  readonly queue: string
  readonly task: string
  readonly state: TaskState
  readonly reason: DeadReason | undefined
  /** The error tag of the last failure; of dead letters only. */
  readonly tag: string | undefined
  readonly count: number
}

/**
 * A hint that something changed: it may be lost, doubled or late; looking is the truth.
 *
 * @since 0.1.0
 */
export type Change =
  /** Records of these queues may be claimable, now or at a new earliest time; also when a `maxConcurrent` slot came free. */
  | { readonly _tag: "Waiting"; readonly queues: ReadonlyArray<string> }
  /** These records have ended. */
  | { readonly _tag: "Ended"; readonly ids: ReadonlyArray<TaskId> }
  /** Attempts of these records told how far they have come. */
  | { readonly _tag: "Progress"; readonly ids: ReadonlyArray<TaskId> }
  /** These running records are to be cancelled. */
  | { readonly _tag: "CancelRequested"; readonly ids: ReadonlyArray<TaskId> }
  /** Another process changed something. */
  | { readonly _tag: "Elsewhere" }

/**
 * What a storage engine implements. Every method takes and gives plain data; outcomes stand in the order of what was
 * asked. A method either happens as a whole or fails with `TaskQueueError` and has changed nothing (unless the connection
 * broke before the answer). Interrupting a caller leaves the call done or not done, never half.
 *
 * @since 0.1.0
 */
export interface Driver {
  /** For logs and people: `memory`, `sqlite`, ... */
  readonly name: string
  readonly capabilities: Capabilities
  /** Where it stores large payloads apart. Default: nowhere, they are refused. */
  readonly payloads?: PayloadStore["Service"] | undefined
  /**
   * Where `capabilities.transactional`: runs an effect in a transaction of the application's database which the calls of
   * this driver inside it join, committed when it succeeds and rolled back when it does not.
   */
  readonly transaction?:
    | (<A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | TaskQueueError, R>)
    | undefined
  /** Whether a call made here would join a transaction. Default: never. */
  readonly inTransaction?: Effect.Effect<boolean> | undefined
  /** defer ──► scheduled | ready. Order of insertion is the order given; names meet each other within one call too. */
  readonly enqueue: (params: {
    readonly records: ReadonlyArray<NewRecord>
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<EnqueueOutcome>, TaskQueueError>
  /**
   * ready ──► running. Counts the attempt and gives a lease of the record's own length, else the given one. Before that,
   * in all queues, it takes back expired leases (crash count + 1; above `maxCrashes` dead `Crashed`; cancelled when that
   * was asked) and buries what is past `expiresAt`: first the leases, then the others, each in the order of insertion.
   *
   * Turns: a queue has a virtual time, from 0, and each of its keys a place in it, that of the virtual time when nothing is
   * known of the key; records without a key are one key more, which has weight 1, no limits of its own and comes before all
   * others by name. Of each key the first records that may start now, by the order of the contract or by `ordered`, at most as
   * many as its limits allow, have the tags `max(place, time) + i / weight` for i = 0, 1, ...; those with the smallest tags
   * start, ties by key, then by i. A key that started `n` is at `max(place, time) + n / weight` then, and the time is the
   * largest tag of all that started, if that is later. (`weight` is divided first: `base + i * (1 / weight)`.) A queue that
   * never had a record with a key knows nothing of all this. `ageing` is for records without a key.
   */
  readonly claim: (params: ClaimParams) => Effect.Effect<ClaimResult, TaskQueueError>
  /** Moves the end of leases that still hold, also when their time has passed and nobody took the record since. */
  readonly extend: (params: ExtendParams) => Effect.Effect<ReadonlyArray<ExtendOutcome>, TaskQueueError>
  /**
   * running ──► succeeded | cancelled | dead | scheduled | ready. A record that somebody asked to cancel is cancelled
   * by `Retry`, `Snooze` and `Release`. A settlement after the lease's time is good while nobody took the record.
   */
  readonly settle: (params: {
    readonly settlements: ReadonlyArray<Settlement>
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<SettleOutcome>, TaskQueueError>
  /** Notes how far running attempts have come, the last word of each. Fenced as `settle` is. */
  readonly progress: (params: {
    readonly updates: ReadonlyArray<ProgressUpdate>
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<ProgressOutcome>, TaskQueueError>
  /**
   * scheduled | ready ──► cancelled; a running one is marked and `changes` tells its worker. With a record that is held back
   * for its members go those: some thousand at once, of more the rest with the claims that follow.
   */
  readonly cancel: (params: {
    readonly ids: ReadonlyArray<TaskId>
    readonly reason: string
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<CancelOutcome>, TaskQueueError>
  /** dead ──► ready, with attempts, crashes and expiry set back; its last failure stays readable. */
  readonly redrive: (params: {
    readonly ids: ReadonlyArray<TaskId>
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<RedriveOutcome>, TaskQueueError>
  /**
   * Deletes what does not run, or only what is dead, at one look. The name of one that had not ended is free at once. What
   * that means for others (`memberOf`) happens at the time of the caller's `Clock`, here and in `purge`.
   */
  readonly remove: (params: {
    readonly ids: ReadonlyArray<TaskId>
    readonly only?: "dead" | undefined
  }) => Effect.Effect<ReadonlyArray<RemoveOutcome>, TaskQueueError>
  /** Deletes what waits in a queue (not running, not ended); how many. */
  readonly purge: (params: { readonly queue: string }) => Effect.Effect<number, TaskQueueError>
  readonly get: (params: {
    readonly ids: ReadonlyArray<TaskId>
    readonly now: number
  }) => Effect.Effect<ReadonlyArray<TaskRecord | undefined>, TaskQueueError>
  /**
   * The ended attempts of records, the oldest first, at least the newest `ledgerLength` of each; none of a record that is
   * not there. They stay when a record is redriven and go when it goes, or is replaced.
   */
  readonly ledger: (params: {
    readonly ids: ReadonlyArray<TaskId>
  }) => Effect.Effect<ReadonlyArray<ReadonlyArray<Attempt>>, TaskQueueError>
  /** Which of these references into the `PayloadStore` records have. */
  readonly payloadRefs: (params: {
    readonly refs: ReadonlyArray<string>
  }) => Effect.Effect<ReadonlyArray<boolean>, TaskQueueError>
  readonly find: (params: FindParams) => Effect.Effect<Page, TaskQueueError>
  readonly counts: (params: Filter & { readonly now: number }) => Effect.Effect<ReadonlyArray<Count>, TaskQueueError>
  /** Changes the given limits of a queue and leaves its others; `undefined` lifts one. From the next claim on. */
  readonly configure: (params: {
    readonly queue: string
    readonly limits: Partial<QueueLimits>
    readonly now: number
  }) => Effect.Effect<void, TaskQueueError>
  readonly limits: (params: { readonly queue: string }) => Effect.Effect<QueueLimits, TaskQueueError>
  /** Says what holds for one key of a queue, instead of all that was said for it before; `{}`: the same as for others. */
  readonly configureKey: (params: {
    readonly queue: string
    readonly key: string
    readonly override: KeyOverride
    readonly now: number
  }) => Effect.Effect<void, TaskQueueError>
  readonly keyStatistics: (params: {
    readonly queue: string
    readonly key: string
    readonly now: number
  }) => Effect.Effect<KeyStatistics, TaskQueueError>
  /** Nothing of a queue, or of one of its keys, starts before a time, whatever was said before; one in the past resumes it. */
  readonly pauseUntil: (params: {
    readonly queue: string
    readonly key?: string | undefined
    readonly until: number
    readonly now: number
  }) => Effect.Effect<void, TaskQueueError>
  readonly statistics: (params: {
    readonly queue: string
    readonly now: number
  }) => Effect.Effect<QueueStatistics, TaskQueueError>
  /** A worker says that it is there, and how it is, until it says so again; what it said before is forgotten. */
  readonly announce: (params: {
    readonly worker: WorkerInfo
    readonly until: number
    readonly now: number
  }) => Effect.Effect<void, TaskQueueError>
  /** The worker with this id is no longer there. */
  readonly withdraw: (params: { readonly worker: string }) => Effect.Effect<void, TaskQueueError>
  /** The workers that are there, by id. */
  readonly workers: (params: { readonly now: number }) => Effect.Effect<ReadonlyArray<WorkerInfo>, TaskQueueError>
  /**
   * Deletes, at most `limit` of each: ended records past their `keep`, dead letters ended before `deadBefore`, names past
   * their tombstone, workers past their time, spacings that are over (`Latest`), and what is known of keys without an
   * override of which nothing waits, that are not paused, have a full bucket or none, and whose place is not ahead of the
   * virtual time; of those ahead it may forget all but 100,000 a queue. How many records went.
   */
  readonly prune: (params: {
    readonly now: number
    readonly deadBefore: number
    readonly limit: number
  }) => Effect.Effect<number, TaskQueueError>
  /** Subscribes: the stream has the hints from the moment on that this effect returned. A slow reader loses the oldest and never slows the queue. */
  readonly changes: Effect.Effect<Stream.Stream<Change>, never, Scope.Scope>
}

/**
 * The task queue of the program: a driver, the generator of ids, and the waiting for ends that all drivers share.
 *
 * @since 0.1.0
 */
export class TaskQueue extends Context.Service<
  TaskQueue,
  Driver & {
    /** The next id; rises strictly within this service. */
    readonly nextId: (now: number, random: () => number) => TaskId
    /**
     * Waits until a record has ended and gives it; `undefined` when there is no such record (any more). Any number of
     * waiters cost one subscription and one batched look, on every hint and every second by `Clock`.
     */
    readonly awaitEnded: (id: TaskId) => Effect.Effect<TaskRecord | undefined, TaskQueueError>
    /** What this process does with the queue's records, told to subscribers and to the metrics. */
    readonly events: TaskEvents
    /** What becomes of payloads and results on their way to the queue and back; drivers see only what comes of it. */
    readonly codec: PayloadCodec | undefined
  }
>()("outlive/deferred/TaskQueue") {}

/**
 * Makes the service from a driver. The scope holds what waits for ends. A `PayloadStore` in the context comes before the
 * driver's own; a `PayloadCodec` there is the queue's.
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  driver: Driver,
): Effect.fn.Return<TaskQueue["Service"], never, Scope.Scope> {
  const endings: Endings = yield* makeEndings(driver)
  const payloads = Option.getOrElse(yield* Effect.serviceOption(PayloadStore), () => driver.payloads)
  const events = makeTaskEvents(yield* Effect.context<never>())
  const codec = yield* PayloadCodec
  return TaskQueue.of({ ...driver, payloads, codec, nextId: makeGenerator(), awaitEnded: endings.await, events })
})

/**
 * The layer of a driver.
 *
 * @since 0.1.0
 */
export const layer = <E, R>(driver: Effect.Effect<Driver, E, R>): Layer.Layer<TaskQueue, E, Exclude<R, Scope.Scope>> =>
  Layer.effect(TaskQueue, Effect.flatMap(driver, make))
