/** graphile-worker with the batching that its page on performance recommends. */
import { Logger, makeWorkerUtils, run } from "graphile-worker"
import pg from "pg"
import type { Contender, Payload, Place } from "../drivers/contender.ts"

const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message)
})

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "postgres") throw new Error("this is for Postgres")
  const makePool = (max: number) => {
    const pool = new pg.Pool({ connectionString: place.url, max })
    pool.on("error", (error) => console.error(error))
    pool.on("connect", (client) => client.on("error", (error) => console.error(error)))
    return pool
  }
  const pgPool = makePool(20)
  const utils = await makeWorkerUtils({ pgPool, logger })
  await utils.migrate()
  const produce: Contender["produce"] = async (next, callers) => {
    const caller = async () => {
      for (let payload = next(); payload !== undefined; payload = next()) await utils.addJob("small", payload)
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }
  const work: Contender["work"] = async (handle, concurrency) => {
    const runner = await run({
      logger,
      pgPool: makePool(concurrency + 2),
      noHandleSignals: true,
      taskList: { small: async (payload) => handle(payload as Payload) },
      preset: {
        worker: {
          concurrentJobs: concurrency,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    })
    runner.promise.catch((error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  }
  const unfinished = async () =>
    Number((await pgPool.query("SELECT count(*) FROM graphile_worker._private_jobs")).rows[0].count)
  return { produce, work, unfinished }
}
