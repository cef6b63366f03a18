/**
 * Who defers and who runs the queue: a client that goes through the network as the workers do, and somebody who sits next
 * to the driver.
 */
import type { DeferOptions, UniqueStates } from "@outlive/deferred/DeferOptions"
import type { QueueLimits } from "@outlive/deferred/QueueLimits"
import type * as Task from "@outlive/deferred/Task"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Cause, Effect, Exit, type Fiber, Option, type Schema, Scope } from "effect"
import { Fragile, type Odd, Work } from "./attempts.ts"
import { type Network, now } from "./network.ts"
import { Broken, type Known, type Witness } from "./witness.ts"
import type { Machine, World } from "./world.ts"

type Ref = Task.DeferredRef<typeof Schema.Int, typeof Odd>

const whiles: ReadonlyArray<UniqueStates> = [
  ["scheduled", "ready"],
  ["scheduled", "ready", "running"],
  ["scheduled", "ready", "running", "dead"],
  ["scheduled", "ready", "running", "succeeded", "cancelled", "dead"],
]

export class People {
  /** What the client waits for. */
  readonly asked = new Set<Fiber.Fiber<unknown, unknown>>()
  deferred = 0
  private readonly world: World
  private readonly driver: TaskQueue.Driver
  private readonly witness: Witness
  private readonly client: Machine
  private readonly queue: TaskQueue.TaskQueue["Service"]
  private readonly tell: (make: () => string) => void
  private readonly acknowledged: Array<Ref> = []
  private readonly awaited: Array<{ readonly id: TaskId; readonly exit: Exit.Exit<number, unknown> }> = []
  private readonly redriven = new Set<TaskId>()

  constructor(options: {
    readonly world: World
    readonly driver: TaskQueue.Driver
    readonly witness: Witness
    readonly network: Network
    readonly skew: number
    readonly tell: (make: () => string) => void
  }) {
    const { network, skew, world } = options
    this.world = world
    this.driver = options.driver
    this.witness = options.witness
    this.tell = options.tell
    this.client = world.machine(world.below(skew) - skew / 2)
    const reached = network.reach({ machine: this.client, latency: world.below(50), cut: false, underWay: 0 })
    const made = this.client.run(Effect.provideService(TaskQueue.make(reached), Scope.Scope, Scope.makeUnsafe()))
    world.pass(0)
    this.queue = now(made.pollUnsafe() ?? Exit.die("the client does not come up"))
  }

  deferSome(): void {
    const { world } = this
    const unique = { key: `key ${world.below(2)}`, while: whiles[world.below(whiles.length)] }
    this.defer({
      delay: world.chance(0.4) ? world.below(5000) : 0,
      priority: world.below(3),
      target: world.chance(0.1) ? "there" : undefined,
      expires: world.chance(0.15) ? 500 + world.below(4000) : undefined,
      unique: world.chance(0.4) ? unique : undefined,
    })
  }

  defer(options: DeferOptions): void {
    const { world } = this
    const task = world.chance(0.3) ? Fragile : Work
    const acknowledge = (ref: Ref) => {
      this.tell(() => `acknowledged ${ref.id}`)
      this.acknowledged.push(ref)
      if (world.chance(0.4)) return
      const ended = Effect.retry(ref.await, { while: (error) => error._tag === "TaskQueueError" })
      this.ask(Effect.onExit(ended, (exit) => Effect.sync(() => void this.awaited.push({ id: ref.id, exit }))))
    }
    const deferring = task.defer({ n: this.deferred++ }, options)
    this.ask(Effect.tap(deferring, (ref) => Effect.sync(() => acknowledge(ref))))
  }

  cancel(): void {
    const ref = this.acknowledged[this.world.below(this.acknowledged.length)]
    if (ref !== undefined) this.ask(ref.cancel())
  }

  /** Each dead letter by this chance. */
  redrive(chance: number): void {
    for (const { id, phase } of this.witness.records.values()) {
      if (phase !== "dead" || !this.world.chance(chance)) continue
      const [outcome] = now(this.driver.redrive({ ids: [id], now: this.world.now }))
      this.tell(() => `redrive ${id}: ${outcome}`)
      this.redriven.add(id)
      this.witness.redriven(id, outcome, this.world.now)
    }
  }

  limit(): void {
    const { world } = this
    const lifted = world.chance(0.3)
    const choice = world.below(3)
    if (choice === 0) this.configure({ maxConcurrent: lifted ? undefined : 1 + world.below(4) })
    else if (choice === 1) this.configure({ rate: lifted ? undefined : 1 + world.below(3), burst: 1 + world.below(3) })
    else this.configure({ ageing: lifted ? undefined : world.below(3000) })
  }

  pause(): void {
    this.configure({ paused: !this.witness.limits.paused })
  }

  configure(limits: Partial<QueueLimits>): void {
    this.tell(() => `configure ${JSON.stringify(limits)}`)
    now(this.driver.configure({ queue: "default", limits, now: this.world.now }))
    this.witness.configured(limits, this.world.now)
  }

  /** Who holds a key now is who held it by all that happened. */
  probe(): void {
    const unique = new Map<string, Known>()
    for (const known of this.witness.records.values()) {
      if (known.given.unique !== undefined) unique.set(`${known.given.task} ${known.given.unique.key}`, known)
    }
    for (const { given } of unique.values()) {
      const id = this.queue.nextId(this.world.now, this.world.next)
      const record: NewRecord = { ...given, id, target: undefined }
      const [outcome] = now(this.driver.enqueue({ records: [record], now: this.world.now }))
      this.tell(() => `probe ${JSON.stringify(given.unique)}: ${JSON.stringify(outcome)}`)
      this.witness.enqueued(record, outcome, this.world.now)
    }
  }

  /** What was acknowledged is there, and whoever waited for an end learned how it was. */
  learned(): void {
    for (const { id } of this.acknowledged) this.witness.get(id)
    for (const { exit, id } of this.awaited) {
      const { given, phase, reason } = this.witness.get(id)
      if (this.redriven.has(id)) continue
      const right = Exit.isSuccess(exit)
        ? phase === "succeeded" && exit.value === JSON.parse(given.payload).n
        : phase === "cancelled"
          ? tagOf(exit) === "TaskCancelled"
          : phase === "dead" && (tagOf(exit) === "TaskDead" || (tagOf(exit) === "Odd" && reason === "RetriesExhausted"))
      if (!right) throw new Broken(`who waited for ${id}, ${phase} ${reason}, was given ${JSON.stringify(exit)}`)
    }
  }

  /** Something the client asks for: it may be told that it failed, and must be told something. */
  private ask(effect: Effect.Effect<unknown, unknown, TaskQueue.TaskQueue>): void {
    const fiber = this.client.run(Effect.provideService(effect, TaskQueue.TaskQueue, this.queue))
    this.asked.add(fiber)
    fiber.addObserver((exit) => {
      this.asked.delete(fiber)
      if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) this.world.break(Cause.squash(exit.cause))
    })
  }
}

const tagOf = (exit: Exit.Exit<unknown, unknown>): string | undefined => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : undefined
}
