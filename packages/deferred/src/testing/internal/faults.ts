/**
 * Faults on their way into a queue: one wrapped driver, so that the testing kit, a real worker and the application's own
 * calls all meet them.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import {
  type ClaimedRecord,
  type Driver,
  type Lease,
  type Settlement,
  type SettleOutcome,
  TaskQueueError,
} from "../../TaskQueue.ts"

/** A method of a driver that can be made to fail, or slow. @since 0.1.0 */
export type DriverMethod = {
  [Key in keyof Driver]-?: Exclude<Driver[Key], undefined> extends (params: never) => unknown ? Key : never
}[keyof Driver]

/** A fault as data. @since 0.1.0 */
export type Fault =
  | {
      readonly _tag: "Crash"
      readonly when: "beforeHandler" | "afterHandler"
      /** The names of the task it is for; `undefined`: any. */
      readonly tasks: ReadonlyArray<string> | undefined
    }
  | {
      readonly _tag: "LoseLease"
      readonly when: "settle" | "extend"
      readonly tasks: ReadonlyArray<string> | undefined
    }
  | { readonly _tag: "DeliverTwice"; readonly tasks: ReadonlyArray<string> | undefined }
  | {
      readonly _tag: "FailDriver"
      readonly method: DriverMethod
      readonly lost: "call" | "answer"
      readonly error: TaskQueueError
    }
  | { readonly _tag: "SlowDriver"; readonly method: DriverMethod; readonly delay: Duration.Duration }

/** A fault that struck. @since 0.1.0 */
export interface InjectedFault {
  readonly fault: Fault
  /** Epoch milliseconds. */
  readonly at: number
  /** The record it struck and its task's name; `undefined` for faults of the driver. */
  readonly id: TaskId | undefined
  readonly task: string | undefined
}

/** A fault that has not struck, or not so often as was planned. @since 0.1.0 */
export interface FaultLeft {
  readonly fault: Fault
  readonly left: number | "always"
}

/** A fault that is still to come, so often. */
interface Planned {
  readonly fault: Fault
  /** `Infinity`: until it is taken away. */
  left: number
  used: number
}

export interface FaultyDriver {
  /** What programs see. */
  readonly driver: Driver
  /** What is behind it: for looks that must not meet a fault, nor use one up. */
  readonly raw: Driver
  /** Plans a fault; gives what takes it away again. */
  readonly plan: (fault: Fault, times: number) => () => void
  readonly injected: () => ReadonlyArray<InjectedFault>
  readonly left: () => ReadonlyArray<FaultLeft>
  /** Every queue and every target that a record was enqueued with, in that order. */
  readonly queues: ReadonlySet<string>
  readonly targets: ReadonlySet<string>
  /** What is or was running, as far as nobody settled it: claimed by the kit, by a worker, or by who crashed with it. */
  readonly held: () => Iterable<ClaimedRecord>
  /** The record that this worker claimed and "crashed" with before it began, once. */
  readonly claimedInVain: (worker: string) => ClaimedRecord | undefined
  /** Whether the worker "crashed" before it could settle this attempt. */
  readonly crashed: (lease: Lease) => boolean
}

