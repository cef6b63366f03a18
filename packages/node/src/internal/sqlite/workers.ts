/**
 * The workers that said they are there, each as JSON text.
 */
import type { DatabaseSync } from "node:sqlite"
import type { WorkerInfo } from "@outlive/deferred/WorkerInfo"

export interface Workers {
  readonly announce: (worker: WorkerInfo, until: number) => void
  readonly withdraw: (id: string) => void
  readonly list: (now: number) => ReadonlyArray<WorkerInfo>
}

/** JSON has no `undefined`. */
const fromText = (text: string): WorkerInfo => {
  const worker = JSON.parse(text) as WorkerInfo
  return { ...worker, failingSince: worker.failingSince }
}

export const makeWorkers = (db: DatabaseSync): Workers => {
  const announce = db.prepare("INSERT OR REPLACE INTO outlive_workers (id, until, info) VALUES (?, ?, ?)")
  const withdraw = db.prepare("DELETE FROM outlive_workers WHERE id = ?")
  const list = db.prepare("SELECT info FROM outlive_workers WHERE until > ? ORDER BY id")
  return {
    announce: (worker, until) => {
      announce.run(worker.id, until, JSON.stringify(worker))
    },
    withdraw: (id) => {
      withdraw.run(id)
    },
    list: (now) => (list.all(now) as unknown as ReadonlyArray<{ info: string }>).map(({ info }) => fromText(info)),
  }
}
