/**
 * What the machine gives on Postgres: `pg` by hand, with prepared statements, `unnest` for all that came while the last
 * statement was under way, `FOR UPDATE SKIP LOCKED` in batches, one NOTIFY a flush. No types, no fibers, no limits, no
 * names, no retries.
 */
import pg from "pg"
import type { Contender, Payload, Place } from "../drivers/contender.ts"

const batch = 500

const schema = `
  CREATE TABLE IF NOT EXISTS task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, state smallint NOT NULL DEFAULT 0,
    eta float8 NOT NULL, payload text NOT NULL, token int NOT NULL DEFAULT 0, lease float8
  ) WITH (fillfactor = 70);
  CREATE INDEX IF NOT EXISTS task_ready ON task (queue, eta, id) WHERE state = 0;
`

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "postgres") throw new Error("this is for Postgres")
  const connect = async () => {
    const client = new pg.Client({ connectionString: place.url })
    await client.connect()
    return client
  }
  const writer = await connect()
  await writer.query("SELECT pg_advisory_lock(1)")
  await writer.query(schema)
  await writer.query("SELECT pg_advisory_unlock(1)")

  let waiting: Array<{ readonly payload: string; readonly resolve: () => void }> = []
  let isBusy = false
  const flush = async () => {
    isBusy = true
    const group = waiting
    waiting = []
    await writer.query({
      name: "insert",
      text: `WITH inserted AS (INSERT INTO task (queue, eta, payload) SELECT 'default', $1, p FROM unnest($2::text[]) AS p)
        SELECT pg_notify('task', '')`,
      values: [Date.now(), group.map(({ payload }) => payload)],
    })
    isBusy = false
    for (const { resolve } of group) resolve()
    if (waiting.length > 0) setImmediate(flush)
  }
  const add = (payload: string) =>
    new Promise<void>((resolve) => {
      waiting.push({ payload, resolve })
      if (waiting.length === 1 && !isBusy) setImmediate(flush)
    })
  const produce: Contender["produce"] = async (next, callers) => {
    const caller = async () => {
      for (let payload = next(); payload !== undefined; payload = next()) await add(JSON.stringify(payload))
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }

  interface Row {
    readonly id: string
    readonly payload: string
    readonly token: number
  }
  const work: Contender["work"] = async (handle, concurrency) => {
    const claimer = await connect()
    const settler = await connect()
    let wake: () => void = () => undefined
    let isAwake = false
    claimer.on("notification", () => {
      isAwake = true
      wake()
    })
    await claimer.query("LISTEN task")
    const claim = async () =>
      (
        await claimer.query<Row>({
          name: "claim",
          text: `UPDATE task SET state = 1, token = token + 1, lease = $1 FROM (
              SELECT id AS one FROM task WHERE state = 0 AND queue = 'default' AND eta <= $2
              ORDER BY eta, id LIMIT ${batch} FOR UPDATE SKIP LOCKED
            ) AS ready WHERE id = one RETURNING id, payload, token`,
          values: [Date.now() + 30_000, Date.now()],
        })
      ).rows
    const settle = (rows: ReadonlyArray<Row>) =>
      settler.query({
        name: "settle",
        text: `UPDATE task SET state = 2, lease = NULL FROM unnest($1::bigint[], $2::int[]) AS ended (one, held)
          WHERE id = one AND token = held`,
        values: [rows.map(({ id }) => id), rows.map(({ token }) => token)],
      })
    const run = async (handled: (payload: Payload) => void) => {
      let settled: Promise<unknown> = Promise.resolve()
      let next = claim()
      for (;;) {
        isAwake = false
        const rows = await next
        if (rows.length === 0) {
          if (!isAwake) {
            await new Promise<void>((resolve) => {
              wake = resolve
            })
          }
          next = claim()
          continue
        }
        // The next batch is on its way while this one is run.
        next = claim()
        const each = rows.values()
        const slot = async () => {
          for (const row of each) await (async () => handled(JSON.parse(row.payload)))()
        }
        await Promise.all(Array.from({ length: Math.min(concurrency, rows.length) }, slot))
        await settled
        settled = settle(rows)
      }
    }
    run(handle).catch((error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  }
  const unfinished = async () => Number((await writer.query("SELECT count(*) FROM task WHERE state = 1")).rows[0].count)
  return { produce, work, unfinished }
}
