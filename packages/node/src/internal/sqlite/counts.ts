/**
 * Counting records without reading them: one statement for each index that has all that is counted, in which they come in
 * the order of their groups.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Count, Filter } from "@outlive/deferred/TaskQueue"
import type { DeadReason, TaskState } from "@outlive/deferred/TaskRecord"
import { conditionsOf, type EndedGroups, inGroup, makeCached, type Named } from "./find.ts"
import { asRows } from "./row.ts"
import { ofTurn, tagOfFailure } from "./schema.ts"

/** What is read from one index: queue, task, reason, tag, and how many there are of each of the states. */
interface Part {
  readonly states: ReadonlyArray<TaskState>
  readonly select: string
  readonly from: string
  readonly groups: string
  /** How its tables call their columns, if there are several. */
  readonly named?: Named
}

/** Of records with a key, by their turns: in the order of lanes. */
const named: Named = {
  queue: "outlive_lanes.queue",
  task: "outlive_lanes.task",
  state: "outlive_records.state",
  eta: "outlive_records.eta",
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
    from: "outlive_records INDEXED BY outlive_waiting WHERE state = 0 AND turn = 0",
    groups: "queue, task",
  }
  const waitingWithKey: Part = {
    states: ["scheduled", "ready"],
    select: `${named.queue}, ${named.task}, NULL, NULL, count(*) - sum(${named.eta} <= ?), sum(${named.eta} <= ?)`,
    from: `outlive_lanes CROSS JOIN outlive_turns INDEXED BY outlive_turn_order ON outlive_turns.lane = outlive_lanes.lane
      CROSS JOIN outlive_records INDEXED BY outlive_keyed
        ON ${ofTurn("outlive_turns.turn")} 0
      WHERE true`,
    groups: `${named.queue}, ${named.task}`,
    named,
  }
  const running: Part = {
    states: ["running"],
    select: "queue, task, NULL, NULL, count(*)",
    from: "outlive_records INDEXED BY outlive_running WHERE state = 1",
    groups: "queue, task",
  }
  const ended: Part = {
    states: ["succeeded", "cancelled"],
    select: "queue, task, NULL, NULL, sum(state = 2), sum(state = 3)",
    from: "outlive_records INDEXED BY outlive_ended WHERE state >= 2 AND state <= 3",
    groups: "queue, task",
  }
  const dead: Part = {
    states: ["dead"],
    select: `queue, task, reason, ${tagOfFailure}, count(*)`,
    from: "outlive_records INDEXED BY outlive_dead_letters WHERE state = 4",
    groups: `queue, task, reason, ${tagOfFailure}`,
  }

  // The members of one record, in whichever state they are.
  const reason = "CASE state WHEN 4 THEN reason END"
  const tag = `CASE state WHEN 4 THEN ${tagOfFailure} END`
  const members: Part = {
    states: ["scheduled", "ready", "running", "succeeded", "cancelled", "dead"],
    select: `queue, task, ${reason}, ${tag}, sum(state = 0 AND eta > ?), sum(state = 0 AND eta <= ?), sum(state = 1),
      sum(state = 2), sum(state = 3), sum(state = 4)`,
    from: "outlive_records INDEXED BY outlive_members WHERE member_of IS NOT NULL",
    groups: `queue, task, ${reason}, ${tag}`,
  }

  return (filter, now) => {
    const counts: Array<Count> = []
    const count = ({ from, groups, named, select, states }: Part, given: ReadonlyArray<number | string>) => {
      const { conditions, values } = conditionsOf(filter, now, named)
      const sql = `SELECT ${select} FROM ${[from, ...conditions].join(" AND ")} GROUP BY ${groups}`
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

    if (filter.memberOf !== undefined) {
      count(members, [now, now])
      return counts
    }
    const asked = statesOf(filter)
    if (asked.has("scheduled") || asked.has("ready")) {
      count(waiting, [now, now])
      const without = counts.length
      count(waitingWithKey, [now, now])
      if (without > 0 && without < counts.length) counts.splice(0, counts.length, ...summed(counts))
    }
    if (asked.has("running")) count(running, [])
    if (asked.has("succeeded") || asked.has("cancelled")) {
      if (filter.endedAfter === undefined && filter.endedBefore === undefined) count(ended, [])
      else {
        for (const { queue, state, task } of endedGroups(filter)) {
          if (state <= 3) count({ ...ended, from: `outlive_records ${inGroup}` }, [queue, task, state])
        }
      }
    }
    if (asked.has("dead")) count(dead, [])
    return counts
  }
}

/** Counts of waiting records, where those with and without a key may be of the same queue and task. */
const summed = (counts: ReadonlyArray<Count>): ReadonlyArray<Count> => {
  const sums = new Map<string, Count>()
  for (const each of counts) {
    const group = JSON.stringify([each.queue, each.task, each.state])
    sums.set(group, { ...each, count: each.count + (sums.get(group)?.count ?? 0) })
  }
  return [...sums.values()]
}
