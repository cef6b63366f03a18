/**
 * Histories of calls on a task queue, for `TaskQueueModel`: as data that can be made smaller, and made of small pools, so
 * that the calls of one history meet each other.
 */
import * as Schema from "effect/Schema"
import type { KeyOverride } from "../../KeyLimits.ts"
import type { QueueLimits } from "../../QueueLimits.ts"
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { Latest, NewRecord, UniqueWhile } from "../../TaskRecord.ts"
import { joinOf } from "./records.ts"

/** What a history's records have besides the plain: many have none of it, as most queues. */
export const Uses = Schema.Literals(["nothing", "keys", "joins", "latest", "everything", "everything"])
type Uses = typeof Uses.Type

const idCount = 48
/** One of the ids that a history speaks of: few, so that one comes again. */
const Id = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: idCount - 1 }))
const Queue = Schema.Literals(["a", "b"])
const TaskName = Schema.Literals(["t", "u"])
const Version = Schema.Literals([1, 2])
const some = <S extends Schema.Constraint>(schema: S) =>
  Schema.Array(schema).check(Schema.isMinLength(1), Schema.isMaxLength(4))

/** What every record has. */
const fields = {
  queue: Queue,
  task: TaskName,
  version: Version,
  priority: Schema.Literals([0, 1, -0.5]),
  delay: Schema.Literals([0, 0, 0, 5, 40]),
  target: Schema.Literals(["", "", "x"]),
  /** 0: never. */
  expiresIn: Schema.Literals([0, 0, 0, 0, 1, 30]),
  /** 0: the worker's. */
  lease: Schema.Literals([0, 0, 15]),
  maxCrashes: Schema.Literals([0, 1]),
  keep: Schema.Literals([0, 30, "always"]),
  payloadRef: Schema.Literals(["", "", "p", "q"]),
  key: Schema.Literals(["", "", "K", "K", "L"]),
}
const Enqueue = Schema.TaggedStruct("Enqueue", {
  records: some(
    Schema.Struct({
      id: Id,
      ...fields,
      name: Schema.Literals(["", "", "n", "m"]),
      onDuplicate: Schema.Literals(["fail", "ignore", "replace"]),
      tombstone: Schema.Literals([0, 20, 1000]),
      unique: Schema.Literals(["", "", "", "k", "k", "l"]),
      /** Of the states besides waiting in which it holds its unique key. */
      heldWhile: Schema.Literals(["", "running", "running", "running succeeded dead", "succeeded cancelled"]),
      latest: Schema.Literals(["no", "no", "yes", "yes", "due by 20", "spacing 30", "expects p"]),
    }),
  ),
})
/** Records of which some wait for others. */
const Together = Schema.TaggedStruct("Together", {
  /** Of the first; the next ones have the ids after it. */
  id: Id,
  records: Schema.Array(
    Schema.Struct({
      ...fields,
      /** The place of the one that waits for it, or of the one before it when there are not so many. The first has none. */
      memberOf: Schema.Literals([0, 0, 1, 2]),
      onFailure: Schema.Literals(["continue", "cancelSiblings", "cancel"]),
      /** Whether it runs when those that it waits for have ended. */
      runs: Schema.Literals([true, true, false]),
    }),
  ).check(Schema.isMinLength(2), Schema.isMaxLength(4)),
  /** Whether members come before what waits for them. */
  membersFirst: Schema.Boolean,
})
const Claim = Schema.TaggedStruct("Claim", {
  queues: Schema.Literals(["ab", "ab", "a", "b"]),
  limit: Schema.Literals([5, 2, 1]),
  tasks: Schema.Literals(["tu", "tu", "tu", "tu", "t", "u"]),
  maxVersion: Schema.Literals([2, 2, 1]),
  hasTarget: Schema.Literals([true, true, false]),
  lease: Schema.Literals([50, 10]),
})
/** Counted from the last lease that was given and holds: of any record, then also of those that have lost it since. */
const Recent = Schema.Literals([0, 0, 1, 2, 3, 5, 8])
const Settle = Schema.TaggedStruct("Settle", {
  settlements: some(
    Schema.Struct({
      recent: Recent,
      arrow: Schema.Literals(["Succeed", "Retry", "Snooze", "Release", "Cancel", "Bury"]),
      delay: Schema.Literals([0, 10, -10]),
      /** Whether it brings a result and a failure, where it may, or something to hand over. */
      full: Schema.Boolean,
      /** Of a snooze. */
      pause: Schema.Literals(["no", "no", "key", "queue"]),
    }),
  ),
})
const Extend = Schema.TaggedStruct("Extend", {
  leases: some(Recent),
  by: Schema.Literals([0, 5, 60]),
})
const Progress = Schema.TaggedStruct("Progress", { leases: some(Recent) })
// Their tokens per millisecond are exact in binary, so that no driver's rounding matters.
const Configure = Schema.TaggedStruct("Configure", {
  queue: Queue,
  paused: Schema.Literals(["as it was", false, false, false, false, false, false, true]),
  rate: Schema.Literals(["as it was", "none", "none", "none", "none", 31.25, 125, 0]),
  burst: Schema.Literals([1, 3]),
  maxConcurrent: Schema.Literals(["as it was", "none", "none", 1, 2]),
  ageing: Schema.Literals(["as it was", "none", 16]),
  byKey: Schema.Union([
    Schema.Literal("as it was"),
    Schema.Struct({
      maxConcurrent: Schema.Literals(["none", "none", 1, 2]),
      rate: Schema.Literals(["none", "none", 31.25, 125, 0]),
      burst: Schema.Literals([1, 3]),
      ordered: Schema.Literals([false, false, true]),
    }),
  ]),
})
const Key = Schema.Literals(["K", "L"])
const ConfigureKey = Schema.TaggedStruct("ConfigureKey", {
  queue: Queue,
  key: Key,
  maxConcurrent: Schema.Literals(["as others", "as others", 1, 2, "none"]),
  rate: Schema.Literals(["as others", "as others", 31.25, 0, "none"]),
  burst: Schema.Literals(["as others", 1, 2]),
  weight: Schema.Literals(["as others", 3, 0.5]),
})
const PauseUntil = Schema.TaggedStruct("PauseUntil", {
  queue: Queue,
  key: Schema.Union([Schema.Literal(""), Key]),
  by: Schema.Literals([4, 15, -5]),
})
// Also backwards: the clocks of workers differ.
const Wait = Schema.TaggedStruct("Wait", { by: Schema.Literals([1, 4, 10, 25, 25, 400, -3]) })

