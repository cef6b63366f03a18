/**
 * The task queue in memory: the whole contract, limits included, for tests and for work that need not survive the
 * process. Enqueueing, claiming and settling cost O(log n) of the records that wait, each record on its own, however many
 * keys they have: a claim that finds a million due since the last one takes more than half a second once. `find`, `counts`,
 * `purge`, `statistics` and `keyStatistics` look at every record, and a change of what keys may do at every key.
 *
 * @since 0.1.0
 */
import * as Broadcast from "@outlive/core/Broadcast"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { Memory } from "./internal/memory.ts"
import * as PayloadStore from "./PayloadStore.ts"
import * as TaskQueue from "./TaskQueue.ts"

/**
 * A driver with queues of its own.
 *
 * @since 0.1.0
 */
export const make: Effect.Effect<TaskQueue.Driver> = Effect.sync(() => {
  const changes = Broadcast.make<TaskQueue.Change>()
  const memory = new Memory(changes.tell)
  return {
    name: "memory",
    payloads: PayloadStore.makeMemory(),
    capabilities: {
      durable: false,
      shared: false,
      transactional: false,
      listens: true,
      claims: true,
      results: true,
      priorities: true,
      uniqueKeys: true,
    },
    enqueue: ({ now, records }) => memory.call(() => memory.enqueue(records, now)),
    claim: (params) => memory.call(() => memory.claim(params)),
    extend: ({ leases, until }) => memory.call(() => leases.map((lease) => memory.extend(lease, until))),
    settle: ({ now, settlements }) => memory.call(() => settlements.map((each) => memory.settle(each, now))),
    progress: ({ updates }) => memory.call(() => updates.map((update) => memory.progress(update))),
    cancel: ({ ids, now, reason }) => memory.call(() => ids.map((id) => memory.cancel(id, reason, now))),
    redrive: ({ ids, now }) => memory.call(() => ids.map((id) => memory.redrive(id, now))),
    remove: ({ ids, only }) => byClock((now) => memory.call(() => ids.map((id) => memory.remove(id, only, now)))),
    purge: ({ queue }) => byClock((now) => memory.call(() => memory.purge(queue, now))),
    get: ({ ids, now }) => memory.call(() => ids.map((id) => memory.get(id, now))),
    ledger: ({ ids }) => memory.call(() => ids.map((id) => memory.ledger(id))),
    payloadRefs: ({ refs }) => memory.call(() => refs.map((ref) => memory.hasRef(ref))),
    find: (params) => memory.call(() => memory.find(params)),
    counts: (params) => memory.call(() => memory.counts(params, params.now)),
    configure: ({ limits, now, queue }) => memory.call(() => memory.configure(queue, limits, now)),
    limits: ({ queue }) => memory.call(() => memory.limits(queue)),
    configureKey: ({ key, override, queue }) => memory.call(() => memory.configureKey(queue, key, override)),
    keyStatistics: ({ key, now, queue }) => memory.call(() => memory.keyStatistics(queue, key, now)),
    pauseUntil: ({ key, queue, until }) => memory.call(() => memory.pauseUntil(queue, key, until)),
    statistics: ({ now, queue }) => memory.call(() => memory.statistics(queue, now)),
    announce: ({ until, worker }) => memory.call(() => memory.workers.announce(worker, until)),
    withdraw: ({ worker }) => memory.call(() => memory.workers.withdraw(worker)),
    workers: ({ now }) => memory.call(() => memory.workers.list(now)),
    prune: ({ deadBefore, limit, now }) => memory.call(() => memory.prune(now, deadBefore, limit)),
    changes: changes.subscribe,
  }
})

/** What removing means for records that wait for others happens now, by the clock: it has no time of its own. */
const byClock = <A>(call: (now: number) => Effect.Effect<A>): Effect.Effect<A> =>
  Effect.flatMap(Clock.currentTimeMillis, call)

/**
 * Queues in memory, for as long as the layer lives. `Layer.fresh` gives a second place its own.
 *
 * @since 0.1.0
 */
export const layer: Layer.Layer<TaskQueue.TaskQueue> = TaskQueue.layer(make)
