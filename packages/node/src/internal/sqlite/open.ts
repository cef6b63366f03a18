/**
 * Opening a task queue file. Nothing is written to a file before it is known to be ours or new.
 */
import { statSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Code, codeOf } from "./failure.ts"
import { latest, migrate, versionOf } from "./schema.ts"
import { whenFree } from "./whenFree.ts"

class Refused extends Error {}

const fail = (message: string, cause?: unknown): TaskQueueError =>
  new TaskQueueError({ operation: "open", message, isRetryable: false, ...(cause === undefined ? {} : { cause }) })

/** Why SQLite says no more than "unable to open database file", found by looking. */
const whyNot = (file: string): string => {
  const folder = dirname(file)
  const found = statSync(folder, { throwIfNoEntry: false })
  if (found === undefined) return `cannot open ${file}: the folder ${folder} does not exist, create it first`
  if (!found.isDirectory()) return `cannot open ${file}: ${folder} is a file, not a folder`
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) {
    return `cannot open ${file}: it is a folder, give the name of a file in it`
  }
  return `cannot open ${file}: this process may not read and write it, or not write its folder, where SQLite keeps a -wal and a -shm file`
}

const openError =
  (file: string) =>
  (cause: unknown): TaskQueueError => {
    if (cause instanceof Refused) return fail(cause.message)
    const text = cause instanceof Error ? cause.message : String(cause)
    switch (codeOf(cause)) {
      case Code.cannotOpen:
        return fail(whyNot(file), cause)
      case Code.notADatabase:
        return fail(`cannot open ${file}: it is not a SQLite database, nothing was written to it`, cause)
      case Code.readOnly:
        return fail(`cannot open ${file}: it is read-only, a task queue has to write it`, cause)
      case Code.corrupt:
        return fail(`cannot open ${file}: the database is damaged (${text}), nothing was written to it`, cause)
      case Code.full:
        return fail(`cannot open ${file}: there is no room on its disk`, cause)
      default:
        return fail(`cannot open ${file}: ${text}`, cause)
    }
  }

const pragma = (db: DatabaseSync, name: string): number => Number(db.prepare(`PRAGMA ${name}`).get()?.[name])

/** The version of a file that is ours, 0 of a new one; throws what to tell people about any other. */
const checkedVersion = (db: DatabaseSync, file: string, shared: boolean): number => {
  // Of one moment, also while another process creates the tables.
  db.exec("BEGIN")
  try {
    const version = versionOf(db)
    if (version === 0 && !shared) {
      const application = pragma(db, "application_id")
      const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 4").all()
      const belongs =
        application !== 0
          ? `belongs to another program (application_id ${application})`
          : tables.length > 0
            ? `is the database of another program (tables ${tables.map(({ name }) => name).join(", ")})`
            : pragma(db, "user_version") > 0
              ? `belongs to another program (user_version ${pragma(db, "user_version")})`
              : undefined
      if (belongs !== undefined) {
        throw new Refused(
          `cannot open ${file}: it ${belongs}, nothing was written to it; give the task queue a file of its own, ` +
            "or put it into this one on purpose, with TaskQueueSqlite.layerClient",
        )
      }
    }
    if (version > latest) {
      throw new Refused(
        `cannot open ${file}: a newer @outlive/node wrote it (version ${version}, this one knows ${latest}), update the package`,
      )
    }
    return version
  } finally {
    if (db.isTransaction) db.exec("ROLLBACK")
  }
}

const prepare = (db: DatabaseSync, file: string, synchronous: "full" | "normal", shared: boolean): void => {
  checkedVersion(db, file, shared)
  const mode = db.prepare("PRAGMA journal_mode = WAL").get()?.journal_mode
  if (mode !== "wal") {
    throw new Refused(
      `cannot open ${file}: its file system has no write-ahead log for SQLite (journal mode ${mode}); use a local disk`,
    )
  }
  db.exec(`PRAGMA synchronous = ${synchronous}`)
  // What undoes a statement alone would be written to a file from 64 kB on.
  db.exec("PRAGMA temp_store = memory")
  // Of all who wait here, the first to get the lock creates the tables, and the others find them.
  db.exec("BEGIN IMMEDIATE")
  try {
    const version = versionOf(db)
    if (version < latest) migrate(db, version)
    // SQLite opens what it may only read all the same, and says so at the first write: that shall be here.
    else db.exec(`UPDATE outlive_schema SET version = ${version}`)
    db.exec("COMMIT")
  } finally {
    if (db.isTransaction) db.exec("ROLLBACK")
  }
}

/** The database, open as long as the scope. Waits while other processes are in the way. */
export const open = Effect.fnUntraced(function* (options: {
  readonly filename: string
  readonly synchronous: "full" | "normal"
  /** Whether the file may have tables of others. */
  readonly shared: boolean
}): Effect.fn.Return<{ readonly db: DatabaseSync; readonly file: string }, TaskQueueError, Scope.Scope> {
  if (options.filename === "" || options.filename === ":memory:") {
    return yield* fail(
      `cannot open ${JSON.stringify(options.filename)}: a SQLite task queue is a file, use TaskQueueMemory for one in memory`,
    )
  }
  const file = resolve(options.filename)
  const onError = openError(file)
  const db = yield* Effect.acquireRelease(
    Effect.try({ try: () => new DatabaseSync(file, { timeout: 0 }), catch: onError }),
    (db) => Effect.sync(() => db.close()),
  )
  yield* whenFree(() => prepare(db, file, options.synchronous, options.shared), onError)
  return { db, file }
})
