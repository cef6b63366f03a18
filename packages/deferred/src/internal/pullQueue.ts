/**
 * Leasing records and making typed handles of them.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { queuePattern } from "../DeferOptions.ts"
import type { PayloadMissing, Undecodable } from "../Outcome.ts"
import type { Buried, LeaseOptions } from "../PullQueue.ts"
import type * as Task from "../Task.ts"
import { Snooze } from "../TaskFailure.ts"
import { isTaskGroup, type TaskGroup } from "../TaskGroup.ts"
import { InvalidLease } from "../TaskLease.ts"
import type { ClaimedRecord, Settlement, SettleOutcome, TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import { loadPayload } from "./payloads.ts"
import { queueHere, readPayload } from "./storedText.ts"
import { type AnyLease, checkedDuration, makeLease, settlementOfFailure, tellEnded } from "./taskLease.ts"

type Options = LeaseOptions<ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>

export const lease = Effect.fnUntraced(function* (options: Options) {
  const checked = yield* check(options)
  const queue = yield* queueHere
  return yield* Effect.uninterruptibleMask((restore) => leaseFrom(queue, checked, restore))
})

export const leaseScoped = Effect.fnUntraced(function* (options: Options) {
  const queue = yield* queueHere
  return yield* Effect.acquireRelease(lease(options), ({ leases }) => giveBack(queue, leases), { interruptible: true })
})

const leaseFrom = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  { duration, max, known, options }: Checked,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>,
) {
  const now = yield* Clock.currentTimeMillis
  const { nextAt, records } = yield* queue.claim({
    queues: [{ name: options.queue, limit: max }],
    tasks: [...known].map(([name, { settings }]) => ({ name, maxVersion: settings.version })),
    targets: options.targets ?? [],
    lease: duration,
    worker: options.worker ?? "pull",
    now,
  })
  const given = Effect.gen(function* () {
    const asked = yield* asLongAsAsked(queue, records, now + duration, now)
    const made = yield* Effect.forEach(asked, (record) => leaseOf(queue, known.get(record.task)!, record), {
      concurrency: records.some((record) => record.payloadRef !== undefined) ? 10 : 1,
    })
    const settled = made.flatMap((one) => (one._tag === "Leased" ? [] : [one]))
    if (settled.length > 0) yield* settleAll(queue, settled)
    return {
      leases: made.flatMap((one) => (one._tag === "Leased" ? [one.lease] : [])),
      buried: made.flatMap((one) => (one._tag === "Buried" ? [one.buried] : [])),
      nextAt: Option.map(Option.fromUndefinedOr(nextAt), (at) => DateTime.makeUnsafe(at)),
    }
  })
  return yield* Effect.onExit(restore(given), (exit) =>
    Exit.isSuccess(exit) ? Effect.void : Effect.asVoid(giveBackAll(queue, records.map(releasingOf))),
  )
})

/** A record's own lease goes before the one that is claimed with, and must not go before the one that was asked for. */
const asLongAsAsked = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  records: ReadonlyArray<ClaimedRecord>,
  until: number,
  now: number,
) {
  const others = records.filter((record) => record.leaseUntil !== until)
  if (others.length > 0) yield* queue.extend({ leases: others.map(({ id, token }) => ({ id, token })), until, now })
  return records.map((record) => (record.leaseUntil === until ? record : { ...record, leaseUntil: until }))
})

type Made =
  | { readonly _tag: "Leased"; readonly lease: AnyLease }
  | {
      readonly _tag: "Buried"
      readonly buried: Buried
      readonly record: ClaimedRecord
      readonly settlement: Settlement
    }
  | { readonly _tag: "Snoozed"; readonly record: ClaimedRecord; readonly settlement: Settlement }

const leaseOf = Effect.fnUntraced(function* (queue: TaskQueue["Service"], task: Task.Any, record: ClaimedRecord) {
  const decoded = loadPayload(queue, record).pipe(
    Effect.flatMap((stored) => readPayload(queue.codec, stored, record)),
    Effect.flatMap((text) => task.settings.codec.decodePayload(record.version, text)),
  )
  return yield* Effect.matchEffect(decoded, {
    onSuccess: (payload) => Effect.succeed<Made>({ _tag: "Leased", lease: makeLease(queue, task, record, payload) }),
    onFailure: (error) => refused(queue, task, record, error),
  })
})