export const makeFaultyDriver = (raw: Driver): FaultyDriver => {
  const plans = new Set<Planned>()
  const injected: Array<InjectedFault> = []
  const queues = new Set<string>()
  const targets = new Set<string>()
  /** Who holds what, by what the driver said: settlements name neither task nor worker. */
  const held = new Map<TaskId, ClaimedRecord>()
  const inVain: Array<ClaimedRecord> = []
  const crashes = new Set<string>()

  /** Uses up the first planned fault that fits. */
  const take = <F extends Fault>(
    fits: (fault: Fault) => fault is F,
    at: number,
    record?: ClaimedRecord,
  ): F | undefined => {
    for (const planned of plans) {
      const { fault } = planned
      if (planned.left <= 0 || !fits(fault)) continue
      if (record !== undefined && !concerns(fault, record)) continue
      planned.left--
      planned.used++
      injected.push({ fault, at, id: record?.id, task: record?.task })
      return fault
    }
    return undefined
  }

  /** Ends a lease and lets the queue notice, as any other worker's claim would: its holder is late from now on. */
  const takeBack = Effect.fnUntraced(function* (lease: Lease, now: number) {
    yield* raw.extend({ leases: [lease], until: now, now })
    yield* raw.claim({ queues: [], tasks: [], targets: [], lease: 1, worker: "another worker", now })
  })

  const enqueue: Driver["enqueue"] = (params) =>
    Effect.suspend(() => {
      for (const { queue, target } of params.records) {
        queues.add(queue)
        if (target !== undefined) targets.add(target)
      }
      return raw.enqueue(params)
    })

  const claim: Driver["claim"] = (params) =>
    Effect.map(raw.claim(params), (result) => ({
      ...result,
      records: result.records.filter((record) => {
        held.set(record.id, record)
        if (take(isCrashBefore, params.now, record) !== undefined) {
          inVain.push(record)
          return false
        }
        return true
      }),
    }))

  const extend: Driver["extend"] = Effect.fnUntraced(function* (params) {
    for (const lease of params.leases) {
      const record = holderOf(held, lease)
      if (record === undefined || take(isLossOnExtend, params.now, record) === undefined) continue
      yield* takeBack(lease, params.now)
    }
    return yield* raw.extend(params)
  })

  const settle: Driver["settle"] = Effect.fnUntraced(function* ({ now, settlements }) {
    const passed: Array<Settlement> = []
    const lost = new Set<Settlement>()
    for (const settlement of settlements) {
      const record = holderOf(held, settlement)
      // What a worker releases at its end was interrupted: its handler has neither succeeded nor failed.
      const fault =
        record === undefined || settlement._tag === "Release"
          ? undefined
          : take(settlement._tag === "Succeed" ? isOnSuccess : isOnSettle, now, record)
      if (fault?._tag === "Crash") crashes.add(keyOf(settlement))
      else if (fault !== undefined) yield* takeBack(settlement, now)
      if (crashes.has(keyOf(settlement))) lost.add(settlement)
      else passed.push(settlement)
    }
    const outcomes = yield* raw.settle({ settlements: passed, now })
    for (const settlement of settlements) if (holderOf(held, settlement) !== undefined) held.delete(settlement.id)
    let next = 0
    // A worker that crashed asks no more: whatever it is told here, it forgets the record and the lease runs out.
    return settlements.map((settlement): SettleOutcome => (lost.has(settlement) ? "Settled" : outcomes[next++]!))
  })

  /** The call, after its delay, or its failure. */
  const around = (method: DriverMethod, call: Effect.Effect<unknown, TaskQueueError>) =>
    Effect.clockWith((clock) => {
      const at = clock.currentTimeMillisUnsafe()
      const slow = take(isSlow(method), at)
      const failure = take(isFailure(method), at)
      const made =
        failure === undefined
          ? call
          : Effect.andThen(failure.lost === "answer" ? call : Effect.void, Effect.fail(failure.error))
      return slow === undefined ? made : Effect.delay(made, slow.delay)
    })

  const calls: Driver = { ...raw, enqueue, claim, extend, settle }
  const driver = { ...calls }
  for (const [method, call] of Object.entries(calls)) {
    if (typeof call !== "function") continue
    const made = call as (params: unknown) => Effect.Effect<unknown, TaskQueueError>
    const wrapped = (params: unknown) =>
      around(
        method as DriverMethod,
        Effect.suspend(() => made(params)),
      )
    Object.assign(driver, { [method]: wrapped })
  }

  return {
    driver,
    raw,
    plan: (fault, times) => {
      const planned: Planned = { fault, left: times, used: 0 }
      plans.add(planned)
      return () => plans.delete(planned)
    },
    injected: () => [...injected],
    left: () =>
      [...plans]
        .filter(({ left, used }) => (left === Number.POSITIVE_INFINITY ? used === 0 : left > 0))
        .map(({ fault, left }): FaultLeft => ({ fault, left: left === Number.POSITIVE_INFINITY ? "always" : left })),
    queues,
    targets,
    held: () => held.values(),
    claimedInVain: (worker) => {
      const at = inVain.findIndex((record) => record.worker === worker)
      return at < 0 ? undefined : inVain.splice(at, 1)[0]
    },
    crashed: (lease) => crashes.has(keyOf(lease)),
  }
}

/** What a driver says that an injected failure stands for. */
export const injectedError = (method: DriverMethod): TaskQueueError =>
  new TaskQueueError({ operation: method, message: "made to fail by TestTasks.failDriver", isRetryable: true })

type Crash = Extract<Fault, { _tag: "Crash" }>
type LoseLease = Extract<Fault, { _tag: "LoseLease" }>
type DeliverTwice = Extract<Fault, { _tag: "DeliverTwice" }>

const isCrashBefore = (fault: Fault): fault is Crash => fault._tag === "Crash" && fault.when === "beforeHandler"
const isLossOnExtend = (fault: Fault): fault is LoseLease => fault._tag === "LoseLease" && fault.when === "extend"
const isOnSettle = (fault: Fault): fault is Crash | LoseLease =>
  (fault._tag === "Crash" && fault.when === "afterHandler") || (fault._tag === "LoseLease" && fault.when === "settle")
const isOnSuccess = (fault: Fault): fault is Crash | LoseLease | DeliverTwice =>
  fault._tag === "DeliverTwice" || isOnSettle(fault)

const isFailure =
  (method: DriverMethod) =>
  (fault: Fault): fault is Extract<Fault, { _tag: "FailDriver" }> =>
    fault._tag === "FailDriver" && fault.method === method
const isSlow =
  (method: DriverMethod) =>
  (fault: Fault): fault is Extract<Fault, { _tag: "SlowDriver" }> =>
    fault._tag === "SlowDriver" && fault.method === method

const concerns = (fault: Fault, { task }: ClaimedRecord): boolean =>
  !("tasks" in fault) || fault.tasks === undefined || fault.tasks.includes(task)

const keyOf = ({ id, token }: Lease): string => `${id} ${token}`

const holderOf = (held: ReadonlyMap<TaskId, ClaimedRecord>, { id, token }: Lease): ClaimedRecord | undefined => {
  const record = held.get(id)
  return record?.token === token ? record : undefined
}
