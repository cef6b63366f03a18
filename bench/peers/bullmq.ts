/** BullMQ on Redis, whose append-only file is on and written through every second, as BullMQ's guide to production has it. */
import { Queue, Worker } from "bullmq"
import type { Contender, Payload, Place } from "../drivers/contender.ts"

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "redis") throw new Error("this is for Redis")
  const connection = { host: "127.0.0.1", port: place.port, maxRetriesPerRequest: null }
  const queue = new Queue<Payload>("small", { connection })
  await queue.waitUntilReady()
  const produce: Contender["produce"] = async (next, callers) => {
    const caller = async () => {
      for (let payload = next(); payload !== undefined; payload = next()) await queue.add("small", payload)
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }
  const work: Contender["work"] = async (handle, concurrency) => {
    const worker = new Worker<Payload>("small", async ({ data }) => handle(data), { connection, concurrency })
    worker.on("error", (error) => console.error(error))
    await worker.waitUntilReady()
  }
  return { produce, work, unfinished: () => queue.getJobCountByTypes("active", "waiting") }
}
