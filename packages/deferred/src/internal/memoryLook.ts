/**
 * Looking at the records in memory, one by one.
 */
import type { Count, Filter, FindParams, Page } from "../TaskQueue.ts"
import type { MemoryRecord } from "./memoryParts.ts"
import { stateOf, view } from "./memoryRecord.ts"

export const find = (records: Iterable<MemoryRecord>, params: FindParams): Page => {
  const after = params.cursor === undefined ? -1 : Number(params.cursor)
  const found: Array<MemoryRecord> = []
  for (const record of records) {
    if (record.seq <= after || !matches(record, params, params.now)) continue
    if (found.length === params.limit) {
      return { records: found.map((each) => view(each, params.now)), cursor: String(found.at(-1)?.seq ?? after) }
    }
    found.push(record)
  }
  return { records: found.map((each) => view(each, params.now)), cursor: undefined }
}

export const counts = (records: Iterable<MemoryRecord>, filter: Filter, now: number): ReadonlyArray<Count> => {
  const counts = new Map<string, { -readonly [K in keyof Count]: Count[K] }>()
  for (const record of records) {
    if (!matches(record, filter, now)) continue
    const state = stateOf(record, now)
    const tag = state === "dead" ? tagOf(record) : undefined
    const key = JSON.stringify([record.queue, record.task, state, record.reason, tag])
    const same = counts.get(key)
    if (same === undefined) {
      counts.set(key, { queue: record.queue, task: record.task, state, reason: record.reason, tag, count: 1 })
    } else same.count++
  }
  return [...counts.values()]
}

const matches = (record: MemoryRecord, filter: Filter, now: number): boolean =>
  (filter.queue === undefined || record.queue === filter.queue) &&
  (filter.task === undefined || record.task === filter.task) &&
  (filter.state === undefined || stateOf(record, now) === filter.state) &&
  (filter.reason === undefined || record.reason === filter.reason) &&
  (filter.endedAfter === undefined || (record.endedAt !== undefined && record.endedAt >= filter.endedAfter)) &&
  (filter.endedBefore === undefined || (record.endedAt !== undefined && record.endedAt < filter.endedBefore)) &&
  (filter.namePrefix === undefined || record.name?.startsWith(filter.namePrefix) === true) &&
  (filter.memberOf === undefined || record.memberOf === filter.memberOf) &&
  (filter.tag === undefined || tagOf(record) === filter.tag)

/** The tag of the last failure, if its text has one. */
const tagOf = ({ failure }: MemoryRecord): string | undefined => {
  if (failure === undefined) return undefined
  const parsed: unknown = JSON.parse(failure)
  if (typeof parsed !== "object" || parsed === null || !("tag" in parsed)) return undefined
  return typeof parsed.tag === "string" ? parsed.tag : undefined
}
