/**
 * Records and calls for the suites, with everything filled in that a test does not speak of.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { TaskId } from "../../TaskId.ts"
import { type Change, type ClaimedRecord, type Settlement, TaskQueue } from "../../TaskQueue.ts"
import type { Join, NewRecord, TaskRecord } from "../../TaskRecord.ts"

/** A record with an id of the queue. */
export const record = (fields?: Partial<NewRecord>): Effect.Effect<NewRecord, never, TaskQueue> =>
  Effect.map(TaskQueue, (queue) => ({
    id: queue.nextId(0, () => 0.5),
    task: "Task",
    version: 1,
    queue: "default",
    payload: "{}",
    headers: {},
    priority: 0,
    eta: 0,
    onDuplicate: "fail",
    tombstone: 0,
    maxCrashes: 3,
    keep: Number.POSITIVE_INFINITY,
    ...fields,
  }))

export const joinOf = (total: number, onFailure: Join["onFailure"], afterwards: Join["afterwards"]): Join => ({
  total,
  onFailure,
  afterwards,
})

/** Enqueues at a time (default 0) and gives the outcomes. */
export const enqueue = Effect.fnUntraced(function* (fields: ReadonlyArray<Partial<NewRecord>>, now = 0) {
  const records: Array<NewRecord> = []
  for (const each of fields) records.push(yield* record(each))
  const queue = yield* TaskQueue
  return yield* queue.enqueue({ records, now })
})

/** Enqueues one and gives its id; dies when it was not inserted. */
export const insert = Effect.fnUntraced(function* (fields?: Partial<NewRecord>, now = 0) {
  const [outcome] = yield* enqueue([fields ?? {}], now)
  if (outcome?._tag !== "Inserted") return yield* Effect.die(new Error(`not inserted: ${JSON.stringify(outcome)}`))
  return outcome.id
})

export interface ClaimOptions {
  readonly queue?: string
  readonly limit?: number
  readonly lease?: number
  readonly worker?: string
  readonly tasks?: ReadonlyArray<{ readonly name: string; readonly maxVersion: number }>
  readonly targets?: ReadonlyArray<string>
}

export const claimResult = (now: number, options?: ClaimOptions) =>
  Effect.flatMap(TaskQueue, (queue) =>
    queue.claim({
      queues: [{ name: options?.queue ?? "default", limit: options?.limit ?? 100 }],
      tasks: options?.tasks ?? [{ name: "Task", maxVersion: 1 }],
      targets: options?.targets ?? [],
      lease: options?.lease ?? 1000,
      worker: options?.worker ?? "worker",
      now,
    }),
  )

export const claim = (now: number, options?: ClaimOptions) =>
  Effect.map(claimResult(now, options), ({ records }) => records)

/** Claims one; dies when there is none. */
export const claimOne = Effect.fnUntraced(function* (now: number, options?: ClaimOptions) {
  const [claimed] = yield* claim(now, { limit: 1, ...options })
  if (claimed === undefined) return yield* Effect.die(new Error("nothing was claimed"))
  return claimed
})

type Arrow = Settlement extends infer One ? (One extends Settlement ? Omit<One, "id" | "token"> : never) : never

/** Settles one claimed record. */
export const settle = Effect.fnUntraced(function* (claimed: ClaimedRecord, arrow: Arrow, now: number) {
  const queue = yield* TaskQueue
  const settlement = { id: claimed.id, token: claimed.token, ...arrow } as Settlement
  const [outcome] = yield* queue.settle({ settlements: [settlement], now })
  return outcome
})

export const succeed = (claimed: ClaimedRecord, now: number) =>
  settle(claimed, { _tag: "Succeed", result: `"done"` }, now)

export const bury = (claimed: ClaimedRecord, now: number) =>
  settle(claimed, { _tag: "Bury", reason: "PermanentFailure", result: undefined, failure: "{}" }, now)

export const get = Effect.fnUntraced(function* (id: TaskId, now = 0) {
  const queue = yield* TaskQueue
  const [found] = yield* queue.get({ ids: [id], now })
  return found
})

/** The record, or death. */
export const mustGet = Effect.fnUntraced(function* (
  id: TaskId,
  now = 0,
): Effect.fn.Return<TaskRecord, never, TaskQueue> {
  const found = yield* Effect.orDie(get(id, now))
  return found ?? (yield* Effect.die(new Error(`no record ${id}`)))
})

export const idsOf = (records: ReadonlyArray<{ readonly id: TaskId }>): ReadonlyArray<TaskId> =>
  records.map(({ id }) => id)

/** The first change that a call brings about and that the predicate accepts. */
export const firstChange = <A extends Change["_tag"], E, R>(tag: A, call: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const queue = yield* TaskQueue
    const changes = yield* queue.changes
    const found = yield* Effect.forkChild(Stream.runHead(Stream.filter(changes, (change) => change._tag === tag)), {
      startImmediately: true,
    })
    yield* call
    const change = yield* Fiber.join(found)
    return change._tag === "Some" ? (change.value as Extract<Change, { _tag: A }>) : undefined
  })
