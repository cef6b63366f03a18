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
  /** Bytes of write-ahead log for each task; on SQLite what was written to all of its files. */
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

/** What `tasks` cost the processes and their storage between two moments. */
const costOf = (
  tasks: number,
  from: { readonly states: ReadonlyArray<State>; readonly counters: Counters },
  to: { readonly states: ReadonlyArray<State>; readonly counters: Counters },
): Cost => {
  const milliseconds = (to.states[0]?.at ?? Number.NaN) - (from.states[0]?.at ?? Number.NaN)
  const between = (a: number | undefined, b: number | undefined) =>
    a === undefined || b === undefined ? undefined : b - a
  const sum = (states: ReadonlyArray<State>, of: (state: State) => number | undefined) =>
    states.reduce<number | undefined>((total, state) => {
      const number = of(state)
      return total === undefined || number === undefined ? undefined : total + number
    }, 0)
  const each = (number: number | undefined) => (number === undefined ? undefined : number / tasks)
  const serverCpu = to.counters.cpu - from.counters.cpu
  const cpu =
    (between(
      sum(from.states, ({ cpu }) => cpu),
      sum(to.states, ({ cpu }) => cpu),
    ) ?? Number.NaN) + serverCpu
  const commits = between(from.counters.commits, to.counters.commits)
  const wal = to.counters.isOwn
    ? between(
        sum(from.states, ({ written }) => written),
        sum(to.states, ({ written }) => written),
      )
    : between(from.counters.wal, to.counters.wal)
  return {
    speed: (tasks * 1000) / milliseconds,
    cpu: (cpu * 1000) / tasks,
    serverCpu: (serverCpu * 1000) / tasks,
    rss: Math.max(...to.states.map(({ rss }) => rss)),
    commits: each(commits === undefined ? undefined : commits * 1000),
    wal: each(wal),
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
    const at = async (tag: "Begin" | "End") => {
      const { state } = await subject.next(tag)
      return { states: [state], counters: await site.read() }
    }
    return costOf(count, await at("Begin"), await at("End"))
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
    const read = async () => ({
      states: [await worker.state(), await producer.state()],
      counters: await site.read(),
    })
    const from = await read()
    await sleep(seconds * 1000)
    const to = await read()
    return costOf((to.states[0]?.count ?? 0) - (from.states[0]?.count ?? 0), from, to)
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
