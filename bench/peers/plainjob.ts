/** plainjob on better-sqlite3. It writes one job at a time and runs one at a time, with `synchronous` NORMAL. */
import Database from "better-sqlite3"
import { better, defineQueue, defineWorker, JobStatus } from "plainjob"
import type { Contender, Place } from "../drivers/contender.ts"

const silent = () => undefined
const logger = { error: console.error, warn: console.warn, info: silent, debug: silent }

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "sqlite") throw new Error("this is for SQLite")
  const queue = defineQueue({ connection: better(new Database(place.file)), logger })
  const produce: Contender["produce"] = async (next) => {
    let since = 0
    for (let payload = next(); payload !== undefined; payload = next()) {
      queue.add("small", payload)
      // It never waits, and nothing else of the process would ever run.
      if (++since % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const work: Contender["work"] = async (handle) => {
    let since = 0
    const run = async ({ data }: { readonly data: string }) => {
      handle(JSON.parse(data))
      // As above: it goes from job to job without letting anything else of the process run.
      if (++since % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    const worker = defineWorker("small", run, { queue, pollIntervall: 2, logger })
    worker.start().catch((error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  }
  return { produce, work, unfinished: async () => queue.countJobs({ status: JobStatus.Processing }) }
}
