/**
 * How records of the model end, and what that means for those that wait for it: what follows them, and what they are
 * members of.
 */
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import {
  disown,
  drop,
  find,
  followerOf,
  hasEnded,
  holderOf,
  isHeldJoin,
  isNameOf,
  isRunning,
  type Model,
  type ModelRecord,
  put,
  type Said,
} from "./modelState.ts"

type End = "succeeded" | "cancelled" | "dead"

export const end = (
  model: Model,
  record: ModelRecord,
  how: { readonly state: End } & Partial<ModelRecord>,
  now: number,
): Model => {
  const ended = { ...record, ...how, endedAt: now, leaseUntil: undefined, wanted: undefined, follows: undefined }
  const names = model.names.map((name) =>
    name.owner === record.id && isNameOf(record)(name) ? { ...name, until: now + record.tombstone } : name,
  )
  const isKept = ended.state === "dead" || ended.keep > 0
  const after = { ...(isKept ? put(model, ended) : drop(model, record.id)), names }
  return report(releaseFollower(after, record.id, now), record.memberOf, how.state, now)
}

const releaseFollower = (model: Model, holder: TaskId, now: number): Model => {
  const follower = followerOf(model, holder)
  if (follower === undefined) return model
  const holdsKey = holderOf(model, follower) === undefined
  const eta = Math.max(now, follower.wanted!)
  return put(model, { ...follower, eta, wanted: undefined, follows: undefined, holdsKey })
}

/** Back to waiting; or cancelled, when somebody asked for that or what comes after it waits already. */
export const waitAgain = (model: Model, record: ModelRecord, how: Partial<ModelRecord>, now: number): Model => {
  const superseded = followerOf(model, record.id) === undefined ? undefined : "superseded"
  const cancelRequested = record.cancelRequested ?? superseded
  return cancelRequested === undefined
    ? put(model, { ...record, ...how, state: "ready", eta: Math.max(now, how.eta ?? now), leaseUntil: undefined })
    : end(model, { ...record, ...how, cancelRequested, eta: record.eta }, { state: "cancelled" }, now)
}

/** Tells what waits for a member how that ended. */
export const report = (model: Model, id: TaskId | undefined, how: End, now: number): Model => {
  const join = find(model, id)
  if (join === undefined || !isHeldJoin(join)) return model
  const tally = { ...join.join!, [how]: join.join![how] + 1 }
  const counted = { ...join, join: tally }
  const after = put(model, counted)
  if (how !== "succeeded" && tally.onFailure === "cancel") {
    const cancelRequested = "a task before it did not succeed"
    return end(after, { ...counted, cancelRequested }, { state: "cancelled" }, now)
  }
  const isFirst = how !== "succeeded" && tally.cancelled + tally.dead === 1
  return isFirst && tally.onFailure === "cancelSiblings"
    ? complete(cancelMembers(after, join.id, "another of the group did not succeed", now), join.id, now)
    : complete(after, join.id, now)
}

/** Once all members of a record have ended it is held back no longer. */
const complete = (model: Model, id: TaskId, now: number): Model => {
  const join = find(model, id)
  if (join === undefined || !isHeldJoin(join)) return model
  const { afterwards, cancelled, dead, succeeded, total } = join.join!
  if (succeeded + cancelled + dead < total) return model
  return afterwards === "end"
    ? end(model, join, { state: "succeeded" }, now)
    : put(model, { ...join, eta: Math.max(now, join.wanted!), wanted: undefined })
}

export const cancelOne = (model: Model, id: TaskId, reason: string, now: number): Said<TaskQueue.CancelOutcome> => {
  const record = find(model, id)
  if (record === undefined) return [model, "NotFound"]
  if (hasEnded(record)) return [model, "TooLate"]
  const asked = { ...record, cancelRequested: reason }
  if (isRunning(record)) return [put(model, asked), "Requested"]
  const after = end(model, asked, { state: "cancelled" }, now)
  return [isHeldJoin(record) ? cancelMembers(after, id, reason, now) : after, "Cancelled"]
}

const cancelMembers = (model: Model, id: TaskId, reason: string, now: number): Model =>
  model.records
    .filter((record) => record.memberOf === id && !hasEnded(record))
    .reduce((model, member) => cancelOne(model, member.id, reason, now)[0], model)

/** Deletes a record, as `remove` and `prune` do. What had not ended counts as cancelled where it is a member. */
export const forget = (model: Model, record: ModelRecord, now: number): Model => {
  const after = drop(disown(model, record), record.id)
  return hasEnded(record) ? after : report(after, record.memberOf, "cancelled", now)
}

/** Deletes records at once that have not ended: none of them is still there when their joins hear of it. */
export const forgetAll = (model: Model, records: ReadonlyArray<ModelRecord>, now: number): Model => {
  const after = records.reduce((model, record) => drop(disown(model, record), record.id), model)
  return records.reduce((model, { memberOf }) => report(model, memberOf, "cancelled", now), after)
}

/** The payload for what waits for a record. */
export const handOver = (model: Model, id: TaskId | undefined, payload: string | undefined): Model => {
  const join = find(model, id)
  return join === undefined || payload === undefined || !isHeldJoin(join)
    ? model
    : put(model, { ...join, payload, payloadRef: undefined })
}
