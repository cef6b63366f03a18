/**
 * Enqueueing into the model: by name, then by unique key, where the latest may take the place of another.
 */
import type { TaskId } from "../../TaskId.ts"
import type * as TaskQueue from "../../TaskQueue.ts"
import type { NewRecord } from "../../TaskRecord.ts"
import { report } from "./modelEnds.ts"
import {
  disown,
  each,
  find,
  followerOf,
  fresh,
  hasEnded,
  holderOf,
  isOfJoin,
  isRunning,
  isWaiting,
  type Model,
  type ModelRecord,
  nameOf,
  own,
  put,
  putTurns,
  type Said,
  turnsOf,
} from "./modelState.ts"

type Outcome = TaskQueue.EnqueueOutcome

export const enqueue = (model: Model, records: ReadonlyArray<NewRecord>, now: number): Said<ReadonlyArray<Outcome>> => {
  const [after, outcomes] = each(model, records, (model, given) => enqueueOne(model, given, now))
  const isInserted = (_: NewRecord, n: number) => outcomes[n]?._tag === "Inserted"
  const joins = records.filter(isInserted).filter(({ join }) => join !== undefined)
  // What was not inserted never ends: for the record that would wait for it it counts as cancelled.
  const missing = records.filter((given, n) => !isInserted(given, n) && joins.some(({ id }) => id === given.memberOf))
  return [missing.reduce((model, { memberOf }) => report(model, memberOf, "cancelled", now), after), outcomes]
}

const existing = (model: Model, id: TaskId): Said<Outcome> => [model, { _tag: "Existing", id }]

const enqueueOne = (model: Model, given: NewRecord, now: number): Said<Outcome> => {
  if (find(model, given.id) !== undefined) return existing(model, given.id)
  const taken = given.name === undefined ? undefined : nameOf(model, given, now)
  const holder = given.unique === undefined ? undefined : holderOf(model, given)
  if (taken !== undefined) {
    if (given.onDuplicate === "ignore") return existing(model, taken.owner)
    if (given.onDuplicate === "fail") {
      const { owner, until } = taken
      return [model, until === undefined ? { _tag: "Duplicate", id: owner } : { _tag: "Tombstoned", until }]
    }
    const owner = taken.until === undefined ? find(model, taken.owner) : undefined
    if (owner !== undefined && isWaiting(owner)) {
      if (holder !== undefined && holder.id !== owner.id) return existing(model, holder.id)
      if (isOfJoin(given) || isOfJoin(owner)) return existing(model, owner.id)
      return replace(model, owner, fresh(given, now))
    }
  }
  if (holder !== undefined) return behind(model, holder, given, now)
  if (expectsPlace(given)) return existing(model, given.id)
  return insert(...spaced(model, given, fresh(given, now), now))
}

/** Then it is stored nowhere else. */
const expectsPlace = (given: NewRecord): boolean => !isOfJoin(given) && (given.unique?.latest?.expects ?? "") !== ""

/** What a record does where another one holds its key. */
const behind = (model: Model, holder: ModelRecord, given: NewRecord, now: number): Said<Outcome> => {
  const latest = given.unique?.latest
  if (latest === undefined || isOfJoin(given)) return existing(model, holder.id)
  if (hasEnded(holder) || isOfJoin(holder)) return existing(model, holder.id)
  const follower = followerOf(model, holder.id)
  if (isRunning(holder) && follower === undefined) {
    if (expectsPlace(given)) return existing(model, holder.id)
    const [after, record] = spaced(model, given, fresh(given, now), now)
    return insert(after, { ...heldBack(record), follows: holder.id, holdsKey: false })
  }
  const place = follower ?? holder
  if (latest.expects !== undefined && latest.expects !== (place.payloadRef ?? place.payload)) {
    return existing(model, place.id)
  }
  const record = fresh(given, now)
  const dueBy = place.unique?.latest?.dueBy ?? latest.dueBy
  const limit = place.unique?.latest?.dueBy ?? Number.POSITIVE_INFINITY
  const eta =
    latest.spacing === undefined
      ? Math.max(now, Math.min(record.eta, limit))
      : Math.min(place.wanted ?? place.eta, limit)
  const taking = { ...record, eta, unique: { ...given.unique!, latest: { ...latest, dueBy } } }
  return replace(
    model,
    place,
    follower === undefined ? taking : { ...heldBack(taking), follows: follower.follows, holdsKey: false },
  )
}

const heldBack = (record: ModelRecord): ModelRecord => ({
  ...record,
  wanted: record.eta,
  eta: Number.POSITIVE_INFINITY,
})

/** The record, not before the one before it of its key leaves room for it. */
const spaced = (model: Model, given: NewRecord, record: ModelRecord, now: number): readonly [Model, ModelRecord] => {
  const spacing = given.unique?.latest?.spacing
  if (spacing === undefined || isOfJoin(given)) return [model, record]
  const { key } = given.unique!
  const isOfKey = (row: { readonly task: string; readonly key: string }) => row.task === given.task && row.key === key
  const eta = Math.max(record.eta, model.spacings.find(isOfKey)?.until ?? now)
  const others = model.spacings.filter((row) => !isOfKey(row))
  return [
    { ...model, spacings: [...others, { task: given.task, key, until: eta + spacing }] },
    { ...record, eta },
  ]
}

const insert = (model: Model, record: ModelRecord): Said<Outcome> => {
  const stored = record.join === undefined ? record : heldBack(record)
  const after = own({ ...model, records: [...model.records, stored] }, stored)
  return [withKey(after, stored), { _tag: "Inserted", id: stored.id }]
}

/** The content of one in the place of another, which it takes over with the id and the order. */
const replace = (model: Model, place: ModelRecord, record: ModelRecord): Said<Outcome> => {
  const replacing = { ...record, id: place.id, token: place.token }
  const after = own(put(disown(model, place), replacing), replacing)
  return [withKey(after, replacing), { _tag: "Replaced", id: place.id }]
}

const withKey = (model: Model, { key, queue }: ModelRecord): Model =>
  key === undefined ? model : putTurns(model, queue, { ...turnsOf(model, queue), isKeyed: true })
