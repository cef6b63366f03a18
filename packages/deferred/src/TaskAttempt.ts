/**
 * Attempts of records that no worker of this process claimed: a push endpoint is given them one by one and has somebody
 * else's queue to answer to. They run as a worker's do, with the same context, by the same table of outcomes
 * (`Outcome.fromExit`), told by the same events and metrics; what is missing is the settlement, which is the answer.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { claimed } from "./internal/claimed.ts"
import { codecHere } from "./internal/storedText.ts"
import { makeTaskEvents } from "./internal/taskEvents.ts"
import { causeOf, failureOf, judge, retryDelay, type Settling, traced } from "./internal/worker/attempt.ts"
import { AttemptContext, type Speaking } from "./internal/worker/attemptContext.ts"
import { knownTasks } from "./internal/worker/crew.ts"
import * as Outcome from "./Outcome.ts"
import type * as Task from "./Task.ts"
import { TaskContext } from "./TaskContext.ts"
import type { Settled } from "./TaskEvent.ts"
import { isTaskGroup, type TaskGroup } from "./TaskGroup.ts"
import { TaskQueue } from "./TaskQueue.ts"
import type { AttemptFailure, TaskRecord } from "./TaskRecord.ts"

/** A record as its sender describes it, with the attempt that is to be made. Times are epoch milliseconds. @since 0.1.0 */
export interface Given
  extends Pick<
    TaskRecord,
    | "id"
    | "task"
    | "version"
    | "queue"
    | "name"
    | "payload"
    | "headers"
    | "enqueuedAt"
    | "eta"
    | "attempt"
    | "crashes"
    | "timeout"
  > {
  readonly firstAttemptAt: number
  readonly previousFailure: AttemptFailure | undefined
  /** When its sender gives the attempt up. */
  readonly until: number
  /**
   * Its sender has no policies of ours (Google Cloud Tasks, say): when a failed attempt is made again, and when no more, is
   * decided here as in a worker, by the record's own policy (JSON text) if it has one. Default: the sender decides.
   */
  readonly retries?: { readonly own: string | undefined } | undefined
  /** It is known already that it cannot be read. */
  readonly undecodable?: Outcome.Undecodable | undefined
}

/** What came of an attempt. @since 0.1.0 */
export interface Ended {
  readonly outcome: Outcome.Outcome
  /** The encoded exit: JSON text. Of successes that are kept, and of failures that encode. */
  readonly result: string | undefined
  readonly failure: (AttemptFailure & { readonly kind: "failure" | "defect" | "timeout" }) | undefined
  /** The handler's last word: JSON text of `Progress`. */
  readonly progress: string | undefined
}

/** @since 0.1.0 */
export interface Running {
  /** Waits until the handler and its finalizers have ended. Interrupting the waiting does nothing to the attempt. */
  readonly ended: Effect.Effect<Ended>
  /** Interrupts the handler; the first who wants that says why. */
  readonly stop: (why: Outcome.Stop) => void
}

/**
 * The sender has a newer version of the task than this process. Others may know it: it is tried again, as failed attempts
 * are.
 *
 * @since 0.1.0
 */
export class NewerVersion extends Schema.TaggedError<NewerVersion>()("NewerVersion", {
  task: Schema.String,
  version: Schema.Finite,
  /** The newest version that is known here. */
  known: Schema.Finite,
}) {
  override get message() {
    return `the payload of ${this.task} is of version ${this.version}, and ${this.known} is the newest that is known here`
  }
  get [Outcome.retryAfter](): number {
    return 10_000
  }
}

/**
 * Makes attempts at these tasks. `TaskContext.extend` cannot move a sender's deadline: it says whether the deadline is as
 * far away as is asked for. `TaskContext.progress` is kept for the answer.
 *
 * A task that commits with its handler (`commit: "withHandler"`) needs a queue to settle in: it is refused by a defect.
 *
 * What is given is coded as the `PayloadCodec` of the context has it, else that of the `TaskQueue` in it.
 *
 * Events and metrics go where those of the `TaskQueue` in the context go, if there is one. `worker` is the name for them.
 *
 * @since 0.1.0
 */
