/**
 * Histories of calls on a task queue, for `TaskQueueModel`: as data that can be made smaller, and made of small pools, so
 * that the calls of one history meet each other.
 */
import * as Schema from "effect/Schema"
import type { QueueLimits } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { NewRecord, UniqueWhile } from "../../TaskRecord.ts"

/** One of the ids that a history speaks of: few, so that one comes again. */
const Id = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 15 }))
const Queue = Schema.Literals(["a", "b"])
const TaskName = Schema.Literals(["t", "u"])
const Version = Schema.Literals([1, 2])
const some = <S extends Schema.Constraint>(schema: S) =>
  Schema.Array(schema).check(Schema.isMinLength(1), Schema.isMaxLength(4))

const Enqueue = Schema.TaggedStruct("Enqueue", {
  records: some(
    Schema.Struct({
      id: Id,
      queue: Queue,
      task: TaskName,
      version: Version,
      priority: Schema.Literals([0, 1, -0.5]),
      delay: Schema.Literals([0, 5, 40]),
      name: Schema.Literals(["", "", "n", "m"]),
      onDuplicate: Schema.Literals(["fail", "ignore", "replace"]),
      tombstone: Schema.Literals([0, 20, 1000]),
      target: Schema.Literals(["", "", "x"]),
      /** 0: never. */
      expiresIn: Schema.Literals([0, 0, 0, 0, 1, 30]),
      /** 0: the worker's. */
      lease: Schema.Literals([0, 0, 15]),
      maxCrashes: Schema.Literals([0, 1]),
      keep: Schema.Literals([0, 30, "always"]),
      key: Schema.Literals(["", "", "", "k", "l"]),
      /** Of the states besides waiting in which it holds its key. */
      heldWhile: Schema.Literals(["", "running", "running succeeded dead", "succeeded cancelled"]),
      payloadRef: Schema.Literals(["", "", "p", "q"]),
    }),
  ),
})
const Claim = Schema.TaggedStruct("Claim", {
  queues: Schema.Literals(["ab", "ab", "a", "b"]),
  limit: Schema.Literals([5, 2, 1]),
  tasks: Schema.Literals(["tu", "tu", "t", "u"]),
  maxVersion: Schema.Literals([2, 2, 1]),
  hasTarget: Schema.Literals([true, true, false]),
  lease: Schema.Literals([50, 10]),
})
/** Counted from the last lease that was given: of any record, also one that has lost it since. */
const Recent = Schema.Literals([0, 0, 1, 2, 3, 5, 8])
const Settle = Schema.TaggedStruct("Settle", {
  settlements: some(
    Schema.Struct({
      recent: Recent,
      arrow: Schema.Literals(["Succeed", "Retry", "Snooze", "Release", "Cancel", "Bury"]),
      delay: Schema.Literals([0, 10, -10]),
      /** Whether it brings a result and a failure, where it may. */
      full: Schema.Boolean,
    }),
  ),
})
const Extend = Schema.TaggedStruct("Extend", {
  leases: some(Recent),
  by: Schema.Literals([0, 5, 60]),
})
const Progress = Schema.TaggedStruct("Progress", { leases: some(Recent) })
const Configure = Schema.TaggedStruct("Configure", {
  queue: Queue,
  paused: Schema.Literals(["as it was", "as it was", false, false, false, true]),
  // Their tokens per millisecond are exact in binary, so that no driver's rounding matters.
  rate: Schema.Literals(["as it was", "none", "none", 31.25, 125, 0]),
  burst: Schema.Literals([1, 3]),
  maxConcurrent: Schema.Literals(["as it was", "none", "none", 1, 2]),
  ageing: Schema.Literals(["as it was", "none", 16]),
})
// Also backwards: the clocks of workers differ.
const Wait = Schema.TaggedStruct("Wait", { by: Schema.Literals([1, 4, 10, 25, 400, -3]) })

const times = <S>(count: number, schema: S): ReadonlyArray<S> => Array.from({ length: count }, () => schema)

