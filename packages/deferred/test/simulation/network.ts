/**
 * Between the machines and the driver: calls that are lost before or after they were done, late, doubled, or never
 * answered, and hints that do not come, come late or twice. Every answer of the driver passes the witness.
 */
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import { Effect, Queue, Stream } from "effect"
import type { Attempts } from "./attempts.ts"
import { Broken, type Witness } from "./witness.ts"
import type { Machine, World } from "./world.ts"

/** One machine's end of the network. */
export interface End {
  readonly machine: Machine
  /** Milliseconds that a call may take, there and back each, when nothing is wrong. */
  readonly latency: number
  /** Nothing passes: who called before learns nothing any more either. */
  cut: boolean
  /** Calls that somebody waits for. */
  underWay: number
  /** Where there is a worker. */
  readonly attempts?: Attempts | undefined
  readonly stopping?: boolean | undefined
}

export class Network {
  /** Nothing is lost, late or doubled any more. */
  calm = false
  private readonly world: World
  private readonly driver: TaskQueue.Driver
  private readonly witness: Witness
  private readonly latest: number
  private readonly tell: (make: () => string) => void
  private readonly listeners = new Map<Queue.Queue<TaskQueue.Change>, End>()

  constructor(options: {
    readonly world: World
    readonly driver: TaskQueue.Driver
    readonly witness: Witness
    /** Milliseconds for which a call, or its answer, may be under way at the most. */
    readonly latest: number
    readonly tell: (make: () => string) => void
  }) {
    this.world = options.world
    this.driver = options.driver
    this.witness = options.witness
    this.latest = options.latest
    this.tell = options.tell
    const spreading = Effect.flatMap(
      this.driver.changes,
      Stream.runForEach((change) => Effect.sync(() => this.spread(change))),
    )
    this.world.machine(0).run(Effect.scoped(spreading))
  }

  /** The driver as one machine reaches it. */
  reach(end: End): TaskQueue.Driver {
    const { driver, witness, world } = this
    const { attempts } = end
    const call =
      <P, A>(name: string, ask: (params: P) => Effect.Effect<A, TaskQueue.TaskQueueError>, see: (p: P, a: A) => void) =>
      (params: P) =>
        this.line(end, name, () => {
          const answer = now(ask(params))
          if (name !== "get") this.tell(() => `${name} ${JSON.stringify(params)} gave ${JSON.stringify(answer)}`)
          see(params, answer)
          return answer
        })
    const claim = call("claim", driver.claim, (params, result) => witness.claimed(params, result, world.now))
    const extend = call("extend", driver.extend, (params, outcomes) => witness.extended(params, outcomes))
    const settle = call("settle", driver.settle, ({ now, settlements }, outcomes) => {
      settlements.forEach((settlement, index) => {
        if (outcomes[index] === "Settled") {
          attempts?.judge(settlement, witness.get(settlement.id), end.stopping === true)
        }
        witness.settled(settlement, outcomes[index], now)
      })
    })
    return {
      ...driver,
      enqueue: call("enqueue", driver.enqueue, ({ now, records }, outcomes) =>
        outcomes.forEach((outcome, index) => {
          witness.enqueued(records[index]!, outcome, now)
        }),
      ),
      claim: (params) => Effect.tap(claim(params), ({ records }) => Effect.sync(() => attempts?.given(records))),
      extend: (params) =>
        Effect.tap(extend(params), (outcomes) =>
          Effect.sync(() =>
            params.leases.forEach((lease, index) => {
              if (outcomes[index] === "LeaseLost") attempts?.lost(lease)
            }),
          ),
        ),
      settle: (params) => {
        attempts?.settles(params.settlements)
        return settle(params)
      },
      progress: call("progress", driver.progress, ({ updates }, outcomes) =>
        updates.forEach((update, index) => {
          witness.noted(update, outcomes[index])
        }),
      ),
      cancel: call("cancel", driver.cancel, ({ ids }, outcomes) =>
        ids.forEach((id, index) => {
          witness.cancelled(id, outcomes[index])
        }),
      ),
      get: call("get", driver.get, () => undefined),
      announce: call("announce", driver.announce, () => undefined),
      withdraw: call("withdraw", driver.withdraw, () => undefined),
      prune: call("prune", driver.prune, (_, count) => {
        if (count !== 0) throw new Broken(`${count} records were pruned that are all to be kept`)
      }),
      changes: Effect.map(
        Effect.acquireRelease(
          Effect.tap(Queue.sliding<TaskQueue.Change>(1024), (buffer) =>
            Effect.sync(() => this.listeners.set(buffer, end)),
          ),
          (buffer) => Effect.sync(() => this.listeners.delete(buffer)),
        ),
        Stream.fromQueue,
      ),
    }
  }

  private line<A>(end: End, name: string, perform: () => A): Effect.Effect<A, TaskQueue.TaskQueueError> {
    const { latest, world } = this
    /** What is wrong must not end as a defect in a fiber that nobody looks at. */
    const reach = (): A => {
      try {
        return perform()
      } catch (error) {
        world.break(error)
        throw error
      }
    }
    /** It is done, and answered, whether somebody still waits for it or not. */
    const travel = (there: number, back: number): Effect.Effect<A> =>
      there + back === 0
        ? Effect.sync(reach)
        : Effect.callback((resume) => {
            world.after(there, () => {
              const answer = reach()
              world.after(back, () => {
                if (!end.cut) end.machine.post(() => resume(Effect.succeed(answer)))
              })
            })
          })
    const usual = () => travel(world.below(end.latency), world.below(end.latency))
    const passes = (): Effect.Effect<A, TaskQueue.TaskQueueError> => {
      if (end.cut) return Effect.never
      const dice = this.calm ? 0 : world.below(100)
      if (dice < 86) return usual()
      const lost = new TaskQueue.TaskQueueError({
        operation: name,
        message: "lost",
        isRetryable: true,
      })
      if (dice < 90) return Effect.fail(lost)
      if (dice < 94) return Effect.andThen(usual(), Effect.fail(lost))
      if (dice < 97) {
        world.after(world.below(latest), reach)
        return usual()
      }
      return travel(world.below(latest), world.below(latest))
    }
    return Effect.suspend(() => {
      end.underWay++
      return Effect.ensuring(
        passes(),
        Effect.sync(() => {
          end.underWay--
        }),
      )
    })
  }

  private spread(change: TaskQueue.Change): void {
    for (const [buffer, end] of this.listeners) {
      const deliver = () => {
        if (!end.cut) end.machine.post(() => Queue.offerUnsafe(buffer, change))
      }
      const dice = this.calm ? 0 : this.world.below(100)
      if (dice < 80) deliver()
      if (dice >= 70 && dice < 90) this.world.after(this.world.below(this.latest), deliver)
    }
  }
}

/** The memory driver answers at once. */
export const now = <A, E>(effect: Effect.Effect<A, E>): A => Effect.runSync(effect)
