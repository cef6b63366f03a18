/** Turns of many keys against a plain simulation: random histories for any driver, and what they are made of. */
import { assert } from "@effect/vitest"
import type { KeyLimits } from "@outlive/deferred/KeyLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Effect, Schema, type Scope } from "effect"
import { idOf, record } from "./records.ts"

export const now = 1000
export const unlimited: KeyLimits = { maxConcurrent: undefined, rate: undefined, burst: 5, ordered: false }

export const claim = (driver: TaskQueue.Driver, limit: number, at = now, tasks: ReadonlyArray<string> = ["task"]) =>
  driver.claim({
    queues: [{ name: "queue", limit }],
    tasks: tasks.map((name) => ({ name, maxVersion: 2 })),
    targets: [],
    lease: 1e9,
    worker: "worker",
    now: at,
  })

export const succeed = (driver: TaskQueue.Driver, records: ReadonlyArray<TaskQueue.Lease>, at = now) =>
  driver.settle({
    settlements: records.map(({ id, token }) => ({ id, token, _tag: "Succeed", result: undefined })),
    now: at,
  })

type Waiting = Pick<NewRecord, "id" | "task" | "priority" | "eta"> & { readonly key: string }

/** The contract on one queue, in the order of insertion, as plainly as it can be said. */
const makeQueue = (weightOf: (key: string) => number, byKey: KeyLimits) => {
  const places = new Map<string, number>()
  const running = new Map<TaskId, string>()
  let waiting: ReadonlyArray<Waiting> = []
  let time = 0
  return {
    add: (records: ReadonlyArray<Waiting>) => {
      waiting = [...waiting, ...records]
    },
    end: (id: TaskId) => running.delete(id),
    isEmpty: () => waiting.length === 0,
    hasMore: (tasks: ReadonlyArray<string>) => waiting.some(({ task }) => tasks.includes(task)),
    hasLater: (at: number) => waiting.some(({ eta }) => eta > at),
    claim: (limit: number, tasks: ReadonlyArray<string>, at: number): ReadonlyArray<TaskId> => {
      const tagged = [...new Set(waiting.map(({ key }) => key))].flatMap((key) => {
        const base = Math.max(places.get(key) ?? time, time)
        const own = waiting.filter((each) => each.key === key)
        const busy = [...running.values()].filter((of) => of === key).length
        const slots = key === "" ? limit : (byKey.maxConcurrent ?? Number.POSITIVE_INFINITY) - busy
        const isOrdered = byKey.ordered && key !== ""
        return (isOrdered ? own.slice(0, busy > 0 ? 0 : 1) : own)
          .filter((each) => tasks.includes(each.task) && each.eta <= at)
          .sort((left, right) => right.priority - left.priority || left.eta - right.eta)
          .slice(0, Math.max(0, slots))
          .map((each, index) => ({ each, base, tag: base + index * (1 / weightOf(key)) }))
      })
      const order = (left: (typeof tagged)[number], right: (typeof tagged)[number]) =>
        left.tag - right.tag || (left.each.key < right.each.key ? -1 : left.each.key > right.each.key ? 1 : 0)
      const started = tagged.sort(order).slice(0, limit)
      for (const key of new Set(started.map(({ each }) => each.key))) {
        const own = started.filter(({ each }) => each.key === key)
        places.set(key, own[0]!.base + own.length * (1 / weightOf(key)))
      }
      time = Math.max(time, ...started.map(({ tag }) => tag))
      const ids = started.map(({ each }) => each.id)
      for (const { each } of started) running.set(each.id, each.key)
      waiting = waiting.filter(({ id }) => !ids.includes(id))
      return ids
    },
  }
}

const Step = Schema.Union([
  Schema.TaggedStruct("Enqueue", {
    /** Which keys, by number: from the first on, so many. */
    from: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 })),
    count: Schema.Literals([1, 3, 30]),
    each: Schema.Literals([1, 2, 7]),
    task: Schema.Literals(["t", "u"]),
    version: Schema.Literals([1, 2]),
    priority: Schema.Literals([0, 0, 1]),
    delay: Schema.Literals([0, 0, 0, 20]),
  }),
  Schema.TaggedStruct("Claim", { limit: Schema.Literals([1, 5, 20, 100]), tasks: Schema.Literals(["tu", "t", "u"]) }),
  Schema.TaggedStruct("Claim", { limit: Schema.Literals([1, 5, 20, 100]), tasks: Schema.Literals(["tu", "tu", "u"]) }),
  /** Ends so many of what runs, from the oldest on. */
  Schema.TaggedStruct("End", { count: Schema.Literals([1, 7, 40]), isRetried: Schema.Boolean }),
  Schema.TaggedStruct("Wait", { by: Schema.Literals([5, 25]) }),
])

