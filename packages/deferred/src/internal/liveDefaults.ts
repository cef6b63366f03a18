/**
 * What queues say about their records, as `QueueConfig` provides it: a map that stays the same while its entries change,
 * so that whoever has it sees them.
 */
import type { QueueDefault } from "../QueueDefaults.ts"

export class LiveDefaults extends Map<string, QueueDefault> {
  /** Has these entries and no others from now on. */
  become(entries: ReadonlyMap<string, QueueDefault>): void {
    for (const queue of [...this.keys()]) if (!entries.has(queue)) this.delete(queue)
    for (const [queue, said] of entries) this.set(queue, said)
  }
}
