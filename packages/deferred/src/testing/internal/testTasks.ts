/**
 * Running records one by one when the test says so, by the code that a worker runs them with.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { type Known, makeKnown, runAttempt, type Slot } from "../../internal/worker/attempt.ts"
import { makeProgress } from "../../internal/worker/progress.ts"
import type * as Task from "../../Task.ts"
import { isTaskGroup, type TaskGroup } from "../../TaskGroup.ts"
import * as TaskHandler from "../../TaskHandler.ts"
import type { Settlement, TaskQueue, TaskQueueError } from "../../TaskQueue.ts"
import type { AttemptFailure, TaskRecord } from "../../TaskRecord.ts"
import type { Options, Outcome, Ran } from "../TestTasks.ts"
import type { FaultyDriver } from "./faults.ts"
import type { Pace } from "./pace.ts"

/** Nothing was due; when something may be. */
export interface Idle {
  readonly nextAt: number | undefined
}

export interface Runner {
  /** Runs the first record that is due. */
  readonly next: (pace: Pace) => Effect.Effect<Ran | Idle, TaskQueueError>
  /** How many records of these tasks have not ended. */
  readonly left: Effect.Effect<number, TaskQueueError>
  /** Whether what is to come may concern these tasks at all: the time that a queue names may be that of a foreign lease. */
  readonly isWaiting: Effect.Effect<boolean, TaskQueueError>
}

/** So often a settlement that the driver refuses is tried again: no time passes in between. */
const settleTimes = 10

export const makeRunner = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  faulty: FaultyDriver,
  options: Options<ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>,
) {
  const known = yield* knownTasks(
    options.tasks.flatMap((task) => (isTaskGroup<ReadonlyArray<Task.Any>>(task) ? task.members : [task])),
    queue.codec,
  )
  const worker = options.id ?? "test"
  const lease = Duration.toMillis(Duration.fromInputUnsafe(options.lease ?? "30 seconds"))
  const tasks = [...known].map(([name, { task }]) => ({ name, maxVersion: task.settings.version }))

  const claim = Effect.fnUntraced(function* (pace: Pace) {
    const params = { tasks, targets: [...faulty.targets], lease, worker }
    const started = pace.clock.currentTimeMillisUnsafe()
    // What a crash left behind comes back here, so that it has its place in the order below.
    yield* faulty.raw.claim({ ...params, queues: [], now: started })
    let nextAt: number | undefined
    for (const name of yield* queuesInOrder(faulty, known, started)) {
      const now = pace.clock.currentTimeMillisUnsafe()
      const result = yield* pace.call(queue.claim({ ...params, queues: [{ name, limit: 1 }], now }))
      const inVain = faulty.claimedInVain(worker)
      if (inVain !== undefined) return { record: inVain, crashed: true }
      if (result.records[0] !== undefined) return { record: result.records[0], crashed: false }
      if (result.nextAt !== undefined) nextAt = Math.min(nextAt ?? Number.POSITIVE_INFINITY, result.nextAt)
    }
    return { nextAt }
  })

  const next = (pace: Pace): Effect.Effect<Ran | Idle, TaskQueueError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const claimed = yield* restore(claim(pace))
        if (!("record" in claimed)) return claimed
        const { record } = claimed
        if (claimed.crashed) return { record, exit: undefined, outcome: { _tag: "Crash", when: "beforeHandler" } }
        let exit: Exit.Exit<unknown, unknown> | undefined
        const slot: Slot = {
          record,
          known: watched(known.get(record.task)!, pace.clock, (ended) => {
            exit = ended
          }),
          stop: undefined,
          fiber: undefined,
        }
        const begun = pace.clock.currentTimeMillisUnsafe()
        queue.events.started(record, worker, begun)
        const { settlement, waited } = yield* Effect.scoped(attempt(queue, slot, (fiber) => restore(pace.await(fiber))))
        queue.events.ended(record, worker, settlement, pace.clock.currentTimeMillisUnsafe() - begun)
        if (Exit.isFailure(waited)) {
          // The test gave up: the record is given back past all faults, for there is nobody left to meet them.
          const settlements = settlement === undefined ? [] : [settlement]
          yield* faulty.raw.settle({ settlements, now: pace.clock.currentTimeMillisUnsafe() })
          return yield* waited
        }
        return { record, exit, outcome: yield* restore(settle(pace, settlement, exit)) }
      }),
    )

  const settle = Effect.fnUntraced(function* (
    pace: Pace,
    settlement: Settlement | undefined,
    exit: Exit.Exit<unknown, unknown> | undefined,
  ): Effect.fn.Return<Outcome> {
    if (settlement === undefined) return { _tag: "LeaseLost" }
    const call = Effect.suspend(() =>
      pace.call(queue.settle({ settlements: [settlement], now: pace.clock.currentTimeMillisUnsafe() })),
    )
    const settled = yield* Effect.result(
      Effect.retry(call, { times: settleTimes - 1, while: (error) => error.isRetryable }),
    )
    if (settled._tag === "Failure") return { _tag: "Unsettled", error: settled.failure }
    if (faulty.crashed(settlement)) return { _tag: "Crash", when: "afterHandler" }
    if (settled.success[0] === "LeaseLost") return { _tag: "LeaseLost" }
    return outcomeOf(settlement, exit)
  })

  const left = Effect.gen(function* () {
    const counts = yield* faulty.raw.counts({ now: yield* Clock.currentTimeMillis })
    return counts
      .filter(({ state, task }) => known.has(task) && isWaitingOrRunning(state))
      .reduce((sum, { count }) => sum + count, 0)
  })

  // Counting looks at every record, ended ones too, so only if there is a foreign lease.
  const isWaiting = Effect.suspend(() => {
    for (const { task } of faulty.held()) if (!known.has(task)) return Effect.map(left, (count) => count > 0)
    return Effect.succeed(true)
  })

  return { next, left, isWaiting } satisfies Runner
})

