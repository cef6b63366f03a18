/**
 * Processes with workers, and what befalls them.
 */
import * as Instance from "@outlive/core/Instance"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import { Effect, Exit, Layer, Scope } from "effect"
import { Attempts, Fragile, Work } from "./attempts.ts"
import type { End, Network } from "./network.ts"
import { Broken } from "./witness.ts"
import type { World } from "./world.ts"

/** Of the workers. */
export const lease = 3000

export interface Process extends End {
  readonly name: number
  readonly scope: Scope.Closeable
  readonly attempts: Attempts
  stopping: boolean
  stopped: boolean
  /** Asked to stop when nothing was wrong with it. */
  orderly: boolean
}

export class Fleet {
  processes: Array<Process> = []
  private readonly world: World
  private readonly network: Network
  private readonly skew: number
  private readonly tell: (make: () => string) => void
  private started = 0

  constructor(options: {
    readonly world: World
    readonly network: Network
    readonly skew: number
    readonly tell: (make: () => string) => void
  }) {
    this.world = options.world
    this.network = options.network
    this.skew = options.skew
    this.tell = options.tell
  }

  start(options: { targets?: ReadonlyArray<string>; concurrency?: number; listens?: boolean } = {}): void {
    const { network, world } = this
    const targets = options.targets ?? (world.chance(0.3) ? ["there"] : [])
    const concurrency = options.concurrency ?? 1 + world.below(4)
    const listens = options.listens ?? world.chance(0.8)
    const name = this.started++
    const machine = world.machine(world.below(this.skew) - this.skew / 2)
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
    const reached = network.reach(process)
    const driver = { ...reached, capabilities: { ...reached.capabilities, listens } }
    const layer = Worker.layer({ tasks: [Work, Fragile], targets, concurrency, lease, drainTimeout: "1 second" }).pipe(
      Layer.provide(Work.toLayer(attempts.handler)),
      Layer.provide(Fragile.toLayer(attempts.handler)),
      Layer.provide(TaskQueue.layer(Effect.succeed(driver))),
      Layer.provide(Instance.layerBackend({ id: String(name) })),
    )
    machine.run(Layer.buildWithScope(layer, process.scope))
  }

  /** Something befalls one of them. */
  befall(): void {
    const { world } = this
    const process = this.processes[world.below(this.processes.length)]
    if (process === undefined) return
    const choice = world.below(10)
    if (choice < 2) this.kill(process)
    else if (choice < 3) this.stop(process)
    else if (choice < 7) this.cut(process, choice < 5)
    else this.freeze(process)
  }

  stop(process: Process): void {
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

  /** Everybody is reached again; some are stopped, in order. */
  calm(): void {
    for (const process of this.processes) {
      process.orderly = !process.cut && process.underWay === 0 && process.machine.isUp && !process.stopping
      process.cut = false
      if (process.orderly) this.stop(process)
    }
  }

  /** All come to their end, and leave nothing behind. */
  close(): void {
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

  private kill(process: Process): void {
    this.tell(() => `kill ${process.name}`)
    process.machine.kill()
    this.processes = this.processes.filter((other) => other !== process)
  }

  private cut(process: Process, cut: boolean): void {
    this.tell(() => `${cut ? "cut off" : "reconnect"} ${process.name}`)
    process.cut = cut
  }

  private freeze(process: Process): void {
    const millis = this.world.below(lease * 1.5)
    this.tell(() => `freeze ${process.name} for ${millis} ms`)
    process.machine.freeze(millis)
  }
}
