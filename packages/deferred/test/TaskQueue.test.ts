import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Cause, Effect, Exit, Fiber, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"

/** A queue in memory that tells of every look at its records and of who listens to it. */
const watched = Effect.fnUntraced(function* (
  change: (driver: TaskQueue.Driver) => Partial<TaskQueue.Driver> = () => ({}),
) {
  const memory = yield* TaskQueueMemory.make
  const looks = yield* Queue.unbounded<ReadonlyArray<TaskId>>()
  const listeners = { now: 0, ever: 0 }
  const driver = { ...memory, ...change(memory) }
  const queue = yield* TaskQueue.make({
    ...driver,
    get: (params) => Effect.ensuring(driver.get(params), Queue.offer(looks, params.ids)),
    changes: Effect.andThen(
      Effect.acquireRelease(
        Effect.sync(() => {
          listeners.now++
          listeners.ever++
        }),
        () => Effect.sync(() => listeners.now--),
      ),
      driver.changes,
    ),
  })
  return { queue, looks, listeners }
})

type Service = TaskQueue.TaskQueue["Service"]

const insert = Effect.fnUntraced(function* (queue: Service, fields?: Partial<NewRecord>) {
  const id = queue.nextId(0, () => 0.5)
  const record: NewRecord = {
    id,
    task: "Task",
    version: 1,
    queue: "default",
    payload: "{}",
    headers: {},
    priority: 0,
    eta: 0,
    onDuplicate: "fail",
    tombstone: 0,
    maxCrashes: 3,
    keep: Number.POSITIVE_INFINITY,
    ...fields,
  }
  yield* queue.enqueue({ records: [record], now: 0 })
  return id
})

const cancel = (queue: Service, id: TaskId) => queue.cancel({ ids: [id], reason: "", now: 0 })

/** Waits for the end of a record, beside the test. */
const wait = (queue: Service, id: TaskId) =>
  Effect.forkChild(Effect.exit(queue.awaitEnded(id)), { startImmediately: true })

const stateOf = (exit: Exit.Exit<{ readonly state: string } | undefined, unknown>) =>
  Exit.isSuccess(exit) ? (exit.value?.state ?? "no record") : Cause.pretty(exit.cause)

const broken = new TaskQueue.TaskQueueError({ operation: "get", message: "the disk is gone", isRetryable: true })