const refused = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  task: Task.Any,
  record: ClaimedRecord,
  error: Undecodable | PayloadMissing | TaskQueueError,
) {
  if (error._tag === "TaskQueueError") {
    yield* Effect.logWarning(
      `the payload of ${record.id} could not be loaded, trying again in 10 seconds: ${error.message}`,
    )
    const settlement = yield* settlementOfFailure(queue, task, record, Snooze.for("10 seconds"))
    return { _tag: "Snoozed", record, settlement } satisfies Made
  }
  const settlement = yield* settlementOfFailure(queue, task, record, error)
  const buried = { id: record.id, task: record.task, reason: error._tag, message: error.message }
  return { _tag: "Buried", buried, record, settlement } satisfies Made
})

const settleAll = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  some: ReadonlyArray<{ readonly record: ClaimedRecord; readonly settlement: Settlement }>,
) {
  const now = yield* Clock.currentTimeMillis
  yield* queue.settle({ settlements: some.map(({ settlement }) => settlement), now })
  for (const { record, settlement } of some) tellEnded(queue, record, settlement, now)
})

const giveBack = Effect.fnUntraced(function* (queue: TaskQueue["Service"], leases: ReadonlyArray<AnyLease>) {
  const held = leases.filter((one) => !one.isOver())
  const settlements = held.map((one) => one.releasing)
  const outcomes = yield* giveBackAll(queue, settlements)
  const now = yield* Clock.currentTimeMillis
  held.forEach((one, index) => {
    if (outcomes[index] === "Settled") one.released(now)
  })
})

/** What cannot be given back expires. */
const giveBackAll = Effect.fnUntraced(function* (queue: TaskQueue["Service"], settlements: ReadonlyArray<Settlement>) {
  if (settlements.length === 0) return []
  const now = yield* Clock.currentTimeMillis
  return yield* Effect.catch(queue.settle({ settlements, now }), (error) =>
    Effect.logWarning(
      `leased records (${settlements.length}) could not be given back: ${error.message}; they are ready again when ` +
        "their leases have expired",
    ).pipe(
      Effect.annotateLogs({ taskIds: settlements.slice(0, 10).map(({ id }) => id) }),
      Effect.as<ReadonlyArray<SettleOutcome>>([]),
    ),
  )
})

const releasingOf = ({ id, token }: ClaimedRecord): Settlement => ({ id, token, _tag: "Release" })

interface Checked {
  readonly options: Options
  readonly duration: number
  readonly max: number
  /** The tasks by every name that records of theirs may have. */
  readonly known: ReadonlyMap<string, Task.Any>
}

const check = Effect.fnUntraced(function* (options: Options) {
  const { max = 1, queue } = options
  const invalid = (field: InvalidLease["field"], reason: string) =>
    Effect.fail(new InvalidLease({ queue, field, reason }))
  if (!queuePattern.test(queue)) return yield* invalid("queue", `must match ${queuePattern.source}`)
  if (!(Number.isInteger(max) && max >= 1 && max <= 1000)) {
    return yield* invalid("max", `must be a whole number from 1 to 1,000 (Q9), and is ${max}`)
  }
  const duration = yield* checkedDuration(queue, options.duration)
  const known = new Map<string, Task.Any>()
  for (const listed of options.tasks) {
    for (const task of isTaskGroup<ReadonlyArray<Task.Any>>(listed) ? listed.members : [listed]) {
      for (const name of [task.taskName, ...task.settings.aliases]) {
        if (known.has(name)) return yield* invalid("tasks", `must not have a name twice, and have ${name}`)
        known.set(name, task)
      }
    }
  }
  if (known.size === 0) return yield* invalid("tasks", "must not be empty")
  return { options, duration, max, known } satisfies Checked
})
