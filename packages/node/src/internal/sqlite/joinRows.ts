/**
 * What records that wait for others have heard of them, and the reports that have not been heard yet.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Join, JoinTally } from "@outlive/deferred/TaskRecord"
import type { Tallies } from "./row.ts"

/** How a member ended. */
export type End = "succeeded" | "cancelled" | "dead"

export interface Report {
  /** The record that waits for the member. */
  readonly id: TaskId
  readonly how: End
}

export interface JoinRows {
  readonly tally: Tallies
  /** A record that waits for others begins to. */
  readonly add: (id: TaskId, join: Join) => void
  /** It waits for them no longer; `false`: it did not anyway. */
  readonly letGo: (id: TaskId) => boolean
  /** The record is deleted. */
  readonly forget: (id: TaskId) => void
  /** Whether it waits for its members. */
  readonly isHeld: (id: TaskId) => boolean
  /** A member ended: how things stand with that; `undefined`: nobody waits for it. */
  readonly count: (report: Report) => JoinTally | undefined
  /** A member that was dead is not. */
  readonly uncount: (id: TaskId) => void
  /** A member ended, and that is to be heard before anything else happens. */
  readonly report: (report: Report) => void
  /** Gives what was reported and forgets it. */
  readonly takeReports: () => ReadonlyArray<Report>
  readonly hasReports: () => boolean
}

interface JoinRow {
  readonly total: number
  readonly on_failure: Join["onFailure"]
  readonly afterwards: Join["afterwards"]
  readonly succeeded: number
  readonly cancelled: number
  readonly dead: number
}

export const makeJoinRows = (db: DatabaseSync): JoinRows => {
  const find = db.prepare(
    "SELECT total, on_failure, afterwards, succeeded, cancelled, dead FROM outlive_joins WHERE id = ?",
  )
  const add = db.prepare("INSERT OR REPLACE INTO outlive_joins VALUES (?, ?, ?, ?, 1, 0, 0, 0)")
  const letGo = db.prepare("UPDATE outlive_joins SET is_held = 0 WHERE id = ? AND is_held = 1")
  const forget = db.prepare("DELETE FROM outlive_joins WHERE id = ?")
  const isHeld = db.prepare("SELECT 1 FROM outlive_joins WHERE id = ? AND is_held = 1")
  const counting = (how: End) => db.prepare(`UPDATE outlive_joins SET ${how} = ${how} + 1 WHERE id = ? AND is_held = 1`)
  const count = { succeeded: counting("succeeded"), cancelled: counting("cancelled"), dead: counting("dead") }
  const uncount = db.prepare("UPDATE outlive_joins SET dead = dead - 1 WHERE id = ? AND is_held = 1")
  let reports: Array<Report> = []

  const tally: Tallies = (id) => {
    const row = find.get(id) as unknown as JoinRow | undefined
    if (row === undefined) return undefined
    const { afterwards, cancelled, dead, on_failure: onFailure, succeeded, total } = row
    return { total, onFailure, afterwards, succeeded, cancelled, dead }
  }
  return {
    tally,
    add: (id, { afterwards, onFailure, total }) => {
      add.run(id, total, onFailure, afterwards)
    },
    letGo: (id) => letGo.run(id).changes !== 0,
    forget: (id) => {
      forget.run(id)
    },
    isHeld: (id) => isHeld.get(id) !== undefined,
    count: ({ how, id }) => (count[how].run(id).changes === 0 ? undefined : tally(id)),
    uncount: (id) => {
      uncount.run(id)
    },
    report: (report) => {
      reports.push(report)
    },
    takeReports: () => {
      const taken = reports
      if (taken.length > 0) reports = []
      return taken
    },
    hasReports: () => reports.length > 0,
  }
}
