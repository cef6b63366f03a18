/**
 * The claim that a commit sets off in the same process: whoever has found too little in a queue asks again when he hears
 * that there is something. What waits for the disk may wait for that claim first, which one sync then serves as well.
 */
import type { Change } from "@outlive/deferred/TaskQueue"

export class ExpectedClaim {
  /** Queues of which the last claim got less than it asked for. */
  private readonly short = new Set<string>()
  private expected = false

  /** A claim of the queue was made. */
  made(queue: string, isShort: boolean): void {
    this.expected = false
    if (isShort) this.short.add(queue)
    else this.short.delete(queue)
  }

  /** These changes are told. */
  told(changes: ReadonlyArray<Change>): void {
    if (this.short.size === 0) return
    for (const change of changes) {
      if (change._tag !== "Waiting") continue
      for (const queue of change.queues) if (this.short.delete(queue)) this.expected = true
    }
  }

  isExpected(): boolean {
    return this.expected
  }

  /** It did not come: nobody waits for it until a claim is short again. */
  giveUp(): void {
    this.expected = false
  }
}
