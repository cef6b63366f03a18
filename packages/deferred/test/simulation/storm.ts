/**
 * A storm: worker processes on one queue that are killed, stopped, frozen and cut off, over a network that loses and
 * doubles, with clocks that differ; handlers that end in every way; people who cancel, pause, configure and redrive. All
 * of it is chosen by a seed. Every answer of the driver is checked as it is given, every record after every step, and in
 * the end everything must have ended as its handlers did.
 */
import * as Instance from "@outlive/core/Instance"
import type { DeferOptions, UniqueStates } from "@outlive/deferred/DeferOptions"
import type { QueueLimits } from "@outlive/deferred/QueueLimits"
import type * as Task from "@outlive/deferred/Task"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import * as Worker from "@outlive/deferred/Worker"
import { Cause, Effect, Exit, type Fiber, Layer, Option, type Schema, Scope } from "effect"
import { Attempts, Fragile, type Odd, Work } from "./attempts.ts"
import { type End, Network, now } from "./network.ts"
import { Broken, type Known, Witness } from "./witness.ts"
import { type Machine, World } from "./world.ts"

type Ref = Task.DeferredRef<typeof Schema.Int, typeof Odd>

const records = 10
const steps = 30
const lease = 3000
/** What the machines' clocks differ by at the most: well within a lease (DESIGN 5). */
const skew = 200
/** How long a call may be under way, one way or the other. */
const latest = 4000

const whiles: ReadonlyArray<UniqueStates> = [
  ["scheduled", "ready"],
  ["scheduled", "ready", "running"],
  ["scheduled", "ready", "running", "dead"],
  ["scheduled", "ready", "running", "succeeded", "cancelled", "dead"],
]

/** A process with a worker. */
interface Process extends End {
  readonly name: number
  readonly scope: Scope.Closeable
  readonly attempts: Attempts
  stopping: boolean
  stopped: boolean
  /** Asked to stop when nothing was wrong with it. */
  orderly: boolean
}

export class Storm {
  /** What happened, in one line each, when it was asked for. */
  readonly story: Array<string> = []
  private readonly tell: (make: () => string) => void
  private readonly world: World
  private readonly driver = now(TaskQueueMemory.make)
  private readonly witness: Witness
  private readonly network: Network
  private readonly client: Machine
  private readonly queue: TaskQueue.TaskQueue["Service"]
  private processes: Array<Process> = []
  private started = 0
  private deferred = 0
  private readonly acknowledged: Array<Ref> = []
  /** What the client waits for. */
  private readonly asked = new Set<Fiber.Fiber<unknown, unknown>>()
  private readonly awaited: Array<{
    readonly id: TaskId
    readonly exit: Exit.Exit<number, unknown>
  }> = []
  private readonly redriven = new Set<TaskId>()

  constructor(seed: number, options?: { readonly tellStory?: boolean | undefined }) {
    const world = new World(seed)
    this.world = world
    this.tell = options?.tellStory === true ? (make) => void this.story.push(`${world.now} ${make()}`) : () => undefined
    const { driver, tell } = this
    this.witness = new Witness({ slack: skew + latest, now: world.now })
    this.network = new Network({
      world,
      driver,
      witness: this.witness,
      latest,
      tell,
    })
    this.configure({ maxConcurrent: this.someConcurrency() })
    this.client = this.someMachine()
    const reached = this.network.reach({
      machine: this.client,
      latency: world.below(50),
      cut: false,
      underWay: 0,
    })
    const made = this.client.run(Effect.provideService(TaskQueue.make(reached), Scope.Scope, Scope.makeUnsafe()))
    world.pass(0)
    this.queue = now(made.pollUnsafe() ?? Exit.die("the client does not come up"))
  }

  run(): void {
    this.start()
    this.start()
    for (let step = 0; step < steps; step++) {
      this.happen()
      this.world.pass(this.world.below(700))
      this.check()
    }
    this.clear()
    this.finish()
    this.sail()
    this.close()
  }

  private happen(): void {
    const { world } = this
    const choice = world.below(26)
    const process = this.processes[world.below(this.processes.length)]
    if (choice < 8) {
      if (this.deferred < records) this.defer(this.some())
    } else if (choice < 10) this.cancel()
    else if (choice === 10) this.configure({ paused: !this.witness.limits.paused })
    else if (choice === 11) this.limit()
    else if (choice < 14) this.redrive()
    else if (choice < 16) {
      if (this.processes.length < 4) this.start()
    } else if (process !== undefined) {
      if (choice < 18) this.kill(process)
      else if (choice < 19) this.stop(process)
      else if (choice < 21) this.cut(process, true)
      else if (choice < 23) this.cut(process, false)
      else this.freeze(process)
    }
  }

