/**
 * Several looks at one moment, also while other processes write.
 */
import type { DatabaseSync } from "node:sqlite"

export type Snapshot = <A>(body: () => A) => A

export const makeSnapshot = (db: DatabaseSync): Snapshot => {
  const begin = db.prepare("BEGIN")
  const end = db.prepare("ROLLBACK")
  return (body) => {
    // Whoever began it looks at one moment already.
    if (db.isTransaction) return body()
    begin.run()
    try {
      return body()
    } finally {
      // SQLite itself may have done so, after the errors that it thinks are grave.
      if (db.isTransaction) end.run()
    }
  }
}
