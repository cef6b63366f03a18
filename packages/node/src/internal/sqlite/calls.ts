/**
 * All calls of the contract on one connection: the queue's own, with group commit, or that of an application's transaction.
 */
import type { DatabaseSync } from "node:sqlite"
import type { KeyOverride } from "@outlive/deferred/KeyLimits"
import type { QueueLimits } from "@outlive/deferred/QueueLimits"
import type { Change, Driver } from "@outlive/deferred/TaskQueue"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { makeCancel, makeRedrive } from "./cancel.ts"
import { makeClaim } from "./claim.ts"
import { makeCounts } from "./counts.ts"
import { makeEnding } from "./ending.ts"
import { makeEnqueue } from "./enqueue.ts"
import { makeExecuted } from "./executed.ts"
import { ExpectedClaim } from "./expectedClaim.ts"
import { makeEndedGroups, makeFind, makeGet, makePayloadRefs } from "./find.ts"
import { atOnce, type GroupCommit, type Steps } from "./groupCommit.ts"
import { makeJoinRows } from "./joinRows.ts"
import { makeJoins } from "./joins.ts"
import { makeKeyRows } from "./keyLimits.ts"
import { makeLanes } from "./lanes.ts"
import { makeLedger, makeReadLedger } from "./ledger.ts"
import { makeLimits } from "./limits.ts"
import { makeLine } from "./line.ts"
import { makeOwnClaims } from "./ownClaims.ts"
import { makePayloads } from "./payloads.ts"
import { makePlacing } from "./placing.ts"
import { makePlainRows } from "./plainRows.ts"
import { makeProgress } from "./progress.ts"
import { makePrune } from "./prune.ts"
import { makePurge, makeRemove } from "./remove.ts"
import { makeRounds } from "./rounds.ts"
import { makeExtend, makeSettle } from "./settle.ts"
import type { Snapshot } from "./snapshot.ts"
import { makeStart } from "./start.ts"
import { makeKeyStatistics, makeStatistics } from "./statistics.ts"
import { makeSuccesses } from "./successes.ts"
import { makeTakeBack } from "./takeBack.ts"
import { Touched } from "./touched.ts"
import { makeTurns } from "./turns.ts"
import { makeKeys } from "./unique.ts"
import { makeWorkers } from "./workers.ts"

/** What a transaction calls of what is written in it. */
export interface Hooks {
  /** As its last thing. */
  readonly beforeCommit: () => void
  /** Gives what it changed. */
  readonly committed: () => ReadonlyArray<Change>
  readonly rolledBack: () => void
  readonly expectedClaim: ExpectedClaim
}

export type Calls = Required<Omit<Driver, "name" | "capabilities" | "changes" | "transaction" | "inTransaction">>

