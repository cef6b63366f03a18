/**
 * Deferred tasks in the tests of an application: what was deferred, typed; running it when the test says so, exactly as a
 * worker would, on the test clock; and the faults that production brings, when the test wants them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { queueHere } from "../internal/storedText.ts"
import type { PayloadMissing, Undecodable } from "../Outcome.ts"
import type * as Task from "../Task.ts"
import type { TaskGroup } from "../TaskGroup.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as TaskQueueMemory from "../TaskQueueMemory.ts"
import type { AttemptFailure, DeadReason, TaskRecord, TaskState } from "../TaskRecord.ts"
import { type DrainDidNotEnd, drain as drainWith } from "./internal/drain.ts"
import {
  type DriverMethod,
  type Fault,
  type FaultLeft,
  type FaultyDriver,
  type InjectedFault,
  injectedError,
  makeFaultyDriver,
} from "./internal/faults.ts"
import { still } from "./internal/pace.ts"
import { makeRunner, recordsOf } from "./internal/testTasks.ts"

export { DrainDidNotEnd } from "./internal/drain.ts"
export type { DriverMethod, Fault, FaultLeft, InjectedFault } from "./internal/faults.ts"

/** @since 0.1.0 */
export interface Options<Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>> {
  /** The tasks that run here, groups of tasks among them. Records of others stay where they are. */
  readonly tasks: Tasks
  /** How long a record stays with a "worker" that crashed. Default 30 seconds, as a worker's; a task's own comes first. */
  readonly lease?: Duration.Input | undefined
  /** The worker's name in records and ledgers. Default `test`. */
  readonly id?: string | undefined
}

/**
 * What became of an attempt. All but the last three are settlements, as the driver was given them.
 *
 * - `Succeed`: with what the handler returned
 * - `Retry`: failed, and waits for its next attempt until `eta`
 * - `Snooze`: not now, the attempt was given back
 * - `Release`, `Cancel`: interrupted by whoever ran it; cancelled while it was running
 * - `Bury`: a dead letter
 * - `Crash`: an injected one. Nothing was settled: the record is found when its lease has ended
 * - `LeaseLost`: the settlement came too late and changed nothing, the record belongs to somebody else
 * - `Unsettled`: the driver failed each time. As after a crash
 *
 * Times are epoch milliseconds.
 *
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Succeed"; readonly value: unknown }
  | { readonly _tag: "Retry"; readonly eta: number; readonly failure: AttemptFailure }
  | { readonly _tag: "Snooze"; readonly eta: number }
  | { readonly _tag: "Release" }
  | { readonly _tag: "Cancel" }
  | { readonly _tag: "Bury"; readonly reason: DeadReason; readonly failure: AttemptFailure | undefined }
  | { readonly _tag: "Crash"; readonly when: "beforeHandler" | "afterHandler" }
  | { readonly _tag: "LeaseLost" }
  | { readonly _tag: "Unsettled"; readonly error: TaskQueue.TaskQueueError }

/** An attempt that was run. @since 0.1.0 */
export interface Ran {
  /** As it was claimed: its `attempt` is this one. */
  readonly record: TaskQueue.ClaimedRecord
  /** The handler's; `undefined` when it was never called. A payload that does not decode is a failure `Undecodable`. */
  readonly exit: Exit.Exit<unknown, unknown> | undefined
  readonly outcome: Outcome
}

/** What a drain did. @since 0.1.0 */
export interface Drained {
  /** In the order in which they ran. */
  readonly ran: ReadonlyArray<Ran>
  /** How many attempts came to what; what did not happen is not there. */
  readonly counts: { readonly [Tag in Outcome["_tag"]]?: number }
  /** Records of these tasks that have not ended: due later, in a paused queue, or with a "worker" that crashed. */
  readonly left: number
}

/** @since 0.1.0 */
export interface DrainOptions {
  /**
   * Moves the `TestClock` to the time at which something is due, again and again: until nothing waits (`true`), or
   * through so much time, at whose end the clock then stands. Default `false`: what is due now.
   */
  readonly advance?: boolean | Duration.Input | undefined
  /**
   * With `advance`, also moves the clock while a handler sleeps, to the time at which it wakes. Default `false`: to a
   * clock a handler that sleeps looks like one that waits for a socket under a timeout, whose timeout would strike. For
   * handlers that wait for nothing but the clock.
   */
  readonly withinAttempts?: boolean | undefined
  /** More attempts than this are a `DrainDidNotEnd`. Default 10,000. */
  readonly maxAttempts?: number | undefined
}

