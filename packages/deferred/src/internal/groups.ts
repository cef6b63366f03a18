/**
 * What is known of a group from its own record and those of its members.
 */
import type { FanOutSummary } from "../TaskContext.ts"
import type { TaskRecord } from "../TaskRecord.ts"

/** The task of a group's record that never runs. */
export const groupTask = "outlive/all"

/** At which place of its group a record is. */
export const indexHeader = "outlive-index"

/** How the members ended, as JSON text, of a record that has no others to tell it: its group had none. */
export const membersHeader = "outlive-members"

/** How the members of what a record waits for, or waited for, have ended; `undefined` when it never had any to wait for. */
export const summaryOf = ({ headers, join }: Pick<TaskRecord, "headers" | "join">): FanOutSummary | undefined => {
  if (join === undefined) {
    const told = headers[membersHeader]
    return told === undefined ? undefined : (JSON.parse(told) as FanOutSummary)
  }
  const { cancelled, dead, succeeded, total } = join
  return { total, succeeded, cancelled, dead }
}

export const nobody: FanOutSummary = { total: 0, succeeded: 0, cancelled: 0, dead: 0 }
