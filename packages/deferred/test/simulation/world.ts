/**
 * A world of its own for machines that talk to each other: one time, one source of chance, and every turn of every fiber
 * in an order that the seed chooses. Nothing in it waits for the real clock, so that a storm of a minute takes
 * milliseconds and goes the same way every time.
 *
 * Effect's `TestClock` shares one clock and one scheduler among all fibers, and tells by a real timer when they have come
 * to rest. Here a machine has a clock of its own, can stand still while the others go on (a long collection of garbage, a
 * laptop that sleeps), and can be gone from one turn to the next without so much as a finalizer.
 */
import { Clock, Context, Duration, Effect, type Fiber, Random, References, Scheduler } from "effect"

/** Numbers from 0 to below 1 by a seed: mulberry32. */
const numbers = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000
  }
}

interface Alarm {
  readonly at: number
  readonly ring: () => void
  cancelled: boolean
}

/** More turns at one time than this: something goes round in a circle and time never passes. */
const tooManyTurns = 100_000

export class World {
  /** Milliseconds of the true time, which no machine knows. */
  now = 1_000_000
  readonly next: () => number
  private readonly machines: Array<Machine> = []
  /** The latest first; of the same time, the one set last first. */
  private readonly alarms: Array<Alarm> = []
  private broken: { readonly error: unknown } | undefined

  constructor(seed: number) {
    this.next = numbers(seed)
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  chance(p: number): boolean {
    return this.next() < p
  }

  /** A machine whose clock is ahead by so much, or behind. */
  machine(ahead: number): Machine {
    const machine = new Machine(this, ahead)
    this.machines.push(machine)
    return machine
  }

  /** Lets time pass, with everything that happens meanwhile. What broke meanwhile is thrown. */
  pass(millis: number): void {
    const until = this.now + millis
    let turns = 0
    while (true) {
      const machine = this.choose()
      if (machine !== undefined) {
        machine.turn()
        if (this.broken !== undefined) throw this.broken.error
        if (++turns > tooManyTurns) throw new Error(`at ${this.now} there is no end of turns: time does not pass`)
        continue
      }
      const alarm = this.alarms.at(-1)
      if (alarm === undefined || alarm.at > until) break
      this.alarms.pop()
      if (alarm.cancelled) continue
      if (alarm.at > this.now) {
        this.now = alarm.at
        turns = 0
      }
      alarm.ring()
    }
    this.now = until
  }

  /** Calls back after so long. */
  after(millis: number, ring: () => void): Alarm {
    const alarm = { at: this.now + millis, ring, cancelled: false }
    let low = 0
    let high = this.alarms.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.alarms[middle]!.at > alarm.at) low = middle + 1
      else high = middle
    }
    this.alarms.splice(low, 0, alarm)
    return alarm
  }

  /** Ends the world: `pass` throws. For checks inside of what would swallow what they throw. */
  break(error: unknown): void {
    this.broken ??= { error }
  }

  private choose(): Machine | undefined {
    let count = 0
    for (const machine of this.machines) if (machine.isReady) count++
    if (count === 0) return undefined
    let at = count === 1 ? 0 : this.below(count)
    for (const machine of this.machines) if (machine.isReady && at-- === 0) return machine
    return undefined
  }
}

/** A process: its fibers take turns in their order, and between those of other machines in any. */
export class Machine {
  readonly world: World
  /** How far its clock is ahead of the true time. */
  readonly ahead: number
  /** What its fibers run with: its clock, its scheduler, the world's chance. */
  readonly context: Context.Context<never>
  private turns: Array<() => void> = []
  private frozen = 0
  private dead = false

  constructor(world: World, ahead: number) {
    this.world = world
    this.ahead = ahead
    this.context = Context.make(Clock.Clock, this.clock()).pipe(
      Context.add(Scheduler.Scheduler, this.scheduler()),
      Context.add(Random.Random, {
        nextDoubleUnsafe: world.next,
        nextIntUnsafe: () => world.below(Number.MAX_SAFE_INTEGER),
      }),
      Context.add(References.MinimumLogLevel, "None"),
    )
  }

  get now(): number {
    return this.world.now + this.ahead
  }

  get isReady(): boolean {
    return this.turns.length > 0 && !this.dead && this.frozen === 0
  }

  get isUp(): boolean {
    return !this.dead && this.frozen === 0
  }

  /** Begins at once, on this machine. */
  run<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  /** Something reaches this machine from outside: one of its next turns. */
  post(task: () => void): void {
    if (!this.dead) this.turns.push(task)
  }

  /** Stands still for so long: then everything that came due meanwhile happens at once. */
  freeze(millis: number): void {
    this.frozen++
    this.world.after(millis, () => {
      this.frozen--
    })
  }

  /** Gone: no finalizer, no last word. */
  kill(): void {
    this.dead = true
    this.turns = []
  }

  turn(): void {
    this.turns.shift()?.()
  }

  private clock(): Clock.Clock {
    const nanos = () => BigInt(this.now) * 1_000_000n
    return {
      currentTimeMillisUnsafe: () => this.now,
      currentTimeMillis: Effect.sync(() => this.now),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep: (duration) => {
        const millis = Duration.toMillis(duration)
        if (!Number.isFinite(millis)) return millis > 0 ? Effect.never : Effect.yieldNow
        if (millis <= 0) return Effect.yieldNow
        return Effect.callback<void>((resume) => {
          // Whole milliseconds, as timers have them.
          const alarm = this.world.after(Math.ceil(millis), () => this.post(() => resume(Effect.void)))
          return Effect.sync(() => {
            alarm.cancelled = true
          })
        })
      },
    }
  }

  private scheduler(): Scheduler.Scheduler {
    const dispatcher: Scheduler.SchedulerDispatcher = {
      scheduleTask: (task) => this.post(task),
      flush: () => undefined,
    }
    // A fiber may lose its turn between any two of its steps; how many it has, chance decides anew each time.
    let steps = 1 + this.world.below(300)
    return {
      executionMode: "async",
      shouldYield: (fiber) => {
        if (fiber.currentOpCount < steps) return false
        steps = 1 + this.world.below(300)
        return true
      },
      makeDispatcher: () => dispatcher,
    }
  }
}