/** A record of a task with its payload decoded, brought up to the newest version. @since 0.1.0 */
export interface DeferredRecord<out Payload> extends Omit<TaskRecord, "payload"> {
  readonly payload: Payload
}

/** @since 0.1.0 */
export interface FaultOptions {
  /** The next so many times it applies, or for as long as the scope lasts. Default 1. */
  readonly times?: number | "always" | undefined
}

/** @since 0.1.0 */
export interface TaskFaultOptions extends FaultOptions {
  /** Only attempts of this task. Default: of any. */
  readonly task?: Task.Any | undefined
}

/** Plans a fault; one for `"always"` ends with its scope. @since 0.1.0 */
export type Planned<Options> = Effect.Effect<
  void,
  never,
  | TestTaskQueue
  | (Options extends { readonly times: infer Times } ? ("always" extends Times ? Scope.Scope : never) : never)
>

/**
 * The queue of `layerQueue` as faults and looks need it: what is behind `TaskQueue`.
 *
 * @since 0.1.0
 */
export class TestTaskQueue extends Context.Service<TestTaskQueue, FaultyDriver>()(
  "outlive/deferred/testing/TestTaskQueue",
) {}

/**
 * Runs the records of an application's tasks when the test says so.
 *
 * @since 0.1.0
 */
export class TestTasks extends Context.Service<
  TestTasks,
  {
    readonly runNext: Effect.Effect<Option.Option<Ran>, TaskQueue.TaskQueueError>
    readonly drain: (options?: DrainOptions) => Effect.Effect<Drained, TaskQueue.TaskQueueError | DrainDidNotEnd>
  }
>()("outlive/deferred/testing/TestTasks") {}

/**
 * A task queue of any driver into which faults can be injected: for an application whose transactions, say, a test must
 * not leave out. The driver must be nobody else's meanwhile.
 *
 * @since 0.1.0
 */
export const layerQueueOf = <E, R>(
  driver: Effect.Effect<TaskQueue.Driver, E, R>,
): Layer.Layer<TaskQueue.TaskQueue | TestTaskQueue, E, Exclude<R, Scope.Scope>> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const faulty = makeFaultyDriver(yield* driver)
      const queue = yield* TaskQueue.make(faulty.driver)
      return Context.make(TaskQueue.TaskQueue, queue).pipe(Context.add(TestTaskQueue, faulty))
    }),
  )

/**
 * A task queue in memory into which faults can be injected: instead of `TaskQueueMemory.layer`, for whatever defers, and
 * for a real `Worker.layer` too. `layer` brings it along; who provides it to handlers that defer themselves gives them
 * the same queue.
 *
 * @since 0.1.0
 */
export const layerQueue: Layer.Layer<TaskQueue.TaskQueue | TestTaskQueue> = layerQueueOf(TaskQueueMemory.make)