describe("TaskQueue.awaitEnded", () => {
  it.effect("gives a record that has ended already", () =>
    Effect.gen(function* () {
      const { queue } = yield* watched()
      const id = yield* insert(queue)
      yield* cancel(queue, id)
      assert.strictEqual((yield* queue.awaitEnded(id))?.state, "cancelled")
    }),
  )

  it.effect("ends by the hint, without time going by", () =>
    Effect.gen(function* () {
      const { looks, queue } = yield* watched()
      const id = yield* insert(queue)
      const waiting = yield* wait(queue, id)
      yield* Queue.take(looks)
      yield* cancel(queue, id)
      assert.strictEqual(stateOf(yield* Fiber.join(waiting)), "cancelled")
    }),
  )

  it.effect("looks again when another process changed something", () =>
    Effect.gen(function* () {
      const hints = yield* Queue.unbounded<TaskQueue.Change>()
      const { looks, queue } = yield* watched(() => ({ changes: Effect.succeed(Stream.fromQueue(hints)) }))
      const id = yield* insert(queue)
      const waiting = yield* wait(queue, id)
      yield* Queue.take(looks)
      yield* cancel(queue, id)
      yield* Queue.offer(hints, { _tag: "Elsewhere" })
      assert.strictEqual(stateOf(yield* Fiber.join(waiting)), "cancelled")
    }),
  )

  for (const [how, changes] of [
    ["are lost", Stream.never],
    ["end", Stream.empty],
  ] as const) {
    it.effect(`looks every second, also when the hints ${how}`, () =>
      Effect.gen(function* () {
        const { looks, queue } = yield* watched(() => ({ changes: Effect.succeed(changes) }))
        const id = yield* insert(queue)
        const waiting = yield* wait(queue, id)
        yield* Queue.take(looks)
        yield* cancel(queue, id)
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(waiting.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(stateOf(yield* Fiber.join(waiting)), "cancelled")
      }),
    )
  }

  it.effect("ends with nothing when the record goes at its end, or is removed", () =>
    Effect.gen(function* () {
      const { looks, queue } = yield* watched()
      const notKept = yield* insert(queue, { keep: 0 })
      const removed = yield* insert(queue)
      const first = yield* wait(queue, notKept)
      const second = yield* wait(queue, removed)
      yield* Queue.take(looks)
      yield* cancel(queue, notKept)
      assert.strictEqual(stateOf(yield* Fiber.join(first)), "no record")
      yield* queue.remove({ ids: [removed] })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(stateOf(yield* Fiber.join(second)), "no record")
    }),
  )

  it.effect("costs one subscription and one look a second for any number of waiters, never a long one", () =>
    Effect.gen(function* () {
      const { listeners, looks, queue } = yield* watched()
      const ids = yield* Effect.forEach(Array.from({ length: 1200 }), () => insert(queue))
      for (const id of [...ids, ...ids]) yield* wait(queue, id)
      yield* TestClock.adjust("1 second")
      yield* Queue.clear(looks)
      yield* TestClock.adjust("1 second")
      const second = yield* Queue.clear(looks)
      assert.deepStrictEqual(second.flat(), ids)
      assert.isBelow(second.length, 10)
      assert.isAtMost(Math.max(...second.map(({ length }) => length)), 500)
      assert.deepStrictEqual(listeners, { now: 1, ever: 1 })
    }),
  )

  it.effect("neither looks nor listens while nobody waits, and does again for the next", () =>
    Effect.gen(function* () {
      const { listeners, looks, queue } = yield* watched()
      const id = yield* insert(queue)
      assert.strictEqual(listeners.ever, 0)
      const waiting = yield* wait(queue, id)
      yield* Queue.take(looks)
      yield* cancel(queue, id)
      yield* Fiber.join(waiting)
      yield* TestClock.adjust("2 seconds")
      yield* Queue.clear(looks)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Queue.size(looks), 0)
      assert.deepStrictEqual(listeners, { now: 0, ever: 1 })
      const next = yield* insert(queue)
      const again = yield* wait(queue, next)
      yield* Queue.take(looks)
      yield* cancel(queue, next)
      assert.strictEqual(stateOf(yield* Fiber.join(again)), "cancelled")
    }),
  )

  it.effect("goes on for the others when one who waits is interrupted, and stops with the last", () =>
    Effect.gen(function* () {
      const { listeners, looks, queue } = yield* watched()
      const id = yield* insert(queue)
      const [first, second, third] = [yield* wait(queue, id), yield* wait(queue, id), yield* wait(queue, id)]
      yield* Queue.take(looks)
      yield* Fiber.interrupt(first)
      yield* cancel(queue, id)
      assert.strictEqual(stateOf(yield* Fiber.join(second)), "cancelled")
      assert.strictEqual(stateOf(yield* Fiber.join(third)), "cancelled")
      const other = yield* wait(queue, yield* insert(queue))
      yield* Fiber.interrupt(other)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(listeners.now, 0)
    }),
  )

  for (const [what, failing] of [
    ["fails", Effect.fail(broken)],
    ["dies", Effect.die(broken)],
  ] as const) {
    it.effect(`ends with the failure when the look ${what}, and may be asked again`, () =>
      Effect.gen(function* () {
        let isBroken = true
        const { queue } = yield* watched(({ get }) => ({
          get: (params) => Effect.suspend(() => (isBroken ? failing : get(params))),
        }))
        const id = yield* insert(queue)
        const exit = yield* Fiber.join(yield* wait(queue, id))
        assert.deepStrictEqual(exit, yield* Effect.exit(failing))
        isBroken = false
        yield* cancel(queue, id)
        assert.strictEqual((yield* queue.awaitEnded(id))?.state, "cancelled")
      }),
    )
  }
})