export const make = <const Tasks extends ReadonlyArray<Task.Any | TaskGroup<ReadonlyArray<Task.Any>>>>(options: {
  readonly tasks: Tasks
  readonly worker: string
}): Effect.Effect<(given: Given) => Running, never, Task.HandlersOf<Tasks[number]>> =>
  Effect.gen(function* () {
    const tasks = options.tasks.flatMap((task) => (isTaskGroup<ReadonlyArray<Task.Any>>(task) ? task.members : [task]))
    for (const { settings, taskName } of tasks) {
      if (settings.commit === "withHandler") {
        const why = `${taskName} commits with its handler, which only a worker on the queue's own database can do`
        return yield* Effect.die(new Error(`TaskAttempt: ${why}`))
      }
    }
    const known = yield* knownTasks(tasks, yield* codecHere)
    const base = yield* Effect.context<never>()
    const queue = yield* Effect.serviceOption(TaskQueue)
    const events = Option.isSome(queue) ? queue.value.events : makeTaskEvents(base)
    const clock = yield* Clock.clockWith(Effect.succeed)

    return (given: Given): Running => {
      const task = known.get(given.task)
      const now = clock.currentTimeMillisUnsafe()
      const record = claimed(given, options.worker, now)
      const slot: Speaking & { stop: Outcome.Stop | undefined } = { record, stop: undefined }
      const context = new AttemptContext({ extend: ({ until }) => Effect.succeed([within(until, given)]) }, slot)
      const work: Effect.Effect<unknown, unknown> =
        given.undecodable !== undefined
          ? Effect.fail(given.undecodable)
          : task === undefined
            ? Effect.fail(new Outcome.UnknownTask({ task: given.task }))
            : given.version > task.task.settings.version
              ? Effect.fail(
                  new NewerVersion({ task: given.task, version: given.version, known: task.task.settings.version }),
                )
              : task.handler.execute({
                  version: given.version,
                  payload: given.payload,
                  timeout: given.timeout ?? task.task.settings.timeout,
                  context,
                  codec: task.codec,
                })
      const caller = given.headers.traceparent
      const observed = task?.traced === true || caller !== undefined ? traced(work, record, caller) : work
      const services = Context.add(
        Context.add(task?.context ?? base, TaskContext, context),
        References.CurrentLogAnnotations,
        { task: given.task, taskId: given.id, attempt: given.attempt },
      )
      const program = Effect.gen(function* () {
        const exit = yield* Effect.exit(Effect.interruptible(observed))
        const at = clock.currentTimeMillisUnsafe()
        const judged =
          task === undefined
            ? { outcome: Outcome.fromExit(exit, { stop: slot.stop, rules: {} }), ended: exit, result: undefined }
            : yield* judge({ known: task, record, stop: slot.stop }, exit)
        const outcome =
          task === undefined || given.retries === undefined
            ? judged.outcome
            : yield* decided({ record, known: task, stop: undefined }, judged.outcome, at)
        yield* say(outcome, judged.ended)
        const kind = judged.outcome._tag === "Retry" ? judged.outcome.kind : "failure"
        const failure =
          outcome._tag === "Retry" || outcome._tag === "Dead"
            ? { ...failureOf(record, kind, outcome.error, at), kind }
            : undefined
        // An error that does not fit its schema still has its tag and message in `failure`.
        const failed = task === undefined || failure === undefined || !Exit.isFailure(judged.ended) ? undefined : task
        const result =
          failed === undefined
            ? judged.result
            : Option.getOrUndefined(
                yield* Effect.option(
                  failed.handler.encodeExit(Exit.failCause(causeOf(judged.ended)), record, failed.codec),
                ),
              )
        events.ended(record, options.worker, settledOf(outcome, failure), at - now)
        const progress = slot.page?.isUnsaid === true ? slot.page.text : undefined
        return { outcome, result, failure, progress } satisfies Ended
      })
      events.started(record, options.worker, now)
      const fiber = Effect.runForkWith(services)(program, { uninterruptible: true })
      return {
        ended: Fiber.join(fiber),
        stop: (why) => {
          slot.stop ??= why
          fiber.interruptUnsafe()
        },
      }
    }
  }) as Effect.Effect<(given: Given) => Running, never, Task.HandlersOf<Tasks[number]>>

/** What a worker would settle: tried again, no sooner than the policy says, or dead. */
const decided = Effect.fnUntraced(function* (
  settling: Settling,
  outcome: Outcome.Outcome,
  now: number,
): Effect.fn.Return<Outcome.Outcome> {
  // A newer instance may know the version, however often older ones were asked.
  if (outcome._tag !== "Retry" || outcome.error instanceof NewerVersion) return outcome
  const delay = yield* retryDelay(settling, outcome, now)
  if (delay === undefined) return { _tag: "Dead", reason: "RetriesExhausted", error: outcome.error }
  return { ...outcome, atLeast: delay }
})

const within = (until: number, given: Given) => (until <= given.until ? "Extended" : "LeaseLost")

const say = (outcome: Outcome.Outcome, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
  switch (outcome._tag) {
    case "Succeeded":
      return Effect.logDebug("task succeeded")
    case "Snoozed":
      return Effect.logDebug("snoozed")
    case "Released":
      return Effect.logInfo("interrupted by shutdown, given back to its sender")
    case "Cancelled":
      return Effect.logInfo("cancelled while running")
    case "Abandoned":
      return Effect.logWarning("its sender gave the attempt up, it was interrupted")
    case "Dead":
      return Effect.logError(`task is dead: ${outcome.reason}`, causeOf(exit))
    case "Retry": {
      const log = outcome.quiet ? Effect.logDebug : outcome.kind === "defect" ? Effect.logError : Effect.logWarning
      return log("task failed, its sender decides on the next attempt", causeOf(exit))
    }
  }
}

const settledOf = (outcome: Outcome.Outcome, failure: AttemptFailure | undefined): Settled | undefined => {
  const text = failure === undefined ? undefined : JSON.stringify(failure)
  switch (outcome._tag) {
    case "Succeeded":
      return { _tag: "Succeed" }
    case "Retry":
      return { _tag: "Retry", failure: text }
    case "Snoozed":
      return { _tag: "Snooze" }
    case "Dead":
      return { _tag: "Bury", reason: outcome.reason, failure: text }
    case "Released":
      return { _tag: "Release" }
    case "Cancelled":
      return { _tag: "Cancel" }
    case "Abandoned":
      return undefined
  }
}
