/**
 * What the machine gives on SQLite: `node:sqlite` by hand, with prepared statements, all that one turn of the event loop
 * asks for in one transaction, `synchronous` FULL. No types, no fibers, no limits, no names, no retries.
 */
import { DatabaseSync } from "node:sqlite"
import type { Contender, Payload, Place } from "./contender.ts"

const batch = 500
const isBusy = (cause: unknown) => cause instanceof Error && "errcode" in cause && (Number(cause.errcode) & 0xff) === 5

export const open = async (place: Place): Promise<Contender> => {
  if (place.engine !== "sqlite") throw new Error("this is for SQLite")
  const db = new DatabaseSync(place.file, { timeout: 0 })
  const retrying = async <A>(body: () => A): Promise<A> => {
    for (;;) {
      try {
        return body()
      } catch (cause) {
        if (!isBusy(cause)) throw cause
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
  }
  await retrying(() =>
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      CREATE TABLE IF NOT EXISTS task (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL, eta REAL NOT NULL, payload TEXT NOT NULL,
        token INTEGER NOT NULL DEFAULT 0, lease REAL
      ) STRICT;
      CREATE INDEX IF NOT EXISTS task_ready ON task (queue, eta, id) WHERE state = 0;
    `),
  )
  const begin = db.prepare("BEGIN IMMEDIATE")
  const commit = db.prepare("COMMIT")
  const insert = db.prepare("INSERT INTO task (queue, state, eta, payload) VALUES (?, 0, ?, ?)")
  const ready = db.prepare(
    `SELECT id, payload, token FROM task WHERE state = 0 AND queue = ? AND eta <= ? ORDER BY eta, id LIMIT ${batch}`,
  )
  const take = db.prepare("UPDATE task SET state = 1, token = token + 1, lease = ? WHERE id = ?")
  const end = db.prepare("UPDATE task SET state = 2, lease = NULL WHERE id = ? AND token = ?")
  const version = db.prepare("PRAGMA data_version")
  const running = db.prepare("SELECT count(*) AS count FROM task WHERE state = 1")

  /** Flushes of this connection, which the data version does not tell of. */
  let own = 0
  let waiting: Array<{ readonly payload: string; readonly resolve: () => void }> = []
  const flush = async () => {
    await retrying(() => begin.run())
    const group = waiting
    waiting = []
    for (const { payload } of group) insert.run("default", Date.now(), payload)
    commit.run()
    own++
    for (const { resolve } of group) resolve()
  }
  const add = (payload: string) =>
    new Promise<void>((resolve) => {
      waiting.push({ payload, resolve })
      if (waiting.length === 1) setImmediate(flush)
    })
  const produce: Contender["produce"] = async (next, callers) => {
    const caller = async () => {
      for (let payload = next(); payload !== undefined; payload = next()) await add(JSON.stringify(payload))
    }
    await Promise.all(Array.from({ length: callers }, caller))
  }
  const seen = () => `${version.get()?.data_version} ${own}`
  const work: Contender["work"] = async (handle, concurrency) => {
    interface Row {
      readonly id: number
      readonly payload: string
      readonly token: number
    }
    const run = async (handled: (payload: Payload) => void) => {
      let ended: Array<Row> = []
      for (;;) {
        const before = seen()
        // A transaction writes the ends of one batch and takes the next.
        await retrying(() => begin.run())
        for (const { id, token } of ended) end.run(id, token + 1)
        const rows = ready.all("default", Date.now()) as unknown as Array<Row>
        const lease = Date.now() + 30_000
        for (const { id } of rows) take.run(lease, id)
        commit.run()
        ended = rows
        const each = rows.values()
        const slot = async () => {
          for (const row of each) await (async () => handled(JSON.parse(row.payload)))()
        }
        await Promise.all(Array.from({ length: Math.min(concurrency, rows.length) }, slot))
        if (rows.length > 0) await new Promise((resolve) => setImmediate(resolve))
        else while (seen() === before) await new Promise((resolve) => setTimeout(resolve, 2))
      }
    }
    run(handle).catch((error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  }
  return { produce, work, unfinished: async () => Number(running.get()?.count) }
}
