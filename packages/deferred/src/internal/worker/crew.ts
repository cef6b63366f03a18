/**
 * A worker's moving parts put together: lanes and slots, claims, attempts, settlements, heartbeats, drain.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { InvalidTaskOptions } from "../../DeferOptions.ts"
import type { Stop } from "../../Outcome.ts"
import type { PayloadCodec } from "../../PayloadCodec.ts"
import type * as Task from "../../Task.ts"
import * as TaskHandler from "../../TaskHandler.ts"
import type { Change, ClaimedRecord, TaskQueue } from "../../TaskQueue.ts"
import type { Options } from "../../Worker.ts"
import type { WorkerInfo } from "../../WorkerInfo.ts"
import { toMillis } from "../millis.ts"
import { type Known, makeKnown, runAttempt, type Slot } from "./attempt.ts"
import { type Lane, makeClaims } from "./claims.ts"
import { makeHeartbeats } from "./heartbeats.ts"
import { maintenance } from "./maintenance.ts"
import { makePresence } from "./presence.ts"
import { makeProgress } from "./progress.ts"
import { makeSettlements } from "./settlements.ts"
import { makeAnswers } from "./untilAnswered.ts"

/** Milliseconds before a queue that tells nothing is looked at again after it had something: others may be adding to it now. */
const soonest = 25

/** What a drain did. */
export interface Drained {
  readonly worker: string
  readonly finished: number
  readonly interrupted: number
  readonly returned: number
  /** Ended, and the queue did not take it in time: their leases expire and they run again. */
  readonly unsettled: number
}

export const makeCrew = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  options: Options<ReadonlyArray<Task.Any>> & { readonly id: string },
) {
  const known = yield* knownTasks(options.tasks, queue.codec)
  const lanes = lanesOf(options)
  const lease = toMillis(options.lease ?? "30 seconds")
  const concurrencies = [...lanes.values()].reduce((sum, lane) => Math.max(sum, lane.concurrency), 1)
  const slots = new Set<Slot>()
  const idle = yield* Latch.make(true)
  if (queue.transaction === undefined) {
    for (const { taskName, settings } of options.tasks) {
      if (settings.commit !== "withHandler") continue
      yield* Effect.logWarning(
        `task ${taskName} is to commit with its handler, and the ${queue.name} queue is in no database of the application: ` +
          "its effects may happen more than once",
      )
    }
  }
  const answers = yield* makeAnswers()
  const clock = yield* Effect.clockWith(Effect.succeed)
  const settlements = yield* makeSettlements(queue, { withinMillis: lease, answers })
  const progressed = yield* makeProgress(queue)
  let finished = 0
  let finishedInAll = 0
  let returned = 0

  const begin = (lane: Lane, record: ClaimedRecord) => {
    const task = known.get(record.task)
    if (task === undefined) throw new Error(`the driver ${queue.name} gave a record of ${record.task}, not asked for`)
    const slot: Slot = {
      record,
      known: task,
      stop: undefined,
      fiber: undefined,
      progressed,
    }
    slots.add(slot)
    idle.closeUnsafe()
    lane.running++
    const begun = clock.currentTimeMillisUnsafe()
    queue.events.started(record, options.id, begun)
    // Starts here and now: no fiber waits for its turn, and none is ever parked on a semaphore.
    const fiber = runAttempt(queue, slot)
    slot.fiber = fiber
    // What the handler's first steps set off may have run on this stack already, and asked it to stop.
    if (slot.stop !== undefined) fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      slots.delete(slot)
      lane.running--
      lane.endedDuringClaim++
      finished++
      finishedInAll++
      // `runAttempt` does not fail; should it, a lease that expires is a record found again.
      const settlement = exit._tag === "Success" ? exit.value : undefined
      queue.events.ended(record, options.id, settlement, clock.currentTimeMillisUnsafe() - begun)
      if (settlement !== undefined && slot.committed !== true) settlements.push(settlement)
      if (settlement?._tag === "Snooze" && settlement.pause !== undefined) giveBack(lane, record, settlement.pause)
      dispatch(lane)
      claims.wake()
      if (slots.size === 0) idle.openUnsafe()
    })
  }
  /** What was claimed ahead, and is for the same: after the pause has begun. Without a key it is the queue's. */
  const giveBack = ({ buffer }: Lane, { key }: ClaimedRecord, of: "key" | "queue") => {
    for (const each of buffer.splice(0)) {
      if (of === "queue" || key === undefined || each.key === key)
        settlements.push({ id: each.id, token: each.token, _tag: "Release" })
      else buffer.push(each)
    }
  }
  let stopping = false
  const dispatching = new Set<Lane>()
  const dispatch = (lane: Lane) => {
    // A handler that never waits ends inside `begin`: its end must not begin the next one on top of this stack.
    if (stopping || dispatching.has(lane)) return
    dispatching.add(lane)
    while (lane.running < lane.concurrency) {
      const record = lane.buffer.shift()
      if (record === undefined) break
      begin(lane, record)
    }
    dispatching.delete(lane)
  }
  const stop = (record: ClaimedRecord, why: Stop) => {
    for (const slot of slots) {
      if (slot.record.id === record.id && slot.record.token === record.token && slot.stop === undefined) {
        slot.stop = why
        slot.fiber?.interruptUnsafe()
      }
    }
  }
  const forget = (record: ClaimedRecord) => {
    for (const lane of lanes.values()) {
      const at = lane.buffer.indexOf(record)
      if (at >= 0) lane.buffer.splice(at, 1)
    }
    stop(record, "leaseLost")
  }
  const cancel = (record: ClaimedRecord) => {
    for (const lane of lanes.values()) {
      const at = lane.buffer.indexOf(record)
      if (at < 0) continue
      lane.buffer.splice(at, 1)
      settlements.push({ id: record.id, token: record.token, _tag: "Cancel" })
    }
    stop(record, "cancel")
  }
  const held = (): ReadonlyArray<ClaimedRecord> => [
    ...[...slots].map((slot) => slot.record),
    ...[...lanes.values()].flatMap((lane) => lane.buffer),
  ]

  const params = {
    tasks: [...known].map(([name, { task }]) => ({ name, maxVersion: task.settings.version })),
    targets: options.targets ?? [],
    lease,
    worker: options.id,
  }
  const { listens } = queue.capabilities
  const pollInterval = toMillis(options.pollInterval ?? (listens ? "10 seconds" : "1 second"))
  const claims = yield* makeClaims({
    queue,
    lanes,
    params,
    prefetch: options.prefetch ?? concurrencies * 20,
    answers,
    pollInterval,
    pollSoonest: listens ? pollInterval : Math.min(soonest, pollInterval),
    dispatch,
  })
  const leases = [...known.values()].map(({ task }) => task.settings.lease ?? lease)
  const shortest = Math.min(lease, ...leases)
  const heartbeats = makeHeartbeats({ queue, answers, lease, held, lost: forget, cancel, shortest })
  /** What came together wakes once: one claim asks for all of it. */
  const noticed = Effect.fnUntraced(function* (changes: ReadonlyArray<Change>) {
    if (changes.some(({ _tag }) => _tag === "Elsewhere")) claims.wake("all")
    else {
      const queues = changes.flatMap((change) => (change._tag === "Waiting" ? change.queues : []))
      if (queues.length > 0) claims.wake(queues)
    }
    // A hint may be late, and the record redriven meanwhile: the queue is asked whether it is so.
    for (const change of changes) {
      if (change._tag === "CancelRequested") yield* Effect.forkChild(heartbeats.look(change.ids))
    }
  })
  // Subscribed before the first claim, so that no hint falls between the two.
  const changes = yield* queue.changes
  yield* Effect.forkScoped(Stream.runForEachArray(changes, noticed))
  yield* Effect.forkScoped(heartbeats.run)
  yield* Effect.forkScoped(claims.run)
  yield* Effect.forkScoped(maintenance(queue, answers, options))

  const startedAt = yield* Clock.currentTimeMillis
  const health = Effect.map(
    Clock.currentTimeMillis,
    (at): WorkerInfo => ({
      id: options.id,
      startedAt,
      at,
      tasks: params.tasks,
      targets: params.targets,
      queues: [...lanes.values()].map(({ buffer, concurrency, queue: name, running }) => ({
        name,
        concurrency,
        running,
        buffered: buffer.length,
      })),
      finished: finishedInAll,
      unsettled: settlements.pending(),
      failingSince: answers.failingSince(),
      draining: stopping,
    }),
  )
  const presence = yield* makePresence(queue, health)

  const drainTimeout = options.drainTimeout ?? "20 seconds"
  const drain: Effect.Effect<Drained> = Effect.gen(function* () {
    stopping = true
    finished = 0
    yield* Effect.timeoutOption(presence.tell, drainTimeout)
    // Bounded: a driver that does not answer must not hold up the end of the process. Leases expire by themselves.
    yield* Effect.timeoutOption(claims.stop, drainTimeout)
    for (const lane of lanes.values()) {
      for (const { id, token } of lane.buffer.splice(0)) {
        returned++
        settlements.push({ id, token, _tag: "Release" })
      }
    }
    yield* Effect.timeoutOption(idle.await, drainTimeout)
    const report = { worker: options.id, finished, interrupted: slots.size, returned }
    for (const slot of slots) {
      slot.stop ??= "shutdown"
      slot.fiber?.interruptUnsafe()
    }
    yield* idle.await
    const settled = yield* Effect.timeoutOption(settlements.flushed, drainTimeout)
    yield* Effect.timeoutOption(presence.leave, drainTimeout)
    return { ...report, unsettled: settled._tag === "None" ? settlements.pending() : 0 }
  })
  return { id: options.id, drain, health }
})

