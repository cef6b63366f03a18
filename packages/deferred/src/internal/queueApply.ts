/**
 * Bringing queues to what a configuration says, and saying what that changed.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type { KeyOverride } from "../KeyLimits.ts"
import type { ApplyOptions, Change, Key, Queue, QueueConfig } from "../QueueConfig.ts"
import { type QueueDefault, QueueDefaults } from "../QueueDefaults.ts"
import type { QueueLimits } from "../QueueLimits.ts"
import { TaskQueue } from "../TaskQueue.ts"
import { LiveDefaults } from "./liveDefaults.ts"
import { overrideOf } from "./queueKeys.ts"

export const applyConfig = Effect.fnUntraced(function* (config: QueueConfig, options: ApplyOptions) {
  const changes: Array<Change> = []
  for (const queue of config.queues) {
    changes.push(...(yield* configure(queue.name, limitsOf(queue, config.resumePausedQueues))))
    for (const key of queue.keys) changes.push(...(yield* override(queue.name, key)))
  }
  if (options.unlisted === "pause") {
    for (const queue of yield* unlisted(config, options.previous)) {
      changes.push(...(yield* configure(queue, { paused: true })))
    }
  }
  changes.push(...(yield* applyDefaults(config)))
  return changes
})

/** Gives a queue the limits that it has not yet. */
export const configure = Effect.fnUntraced(function* (queue: string, wanted: Partial<QueueLimits>) {
  const taskQueue = yield* TaskQueue
  const has = yield* taskQueue.limits({ queue })
  const changes = differences(queue, has, wanted)
  if (changes.length > 0) {
    const limits = Object.fromEntries(changes.map(({ after, field }) => [field, after]))
    yield* taskQueue.configure({ queue, limits, now: yield* Clock.currentTimeMillis })
  }
  return changes
})

/** Gives a key what is said of it alone, unless it has just that. */
const override = Effect.fnUntraced(function* (queue: string, { name: key, ...said }: Key) {
  const taskQueue = yield* TaskQueue
  const after = overrideOf(said)
  const has = yield* taskQueue.keyStatistics({ queue, key, now: yield* Clock.currentTimeMillis })
  const before = overrideOf(has.override)
  if (Equal.equals(before, after)) return []
  yield* setOverride(queue, key, after)
  return [{ queue, field: "keys", key, before, after } satisfies Change]
})

export const setOverride = Effect.fnUntraced(function* (queue: string, key: string, override: KeyOverride) {
  const taskQueue = yield* TaskQueue
  yield* taskQueue.configureKey({ queue, key, override, now: yield* Clock.currentTimeMillis })
})

export const pauseQueue = Effect.fnUntraced(function* (queue: string, key: string | undefined, until: number) {
  const taskQueue = yield* TaskQueue
  yield* taskQueue.pauseUntil({ queue, key, until, now: yield* Clock.currentTimeMillis })
})

/** What a configuration does not say of limits is lifted; what it does not say of pausing is left to who paused. */
const limitsOf = (queue: Queue, resume: boolean): Partial<QueueLimits> => {
  const paused = queue.paused ?? (resume ? false : undefined)
  return {
    rate: queue.rate,
    burst: queue.burst,
    maxConcurrent: queue.maxConcurrent,
    ageing: queue.ageing,
    byKey: queue.byKey,
    ...(paused === undefined ? {} : { paused }),
  }
}

/** Queues that have records or had a configuration, and have none now. There is always a queue `default` (Q124). */
const unlisted = Effect.fnUntraced(function* (config: QueueConfig, previous: QueueConfig | undefined) {
  const taskQueue = yield* TaskQueue
  const counts = yield* taskQueue.counts({ now: yield* Clock.currentTimeMillis })
  const names = new Set([...counts.map(({ queue }) => queue), ...(previous?.queues ?? []).map(({ name }) => name)])
  names.delete("default")
  for (const { name } of config.queues) names.delete(name)
  return [...names].sort()
})

const applyDefaults = Effect.fnUntraced(function* (config: QueueConfig) {
  const said = new Map(
    config.queues
      .filter(({ retry, target }) => retry !== undefined || target !== undefined)
      .map(({ name, retry, target }): [string, QueueDefault] => [name, { retry, target }]),
  )
  const defaults = yield* QueueDefaults
  if (!(defaults instanceof LiveDefaults)) {
    if (said.size > 0) {
      yield* Effect.logWarning(
        `what the configuration says of retry and target has no effect here, in the queues ${[...said.keys()].join(", ")}: ` +
          "provide QueueConfig.layer to what applies it, and to what defers and works",
      )
    }
    return []
  }
  const nothing: QueueDefault = { retry: undefined, target: undefined }
  const changes = [...new Set([...defaults.keys(), ...said.keys()])]
    .sort()
    .flatMap((queue) => differences(queue, defaults.get(queue) ?? nothing, said.get(queue) ?? nothing))
  defaults.become(said)
  return changes
})

type Fields = QueueLimits & QueueDefault

const differences = <F extends Partial<Fields>>(queue: string, has: F, wanted: F): ReadonlyArray<Change> =>
  Object.entries(wanted)
    .filter(([field, after]) => !Equal.equals(has[field as keyof F], after))
    .map(([field, after]) => ({ queue, field, before: has[field as keyof F], after }) as Change)
