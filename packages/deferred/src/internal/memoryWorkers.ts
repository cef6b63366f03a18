/**
 * The workers that said they are there.
 */
import type { WorkerInfo } from "../WorkerInfo.ts"

export class MemoryWorkers {
  private readonly announced = new Map<string, { readonly worker: WorkerInfo; readonly until: number }>()

  announce(worker: WorkerInfo, until: number): void {
    this.announced.set(worker.id, { worker, until })
  }

  withdraw(id: string): void {
    this.announced.delete(id)
  }

  list(now: number): ReadonlyArray<WorkerInfo> {
    const there = [...this.announced.values()].filter(({ until }) => until > now)
    return there.map(({ worker }) => worker).sort((left, right) => (left.id < right.id ? -1 : 1))
  }

  prune(now: number): void {
    for (const [id, { until }] of this.announced) if (until <= now) this.announced.delete(id)
  }
}
