import { assert, describe, it } from "@effect/vitest"
import { makeGenerator, TaskId } from "@outlive/deferred/TaskId"
import { Effect, Schema } from "effect"
import { namedId, namedTask, unnamedTask } from "../src/internal/cloudTasks/names.ts"

const isTaskId = Schema.is(TaskId)
const Millis = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4e12 }))
const Seed = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999_999 }))
const Name = Schema.String.check(Schema.isPattern(/^[a-zA-Z0-9_-]{1,40}$/))
const Queue = Schema.String.check(Schema.isPattern(/^[a-zA-Z0-9._-]{1,20}$/))
/** C2 */
const taskIdOfCloudTasks = /^[A-Za-z0-9_-]{1,500}$/

describe("where a record is in Cloud Tasks", () => {
  it.effect.prop(
    "the task of a name depends on the queue and the name alone, and is told by the record's id",
    { first: Millis, second: Millis, seed: Seed, name: Name, queue: Queue },
    ({ first, name, queue, second, seed }) =>
      Effect.sync(() => {
        const next = makeGenerator()
        const ids = [first, second].map((at) =>
          namedId(
            next(at, () => seed),
            queue,
            name,
          ),
        )
        for (const id of ids) {
          assert.isTrue(isTaskId(id), id)
          assert.match(namedTask(id), taskIdOfCloudTasks)
          assert.strictEqual(namedTask(id), namedTask(ids[0]!))
        }
        // Its time stays, so ids of later records of the name are others, and still rise.
        if (second > first) assert.isTrue(ids[1]! > ids[0]!)
        assert.notStrictEqual(namedTask(namedId(ids[0]!, queue, `${name}-`)), namedTask(ids[0]!))
        assert.notStrictEqual(namedTask(namedId(ids[0]!, `${queue}.`, name)), namedTask(ids[0]!))
      }),
  )

  it.effect.prop(
    "the task of a record without a name holds all of its id, and is nobody else's",
    { at: Millis, seed: Seed },
    ({ at, seed }) =>
      Effect.sync(() => {
        const next = makeGenerator()
        const ids = Array.from({ length: 20 }, () => next(at, () => seed))
        for (const id of ids) {
          const task = unnamedTask(id)
          assert.match(task, taskIdOfCloudTasks)
          assert.strictEqual(`${task.slice(9)}${task.slice(0, 8)}`, id)
          // A name's task is never one of these: they differ in length.
          assert.notStrictEqual(task.length, namedTask(id).length)
        }
        assert.strictEqual(new Set(ids.map(unnamedTask)).size, 20)
      }),
  )
})
