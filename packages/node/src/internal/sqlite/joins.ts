/**
 * Records that wait for others: what the ends of those mean for them, and what their ends mean for those.
 *
 * A member's end is reported, and heard before anything else happens, with all that it means: it may be the last of a
 * group, which may be a member itself, and so on. However far that goes, it is done step by step.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { CancelOutcome } from "@outlive/deferred/TaskQueue"
import type { JoinTally } from "@outlive/deferred/TaskRecord"
import type { Ending } from "./ending.ts"
import { isStep, type Steps } from "./groupCommit.ts"
import { type Held, heldColumns, makeFindHeld, toHeld } from "./held.ts"
import type { JoinRows, Report } from "./joinRows.ts"
import { asRow } from "./row.ts"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Turns } from "./turns.ts"

export interface Joins {
  /** Whether there is something to hear. */
  readonly hasNews: () => boolean
  /** Hears what was reported, and cancels the members of what was cancelled. */
  readonly hear: (now: number) => Steps<void>
  /** The payload for the record that waits for a member. */
  readonly handOver: (id: TaskId, payload: string) => void
  /** Cancels a record; if it waits for others, those with the next `hear`. */
  readonly cancel: (id: TaskId, reason: string, now: number) => CancelOutcome
  /** As much as one claim does of what calls before it had no time to cancel; whether there is more. */
  readonly goOn: (now: number) => Steps<boolean>
  /** The transaction is over, one way or the other. */
  readonly forget: () => void
}

/** How many members are cancelled in one call at the most. */
const most = 2000
/** Milliseconds between two looks for what other processes left to be cancelled. */
const lookEvery = 1000

/** What is still to be done, the next last: what comes of a thing is done before the thing after it. */
type Task =
  | { readonly _tag: "Hear"; readonly report: Report }
  /** Cancel the members of a record, those after a seq. */
  | { readonly _tag: "Cancel"; readonly id: TaskId; readonly reason: string; readonly after: number }
  /** See whether all members of a record have ended. */
  | { readonly _tag: "Complete"; readonly id: TaskId }

export const makeJoins = (
  db: DatabaseSync,
  {
    ending,
    joinRows,
    touched,
    turns,
  }: {
    readonly ending: Ending
    readonly joinRows: JoinRows
    readonly touched: Touched
    readonly turns: Turns
  },
): Joins => {
  const find = makeFindHeld(db)
  const request = db.prepare("UPDATE outlive_records SET cancel_requested = ? WHERE seq = ?")
  const release = db.prepare("UPDATE outlive_records SET eta = max(?, wanted_eta), wanted_eta = NULL WHERE seq = ?")
  const handOver = db.prepare("UPDATE outlive_records SET payload = ?, payload_ref = NULL WHERE id = ?")
  const nextMember = db.prepare(
    `SELECT ${heldColumns} FROM outlive_records INDEXED BY outlive_members
     WHERE member_of = ? AND seq > ? ORDER BY seq LIMIT 1`,
  )
  nextMember.setReturnArrays(true)
  const left = db.prepare("SELECT id, reason, after FROM outlive_cancelling WHERE id > '' ORDER BY id LIMIT 1")
  const leave = db.prepare("INSERT OR REPLACE INTO outlive_cancelling (id, reason, after) VALUES (?, ?, ?)")
  const done = db.prepare("DELETE FROM outlive_cancelling WHERE id = ?")

  let tasks: Array<Task> = []
  /** Whether there may be something in the table. */
  let mayBeLeft = true
  let lookedAt = Number.NEGATIVE_INFINITY

  const cancelRecord = (record: Held, reason: string, now: number): CancelOutcome => {
    if (record.state > State.running) return "TooLate"
    request.run(reason, record.seq)
    if (record.state === State.running) {
      touched.cancel(record.id)
      return "Requested"
    }
    const isHeld = record.is_join !== null && joinRows.isHeld(record.id)
    if (isHeld) tasks.push({ _tag: "Cancel", id: record.id, reason, after: 0 })
    ending.cancel(record, now, undefined)
    return "Cancelled"
  }

  const complete = (id: TaskId, tally: JoinTally, now: number) => {
    if (tally.succeeded + tally.cancelled + tally.dead < tally.total) return
    const record = find(id)!
    if (tally.afterwards === "end") return ending.succeed(record, undefined, now)
    joinRows.letGo(id)
    release.run(now, record.seq)
    if (record.key !== null) turns.waitAgain(record.seq, now)
    touched.waiting(record.queue)
  }

  const completeIfHeld = (id: TaskId, now: number) => {
    const tally = joinRows.isHeld(id) ? joinRows.tally(id) : undefined
    if (tally !== undefined) complete(id, tally, now)
  }

  const hearOne = (report: Report, now: number) => {
    const { how, id } = report
    const tally = joinRows.count(report)
    if (tally === undefined) return
    touched.progress(id)
    if (how !== "succeeded" && tally.onFailure === "cancel") {
      const record = find(id)!
      request.run("a task before it did not succeed", record.seq)
      return ending.cancel(record, now, undefined)
    }
    const isFirst = how !== "succeeded" && tally.cancelled + tally.dead === 1
    if (!isFirst || tally.onFailure !== "cancelSiblings") return complete(id, tally, now)
    tasks.push({ _tag: "Complete", id })
    tasks.push({ _tag: "Cancel", id, reason: "another of the group did not succeed", after: 0 })
  }

  /** `false`: there is none. */
  const cancelNext = ({ after, id, reason }: Task & { readonly _tag: "Cancel" }, now: number): boolean => {
    const row = asRow(nextMember.get(id, after))
    if (row === undefined) return false
    const member = toHeld(row)
    tasks.push({ _tag: "Cancel", id, reason, after: member.seq })
    cancelRecord(member, reason, now)
    return true
  }

  const takeReports = () => {
    for (const report of joinRows.takeReports().toReversed()) tasks.push({ _tag: "Hear", report })
  }

  const hear = function* (now: number): Steps<void> {
    let steps = 0
    let cancelled = 0
    takeReports()
    for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) {
      if (task._tag === "Hear") hearOne(task.report, now)
      else if (task._tag === "Complete") completeIfHeld(task.id, now)
      else if (cancelled < most) cancelled += cancelNext(task, now) ? 1 : 0
      else {
        leave.run(task.id, task.reason, task.after)
        mayBeLeft = true
      }
      takeReports()
      if (isStep(++steps)) yield
    }
  }

  return {
    hasNews: () => tasks.length > 0 || joinRows.hasReports(),
    hear,
    handOver: (id, payload) => {
      if (joinRows.isHeld(id)) handOver.run(payload, id)
    },
    cancel: (id, reason, now) => {
      const record = find(id)
      return record === undefined ? "NotFound" : cancelRecord(record, reason, now)
    },
    goOn: function* (now) {
      // A clock that moved back looks anew.
      if (!mayBeLeft && now >= lookedAt && now - lookedAt < lookEvery) return false
      lookedAt = now
      const group = left.get() as unknown as Omit<Task & { readonly _tag: "Cancel" }, "_tag"> | undefined
      if (group !== undefined) {
        done.run(group.id)
        tasks.push({ _tag: "Cancel", ...group })
        yield* hear(now)
      }
      mayBeLeft = group !== undefined && left.get() !== undefined
      return mayBeLeft
    },
    forget: () => {
      tasks = []
      joinRows.takeReports()
      // What was done of it may have been undone.
      mayBeLeft = true
    },
  }
}
