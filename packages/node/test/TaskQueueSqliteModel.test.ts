/** The file against the memory: any history of calls has the same outcomes and leaves the same records. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord, TaskRecord } from "@outlive/deferred/TaskRecord"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Schema } from "effect"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true })),
)

const queues = ["a", "b"]
const tasks = ["t", "u"]

/** A record as the contract has it: a driver may carry its token along. */
const visible = (record: TaskRecord): TaskRecord => {
  const { token: _, ...rest } = record as TaskRecord & { readonly token?: number }
  return rest
}

/** A history, chosen by a seed (mulberry32): each step is one call, made of small pools so that calls meet each other. */
const history = (seed: number) => {
  let state = seed >>> 0
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const below = (limit: number) => Math.floor(random() * limit)
  const of = <A>(choices: ReadonlyArray<A>): A => choices[below(choices.length)]!
  const some = <A>(count: number, make: () => A): Array<A> => Array.from({ length: 1 + below(count) }, make)
  const ids: Array<TaskId> = []
  const leases: Array<TaskQueue.Lease> = []
  let now = 1_000_000

  const id = (): TaskId => {
    if (ids.length > 0 && random() < 0.05) return of(ids)
    const made = `00000000-0000-7000-8000-${String(ids.length).padStart(12, "0")}` as TaskId
    ids.push(made)
    return made
  }
  const newRecord = (): NewRecord => ({
    id: id(),
    task: of(tasks),
    version: 1 + below(3),
    queue: of(queues),
    payload: `{"n":${below(100)}}`,
    headers: random() < 0.5 ? {} : { trace: String(below(9)) },
    priority: of([0, 0, 0, 1, 2, -1, 0.5]),
    eta: of([0, 0, now, now + below(50)]),
    name: random() < 0.4 ? of(["n1", "n2", "n3"]) : undefined,
    onDuplicate: of(["fail", "ignore", "replace"]),
    tombstone: of([0, 20, 1000]),
    target: of([undefined, undefined, "x", "y"]),
    expiresAt: random() < 0.2 ? now + below(60) : undefined,
    retry: of([undefined, "{}"]),
    timeout: of([undefined, 5]),
    lease: of([undefined, undefined, 15]),
    maxCrashes: below(2),
    keep: of([0, 30, 500, Number.POSITIVE_INFINITY]),
  })
  const lease = (): TaskQueue.Lease => {
    const held = leases.length > 0 && random() < 0.9 ? of(leases.slice(-5)) : { id: of(ids), token: below(3) }
    return { id: held.id, token: held.token }
  }
  const settlement = () =>
    of<TaskQueue.Settlement>([
      { ...lease(), _tag: "Succeed", result: of([undefined, "1"]) },
      { ...lease(), _tag: "Release" },
      { ...lease(), _tag: "Retry", eta: now + below(30), failure: "f" },
      { ...lease(), _tag: "Snooze", eta: now + below(30) },
      { ...lease(), _tag: "Cancel" },
      {
        ...lease(),
        _tag: "Bury",
        reason: "PermanentFailure",
        result: of([undefined, "2"]),
        failure: of([undefined, "g"]),
      },
    ])
  const known = () => some(3, () => (leases.length > 0 && random() < 0.5 ? of(leases.slice(-5)).id : of(ids)))
  const filter = () => ({
    queue: of([undefined, ...queues]),
    task: of([undefined, ...tasks]),
    state: of([undefined, "scheduled", "ready", "running", "succeeded", "cancelled", "dead"] as const),
    reason: of([undefined, undefined, undefined, "Expired"] as const),
    namePrefix: of([undefined, undefined, undefined, "n", "n1"]),
    now,
  })
  type Step = readonly [string, (driver: TaskQueue.Driver) => Effect.Effect<unknown, TaskQueue.TaskQueueError>]
  const step = (): Step => {
    now += of([0, 0, 1, 5, 20])
    const at = now
    const chosen = ids.length === 0 ? 0 : random()
    if (chosen < 0.25) {
      const records = some(4, newRecord)
      return [`enqueue ${JSON.stringify(records)}`, (driver) => driver.enqueue({ records, now: at })]
    }
    if (chosen < 0.55) {
      const params: TaskQueue.ClaimParams = {
        queues: queues.map((name) => ({ name, limit: below(4) })),
        tasks: tasks.slice(below(2)).map((name) => ({ name, maxVersion: 1 + below(3) })),
        targets: of([[], ["x"], ["x", "y", "x"]]),
        lease: 10 + below(20),
        worker: of(["w1", "w2"]),
        now: at,
      }
      const claim = (driver: TaskQueue.Driver) =>
        Effect.gen(function* () {
          const claimed = yield* driver.claim(params)
          for (const { id, token } of claimed.records) {
            if (!leases.some((each) => each.id === id && each.token === token)) leases.push({ id, token })
          }
          // When all slots are taken, what comes next is an end, and of that no time is known: any guess will do.
          const limits = yield* Effect.forEach(queues, (queue) => driver.limits({ queue }))
          return limits.every((each) => each.maxConcurrent === undefined) ? claimed : claimed.records
        })
      return [`claim ${JSON.stringify(params)}`, claim]
    }
    if (chosen < 0.75) {
      const settlements = some(3, settlement)
      return [`settle ${JSON.stringify(settlements)}`, (driver) => driver.settle({ settlements, now: at })]
    }
    if (chosen < 0.8) {
      const params = { leases: some(2, lease), until: at + below(40), now: at }
      return [`extend ${JSON.stringify(params)}`, (driver) => driver.extend(params)]
    }
    if (chosen < 0.84) {
      const given = { ids: known(), reason: "why", now: at }
      return [`cancel ${given.ids}`, (driver) => driver.cancel(given)]
    }
    if (chosen < 0.88) {
      const given = { ids: known(), now: at }
      // Pruned first: whether a redriven record takes its name from a tombstone that is over is left to the driver.
      const prune = { now: at, deadBefore: 0, limit: 100 }
      return [`redrive ${given.ids}`, (driver) => Effect.andThen(driver.prune(prune), driver.redrive(given))]
    }
    if (chosen < 0.9) {
      const given = { ids: known() }
      return [`remove ${given.ids}`, (driver) => driver.remove(given)]
    }
    if (chosen < 0.93) {
      // Room for all: which go first among those of one time is not promised.
      const params = { now: at, deadBefore: at - below(40), limit: 100 }
      return [`prune ${JSON.stringify(params)}`, (driver) => driver.prune(params)]
    }
    if (chosen < 0.97) {
      // Rates whose tokens per millisecond are exact in binary: rounding is left to the driver.
      const limits: Partial<TaskQueue.QueueLimits> = {
        ...of([{}, { paused: of([true, false, false]) }]),
        ...of([{}, { rate: of([undefined, 0, 125, 31.25]) }, { rate: undefined }]),
        ...of([{}, { burst: 1 + below(4) }]),
        ...of([{}, { maxConcurrent: of([undefined, 1, 3]) }, { maxConcurrent: undefined }]),
      }
      const params = { queue: of(queues), limits, now: at }
      return [
        `configure ${JSON.stringify(params)}`,
        (driver) => Effect.andThen(driver.configure(params), driver.limits(params)),
      ]
    }
    if (chosen < 0.975) {
      const params = { queue: of(queues) }
      return [`purge ${params.queue}`, (driver) => driver.purge(params)]
    }
    const params = { ...filter(), limit: 1 + below(5) }
    return [
      `find and count ${JSON.stringify(params)}`,
      (driver) =>
        Effect.all([
          Effect.flatMap(driver.find(params), (page) =>
            page.cursor === undefined
              ? Effect.succeed([page.records.map(visible)])
              : Effect.map(driver.find({ ...params, cursor: page.cursor }), (second) =>
                  [page.records, second.records].map((records) => records.map(visible)),
                ),
          ),
          Effect.map(driver.counts(params), (counts) => counts.map((count) => JSON.stringify(count)).sort()),
        ]),
    ]
  }
  const everything = (driver: TaskQueue.Driver) =>
    Effect.map(driver.get({ ids, now }), (records) => records.map((record) => record && visible(record)))
  return { step, everything }
}

describe("TaskQueueSqlite against TaskQueueMemory", () => {
  it.effect.prop(
    "gives the same outcomes and keeps the same records, whatever was called before",
    { seed: Schema.Int },
    ({ seed }) =>
      Effect.gen(function* () {
        const memory = yield* TaskQueueMemory.make
        const file = join(yield* folder, "queue.db")
        const sqlite = yield* TaskQueueSqlite.make({ filename: file, synchronous: "normal" })
        const { everything, step } = history(seed)
        for (let index = 0; index < 150; index++) {
          const [what, call] = step()
          const expected = yield* call(memory)
          const actual = yield* call(sqlite)
          const where = `step ${index}: ${what}`
          assert.deepStrictEqual(actual, expected, where)
          const kept = yield* everything(memory)
          const stored = yield* everything(sqlite)
          kept.forEach((record, place) => {
            assert.deepStrictEqual(stored[place], record, `record ${place} after ${where}`)
          })
        }
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 30, seed: 1 }, timeout: 60_000 },
  )
})