const times = <S>(count: number, schema: S): ReadonlyArray<S> => Array.from({ length: count }, () => schema)

export const Step = Schema.Union([
  ...times(6, Enqueue),
  ...times(4, Together),
  ...times(8, Claim),
  ...times(6, Settle),
  ...times(5, Wait),
  ...times(2, Extend),
  Progress,
  ...times(2, Schema.TaggedStruct("Cancel", { ids: some(Id) })),
  ...times(2, Schema.TaggedStruct("Redrive", { ids: some(Id) })),
  ...times(2, Configure),
  ConfigureKey,
  PauseUntil,
  Schema.TaggedStruct("Remove", { ids: some(Id), only: Schema.Literals(["dead", "any"]) }),
  Schema.TaggedStruct("Purge", { queue: Queue }),
  Schema.TaggedStruct("Prune", { deadBefore: Schema.Literals([-1000, -20, 1]) }),
])

export type Step = typeof Step.Type

export const ids: ReadonlyArray<TaskId> = Array.from(
  { length: idCount },
  (_, n) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}` as TaskId,
)
export const idOf = (id: number): TaskId => ids[id % idCount]!

type Fields = (typeof Together.Type)["records"][number]

/** What the two kinds of enqueueing have alike; `payload` tells the contents of a history's records apart. */
const plainly = (
  {
    delay,
    expiresIn,
    keep,
    key,
    lease,
    maxCrashes,
    payloadRef,
    priority,
    queue,
    target,
    task,
    version,
  }: Omit<Fields, "memberOf" | "onFailure" | "runs">,
  payload: string,
  uses: Uses,
  now: number,
) => ({
  queue,
  task,
  version,
  priority,
  maxCrashes,
  payload: JSON.stringify(payload),
  payloadRef: payloadRef === "" ? undefined : payloadRef,
  headers: delay === 0 ? {} : { payload },
  eta: delay === 0 ? 0 : now + delay,
  target: target === "" ? undefined : target,
  expiresAt: expiresIn === 0 ? undefined : now + expiresIn,
  lease: lease === 0 ? undefined : lease,
  keep: keep === "always" ? Number.POSITIVE_INFINITY : keep,
  key: key !== "" && (uses === "keys" || uses === "everything") ? key : undefined,
})

const latestOf = (latest: (typeof Enqueue.Type)["records"][number]["latest"], now: number): Latest | undefined => {
  switch (latest) {
    case "no":
      return undefined
    case "yes":
      return {}
    case "due by 20":
      return { dueBy: now + 20 }
    case "spacing 30":
      return { spacing: 30 }
    case "expects p":
      return { expects: "p" }
  }
}

/** `mark` tells the steps of a history apart. */
export const recordsOf = (
  step: typeof Enqueue.Type | typeof Together.Type,
  mark: string,
  uses: Uses,
  now: number,
): ReadonlyArray<NewRecord> =>
  step._tag === "Enqueue" ? singleOf(step, mark, uses, now) : togetherOf(step, mark, uses, now)

const singleOf = (step: typeof Enqueue.Type, mark: string, uses: Uses, now: number): ReadonlyArray<NewRecord> =>
  step.records.map((each, n) => {
    const latest = uses === "latest" || uses === "everything" ? latestOf(each.latest, now) : undefined
    // Where it is all about the latest, most meet each other, and none keeps the key for ever.
    const meets = uses === "latest" && latest !== undefined
    const key = meets && each.unique === "" ? "k" : each.unique
    const others = each.heldWhile.split(" ").filter((state) => state !== "") as ReadonlyArray<UniqueWhile>
    return {
      ...plainly({ ...each, task: meets ? "t" : each.task }, `${mark}.${n}`, uses, now),
      id: idOf(each.id),
      name: each.name === "" || meets ? undefined : each.name,
      onDuplicate: each.onDuplicate,
      tombstone: each.tombstone,
      unique:
        key === ""
          ? undefined
          : {
              key,
              while: ["waiting", ...others.filter((state) => !meets || key === "l" || state === "running")],
              latest,
            },
    }
  })

const togetherOf = (step: typeof Together.Type, mark: string, uses: Uses, now: number): ReadonlyArray<NewRecord> => {
  const isJoined = uses === "joins" || uses === "everything"
  const parents = step.records.map(({ memberOf }, n) => (n === 0 || !isJoined ? undefined : Math.min(memberOf, n - 1)))
  const records = step.records.map((each, n): NewRecord => {
    const total = parents.filter((parent) => parent === n).length
    const parent = parents[n]
    return {
      ...plainly(each, `${mark}.${n}`, uses, now),
      id: idOf(step.id + n),
      onDuplicate: "fail",
      tombstone: 0,
      join: total === 0 ? undefined : joinOf(total, each.onFailure, each.runs ? "run" : "end"),
      memberOf: parent === undefined ? undefined : idOf(step.id + parent),
    }
  })
  return step.membersFirst ? records.toReversed() : records
}

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
        return { ...lease, _tag: "Succeed", result: perhaps, handOver: perhaps }
      case "Retry":
        return { ...lease, _tag: "Retry", eta: now + each.delay, failure }
      case "Snooze":
        return { ...lease, _tag: "Snooze", eta: now + each.delay, pause: each.pause === "no" ? undefined : each.pause }
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
  ...(step.byKey === "as it was"
    ? {}
    : {
        byKey: {
          ...step.byKey,
          maxConcurrent: step.byKey.maxConcurrent === "none" ? undefined : step.byKey.maxConcurrent,
          rate: step.byKey.rate === "none" ? undefined : step.byKey.rate,
        },
      }),
})

const orNone = (limit: number | "none"): number => (limit === "none" ? Number.POSITIVE_INFINITY : limit)

export const overrideOf = ({ burst, maxConcurrent, rate, weight }: typeof ConfigureKey.Type): KeyOverride => ({
  ...(maxConcurrent === "as others" ? {} : { maxConcurrent: orNone(maxConcurrent) }),
  ...(rate === "as others" ? {} : { rate: orNone(rate) }),
  ...(burst === "as others" ? {} : { burst }),
  ...(weight === "as others" ? {} : { weight }),
})