/** The tasks by every name that records of theirs may have. */
export const knownTasks = Effect.fnUntraced(function* (
  tasks: ReadonlyArray<Task.Any>,
  codec: PayloadCodec | undefined,
) {
  const known = new Map<string, Known>()
  // Attempts begin with the worker's context less what belongs to the place where its layer was built.
  const base = Context.omit(Scope.Scope, Tracer.ParentSpan)(yield* Effect.context<never>())
  for (const task of tasks) {
    const names = [task.taskName, ...task.settings.aliases]
    // One of them would never run, without a word (D54).
    const taken = names.find((name) => known.has(name) && known.get(name)?.task !== task)
    if (taken !== undefined) {
      yield* Effect.die(
        new InvalidTaskOptions({ task: taken, field: "name", reason: "is that of two tasks of a worker" }),
      )
    }
    const handler = yield* TaskHandler.key(task.taskName)
    const one = makeKnown(task, handler, { base, codec })
    for (const name of names) known.set(name, one)
  }
  return known
})

const lanesOf = (options: Options<ReadonlyArray<Task.Any>>): ReadonlyMap<string, Lane> => {
  const names =
    options.queues === undefined ? options.tasks.map((task) => task.settings.queue) : Object.keys(options.queues)
  return new Map(
    names.map((queue) => [
      queue,
      {
        queue,
        concurrency: options.queues?.[queue]?.concurrency ?? options.concurrency ?? 10,
        running: 0,
        buffer: [],
        endedDuringClaim: 0,
        drained: false,
        beforehand: 0,
        lookAgainAt: 0,
        hinted: false,
      },
    ]),
  )
}
