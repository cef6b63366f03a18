/**
 * A process that is measured. It opens a contender's queue and does one thing with it; main.ts starts it and is told by
 * messages how far it is. It is killed when it has told what was asked: what it acknowledged must survive that.
 */
import { existsSync, readFileSync } from "node:fs"
import { type ContenderName, now, openContender, type Payload, type Place, text } from "./contender.ts"

/**
 * - `produce`: defers so many tasks after some to warm up
 * - `work`: runs as many; `empty`: runs all there are, until the last has ended by the queue's own account
 * - `flood`, `drain`: the same without end, and tells on request how many so far
 * - `tick`: defers one task each `every` milliseconds; `listen`: runs them, and tells how long each took from its deferral
 * - `echo`: both of these in one process
 */
export interface Role {
  readonly contender: ContenderName
  readonly place: Place
  readonly what: "produce" | "work" | "empty" | "flood" | "drain" | "tick" | "listen" | "echo"
  readonly count: number
  readonly warm: number
  readonly concurrency: number
}

export type Message =
  | { readonly _tag: "Ready" }
  /** What came before is not counted. */
  | { readonly _tag: "Begin"; readonly state: State }
  | { readonly _tag: "End"; readonly state: State }
  | { readonly _tag: "State"; readonly state: State }
  | { readonly _tag: "Latencies"; readonly latencies: ReadonlyArray<number> }

export interface State {
  /** Tasks that were deferred, or run. */
  readonly count: number
  readonly at: number
  /** Milliseconds of processor time of this process. */
  readonly cpu: number
  /** The most memory that it ever had, in megabytes. */
  readonly rss: number
  /** Bytes that it wrote to files and sockets, by Linux' /proc; `undefined` elsewhere. */
  readonly written: number | undefined
}

const every = 20

const tell = (message: Message) => process.send?.(message)

const stateAt = (count: number): State => {
  const at = now()
  const { maxRSS, systemCPUTime, userCPUTime } = process.resourceUsage()
  return { count, at, cpu: (systemCPUTime + userCPUTime) / 1000, rss: maxRSS / 1024, written: written() }
}

const written = (): number | undefined => {
  const file = "/proc/self/io"
  if (!existsSync(file)) return undefined
  return Number(/^wchar: (\d+)/m.exec(readFileSync(file, "utf8"))?.[1])
}

const run = async ({ concurrency, contender, count, place, warm, what }: Role) => {
  const queue = await openContender(contender, place)
  let so = 0
  const total = warm + count
  const tellWhere = () => {
    if (so === warm) tell({ _tag: "Begin", state: stateAt(so) })
    if (so === total) tell({ _tag: "End", state: stateAt(so) })
  }
  const numbers = (from: number, to: number) => {
    let n = from
    return (): Payload | undefined => (n < to ? { n: n++, at: now(), text } : undefined)
  }
  const tick = (next: () => Payload | undefined) =>
    new Promise<void>((resolve, reject) => {
      const timer = setInterval(() => {
        const payload = next()
        if (payload !== undefined) return queue.produce(once(payload), 1).catch(reject)
        clearInterval(timer)
        resolve()
      }, every)
    })
  const listen = (): ((payload: Payload) => void) => {
    const latencies: Array<number> = []
    return ({ at, n }) => {
      if (n < warm) return
      latencies.push(now() - at)
      if (latencies.length === count) tell({ _tag: "Latencies", latencies })
    }
  }
  process.on("message", () => tell({ _tag: "State", state: stateAt(so) }))

  switch (what) {
    case "produce": {
      await queue.produce(numbers(0, warm), concurrency)
      so = warm
      tellWhere()
      await queue.produce(numbers(warm, total), concurrency)
      so = total
      tellWhere()
      return
    }
    case "work": {
      return await queue.work(() => {
        so++
        tellWhere()
      }, concurrency)
    }
    case "empty": {
      const all = new Promise<void>((resolve, reject) => {
        const handle = () => {
          so++
          if (so === total) resolve()
          else tellWhere()
        }
        queue.work(handle, concurrency).catch(reject)
      })
      await all
      while ((await queue.unfinished()) > 0) await new Promise((resolve) => setTimeout(resolve, 5))
      return tellWhere()
    }
    case "flood": {
      const next = numbers(0, Number.POSITIVE_INFINITY)
      tell({ _tag: "Ready" })
      return await queue.produce(() => {
        so++
        return next()
      }, concurrency)
    }
    case "drain": {
      await queue.work(() => {
        so++
      }, concurrency)
      return tell({ _tag: "Ready" })
    }
    case "tick": {
      await tick(numbers(0, total))
      return tell({ _tag: "End", state: stateAt(total) })
    }
    case "listen": {
      await queue.work(listen(), concurrency)
      return tell({ _tag: "Ready" })
    }
    case "echo": {
      await queue.work(listen(), concurrency)
      return await tick(numbers(0, total))
    }
  }
}

const once = (payload: Payload) => {
  let left: Payload | undefined = payload
  return () => {
    const given = left
    left = undefined
    return given
  }
}

// As main.ts ends it when it writes a profile.
process.on("SIGTERM", () => process.exit(0))
// So that messages are waited for, and the process goes on until it is killed.
process.channel?.ref()
run(JSON.parse(process.argv[2] ?? "") as Role).catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