/** The attempt from its first step to its settlement; whoever stops waiting for it interrupts and releases it. */
const attempt = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  slot: Slot,
  wait: (fiber: Fiber.Fiber<Settlement | undefined>) => Effect.Effect<unknown>,
) {
  const stop = (why: NonNullable<Slot["stop"]>) => {
    slot.stop ??= why
    slot.fiber?.interruptUnsafe()
  }
  // As a worker, which hears of cancellations while it runs something.
  const changes = yield* queue.changes
  yield* Effect.forkScoped(
    Stream.runForEach(changes, (change) =>
      Effect.sync(() => {
        if (change._tag === "CancelRequested" && change.ids.includes(slot.record.id)) stop("cancel")
      }),
    ),
  )
  const progressed = yield* makeProgress(queue)
  const fiber = runAttempt(queue, Object.assign(slot, { progressed }))
  slot.fiber = fiber
  const waited = yield* Effect.exit(wait(fiber))
  if (Exit.isFailure(waited)) stop("shutdown")
  // It takes no interruption beyond its handler's, so it always has a settlement.
  return { settlement: yield* Fiber.join(fiber), waited: waited as Exit.Exit<never> }
})

/** The handler with somebody who looks at its exit, under the clock of who runs it. */
const watched = (known: Known, clock: Clock.Clock, ended: (exit: Exit.Exit<unknown, unknown>) => void): Known => ({
  ...known,
  context: Context.add(known.context, Clock.Clock, clock),
  handler: {
    ...known.handler,
    execute: (params) =>
      Effect.onExit(known.handler.execute(params), (exit) =>
        Effect.sync(() => {
          ended(exit)
        }),
      ),
  },
})

const outcomeOf = (settlement: Settlement, exit: Exit.Exit<unknown, unknown> | undefined): Outcome => {
  switch (settlement._tag) {
    case "Succeed":
      return { _tag: "Succeed", value: exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined }
    case "Retry":
      return { _tag: "Retry", eta: settlement.eta, failure: failureOf(settlement.failure) }
    case "Snooze":
      return { _tag: "Snooze", eta: settlement.eta }
    case "Bury": {
      const { failure, reason } = settlement
      return { _tag: "Bury", reason, failure: failure === undefined ? undefined : failureOf(failure) }
    }
    default:
      return { _tag: settlement._tag }
  }
}

const failureOf = (text: string): AttemptFailure => JSON.parse(text) as AttemptFailure

/** The tasks by every name that records of theirs may have, as a worker knows them. */
const knownTasks = Effect.fnUntraced(function* (tasks: ReadonlyArray<Task.Any>, codec: Known["codec"]) {
  const known = new Map<string, Known>()
  const base = Context.omit(Scope.Scope, Tracer.ParentSpan)(yield* Effect.context<never>())
  for (const task of tasks) {
    const handler = yield* TaskHandler.key(task.taskName)
    const one = makeKnown(task, handler, { base, codec })
    for (const name of [task.taskName, ...task.settings.aliases]) known.set(name, one)
  }
  return known
})

/**
 * The queues, the one with the first due record first: the order that the contract has within a queue, over all of them.
 * Each queue itself then says which of its records is claimed, and whether its limits allow one.
 */
const queuesInOrder = Effect.fnUntraced(function* (
  { queues, raw }: FaultyDriver,
  known: ReadonlyMap<string, Known>,
  now: number,
) {
  if (queues.size <= 1) return [...queues]
  const first = new Map<string, TaskRecord>()
  let cursor: string | undefined
  do {
    const page = yield* raw.find({ state: "ready", limit: 1_000, cursor, now })
    for (const record of page.records) {
      const before = first.get(record.queue)
      if (known.has(record.task) && (before === undefined || comesBefore(record, before))) {
        // Set anew, so that the map keeps the order of insertion of these records.
        first.delete(record.queue)
        first.set(record.queue, record)
      }
    }
    cursor = page.cursor
  } while (cursor !== undefined)
  const heads = [...first.values()]
  const ordered = heads.sort((left, right) => (comesBefore(left, right) ? -1 : comesBefore(right, left) ? 1 : 0))
  return [...new Set([...ordered.map(({ queue }) => queue), ...queues])]
})

const comesBefore = (left: TaskRecord, right: TaskRecord): boolean =>
  left.priority !== right.priority ? left.priority > right.priority : left.eta < right.eta

const isWaitingOrRunning = (state: TaskRecord["state"]): boolean =>
  state === "scheduled" || state === "ready" || state === "running"

/** What `deferred` lists: whatever the order of names, in the order in which the records came. */
export const recordsOf = Effect.fnUntraced(function* (
  { raw }: FaultyDriver,
  task: Task.Any,
  states: ReadonlyArray<TaskRecord["state"]> | "all" | undefined,
) {
  const now = yield* Clock.currentTimeMillis
  const names = new Set([task.taskName, ...task.settings.aliases])
  const wanted = (state: TaskRecord["state"]) =>
    states === undefined ? isWaitingOrRunning(state) : states === "all" || states.includes(state)
  const found: Array<TaskRecord> = []
  let cursor: string | undefined
  do {
    const page = yield* raw.find({ limit: 1_000, cursor, now })
    found.push(...page.records.filter((record) => names.has(record.task) && wanted(record.state)))
    cursor = page.cursor
  } while (cursor !== undefined)
  return found
})
