/**
 * Unique keys: at most one record of a task holds one, by the unique index over those that do. Whoever writes has the
 * lock of the file, so that this is true over all processes.
 */
import type { DatabaseSync } from "node:sqlite"
import type { TaskId } from "@outlive/deferred/TaskId"
import type { UniqueWhile } from "@outlive/deferred/TaskRecord"
import { State } from "./schema.ts"
import type { Touched } from "./touched.ts"
import type { Turns } from "./turns.ts"

/** The bit 1 << state for each; `waiting` is always among them. */
export const maskOf = (states: ReadonlyArray<UniqueWhile>): number =>
  states.reduce((mask, state) => mask | (1 << State[state]), 1 << State.waiting)

export interface Keys {
  /** The record of the task that holds the key. */
  readonly holder: (task: string, key: string) => TaskId | undefined
  /** A record with a key is in another state now: if the key is not for that, it has given it up for good. */
  readonly moved: (seq: number) => void
  /** A record with a key waits again as if it were new: it takes the key if it is free, and goes on without it if not. */
  readonly takeAgain: (seq: number) => void
  /** A record is held back for the end of another, to take its place. */
  readonly follow: (holder: number, follower: number) => void
  /** Whether a record is held back for the end of this one, to take its place. */
  readonly isFollowed: (seq: number) => boolean
  /** A record with a key has ended: what follows it is held back no longer. */
  readonly release: (seq: number, now: number) => void
}

interface Follower {
  /** `null`: it is no longer there. */
  readonly seq: number | null
  readonly queue: string
  readonly key: string | null
}

export const makeKeys = (
  db: DatabaseSync,
  { touched, turns }: { readonly touched: Touched; readonly turns: Turns },
): Keys => {
  const holder = db.prepare("SELECT id FROM outlive_records WHERE task = ? AND unique_key = ? AND holds_key = 1")
  const move = db.prepare(
    "UPDATE outlive_records SET holds_key = NULL WHERE seq = ? AND holds_key = 1 AND (unique_while >> state) & 1 = 0",
  )
  const takeAgain = db.prepare("UPDATE OR IGNORE outlive_records SET holds_key = 1 WHERE seq = ?")
  const follow = db.prepare("INSERT OR REPLACE INTO outlive_followers (holder, follower) VALUES (?, ?)")
  const unfollow = db.prepare("DELETE FROM outlive_followers WHERE holder = ?")
  const follower = db.prepare(
    `SELECT seq, queue, key FROM outlive_followers LEFT JOIN outlive_records
       ON seq = follower AND follows = holder AND state = 0 WHERE holder = ?`,
  )
  const release = db.prepare(
    "UPDATE outlive_records SET eta = max(?, wanted_eta), wanted_eta = NULL, follows = NULL WHERE seq = ?",
  )
  return {
    holder: (task, key) => (holder.get(task, key) as { readonly id: TaskId } | undefined)?.id,
    moved: (seq) => {
      move.run(seq)
    },
    takeAgain: (seq) => {
      takeAgain.run(seq)
    },
    follow: (holder, follower) => {
      follow.run(holder, follower)
    },
    isFollowed: (seq) => ((follower.get(seq) as Follower | undefined)?.seq ?? null) !== null,
    release: (holder, now) => {
      const found = follower.get(holder) as Follower | undefined
      if (found === undefined) return
      unfollow.run(holder)
      const { key, queue, seq } = found
      if (seq === null) return
      release.run(now, seq)
      takeAgain.run(seq)
      if (key !== null) turns.waitAgain(seq, now)
      touched.waiting(queue)
    },
  }
}
