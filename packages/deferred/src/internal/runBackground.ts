/**
 * A handler as a background thread: `Task.background`. All attempts of one task are one thread.
 */

import type { BackgroundThread } from "@outlive/core/BackgroundThread"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Broadcast from "@outlive/core/Broadcast"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type * as Task from "../Task.ts"
import type { Progress } from "../TaskContext.ts"
import { TaskTimeout } from "../TaskFailure.ts"
import type { Handler, TaskHandler } from "../TaskHandler.ts"
import { makeGenerator, type TaskId } from "../TaskId.ts"
import type { CancelOutcome } from "../TaskQueue.ts"
import type { AttemptFailure, TaskState } from "../TaskRecord.ts"
import { TaskCancelled } from "../TaskRef.ts"
import type { Options, TaskThread } from "../TaskThread.ts"
import { claimed } from "./claimed.ts"
import { progressIn } from "./notes.ts"
import { endOfDead } from "./taskRef.ts"
import { settlementOf } from "./worker/attempt.ts"
import { AttemptContext, type Speaking } from "./worker/attemptContext.ts"

const nextId = makeGenerator()

export const runBackground = Effect.fnUntraced(function* <Name extends string>(
  task: Task.Any,
  key: Context.Key<Handler<Name>, TaskHandler>,
  input: unknown,
  options: Options | undefined,
) {
  const handler = yield* key
  const threads = yield* BackgroundThreads
  const payload = yield* task.settings.codec.makePayload(input)
  const now = yield* Clock.currentTimeMillis
  const random = yield* Random.Random
  const id = nextId(now, () => random.nextDoubleUnsafe())
  const run = new Run(id, task, handler, payload, now)
  // A handler has its own services, as in a worker, and not its caller's: only the span goes along, to be linked.
  const span = Context.getOrUndefined(yield* Effect.context<never>(), Tracer.ParentSpan)
  const creator = span === undefined ? handler.services : Context.add(handler.services, Tracer.ParentSpan, span)
  const thread = yield* Effect.updateContext(
    threads.start(run.work, { ...options, name: options?.name ?? task.taskName }),
    () => creator as Context.Context<never>,
  )
  // Whatever it ends with is in the log already, as it is of a worker's attempts.
  thread.onEnd(() => run.tell())
  return new Handle(run, thread)
})

class Run {
  readonly id: TaskId
  readonly task: Task.Any
  /** Told when there is something new to look at. */
  readonly news = Broadcast.make<void>()
  state: TaskState = "ready"
  progress: string | undefined
  /** The same, with the notes of all attempts so far. */
  page: string | undefined
  /** Why somebody wants it to end. */
  cancelled: string | undefined
  /** How it ended: of a thread that was interrupted, its own exit says only that. */
  ended: Exit.Exit<unknown, unknown> | undefined
  private readonly handler: TaskHandler
  private readonly payload: unknown
  private readonly enqueuedAt: number

  constructor(id: TaskId, task: Task.Any, handler: TaskHandler, payload: unknown, enqueuedAt: number) {
    this.id = id
    this.task = task
    this.handler = handler
    this.payload = payload
    this.enqueuedAt = enqueuedAt
  }

  tell(): void {
    this.news.tell(() => undefined)
  }

  get work(): Effect.Effect<unknown, unknown> {
    return Effect.uninterruptible(
      Effect.flatMap(Effect.exit(this.attempts), (exit) => {
        this.ended = exit
        return exit
      }),
    )
  }