/**
 * For the tests of an application, in the place of its queue and its workers. No `Instance` and no background fibers:
 * nothing runs until the test says so. A task without its handler does not compile. All times are by the `Clock` of the
 * test.
 *
 * @example
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import * as Task from "@outlive/deferred/Task"
 * import * as TestTasks from "@outlive/deferred/testing/TestTasks"
 * import { Effect, Layer, Schema } from "effect"
 *
 * const Welcome = Task.make("Welcome", { payload: { userId: Schema.String } })
 * const App = TestTasks.layer({ tasks: [Welcome] }).pipe(
 *   Layer.provide(Welcome.toLayer(({ userId }) => Effect.log(`welcome, ${userId}`))),
 *   Layer.provideMerge(TestTasks.layerQueue),
 * )
 *
 * it.effect("welcomes a new user an hour later", () =>
 *   Effect.gen(function* () {
 *     yield* Welcome.defer({ userId: "ada" }, { delay: "1 hour" }) // what the application does
 *     const [welcome] = yield* TestTasks.deferred(Welcome)
 *     assert.deepStrictEqual(welcome?.payload, { userId: "ada" })
 *     const { counts } = yield* TestTasks.drain({ advance: true })
 *     assert.deepStrictEqual(counts, { Succeed: 1 })
 *   }).pipe(Effect.provide(App)),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const layer = <
  const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>,
  E = never,
  R = never,
>(
  options: Options<Tasks> & {
    /** The queue, when not `layerQueue`: one of `layerQueueOf`. */
    readonly queue?: Layer.Layer<TaskQueue.TaskQueue | TestTaskQueue, E, R> | undefined
  },
): Layer.Layer<TestTasks | TestTaskQueue | TaskQueue.TaskQueue, E, Task.HandlersOf<Tasks[number]> | R> =>
  Layer.effect(
    TestTasks,
    Effect.gen(function* () {
      const queue = yield* queueHere
      const runner = yield* makeRunner(queue, yield* TestTaskQueue, options)
      return {
        runNext: Effect.clockWith((clock) =>
          Effect.map(runner.next(still(clock)), (one) => ("record" in one ? Option.some(one) : Option.none())),
        ),
        drain: (drainOptions) => drainWith(runner, drainOptions ?? {}),
      }
    }),
  ).pipe(Layer.provideMerge(options.queue ?? layerQueue)) as Layer.Layer<
    TestTasks | TestTaskQueue | TaskQueue.TaskQueue,
    E,
    Task.HandlersOf<Tasks[number]> | R
  >

/**
 * The records of a task that wait or run, in the order in which they were deferred, with their payloads decoded. Any task
 * will do, also one that does not run here. `states` asks for others: `["dead"]`, or `"all"`.
 *
 * Fails with `Undecodable` when a record does not decode: whoever stored it did not use this definition; with
 * `PayloadMissing` when its payload was stored apart and is gone.
 *
 * @since 0.1.0
 */
export const deferred = <Name extends string, P extends Schema.Top, S extends Schema.Top, E extends Schema.Top>(
  task: Task.Task<Name, P, S, E>,
  options?: { readonly states?: ReadonlyArray<TaskState> | "all" | undefined },
): Effect.Effect<
  ReadonlyArray<DeferredRecord<P["Type"]>>,
  Undecodable | PayloadMissing | TaskQueue.TaskQueueError,
  TestTaskQueue | TaskQueue.TaskQueue | P["DecodingServices"]
> =>
  Effect.flatMap(TestTaskQueue, (faulty) =>
    Effect.flatMap(recordsOf(faulty, task, options?.states), (records) =>
      Effect.forEach(records, (record) => Effect.map(task.loadPayload(record), (payload) => ({ ...record, payload }))),
    ),
  )

/**
 * Claims the first record that is due, over all queues and targets in which records were deferred (higher priority
 * first, then eta, then insertion), runs its handler as a worker does and settles. None: nothing is due that the limits of
 * the queues let start.
 *
 * Fails with `TaskQueueError` when the claim does: call it again, as a worker would. A settlement that fails is tried
 * again at once, ten times at the most. Interruption interrupts the handler and gives the record back. A handler that
 * sleeps waits for the test's clock: fork this, move the clock, join.
 *
 * @since 0.1.0
 */
export const runNext: Effect.Effect<Option.Option<Ran>, TaskQueue.TaskQueueError, TestTasks> = Effect.flatMap(
  TestTasks,
  (tests) => tests.runNext,
)

/**
 * Runs everything that is due by the clock, one after the other, what those defer and retries that become due included,
 * until nothing is. With `advance` it also moves the clock.
 *
 * Fails with `TaskQueueError` when a claim does, and with `DrainDidNotEnd`, which names the records that keep coming
 * back. Interruption as for `runNext`.
 *
 * @since 0.1.0
 */
export const drain = (
  options?: DrainOptions,
): Effect.Effect<Drained, TaskQueue.TaskQueueError | DrainDidNotEnd, TestTasks> =>
  Effect.flatMap(TestTasks, (tests) => tests.drain(options))

