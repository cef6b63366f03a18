/**
 * All calls of the contract on one connection: the queue's own, with group commit, or that of an application's transaction.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Change, Driver } from "@outlive/deferred/TaskQueue"
import { makeCancel, makeRedrive } from "./cancel.ts"
import { makeClaim } from "./claim.ts"
import { makeCounts } from "./counts.ts"
import { makeEnding } from "./ending.ts"
import { makeEnqueue } from "./enqueue.ts"
import { makeExecuted } from "./executed.ts"
import { makeEndedGroups, makeFind, makeGet, makePayloadRefs } from "./find.ts"
import { atOnce, type GroupCommit } from "./groupCommit.ts"
import { makeLanes } from "./lanes.ts"
import { makeLedger, makeReadLedger } from "./ledger.ts"
import { makeLimits } from "./limits.ts"
import { makeOwnClaims } from "./ownClaims.ts"
import { makePayloads } from "./payloads.ts"
import { makeProgress } from "./progress.ts"
import { makePrune, makePurge, makeRemove } from "./remove.ts"
import { makeExtend, makeSettle } from "./settle.ts"
import type { Snapshot } from "./snapshot.ts"
import { makeStatistics } from "./statistics.ts"
import { makeTakeBack } from "./takeBack.ts"
import { Touched } from "./touched.ts"
import { makeKeys } from "./unique.ts"
import { makeWorkers } from "./workers.ts"

/** What a transaction calls of what is written in it. */
export interface Hooks {
  /** As its last thing. */
  readonly beforeCommit: () => void
  /** Gives what it changed. */
  readonly committed: () => ReadonlyArray<Change>
  readonly rolledBack: () => void
}

export type Calls = Required<Omit<Driver, "name" | "capabilities" | "changes" | "transaction" | "inTransaction">>

export const makeCalls = (
  db: DatabaseSync,
  snapshot: Snapshot,
  makeCommits: (hooks: Hooks) => Pick<GroupCommit, "write" | "read">,
): Calls => {
  const touched = new Touched()
  const executed = makeExecuted(db)
  const commits = makeCommits({
    beforeCommit: executed.flush,
    committed: () => {
      executed.forget()
      return touched.take()
    },
    rolledBack: () => {
      executed.forget()
      touched.take()
    },
  })
  const limits = makeLimits(db, touched)
  const keys = makeKeys(db)
  const ledger = makeLedger(db)
  const ending = makeEnding(db, { keys, ledger, limits, touched })
  const enqueue = makeEnqueue(db, { keys, ledger, touched })
  const ownClaims = makeOwnClaims()
  const claim = makeClaim(db, { keys, lanes: makeLanes(db), limits, ownClaims, takeBack: makeTakeBack(db, ending) })
  const extend = makeExtend(db)
  const progress = makeProgress(db, touched)
  const settle = makeSettle(db, ending, executed, progress, ownClaims)
  const cancel = makeCancel(db, ending, touched)
  const redrive = makeRedrive(db, keys, touched)
  const remove = makeRemove(db, ledger)
  const purge = makePurge(db, ledger)
  const prune = makePrune(db, ledger)
  const workers = makeWorkers(db)
  const get = makeGet(db)
  const readLedger = makeReadLedger(db)
  const payloadRefs = makePayloadRefs(db)
  const endedGroups = makeEndedGroups(db)
  const find = makeFind(db, endedGroups)
  const counts = makeCounts(db, endedGroups)
  const statistics = makeStatistics(db, limits, executed)

  return {
    payloads: makePayloads(db, commits),
    enqueue: ({ now, records }) => commits.write("enqueue", () => enqueue(records, now)),
    claim: (params) => commits.write("claim", () => claim(params)),
    extend: ({ leases, until }) => commits.write("extend", () => atOnce(() => extend(leases, until))),
    settle: ({ now, settlements }) => commits.write("settle", () => settle(settlements, now)),
    progress: ({ updates }) => commits.write("progress", () => atOnce(() => progress.noteAll(updates))),
    cancel: ({ ids, now, reason }) => commits.write("cancel", () => atOnce(() => cancel(ids, reason, now))),
    redrive: ({ ids, now }) => commits.write("redrive", () => atOnce(() => redrive(ids, now))),
    remove: ({ ids, only }) => commits.write("remove", () => atOnce(() => remove(ids, only))),
    purge: ({ queue }) => commits.write("purge", () => purge(queue)),
    get: ({ ids, now }) => commits.read("get", () => get(ids, now)),
    ledger: ({ ids }) => commits.read("ledger", () => snapshot(() => readLedger(ids))),
    payloadRefs: ({ refs }) => commits.read("payloadRefs", () => payloadRefs(refs)),
    find: (params) => commits.read("find", () => snapshot(() => find(params))),
    counts: (params) => commits.read("counts", () => snapshot(() => counts(params, params.now))),
    configure: ({ limits: changed, now, queue }) =>
      commits.write("configure", () => atOnce(() => limits.configure(queue, changed, now))),
    limits: ({ queue }) => commits.read("limits", () => limits.get(queue)),
    statistics: ({ now, queue }) => commits.read("statistics", () => snapshot(() => statistics(queue, now))),
    announce: ({ until, worker }) => commits.write("announce", () => atOnce(() => workers.announce(worker, until))),
    withdraw: ({ worker }) => commits.write("withdraw", () => atOnce(() => workers.withdraw(worker))),
    workers: ({ now }) => commits.read("workers", () => workers.list(now)),
    prune: ({ deadBefore, limit, now }) => commits.write("prune", () => prune(now, deadBefore, limit)),
  }
}