  private get attempts(): Effect.Effect<unknown, unknown> {
    const { handler, id, payload, task } = this
    const run = this
    const { queue, timeout } = task.settings
    return Effect.gen(function* () {
      const firstAttemptAt = yield* Clock.currentTimeMillis
      let eta = run.enqueuedAt
      let attempt = 1
      let previousFailure: AttemptFailure | undefined
      while (true) {
        const given = { id, task: task.taskName, version: task.settings.version, queue, name: undefined, payload: "" }
        const times = { enqueuedAt: run.enqueuedAt, eta, firstAttemptAt, until: Number.POSITIVE_INFINITY, timeout }
        const first = claimed(
          { ...given, ...times, headers: {}, attempt, crashes: 0, previousFailure },
          "thread",
          yield* Clock.currentTimeMillis,
        )
        const record = { ...first, progress: run.page }
        const slot: Speaking = {
          record,
          progressed: () => {
            run.progress = slot.page?.text
            run.page = run.progress
            run.tell()
          },
        }
        run.progress = undefined
        run.state = "running"
        const context = new AttemptContext({ extend: () => Effect.succeed(["Extended"]) }, slot)
        const annotated = Effect.annotateLogs({ attempt })
        const work = annotated(within(timeout, handler.run(payload, context)))
        const exit = yield* Effect.exit(Effect.interruptible(work))
        if (Exit.isSuccess(exit)) {
          yield* Effect.logDebug("task succeeded")
          run.state = "succeeded"
          return exit.value
        }
        if (Cause.hasInterrupts(exit.cause) && (yield* isInterrupted)) return yield* run.stopped
        const known = { task, handler: unstored }
        const settlement = yield* annotated(settlementOf({ record, known, stop: undefined }, exit))
        if (settlement?._tag === "Bury") {
          run.state = "dead"
          const { failure, reason } = settlement
          return yield* endOfDead({ id, task: task.taskName, reason, failure }, exit)
        }
        // What else an attempt that failed can come to: tried again, or later.
        if (settlement?._tag !== "Retry" && settlement?._tag !== "Snooze") return yield* Effect.die(settlement)
        if (settlement._tag === "Retry") {
          attempt++
          previousFailure = JSON.parse(settlement.failure) as AttemptFailure
        }
        eta = settlement.eta
        run.state = "scheduled"
        const pause = Effect.sleep(eta - (yield* Clock.currentTimeMillis))
        if (Exit.isFailure(yield* Effect.exit(Effect.interruptible(pause)))) return yield* run.stopped
      }
    }).pipe(Effect.annotateLogs({ task: task.taskName, taskId: id }))
  }

  private get stopped(): Effect.Effect<never, TaskCancelled> {
    return Effect.suspend(() => {
      this.state = "cancelled"
      const said =
        this.cancelled === undefined
          ? Effect.logWarning("interrupted and lost: it ran in the background, and nothing of it was stored")
          : Effect.logInfo("cancelled in the background")
      return Effect.andThen(said, Effect.fail(this.cancellation))
    })
  }

  get cancellation(): TaskCancelled {
    return new TaskCancelled({
      id: this.id,
      task: this.task.taskName,
      reason: this.cancelled ?? "its thread was interrupted",
    })
  }
}

class Handle implements TaskThread<unknown, unknown> {
  readonly id: TaskId
  readonly task: string
  readonly thread: BackgroundThread<unknown, unknown>
  private readonly run: Run

  constructor(run: Run, thread: BackgroundThread<unknown, unknown>) {
    this.id = run.id
    this.task = run.task.taskName
    this.thread = thread
    this.run = run
  }

  get await(): Effect.Effect<unknown, unknown> {
    return Effect.flatMap(Effect.exit(this.thread.join()), (exit) => {
      if (this.run.ended !== undefined) return this.run.ended
      // Interrupted before its first step.
      return Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Effect.fail(this.run.cancellation) : exit
    })
  }

  get state(): Effect.Effect<TaskState> {
    return Effect.map(this.thread.isAlive, (alive) =>
      !alive && this.run.ended === undefined ? "cancelled" : this.run.state,
    )
  }

  get progress(): Stream.Stream<Progress> {
    const { run, thread } = this
    return Stream.unwrap(
      Effect.map(run.news.subscribe, (news) =>
        Stream.concat(Stream.make(undefined), news).pipe(
          Stream.mapEffect(() => Effect.map(thread.isAlive, (alive) => ({ alive, progress: run.progress }))),
          Stream.takeUntil(({ alive }) => !alive),
          Stream.map(({ progress }) => progress),
          Stream.changes,
          Stream.filter((text) => text !== undefined),
          Stream.map(progressIn),
          Stream.filter((progress) => progress !== undefined),
          Stream.changes,
        ),
      ),
    )
  }

  get cancel(): TaskThread<unknown, unknown>["cancel"] {
    const { run, thread } = this
    return (options) =>
      Effect.flatMap(thread.isAlive, (alive): Effect.Effect<CancelOutcome> => {
        if (!alive || run.ended !== undefined) return Effect.succeed("TooLate")
        run.cancelled ??= options?.reason ?? "asked for"
        if (run.state === "scheduled") return Effect.as(thread.interrupt, "Cancelled")
        // Its finalizers are not waited for.
        return Effect.as(Effect.forkDetach(thread.interrupt, { startImmediately: true }), "Requested")
      })
  }
}

const within = (timeout: number | undefined, work: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> =>
  timeout === undefined
    ? work
    : Effect.timeoutOrElse(work, { duration: timeout, orElse: () => Effect.fail(new TaskTimeout({ timeout })) })

/** Whether somebody wants this uninterruptible fiber to end. */
const isInterrupted = Effect.map(Effect.exit(Effect.interruptible(Effect.yieldNow)), Exit.isFailure)

/** Nothing is encoded. */
const unstored: Pick<TaskHandler, "encodeExit"> = { encodeExit: () => Effect.succeed("") }
