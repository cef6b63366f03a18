/**
 * What one call changed in memory, told once when it is done.
 */
import type { TaskId } from "../TaskId.ts"
import type { Change } from "../TaskQueue.ts"

export class MemoryChanges {
  private queues = new Set<string>()
  private ended: Array<TaskId> = []
  private cancelling: Array<TaskId> = []
  private progressed: Array<TaskId> = []
  private readonly tell: (make: () => Change) => void

  constructor(tell: (make: () => Change) => void) {
    this.tell = tell
  }

  /** Something of this queue may be claimable. */
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
    // The members of a join mostly end many at once.
    if (this.progressed.at(-1) !== id) this.progressed.push(id)
  }

  flush(): void {
    const { cancelling, ended, progressed, queues } = this
    if (queues.size > 0) {
      this.queues = new Set()
      this.tell(() => ({ _tag: "Waiting", queues: [...queues] }))
    }
    if (ended.length > 0) {
      this.ended = []
      this.tell(() => ({ _tag: "Ended", ids: ended }))
    }
    if (cancelling.length > 0) {
      this.cancelling = []
      this.tell(() => ({ _tag: "CancelRequested", ids: cancelling }))
    }
    if (progressed.length > 0) {
      this.progressed = []
      this.tell(() => ({ _tag: "Progress", ids: progressed }))
    }
  }
}
