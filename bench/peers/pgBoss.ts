/** pg-boss with LISTEN/NOTIFY, and batches for as long as they are full. */
import pg from "pg"
import { PgBoss } from "pg-boss"
import type { Contender, Payload, Place } from "../drivers/contender.ts"

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "postgres") throw new Error("this is for Postgres")
  const boss = new PgBoss({ connectionString: place.url, max: 20, useListenNotify: true })
  boss.on("error", (error) => console.error(error))
  await boss.start()
  await boss.createQueue("small", { notify: true })
  const produce: Contender["produce"] = async (next, callers) => {
    const caller = async () => {
      for (let payload = next(); payload !== undefined; payload = next()) await boss.send("small", payload)
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }
  const work: Contender["work"] = async (handle, concurrency) => {
    await boss.work<Payload>(
      "small",
      { batchSize: concurrency, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
      async (jobs) => {
        for (const { data } of jobs) handle(data)
      },
    )
  }
  const client = new pg.Client({ connectionString: place.url })
  await client.connect()
  const unfinished = async () =>
    Number((await client.query("SELECT count(*) FROM pgboss.job WHERE state < 'completed'")).rows[0].count)
  return { produce, work, unfinished }
}