/** Of the keys, in turn: with many different ones there are many different places. */
const weightsOf = { same: [1], few: [1, 3], many: Array.from({ length: 37 }, (_, n) => n * 0.7 + 0.3) }
const limitsOf = { none: {}, one: { maxConcurrent: 1 }, three: { maxConcurrent: 3 }, ordered: { ordered: true } }

/** What a history is. */
export const history = {
  steps: Schema.Array(Step),
  // All of one task, version and priority, with keys that are all alike: then claims have a shorter way.
  isEven: Schema.Boolean,
  weights: Schema.Literals(["same", "few", "many"]),
  limits: Schema.Literals(["none", "none", "one", "three", "ordered"]),
}

type History = { readonly [Part in keyof typeof history]: (typeof history)[Part]["Type"] }

/** That a driver, a new one for each history, does in it what the contract says. */
export const follow =
  <E, R>(options: {
    readonly make: Effect.Effect<TaskQueue.Driver, E, R | Scope.Scope>
    /** Whether it says exactly when a claim would give something, and not just not too late. */
    readonly tellsNextAt: boolean
  }) =>
  ({ isEven, limits, steps, weights: given }: History) =>
    Effect.gen(function* () {
      const [weighted, limited] = isEven ? (["same", "none"] as const) : [given, limits]
      const driver = yield* options.make
      const weights = weightsOf[weighted]
      const weightOf = (key: string) => (key === "" ? 1 : weights[Number(key.slice(1)) % weights.length]!)
      // One key is none; the others are not in the order of their numbers.
      const keyOf = (number: number) => (number === 0 && !isEven ? "" : `k${number}`)
      if (weighted !== "same") {
        for (let number = 1; number < 60; number++) {
          const key = keyOf(number)
          yield* driver.configureKey({ queue: "queue", key, override: { weight: weightOf(key) }, now })
        }
      }
      const byKey = { ...unlimited, ...limitsOf[limited] }
      yield* driver.configure({ queue: "queue", limits: { byKey }, now })
      const queue = makeQueue(weightOf, byKey)
      let running: ReadonlyArray<TaskQueue.ClaimedRecord> = []
      let at = now
      let number = 0
      const take = Effect.fnUntraced(function* (limit: number, tasks: ReadonlyArray<string>) {
        const { nextAt, records } = yield* claim(driver, limit, at, tasks)
        const ids = records.map(({ id }) => id)
        assert.deepStrictEqual(ids, queue.claim(limit, tasks, at))
        if (ids.length === 0 && nextAt !== undefined) assert.isAbove(nextAt, at)
        running = [...running, ...records]
        // What is held back by a limit, or comes later, has a time of its own.
        if (options.tellsNextAt && limited === "none" && !queue.hasLater(at)) {
          if (queue.hasMore(tasks)) assert.strictEqual(nextAt, at)
          else if (ids.length > 0) assert.strictEqual(nextAt, Math.min(...running.map(({ leaseUntil }) => leaseUntil)))
        }
        return ids.length
      })
      const end = Effect.fnUntraced(function* (count: number) {
        const ended = running.slice(0, count)
        running = running.slice(count)
        yield* succeed(driver, ended, at)
        for (const { id } of ended) queue.end(id)
      })
      // A queue that never had a key takes no turns.
      yield* driver.enqueue({ records: [record(9999, { key: "k1", task: "t" })], now })
      queue.add([{ id: idOf(9999), key: "k1", task: "t", priority: 0, eta: now }])
      yield* take(1, ["t"])
      for (const step of steps) {
        if (step._tag === "Claim") yield* take(step.limit, [...step.tasks])
        else if (step._tag === "End") yield* end(step.count)
        else if (step._tag === "Wait") at += step.by
        else {
          const { count, delay, each, from } = step
          const { priority, task, version } = isEven ? { priority: 0, task: "t", version: 1 } : step
          const records = Array.from({ length: count * each }, (_, n) => {
            const key = keyOf(from + (n % count))
            return record(number++, {
              task,
              version,
              priority,
              key: key === "" ? undefined : key,
              eta: delay === 0 ? 0 : at + delay,
            })
          })
          yield* driver.enqueue({ records, now: at })
          queue.add(records.map((each) => ({ ...each, key: each.key ?? "", eta: Math.max(at, each.eta) })))
        }
      }
      at += 100
      while (!queue.isEmpty()) {
        yield* take(50, ["t", "u"])
        yield* end(1000)
      }
    }).pipe(Effect.scoped)
