/** The four workloads: each starts the processes it needs at a new place, or one that another has filled, and reads their figures. */
import { type ChildProcess, fork } from "node:child_process"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import type { ContenderName } from "./contender.ts"
import type { Counters, Site } from "./servers.ts"
import type { Message, Role, State } from "./subject.ts"

/** What one run of a workload cost. */
export interface Cost {
  /** Tasks a second. */
  readonly speed: number
  /** Milliseconds of processor time for 1,000 tasks: of all processes, the server among them. */
  readonly cpu: number
  /** Of it, the server's. */
  readonly serverCpu: number
  /** Megabytes, of the process that had most. */
  readonly rss: number
  /** Transactions that wrote, for 1,000 tasks. */
  readonly commits: number | undefined
  /** Bytes of write-ahead log for each task. */
  readonly wal: number | undefined
}

const concurrency = 50
/** Where to put profiles of the processes, one folder for each contender and role. */
const profiles = process.env.BENCH_CPU_PROF
const program = fileURLToPath(new URL("subject.ts", import.meta.url))

/** A process that is measured, and what it has told so far. */
class Subject {
  private readonly child: ChildProcess
  private readonly told: Array<Message> = []
  private wake: () => void = () => undefined
  private ended: Error | undefined

  constructor(role: Partial<Role> & Pick<Role, "contender" | "place" | "what">) {
    const whole: Role = { count: 0, warm: 0, concurrency, ...role }
    const execArgv =
      profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profiles}/${role.contender}-${role.what}`]
    this.child = fork(program, [JSON.stringify(whole)], { execArgv })
    this.child.on("message", (message: Message) => {
      this.told.push(message)
      this.wake()
    })
    this.child.once("exit", (code, signal) => {
      this.ended = new Error(
        `${role.contender} ended in the middle of "${role.what}": ${signal ?? `exit code ${code}`}`,
      )
      this.wake()
    })
  }

  async next<Tag extends Message["_tag"]>(tag: Tag): Promise<Extract<Message, { readonly _tag: Tag }>> {
    for (;;) {
      const found = this.told.findIndex(({ _tag }) => _tag === tag)
      if (found !== -1) return this.told.splice(found, 1)[0] as Extract<Message, { readonly _tag: Tag }>
      if (this.ended !== undefined) throw this.ended
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
  }

  async state(): Promise<State> {
    this.child.send("state")
    return (await this.next("State")).state
  }

  /** What it acknowledged has to survive that. */
  async kill(): Promise<void> {
    if (this.ended !== undefined) return
    const exit = new Promise((resolve) => this.child.once("exit", resolve))
    this.child.kill(profiles === undefined ? "SIGKILL" : "SIGTERM")
    await exit
  }
}

const costOf = (tasks: number, milliseconds: number, cpu: number, rss: number, from: Counters, to: Counters): Cost => {
  const serverCpu = to.cpu - from.cpu
  const between = (a: number | undefined, b: number | undefined) =>
    a === undefined || b === undefined ? undefined : (b - a) / tasks
  const commits = between(from.commits, to.commits)
  return {
    speed: (tasks * 1000) / milliseconds,
    cpu: ((cpu + serverCpu) * 1000) / tasks,
    serverCpu: (serverCpu * 1000) / tasks,
    rss,
    commits: commits === undefined ? undefined : commits * 1000,
    wal: between(from.wal, to.wal),
  }
}

/**
 * Defers, or runs, `count` tasks in one process after `warm` that do not count. `empty` ends when all are settled: there is a
 * queue that settles behind its handlers, as late as it likes.
 */
export const stretch = async (
  what: "produce" | "work" | "empty",
  contender: ContenderName,
  site: Site,
  { count, warm }: { readonly count: number; readonly warm: number },
): Promise<Cost> => {
  const subject = new Subject({ contender, place: site.place, what, count, warm })
  try {
    const begin = await subject.next("Begin")
    const from = await site.read()
    const end = await subject.next("End")
    const to = await site.read()
    const { state } = end
    return costOf(count, state.at - begin.state.at, state.cpu - begin.state.cpu, state.rss, from, to)
  } finally {
    await subject.kill()
  }
}

/** A process that defers and one that runs, for so many seconds after one to warm up. The tasks that were run count. */
export const together = async (contender: ContenderName, site: Site, seconds: number): Promise<Cost> => {
  const worker = new Subject({ contender, place: site.place, what: "drain" })
  const subjects = [worker]
  try {
    await worker.next("Ready")
    const producer = new Subject({ contender, place: site.place, what: "flood" })
    subjects.push(producer)
    await producer.next("Ready")
    await sleep(1000)
    const read = async () => [await worker.state(), await producer.state(), await site.read()] as const
    const from = await read()
    await sleep(seconds * 1000)
    const to = await read()
    const cpu = to[0].cpu - from[0].cpu + to[1].cpu - from[1].cpu
    const rss = Math.max(to[0].rss, to[1].rss)
    return costOf(to[0].count - from[0].count, to[0].at - from[0].at, cpu, rss, from[2], to[2])
  } finally {
    await Promise.all(subjects.map((subject) => subject.kill()))
  }
}

/** Milliseconds from a deferral, in another process or in the same, to its handler: of an idle worker, a task each 20 ms. */
export const latencies = async (
  contender: ContenderName,
  site: Site,
  where: "across" | "within",
  count: number,
): Promise<ReadonlyArray<number>> => {
  const warm = 50
  const role = { contender, place: site.place, count, warm }
  const worker = new Subject({ ...role, what: where === "within" ? "echo" : "listen" })
  const subjects = [worker]
  try {
    if (where === "across") {
      await worker.next("Ready")
      subjects.push(new Subject({ ...role, what: "tick" }))
    }
    return (await worker.next("Latencies")).latencies
  } finally {
    await Promise.all(subjects.map((subject) => subject.kill()))
  }
}
