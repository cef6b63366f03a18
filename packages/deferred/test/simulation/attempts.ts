/**
 * What the handlers of one process do, chosen by the world, and what its worker must make of it.
 */
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { TaskRecord } from "@outlive/deferred/TaskRecord"
import { Effect, Schema } from "effect"
import { Broken, type Known } from "./witness.ts"
import type { Machine, World } from "./world.ts"

export class Odd extends Schema.TaggedError<Odd>()("Odd", {}) {}

const maxAttempts = 4
const retryAfter = 500
const schemas = {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Odd,
  retry: RetryPolicy.fixed(retryAfter, { maxAttempts }),
}
/** Comes back however often its process dies. */
export class Work extends Task.make("Work", { ...schemas, maxCrashes: 1000 }) {}
/** May take its process with it once, and is stopped when it takes too long. */
export class Fragile extends Task.make("Fragile", {
  ...schemas,
  lease: 1500,
  timeout: 2500,
  maxCrashes: 1,
}) {}

/** How a handler ended by itself, and when by its machine's clock. */
interface Ending {
  readonly how: keyof typeof ends
  readonly at: number
}

const ends = {
  value: (n: number) => Effect.succeed(n),
  odd: () => Effect.fail(new Odd()),
  singular: () => Effect.fail(new SingularTaskFailure({ message: "not yet" })),
  snooze: (_: number, world: World) => Effect.fail(Snooze.for(world.below(2000))),
  defect: () => Effect.die("bad"),
  permanent: () => Effect.fail(new PermanentTaskFailure({ message: "never" })),
}
const failures: ReadonlyArray<string | undefined> = ["odd", "singular", "defect"]
const rest = ["odd", "singular", "snooze", "defect", "permanent"] as const

/** One attempt: its token would say it shorter, and a handler does not know that. */
const attemptOf = ({ attempt, crashes, id }: Pick<TaskRecord, "attempt" | "crashes" | "id">) =>
  `${id} ${attempt} ${crashes}`

const leaseOf = ({ id, token }: TaskQueue.Lease) => `${id} ${token}`

export class Attempts {
  /** Handlers end well from now on, at once or after longer than a lease. */
  calm = false
  /** By attempt: may it be interrupted? */
  readonly running = new Map<string, { readonly gently: boolean }>()
  /** What the worker was given and has neither settled nor lost, by lease. */
  readonly held = new Map<string, string>()
  private readonly machine: Machine
  private readonly concurrency: number
  private readonly tell: (make: () => string) => void
  private readonly endings = new Map<string, Ending>()
  /** How often the worker was told that it lost a lease. */
  private readonly told = new Map<string, { readonly attempt: string | undefined; times: number }>()

  constructor(machine: Machine, concurrency: number, tell: (make: () => string) => void) {
    this.machine = machine
    this.concurrency = concurrency
    this.tell = tell
  }

  readonly handler = ({ n }: { readonly n: number }, context: TaskContext["Service"]) => {
    const { world } = this.machine
    const attempt = attemptOf(context)
    // A snooze gives its attempt back: this one may have been there before.
    this.endings.delete(attempt)
    const how = this.calm || world.chance(0.6) ? "value" : (rest[world.below(rest.length)] ?? "value")
    const long = context.task === "Work" ? 4000 : 2000
    const millis = this.calm ? (n % 4 === 0 ? long : 0) : world.chance(0.2) ? 0 : world.below(4000)
    const gently = !world.chance(0.1)
    const running = { gently }
    this.tell(() => `runs ${attempt} for ${millis} ms${gently ? "" : ", not to be interrupted"}`)
    if (this.running.has(attempt)) world.break(new Broken(`${attempt} runs twice at once`))
    this.running.set(attempt, running)
    if (this.running.size > this.concurrency) world.break(new Broken(`${this.running.size} handlers run at once`))
    const end = Effect.suspend((): Effect.Effect<number, Odd | PermanentTaskFailure | SingularTaskFailure | Snooze> => {
      this.tell(() => `${attempt} comes to ${how}`)
      this.endings.set(attempt, { how, at: this.machine.now })
      return ends[how](n, world)
    })
    const wait = millis === 0 ? Effect.void : Effect.sleep(millis)
    // Nobody but the handler bounds how long it waits for an answer of its own.
    const extend = Effect.ignore(Effect.timeoutOption(context.extend("5 seconds"), "3 seconds"))
    const work = Effect.andThen(gently ? wait : Effect.uninterruptible(wait), end)
    const before = world.chance(0.1) ? extend : world.chance(0.2) ? context.progress({ done: n }) : Effect.void
    return Effect.ensuring(
      Effect.andThen(before, work),
      Effect.sync(() => {
        this.running.delete(attempt)
      }),
    )
  }

  /** The worker learns of leases that it has. */
  given(records: ReadonlyArray<TaskQueue.ClaimedRecord>): void {
    for (const record of records) this.held.set(leaseOf(record), attemptOf(record))
  }

  /** The worker has these settled, whether it succeeds or not. */
  settles(settlements: ReadonlyArray<TaskQueue.Settlement>): void {
    for (const settlement of settlements) this.held.delete(leaseOf(settlement))
  }

  /**
   * The worker is told that it lost a lease: its attempt must end. Told once it may have missed it, when its own patience
   * ended at the same time, or when only the handler asked.
   */
  lost(lease: TaskQueue.Lease): void {
    const key = leaseOf(lease)
    const told = this.told.get(key) ?? {
      attempt: this.held.get(key),
      times: 0,
    }
    this.told.set(key, told)
    this.held.delete(key)
    if (told.attempt === undefined || this.running.get(told.attempt)?.gently !== true) return
    if (++told.times > 2) {
      this.machine.world.break(
        new Broken(`a worker was told again and again that it lost ${told.attempt}, and goes on`),
      )
    }
  }

  /** A settlement that the queue took says what the handler did. */
  judge(settlement: TaskQueue.Settlement, known: Known, stopping: boolean): void {
    const ending = this.endings.get(attemptOf(known))
    const failed = ending === undefined ? known.given.timeout !== undefined : failures.includes(ending.how)
    const exhausted = known.attempt - known.crashes >= maxAttempts
    const right = (): boolean => {
      switch (settlement._tag) {
        case "Succeed": {
          const { n } = JSON.parse(known.given.payload)
          return ending?.how === "value" && settlement.result === `{"_tag":"Success","value":${n}}`
        }
        case "Snooze":
          return ending?.how === "snooze" && settlement.eta >= ending.at
        case "Release":
          return stopping
        case "Cancel":
          return known.cancelRequested
        case "Retry":
          return failed && !exhausted && settlement.eta >= (ending?.at ?? 0) + retryAfter
        case "Bury":
          return settlement.reason === "PermanentFailure"
            ? ending?.how === "permanent"
            : settlement.reason === "RetriesExhausted" && failed && exhausted
      }
    }
    if (right()) return
    const said = JSON.stringify({ settlement, known })
    throw new Broken(`an attempt whose handler came to ${ending?.how} was settled so: ${said}`)
  }
}