/**
 * The process dies with a record: right after it was claimed, or when its handler has ended and nothing is settled yet.
 * Nobody hears of it: the record is found when its lease has ended, with one more crash, and is dead `Crashed` above
 * `maxCrashes`.
 *
 * @since 0.1.0
 */
export const crash = <const Options extends TaskFaultOptions = object>(
  when: "beforeHandler" | "afterHandler",
  options?: Options,
): Planned<Options> => plan({ _tag: "Crash", when, tasks: namesOf(options) }, options)

/**
 * The lease ends before the attempt does and another worker's claim takes the record back, so that it is ready for
 * whoever claims next, with one more crash: when the attempt settles (default), or when its worker, or
 * `context.extend`, extends the lease. The settlement then comes too late.
 *
 * @since 0.1.0
 */
export const loseLease = <
  const Options extends TaskFaultOptions & { readonly when?: "settle" | "extend" | undefined } = object,
>(
  options?: Options,
): Planned<Options> => plan({ _tag: "LoseLease", when: options?.when ?? "settle", tasks: namesOf(options) }, options)

/**
 * The handler has succeeded and its settlement comes too late: it runs a second time, with the same id. What at-least-once
 * delivery means; a handler that is safe against it uses the id as its idempotency key.
 *
 * @since 0.1.0
 */
export const deliverTwice = <const Options extends TaskFaultOptions = object>(options?: Options): Planned<Options> =>
  plan({ _tag: "DeliverTwice", tasks: namesOf(options) }, options)

/**
 * Calls of a driver's method fail, the application's own (`defer` calls `enqueue`, `ref.await` calls `get`), a worker's
 * and those of `runNext`. With `lost: "answer"` the call is done all the same and only its answer is lost, as when a
 * connection breaks. Default: nothing is done, and a retryable `TaskQueueError` says so.
 *
 * @since 0.1.0
 */
export const failDriver = <
  const Options extends FaultOptions & {
    readonly lost?: "call" | "answer" | undefined
    readonly error?: TaskQueue.TaskQueueError | undefined
  } = object,
>(
  method: DriverMethod,
  options?: Options,
): Planned<Options> => {
  const error = options?.error ?? injectedError(method)
  return plan({ _tag: "FailDriver", method, lost: options?.lost ?? "call", error }, options)
}

/**
 * Calls of a driver's method take so long, by the clock of who calls, before anything is done. `drain({ advance })` moves
 * the clock on for its own.
 *
 * @since 0.1.0
 */
export const slowDriver = <const Options extends FaultOptions = object>(
  method: DriverMethod,
  delay: Duration.Input,
  options?: Options,
): Planned<Options> => plan({ _tag: "SlowDriver", method, delay: Duration.fromInputUnsafe(delay) }, options)

/** The faults that struck, in that order. @since 0.1.0 */
export const faults: Effect.Effect<ReadonlyArray<InjectedFault>, never, TestTaskQueue> = Effect.map(
  TestTaskQueue,
  ({ injected }) => injected(),
)

/**
 * The faults that were planned and did not strike so often: empty at the end of a test that proves what it means to.
 *
 * @since 0.1.0
 */
export const faultsLeft: Effect.Effect<ReadonlyArray<FaultLeft>, never, TestTaskQueue> = Effect.map(
  TestTaskQueue,
  ({ left }) => left(),
)

const plan = <Options>(fault: Fault, options: FaultOptions | undefined): Planned<Options> =>
  Effect.gen(function* () {
    const faulty = yield* TestTaskQueue
    const times = options?.times ?? 1
    if (times === "always") {
      const scope = yield* Scope.Scope
      const remove = faulty.plan(fault, Number.POSITIVE_INFINITY)
      return yield* Scope.addFinalizer(scope, Effect.sync(remove))
    }
    if (!(Number.isInteger(times) && times > 0)) {
      return yield* Effect.die(new Error(`${fault._tag}: times must be a whole number above 0, and is ${times}`))
    }
    faulty.plan(fault, times)
  }) as Planned<Options>

const namesOf = (options: TaskFaultOptions | undefined): ReadonlyArray<string> | undefined =>
  options?.task === undefined ? undefined : [options.task.taskName, ...options.task.settings.aliases]
