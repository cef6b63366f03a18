/**
 * What the calls of one transaction changed, to be told once it is committed.
 */
import type { TaskId } from "@outlive/deferred/TaskId"
import type { Change } from "@outlive/deferred/TaskQueue"

export class Touched {
  private queues = new Set<string>()
  private ended: Array<TaskId> = []
  private cancelling: Array<TaskId> = []
  private progressed: Array<TaskId> = []

  /** Records of the queue may be claimable. */
  waiting(queue: string): void {
    this.queues.add(queue)
  }

  end(id: TaskId): void {
    this.ended.push(id)
  }

  cancel(id: TaskId): void {
    this.cancelling.push(id)
  }

  progress(id: TaskId): void {
    this.progressed.push(id)
  }

  /** Gives what was changed and forgets it. */
  take(): ReadonlyArray<Change> {
    const changes: Array<Change> = []
    if (this.queues.size > 0) changes.push({ _tag: "Waiting", queues: [...this.queues] })
    if (this.ended.length > 0) changes.push({ _tag: "Ended", ids: this.ended })
    if (this.cancelling.length > 0) changes.push({ _tag: "CancelRequested", ids: this.cancelling })
    if (this.progressed.length > 0) changes.push({ _tag: "Progress", ids: this.progressed })
    if (changes.length > 0) {
      this.queues = new Set()
      this.ended = []
      this.cancelling = []
      this.progressed = []
    }
    return changes
  }
}