export const makeCalls = (
  db: DatabaseSync,
  snapshot: Snapshot,
  makeCommits: (hooks: Hooks) => Pick<GroupCommit, "write" | "read">,
): Calls => {
  const touched = new Touched()
  const executed = makeExecuted(db)
  const expectedClaim = new ExpectedClaim()
  const plainRows = makePlainRows(db, touched)
  const commits = makeCommits({
    beforeCommit: () => {
      plainRows.flush()
      executed.flush()
    },
    committed: () => {
      executed.forget()
      const changes = touched.take()
      expectedClaim.told(changes)
      return changes
    },
    rolledBack: () => {
      executed.forget()
      touched.take()
      joins.forget()
      plainRows.forget()
    },
    expectedClaim,
  })
  const limits = makeLimits(db, touched)
  const line = makeLine(db)
  const turns = makeTurns(db, { line, touched })
  const keyRows = makeKeyRows(db)
  const joinRows = makeJoinRows(db)
  const keys = makeKeys(db, { touched, turns })
  const ledger = makeLedger(db)
  const ending = makeEnding(db, { joinRows, keys, ledger, limits, line, touched, turns })
  const joins = makeJoins(db, { ending, joinRows, touched, turns })
  const placing = makePlacing(db, { joinRows, keys, ledger, limits, line, touched, turns })
  const enqueue = makeEnqueue(db, { joinRows, joins, keys, placing, plainRows })
  const ownClaims = makeOwnClaims()
  const lanes = makeLanes(db)
  const rounds = makeRounds(db, { keyRows, lanes, limits, line, turns })
  const takeBack = makeTakeBack(db, ending, joins)
  const tallies = joinRows.tally
  const start = makeStart(db, { keys, ownClaims, tallies })
  const claim = makeClaim(db, { expectedClaim, joins, lanes, limits, rounds, start, takeBack })
  const extend = makeExtend(db)
  const progress = makeProgress(db, touched)
  const succeed = makeSuccesses(db, { limits, touched })
  const settle = makeSettle(db, { ending, executed, joins, keyRows, limits, ownClaims, progress, succeed })
  const cancel = makeCancel(joins)
  const redrive = makeRedrive(db, { joinRows, keys, touched, turns })
  const remove = makeRemove(db, { joinRows, joins, ledger, line, turns })
  const purge = makePurge(db, { joinRows, joins, ledger, line, turns })
  const prune = makePrune(db, { joinRows, keyRows, ledger, limits, turns })
  const workers = makeWorkers(db)
  const get = makeGet(db, tallies)
  const readLedger = makeReadLedger(db)
  const payloadRefs = makePayloadRefs(db)
  const endedGroups = makeEndedGroups(db)
  const find = makeFind(db, endedGroups, tallies)
  const counts = makeCounts(db, endedGroups)
  const statistics = makeStatistics(db, limits, executed)
  const keyStatistics = makeKeyStatistics(db, limits, keyRows)

  const configure = function* (queue: string, changed: Partial<QueueLimits>, now: number): Steps<void> {
    const wasOrdered = limits.byKey(queue).ordered
    limits.configure(queue, changed, now)
    if (changed.byKey === undefined || !limits.isKeyed(queue)) return
    if (changed.byKey.ordered && !wasOrdered) yield* line.addAll(queue)
    yield* keyRows.lookAgain(queue)
    yield* turns.allChanged(queue)
  }
  const configureKey = (queue: string, key: string, override: KeyOverride) => {
    keyRows.override(queue, key, override)
    turns.changed(queue, key)
    touched.waiting(queue)
  }
  const pauseUntil = (queue: string, key: string | undefined, until: number) => {
    if (key === undefined) limits.pause(queue, until)
    else {
      keyRows.pause(queue, key, until)
      turns.changed(queue, key)
    }
    touched.waiting(queue)
  }
  /** As all calls but deferrals, after what was deferred in the same transaction. */
  const write = <A>(operation: string, body: () => Steps<A>) =>
    commits.write(operation, () => {
      plainRows.flush()
      return body()
    })
  /** What is removed has no time of its own: what it means for others happens by the clock. */
  const byClock = <A>(operation: string, body: (now: number) => Steps<A>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => write(operation, () => body(now)))

  return {
    payloads: makePayloads(db, commits),
    enqueue: ({ now, records }) => commits.write("enqueue", () => enqueue(records, now)),
    claim: (params) => write("claim", () => claim(params)),
    extend: ({ leases, until }) => write("extend", () => atOnce(() => extend(leases, until))),
    settle: ({ now, settlements }) => write("settle", () => settle(settlements, now)),
    progress: ({ updates }) => write("progress", () => atOnce(() => progress.noteAll(updates))),
    cancel: ({ ids, now, reason }) => write("cancel", () => cancel(ids, reason, now)),
    redrive: ({ ids, now }) => write("redrive", () => atOnce(() => redrive(ids, now))),
    remove: ({ ids, only }) => byClock("remove", (now) => remove(ids, only, now)),
    purge: ({ queue }) => byClock("purge", (now) => purge(queue, now)),
    get: ({ ids, now }) => commits.read("get", () => get(ids, now)),
    ledger: ({ ids }) => commits.read("ledger", () => snapshot(() => readLedger(ids))),
    payloadRefs: ({ refs }) => commits.read("payloadRefs", () => payloadRefs(refs)),
    find: (params) => commits.read("find", () => snapshot(() => find(params))),
    counts: (params) => commits.read("counts", () => snapshot(() => counts(params, params.now))),
    configure: ({ limits: changed, now, queue }) => write("configure", () => configure(queue, changed, now)),
    limits: ({ queue }) => commits.read("limits", () => limits.get(queue)),
    configureKey: ({ key, override, queue }) =>
      write("configureKey", () => atOnce(() => configureKey(queue, key, override))),
    keyStatistics: ({ key, now, queue }) =>
      commits.read("keyStatistics", () => snapshot(() => keyStatistics(queue, key, now))),
    pauseUntil: ({ key, queue, until }) => write("pauseUntil", () => atOnce(() => pauseUntil(queue, key, until))),
    statistics: ({ now, queue }) => commits.read("statistics", () => snapshot(() => statistics(queue, now))),
    announce: ({ until, worker }) => write("announce", () => atOnce(() => workers.announce(worker, until))),
    withdraw: ({ worker }) => write("withdraw", () => atOnce(() => workers.withdraw(worker))),
    workers: ({ now }) => commits.read("workers", () => workers.list(now)),
    prune: ({ deadBefore, limit, now }) => write("prune", () => prune(now, deadBefore, limit)),
  }
}