  /** Whatever is asked from now on is answered; one more worker, and everything that waits may run. */
  private clear(): void {
    this.tell(() => "the storm is over")
    while (this.deferred < records) this.defer(this.some())
    this.network.calm = true
    this.configure({ paused: false, rate: undefined })
    for (const known of this.dead) if (this.world.chance(0.5)) this.redriveOne(known)
    for (const process of this.processes) {
      process.orderly = !process.cut && process.underWay === 0 && process.machine.isUp && !process.stopping
      process.cut = false
      if (process.orderly) this.stop(process)
    }
    this.start({
      targets: ["there"],
      concurrency: 2 + this.world.below(3),
      listens: true,
    })
  }

  private finish(): void {
    for (let second = 0; this.witness.open.length > 0 || this.asked.size > 0; second++) {
      this.world.pass(1000)
      this.check()
      if (second < 300) continue
      const open = JSON.stringify(this.witness.open)
      throw new Broken(`after five quiet minutes something is not done: ${this.asked.size} wait, and there is ${open}`)
    }
    const known = [...this.witness.records.values()]
    const ledgers = now(this.driver.ledger({ ids: known.map(({ id }) => id) }))
    known.forEach((each, index) => {
      this.witness.wrote(each, ledgers[index])
    })
    // Everybody learned how it ended.
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

  /** When nothing is wrong, everything is done soon, once, and as fast as the rate allows. */
  private sail(): void {
    const { witness, world } = this
    // The last of what was under way in the storm arrives.
    world.pass(2 * latest)
    const rated = world.chance(0.3)
    witness.slack = skew + 100
    this.configure({
      maxConcurrent: undefined,
      ageing: undefined,
      rate: rated ? 5 : undefined,
      burst: 2,
    })
    for (const { attempts } of this.processes) attempts.calm = true
    const before = witness.records.size
    for (let count = 0; count < 5; count++) {
      this.defer({ delay: world.chance(0.5) ? world.below(1000) : 0 })
      world.pass(world.below(60))
    }
    let second = 0
    do world.pass(1000)
    while (++second < 10 && witness.open.length > 0)
    this.check()
    const known = [...witness.records.values()].slice(before)
    if (known.length !== 5) throw new Broken(`of 5 calm deferrals ${known.length} arrived`)
    for (const each of known) {
      const waited = (each.claimedAt ?? Number.POSITIVE_INFINITY) - each.eta
      const right = each.phase === "succeeded" && each.attempt === 1 && each.crashes === 0
      if (!right || waited > (rated ? 2000 : 800)) {
        throw new Broken(`with nothing wrong this began ${waited} ms after its time: ${JSON.stringify(each)}`)
      }
    }
    this.probe()
    for (let more = 0; more < 30 && witness.open.length > 0; more++) world.pass(1000)
  }

  /** Who holds a key now is who held it by all that happened. */
  private probe(): void {
    const unique = new Map<string, NewRecord>()
    for (const { given } of this.witness.records.values()) {
      if (given.unique !== undefined) unique.set(`${given.task} ${given.unique.key}`, given)
    }
    for (const given of unique.values()) {
      const record = {
        ...given,
        id: this.queue.nextId(this.world.now, this.world.next),
        target: undefined,
      }
      const [outcome] = now(this.driver.enqueue({ records: [record], now: this.world.now }))
      this.tell(() => `probe ${JSON.stringify(given.unique)}: ${JSON.stringify(outcome)}`)
      this.witness.enqueued(record, outcome, this.world.now)
    }
  }

  private close(): void {
    for (const process of this.processes) this.stop(process)
    for (let second = 0; second < 30 && this.processes.some(({ stopped }) => !stopped); second++) this.world.pass(1000)
    for (const { attempts, name, orderly, stopped } of this.processes) {
      if (!stopped) throw new Broken(`worker ${name} does not come to its end`)
      if (attempts.running.size > 0) throw new Broken(`worker ${name} has ended, and not all of its handlers have`)
      if (orderly && attempts.held.size > 0) {
        throw new Broken(`worker ${name} ended with nothing wrong and kept ${[...attempts.held.keys()]}`)
      }
    }
  }

  /** Every record is as it must be. */
  private check(): void {
    const known = [...this.witness.records.values()]
    const found = now(this.driver.get({ ids: known.map(({ id }) => id), now: this.world.now }))
    known.forEach((each, index) => {
      this.witness.agrees(found[index], each, this.world.now)
    })
    this.witness.counted(now(this.driver.statistics({ queue: "default", now: this.world.now })))
  }

  // What people do.

  private some(): DeferOptions {
    const { world } = this
    return {
      delay: world.chance(0.4) ? world.below(5000) : 0,
      priority: world.below(3),
      target: world.chance(0.1) ? "there" : undefined,
      expires: world.chance(0.15) ? 500 + world.below(4000) : undefined,
      unique: world.chance(0.4)
        ? {
            key: `key ${world.below(2)}`,
            while: whiles[world.below(whiles.length)],
          }
        : undefined,
    }
  }

  private defer(options: DeferOptions): void {
    const { world } = this
    const n = this.deferred++
    const task = world.chance(0.3) ? Fragile : Work
    const deferring = task.defer({ n }, options)
    const acknowledge = (ref: Ref) => {
      this.tell(() => `acknowledged ${ref.id}`)
      this.acknowledged.push(ref)
      if (world.chance(0.4)) return
      const ended = Effect.retry(ref.await, {
        while: (error) => error._tag === "TaskQueueError",
      })
      this.ask(Effect.onExit(ended, (exit) => Effect.sync(() => void this.awaited.push({ id: ref.id, exit }))))
    }
    this.ask(Effect.tap(deferring, (ref) => Effect.sync(() => acknowledge(ref))))
  }

  private cancel(): void {
    const ref = this.acknowledged[this.world.below(this.acknowledged.length)]
    if (ref !== undefined) this.ask(ref.cancel())
  }

  private redrive(): void {
    const dead = this.dead
    const known = dead[this.world.below(dead.length)]
    if (known !== undefined) this.redriveOne(known)
  }

  private redriveOne({ id }: Known): void {
    const [outcome] = now(this.driver.redrive({ ids: [id], now: this.world.now }))
    this.tell(() => `redrive ${id}: ${outcome}`)
    this.redriven.add(id)
    this.witness.redriven(id, outcome, this.world.now)
  }

  private get dead(): ReadonlyArray<Known> {
    return [...this.witness.records.values()].filter(({ phase }) => phase === "dead")
  }

  private limit(): void {
    const { world } = this
    const choice = world.below(3)
    if (choice === 0)
      this.configure({
        maxConcurrent: world.chance(0.3) ? undefined : this.someConcurrency(),
      })
    else if (choice === 1)
      this.configure({
        rate: world.chance(0.3) ? undefined : 1 + world.below(3),
        burst: 1 + world.below(3),
      })
    else
      this.configure({
        ageing: world.chance(0.3) ? undefined : world.below(3000),
      })
  }

  private configure(limits: Partial<QueueLimits>): void {
    this.tell(() => `configure ${JSON.stringify(limits)}`)
    now(this.driver.configure({ queue: "default", limits, now: this.world.now }))
    this.witness.configured(limits, this.world.now)
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

  // What befalls the processes.

  private start(options: Partial<Parameters<typeof this.worker>[0]> = {}): void {
    const { world } = this
    const some = {
      targets: world.chance(0.3) ? ["there"] : [],
      concurrency: 1 + world.below(4),
      listens: world.chance(0.8),
    }
    this.worker({ ...some, ...options })
  }

  private worker({
    concurrency,
    listens,
    targets,
  }: {
    readonly targets: ReadonlyArray<string>
    readonly concurrency: number
    readonly listens: boolean
  }): void {
    const { driver, network, world } = this
    const name = this.started++
    const machine = this.someMachine()
    const attempts = new Attempts(machine, concurrency, (make) => this.tell(() => `worker ${name}: ${make()}`))
    const process: Process = {
      name,
      machine,
      latency: world.chance(0.5) ? 0 : world.below(50),
      scope: Scope.makeUnsafe(),
      attempts,
      cut: false,
      underWay: 0,
      stopping: false,
      stopped: false,
      orderly: false,
    }
    this.processes.push(process)
    this.tell(() => `start ${name}: ${concurrency} at once, ${machine.ahead} ms ahead, targets ${targets}`)
    const capabilities = { ...driver.capabilities, listens }
    const layer = Worker.layer({
      tasks: [Work, Fragile],
      targets,
      concurrency,
      lease,
      drainTimeout: "1 second",
    }).pipe(
      Layer.provide(Work.toLayer(attempts.handler)),
      Layer.provide(Fragile.toLayer(attempts.handler)),
      Layer.provide(TaskQueue.layer(Effect.succeed({ ...network.reach(process), capabilities }))),
      Layer.provide(Instance.layerBackend({ id: String(name) })),
    )
    process.machine.run(Layer.buildWithScope(layer, process.scope))
  }

  private kill(process: Process): void {
    this.tell(() => `kill ${process.name}`)
    process.machine.kill()
    this.processes = this.processes.filter((other) => other !== process)
  }

  private stop(process: Process): void {
    if (process.stopping) return
    this.tell(() => `stop ${process.name}`)
    process.stopping = true
    const closed = Effect.andThen(
      Scope.close(process.scope, Exit.void),
      Effect.sync(() => {
        process.stopped = true
      }),
    )
    process.machine.post(() => void process.machine.run(closed))
  }

  private cut(process: Process, cut: boolean): void {
    this.tell(() => `${cut ? "cut off" : "reconnect"} ${process.name}`)
    process.cut = cut
  }

  private freeze(process: Process): void {
    const millis = this.world.below(latest)
    this.tell(() => `freeze ${process.name} for ${millis} ms`)
    process.machine.freeze(millis)
  }

  private someMachine(): Machine {
    return this.world.machine(this.world.below(skew) - skew / 2)
  }

  private someConcurrency(): number {
    return 1 + this.world.below(4)
  }
}

const tagOf = (exit: Exit.Exit<unknown, unknown>): string | undefined => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : undefined
}