export const Step = Schema.Union([
  ...times(6, Enqueue),
  ...times(8, Claim),
  ...times(8, Settle),
  ...times(4, Wait),
  ...times(2, Extend),
  Progress,
  ...times(2, Schema.TaggedStruct("Cancel", { ids: some(Id) })),
  ...times(2, Schema.TaggedStruct("Redrive", { ids: some(Id) })),
  ...times(2, Configure),
  Schema.TaggedStruct("Remove", { ids: some(Id), only: Schema.Literals(["dead", "any"]) }),
  Schema.TaggedStruct("Purge", { queue: Queue }),
  Schema.TaggedStruct("Prune", { deadBefore: Schema.Literals([-1000, -20, 1]) }),
])

export type Step = typeof Step.Type

export const ids: ReadonlyArray<TaskId> = Array.from(
  { length: 16 },
  (_, n) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}` as TaskId,
)
export const idOf = (id: number): TaskId => ids[id]!

/** `mark` tells the contents of a history's records apart. */
export const recordsOf = (step: typeof Enqueue.Type, mark: string, now: number): ReadonlyArray<NewRecord> =>
  step.records.map(({ delay, expiresIn, heldWhile, id, keep, key, lease, name, payloadRef, target, ...rest }, n) => ({
    ...rest,
    unique:
      key === ""
        ? undefined
        : {
            key,
            while: ["waiting", ...(heldWhile.split(" ").filter((state) => state !== "") as ReadonlyArray<UniqueWhile>)],
          },
    payloadRef: payloadRef === "" ? undefined : payloadRef,
    id: idOf(id),
    payload: JSON.stringify(`${mark}.${n}`),
    headers: delay === 0 ? {} : { mark },
    eta: delay === 0 ? 0 : now + delay,
    name: name === "" ? undefined : name,
    target: target === "" ? undefined : target,
    expiresAt: expiresIn === 0 ? undefined : now + expiresIn,
    lease: lease === 0 ? undefined : lease,
    keep: keep === "always" ? Number.POSITIVE_INFINITY : keep,
  }))

export const claimOf = (step: typeof Claim.Type, now: number): TaskQueue.ClaimParams => ({
  queues: [...step.queues].map((name) => ({ name, limit: step.limit })),
  tasks: [...step.tasks].map((name) => ({ name, maxVersion: step.maxVersion })),
  targets: step.hasTarget ? ["y", "x"] : [],
  lease: step.lease,
  worker: `worker of ${step.lease}`,
  now,
})

/** `leaseOf` knows the leases that were given. */
export const settlementsOf = (
  step: typeof Settle.Type,
  leaseOf: (recent: number) => TaskQueue.Lease,
  mark: string,
  now: number,
): ReadonlyArray<TaskQueue.Settlement> =>
  step.settlements.map((each, n): TaskQueue.Settlement => {
    const text = JSON.stringify(`${mark}.${n}`)
    const lease = { ...leaseOf(each.recent), ...(n === 1 ? { progress: text } : {}) }
    const failure = n % 2 === 0 ? text : JSON.stringify({ tag: `Tag${n}`, message: mark })
    const perhaps = each.full ? text : undefined
    switch (each.arrow) {
      case "Succeed":
        return { ...lease, _tag: "Succeed", result: perhaps }
      case "Retry":
        return { ...lease, _tag: "Retry", eta: now + each.delay, failure }
      case "Snooze":
        return { ...lease, _tag: "Snooze", eta: now + each.delay }
      case "Bury":
        return {
          ...lease,
          _tag: "Bury",
          reason: "RetriesExhausted",
          result: perhaps,
          failure: each.full ? failure : undefined,
        }
      default:
        return { ...lease, _tag: each.arrow }
    }
  })

export const limitsOf = (step: typeof Configure.Type): Partial<QueueLimits> => ({
  burst: step.burst,
  ...(step.paused === "as it was" ? {} : { paused: step.paused }),
  ...(step.rate === "as it was" ? {} : { rate: step.rate === "none" ? undefined : step.rate }),
  ...(step.maxConcurrent === "as it was"
    ? {}
    : { maxConcurrent: step.maxConcurrent === "none" ? undefined : step.maxConcurrent }),
  ...(step.ageing === "as it was" ? {} : { ageing: step.ageing === "none" ? undefined : step.ageing }),
})
