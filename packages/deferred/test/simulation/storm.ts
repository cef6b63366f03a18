/**
 * A storm: worker processes on one queue that are killed, stopped, frozen and cut off, over a network that loses and
 * doubles, with clocks that differ; handlers that end in every way; people who cancel, pause, configure and redrive. All
 * of it is chosen by a seed. Every answer of the driver is checked as it is given, every record after every step, and in
 * the end everything must have ended as its handlers did.
 */
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { Fleet, lease } from "./fleet.ts"
import { Network, now } from "./network.ts"
import { People } from "./people.ts"
import { Broken, Witness } from "./witness.ts"
import { World } from "./world.ts"

const records = 10
const steps = 30
/** What the machines' clocks differ by at the most: well within a lease (DESIGN 5). */
const skew = 200
/** How long a call may be under way, one way or the other: longer than a lease. */
const latest = lease + 1000

export class Storm {
  /** What happened, in one line each, when it was asked for. */
  readonly story: Array<string> = []
  private readonly tell: (make: () => string) => void
  private readonly world: World
  private readonly driver = now(TaskQueueMemory.make)
  private readonly witness: Witness
  private readonly network: Network
  private readonly fleet: Fleet
  private readonly people: People

  constructor(seed: number, options?: { readonly tellStory?: boolean | undefined }) {
    const world = new World(seed)
    const { driver } = this
    const tell: typeof this.tell =
      options?.tellStory === true ? (make) => void this.story.push(`${world.now} ${make()}`) : () => undefined
    const witness = new Witness({ slack: skew + latest, now: world.now })
    this.tell = tell
    this.world = world
    this.witness = witness
    this.network = new Network({ world, driver, witness, latest, tell })
    this.fleet = new Fleet({ world, network: this.network, skew, tell })
    this.people = new People({ world, driver, witness, network: this.network, skew, tell })
    this.people.configure({ maxConcurrent: 1 + world.below(4) })
  }

  run(): void {
    this.fleet.start()
    this.fleet.start()
    for (let step = 0; step < steps; step++) {
      this.happen()
      this.world.pass(this.world.below(700))
      this.check()
    }
    this.clear()
    this.finish()
    this.sail()
    this.fleet.close()
  }

  private happen(): void {
    const { fleet, people } = this
    const choice = this.world.below(26)
    if (choice < 8) {
      if (people.deferred < records) people.deferSome()
    } else if (choice < 10) people.cancel()
    else if (choice === 10) people.pause()
    else if (choice === 11) people.limit()
    else if (choice < 14) people.redrive(0.5)
    else if (choice < 16) {
      if (fleet.processes.length < 4) fleet.start()
    } else fleet.befall()
  }

  /** Whatever is asked from now on is answered; one more worker, and everything that waits may run. */
  private clear(): void {
    const { fleet, network, people, world } = this
    this.tell(() => "the storm is over")
    while (people.deferred < records) people.deferSome()
    network.calm = true
    people.configure({ paused: false, rate: undefined })
    people.redrive(0.5)
    fleet.calm()
    fleet.start({ targets: ["there"], concurrency: 2 + world.below(3), listens: true })
  }

  /** Everything ends, and is known to. */
  private finish(): void {
    const { people, witness } = this
    for (let second = 0; witness.open.length > 0 || people.asked.size > 0; second++) {
      this.world.pass(1000)
      this.check()
      if (second < 300) continue
      const open = JSON.stringify(witness.open)
      throw new Broken(
        `after five quiet minutes something is not done: ${people.asked.size} wait, and there is ${open}`,
      )
    }
    const known = [...witness.records.values()]
    const ledgers = now(this.driver.ledger({ ids: known.map(({ id }) => id) }))
    known.forEach((each, index) => {
      witness.wrote(each, ledgers[index])
    })
    people.learned()
  }

  /** When nothing is wrong, everything is done soon, once, and as fast as the rate allows. */
  private sail(): void {
    const { fleet, people, witness, world } = this
    // The last of what was under way in the storm arrives.
    world.pass(2 * latest)
    const rated = world.chance(0.3)
    witness.slack = skew + 100
    people.configure({ maxConcurrent: undefined, ageing: undefined, rate: rated ? 5 : undefined, burst: 2 })
    for (const { attempts } of fleet.processes) attempts.calm = true
    const before = witness.records.size
    for (let count = 0; count < 5; count++) {
      people.defer({ delay: world.chance(0.5) ? world.below(1000) : 0 })
      world.pass(world.below(60))
    }
    this.passUntilDone(10)
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
    people.probe()
    this.passUntilDone(30)
  }

  private passUntilDone(seconds: number): void {
    let second = 0
    do this.world.pass(1000)
    while (++second < seconds && this.witness.open.length > 0)
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
}
