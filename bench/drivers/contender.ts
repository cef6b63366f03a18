/**
 * What is measured: a queue, opened somewhere, that takes tasks in and runs them. Ours and all others are driven through
 * the same three doors, each by its own public interface.
 */

/** About 200 bytes as JSON. */
export interface Payload {
  readonly n: number
  /** When it was deferred, in milliseconds of the machine's steady clock, which all processes share. */
  readonly at: number
  readonly text: string
}

export const text = "x".repeat(165)

/** Milliseconds of the machine's steady clock. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/** Where a queue is: a new place for each contender in each round. */
export type Place =
  | { readonly engine: "sqlite"; readonly file: string }
  | { readonly engine: "postgres"; readonly url: string }
  | { readonly engine: "redis"; readonly port: number }

export interface Contender {
  /** Defers what `next` gives, from so many callers at once, each of which waits until its task is accepted. */
  readonly produce: (next: () => Payload | undefined, callers: number) => Promise<void>
  /** Begins to run tasks, so many at once. Returns when it is ready for them. */
  readonly work: (handle: (payload: Payload) => void, concurrency: number) => Promise<void>
  /** How many have been begun, or wait, and have not ended by the queue's own account; asked when none waits any more. */
  readonly unfinished: () => Promise<number>
}

/** Opens a queue, and makes it first when there is none. */
export type Open = (place: never) => Promise<Contender>

/** The contenders: in which file `open` is, and with what it is called beside the place. */
export const contenders = {
  "outlive-sqlite": { file: "outlive.ts", engine: "sqlite", options: {} },
  "outlive-sqlite-normal": { file: "outlive.ts", engine: "sqlite", options: { synchronous: "normal" } },
  "outlive-sqlite-keep-none": { file: "outlive.ts", engine: "sqlite", options: { keep: "none" } },
  "outlive-sqlite-compiled": { file: "outlive.ts", engine: "sqlite", options: { compiled: true } },
  "outlive-sqlite-prefetch-0": { file: "outlive.ts", engine: "sqlite", options: { prefetch: 0 } },
  "effect-sqlite": { file: "persistedQueue.ts", engine: "sqlite", options: { synchronous: "full" } },
  "effect-sqlite-normal": { file: "persistedQueue.ts", engine: "sqlite", options: { synchronous: "normal" } },
  plainjob: { file: "../peers/plainjob.ts", engine: "sqlite", options: {} },
  "floor-sqlite": { file: "floorSqlite.ts", engine: "sqlite", options: {} },
  bullmq: { file: "../peers/bullmq.ts", engine: "redis", options: {} },
  "bullmq-always": { file: "../peers/bullmq.ts", engine: "redis", options: { appendfsync: "always" } },
  "outlive-postgres": { file: "outlive.ts", engine: "postgres", options: {} },
  "outlive-postgres-keep-none": { file: "outlive.ts", engine: "postgres", options: { keep: "none" } },
  "outlive-postgres-prefetch-0": { file: "outlive.ts", engine: "postgres", options: { prefetch: 0 } },
  "outlive-postgres-no-listen": { file: "outlive.ts", engine: "postgres", options: { listen: false } },
  "effect-postgres": { file: "persistedQueue.ts", engine: "postgres", options: {} },
  "graphile-worker": { file: "../peers/graphileWorker.ts", engine: "postgres", options: {} },
  "pg-boss": { file: "../peers/pgBoss.ts", engine: "postgres", options: {} },
  "floor-postgres": { file: "../peers/floorPostgres.ts", engine: "postgres", options: {} },
} satisfies Record<string, { file: string; engine: Place["engine"]; options: Readonly<Record<string, unknown>> }>

export type ContenderName = keyof typeof contenders

export const isContender = (name: string): name is ContenderName => Object.hasOwn(contenders, name)

export const openContender = async (name: ContenderName, place: Place): Promise<Contender> => {
  const { file, options } = contenders[name]
  const module: { readonly open: (place: Place, options: object) => Promise<Contender> } = await import(
    new URL(file, import.meta.url).href
  )
  return module.open(place, options)
}
