/**
 * Counting records without reading them: one statement for each index that has all that is counted, in which they come in
 * the order of their groups.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Count, Filter } from "@outlive/deferred/TaskQueue"
import type { DeadReason, TaskState } from "@outlive/deferred/TaskRecord"
import { conditionsOf, type EndedGroups, inGroup, makeCached } from "./find.ts"
import { asRows } from "./row.ts"
import { tagOfFailure } from "./schema.ts"

/** What is read from one index: queue, task, reason, tag, and how many there are of each of the states. */
interface Part {
  readonly states: ReadonlyArray<TaskState>
  readonly select: string
  readonly from: string
  readonly groups: string
}

/** What a filter can be answered from; nothing else is looked at. */
const statesOf = (filter: Filter): ReadonlySet<TaskState> => {
  if (filter.state !== undefined) return new Set([filter.state])
  if (filter.reason !== undefined) return new Set(["dead"])
  const ended = ["succeeded", "cancelled", "dead"] as const
  const isByTime = filter.endedAfter !== undefined || filter.endedBefore !== undefined
  return new Set(isByTime ? ended : ["scheduled", "ready", "running", ...ended])
}

export const makeCounts = (
  db: DatabaseSync,
  endedGroups: EndedGroups,
): ((filter: Filter, now: number) => ReadonlyArray<Count>) => {
  const cached = makeCached(db)
  const waiting: Part = {
    states: ["scheduled", "ready"],
    select: "queue, task, NULL, NULL, count(*) - sum(eta <= ?), sum(eta <= ?)",
    from: "INDEXED BY outlive_waiting WHERE state = 0",
    groups: "queue, task",
  }
  const running: Part = {
    states: ["running"],
    select: "queue, task, NULL, NULL, count(*)",
    from: "INDEXED BY outlive_running WHERE state = 1",
    groups: "queue, task",
  }
  const ended: Part = {
    states: ["succeeded", "cancelled"],
    select: "queue, task, NULL, NULL, sum(state = 2), sum(state = 3)",
    from: "INDEXED BY outlive_ended WHERE state >= 2 AND state <= 3",
    groups: "queue, task",
  }
  const dead: Part = {
    states: ["dead"],
    select: `queue, task, reason, ${tagOfFailure}, count(*)`,
    from: "INDEXED BY outlive_dead_letters WHERE state = 4",
    groups: `queue, task, reason, ${tagOfFailure}`,
  }

  return (filter, now) => {
    const { conditions, values } = conditionsOf(filter, now)
    const counts: Array<Count> = []
    const count = ({ from, groups, select, states }: Part, given: ReadonlyArray<number | string>) => {
      const sql = `SELECT ${select} FROM outlive_records ${[from, ...conditions].join(" AND ")} GROUP BY ${groups}`
      for (const [queue, task, reason, tag, ...found] of asRows(cached(sql).all(...given, ...values))) {
        states.forEach((state, index) => {
          if (found[index] === 0) return
          counts.push({
            queue: queue as string,
            task: task as string,
            state,
            reason: (reason as DeadReason | null) ?? undefined,
            tag: (tag as string | null) ?? undefined,
            count: found[index] as number,
          })
        })
      }
    }

    const asked = statesOf(filter)
    if (asked.has("scheduled") || asked.has("ready")) count(waiting, [now, now])
    if (asked.has("running")) count(running, [])
    if (asked.has("succeeded") || asked.has("cancelled")) {
      if (filter.endedAfter === undefined && filter.endedBefore === undefined) count(ended, [])
      else {
        for (const { queue, state, task } of endedGroups(filter)) {
          if (state <= 3) count({ ...ended, from: inGroup }, [queue, task, state])
        }
      }
    }
    if (asked.has("dead")) count(dead, [])
    return counts
  }
}
