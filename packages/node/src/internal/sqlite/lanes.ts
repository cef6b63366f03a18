/**
 * The waiting records of a queue in lanes: those of one task, target and version, which the same workers may claim. In
 * the index each priority of a lane is one sorted run, so whatever is asked here is a few seeks, however much waits.
 */
import type { DatabaseSync } from "node:sqlite"
import type { ClaimParams } from "@outlive/deferred/TaskQueue"
import { limitTo } from "./limitTo.ts"
import { asRows, etaOfFresh, freshColumns, type Row, type Run, seqOfFresh } from "./row.ts"

/** A record that could be claimed, by what decides the order. */
export interface Candidate {
  readonly seq: number
  readonly priority: number
  readonly eta: number
  /** Of `freshColumns`, where they were read along. */
  readonly fresh?: { readonly row: Row; readonly run: Run }
}

/** Higher priority first, then eta, then insertion. */
export const inOrder = (left: Candidate, right: Candidate): number =>
  right.priority - left.priority || left.eta - right.eta || left.seq - right.seq

/** More than so many would hold the event loop too long. */
const mostWhole = 1_000

/** With so many milliseconds of waiting for a point of priority: the smallest is first. */
const aged = ({ eta, priority }: Candidate, ageing: number): number => eta - priority * ageing
const byAge =
  (ageing: number) =>
  (left: Candidate, right: Candidate): number =>
    aged(left, ageing) - aged(right, ageing) || left.seq - right.seq

export interface Lanes {
  /** The first of the queue's ready records that the claim allows, at most `limit`, by priority or by ageing. */
  readonly ready: (
    queue: string,
    params: ClaimParams,
    limit: number,
    ageing: number | undefined,
  ) => ReadonlyArray<Candidate>
  /** The earliest eta of the records that the claim allows. */
  readonly firstAt: (queue: string, params: ClaimParams) => number | undefined
}

export const makeLanes = (db: DatabaseSync): Lanes => {
  const where =
    "FROM outlive_records INDEXED BY outlive_waiting WHERE state = 0 AND turn = 0 AND queue = ? AND task = ? AND target IS ?"
  // Versions upwards: the way in which the index has each one's highest priority first.
  const nextLane = db.prepare(
    `SELECT version, priority ${where} AND version > ? AND version <= ? ORDER BY version, priority DESC LIMIT 1`,
  )
  const lowerRun = db.prepare(
    `SELECT version, priority ${where} AND version = ? AND priority < ? ORDER BY priority DESC LIMIT 1`,
  )
  const heading = (columns: string) =>
    // What a claim had no time to bury must not be claimed either.
    db.prepare(
      `SELECT ${columns} ${where} AND version = ? AND priority = ? AND eta <= ?
         AND (expires_at IS NULL OR expires_at > ? OR first_attempt_at IS NOT NULL)
       ORDER BY eta, seq ${limitTo()}`,
    )
  const head = heading("seq, priority, eta")
  const freshHead = heading(freshColumns)
  freshHead.setReturnArrays(true)
  const firstEta = db.prepare(`SELECT eta ${where} AND version = ? AND priority = ? ORDER BY eta LIMIT 1`)

  /** Walks the runs of all lanes that the claim allows, each lane from its highest priority down while told to. */
  const walk = (
    queue: string,
    params: ClaimParams,
    visit: (task: string, target: string | null, run: Omit<Run, "task">) => "down" | "next lane",
  ) => {
    for (const task of params.tasks) {
      for (const target of [null, ...new Set(params.targets)]) {
        let below = Number.NEGATIVE_INFINITY
        while (true) {
          let run = nextLane.get(queue, task.name, target, below, task.maxVersion) as Omit<Run, "task"> | undefined
          if (run === undefined) break
          below = run.version
          while (run !== undefined && visit(task.name, target, run) === "down") {
            run = lowerRun.get(queue, task.name, target, run.version, run.priority) as Omit<Run, "task"> | undefined
          }
        }
      }
    }
  }

  /** By priority, a lane is walked down only as far as it takes to find enough. */
  const byPriority = (queue: string, params: ClaimParams, limit: number): ReadonlyArray<Candidate> => {
    const lanes: Array<ReadonlyArray<Candidate>> = []
    let lane: Array<Candidate> = []
    let last = ""
    walk(queue, params, (task, target, { priority, version }) => {
      const key = `${task}\n${version}\n${target}`
      if (key !== last) {
        lane = []
        lanes.push(lane)
        last = key
      }
      const among = [queue, task, target, version, priority, params.now, params.now, limit - lane.length] as const
      // Mostly there is one run, and all of it is claimed: read whole, it need not be read again.
      if (lanes.length === 1 && lane.length === 0 && limit <= mostWhole) {
        const run: Run = { task, version, priority }
        for (const row of asRows(freshHead.all(...among))) {
          lane.push({ seq: seqOfFresh(row), priority, eta: etaOfFresh(row), fresh: { row, run } })
        }
      } else for (const row of head.all(...among) as unknown as ReadonlyArray<Candidate>) lane.push(row)
      return lane.length < limit ? "down" : "next lane"
    })
    if (lanes.length === 1) return lanes[0]!
    return lanes.flat().sort(inOrder).slice(0, limit)
  }

  /** By ageing, the head of a run of low priority may be first of all: every run is looked at, as far as it can matter. */
  const byAgeing = (queue: string, params: ClaimParams, limit: number, ageing: number): ReadonlyArray<Candidate> => {
    let first: ReadonlyArray<Candidate> = []
    walk(queue, params, (task, target, { priority, version }) => {
      const last = first.length < limit ? undefined : first.at(-1)
      // A millisecond more than the eta that would be as old as the last: large numbers are rounded.
      const until = last === undefined ? params.now : aged(last, ageing) + priority * ageing + 1
      // Not a number: both are beyond all numbers.
      const due = Number.isNaN(until) ? params.now : Math.min(params.now, until)
      const rows = head.all(queue, task, target, version, priority, due, params.now, limit)
      if (rows.length > 0) {
        const found = rows as unknown as ReadonlyArray<Candidate>
        first = [...first, ...found].sort(byAge(ageing)).slice(0, limit)
      }
      return "down"
    })
    return first
  }

  return {
    ready: (queue, params, limit, ageing) =>
      ageing === undefined ? byPriority(queue, params, limit) : byAgeing(queue, params, limit, ageing),
    firstAt: (queue, params) => {
      let first: number | undefined
      walk(queue, params, (task, target, { priority, version }) => {
        const row = firstEta.get(queue, task, target, version, priority) as { readonly eta: number }
        first = Math.min(first ?? Number.POSITIVE_INFINITY, row.eta)
        return "down"
      })
      return first
    },
  }
}
