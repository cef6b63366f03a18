/**
 * A process that works on a task queue file, for TaskQueueSqliteProcesses.test.ts: `produce` enqueues for ever or a given
 * number and prints each id once it is acknowledged, `consume` claims and settles until the given number has succeeded
 * and prints what it settled, `hold` claims everything, says so and never lets go.
 */
import { writeSync } from "node:fs"
import type { TaskQueueError } from "@outlive/deferred/TaskQueue"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Clock, Effect } from "effect"
import { record } from "../records.ts"

const [what, filename, count] = process.argv.slice(2)
const print = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))
const lease = 10_000

const enqueueOne = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const id = queue.nextId(now, Math.random)
  yield* queue.enqueue({ records: [record(0, { id })], now })
  yield* print(id)
})

const claim = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const tasks = [{ name: "task", maxVersion: 1 }]
  const queues = [{ name: "queue", limit: 50 }]
  return (yield* queue.claim({ queues, tasks, targets: [], lease, worker: String(process.pid), now })).records
})

const produce =
  count === undefined
    ? Effect.forever(enqueueOne)
    : Effect.forEach(Array.from({ length: Number(count) }), () => enqueueOne, { concurrency: 10, discard: true })

const consume = Effect.gen(function* () {
  const queue = yield* TaskQueue
  while (true) {
    const records = yield* claim
    const now = yield* Clock.currentTimeMillis
    if (records.length === 0) {
      const succeeded = yield* queue.counts({ state: "succeeded", now })
      if (succeeded[0]?.count === Number(count)) return
      yield* Effect.sleep("10 millis")
      continue
    }
    const outcomes = yield* queue.settle({
      settlements: records.map(({ id, token }) => ({ _tag: "Succeed", id, token, result: undefined })),
      now,
    })
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome === "Settled") yield* print(records[index]!.id)
    }
  }
})

const hold = Effect.gen(function* () {
  yield* print(`holds ${(yield* claim).length}`)
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(() => undefined, 1000)),
    (timer) => Effect.sync(() => clearInterval(timer)),
  )
  return yield* Effect.never
})

const program: Effect.Effect<void, TaskQueueError, TaskQueue> =
  what === "produce" ? produce : what === "consume" ? consume : Effect.scoped(hold)

program.pipe(Effect.provide(TaskQueueSqlite.layer({ filename: filename! })), Effect.runPromise)
