import { assert, describe, it } from "@effect/vitest"
import * as TaskId from "@outlive/deferred/TaskId"
import { Effect, Schema } from "effect"

const time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 48 - 1 }))

describe("TaskId.makeGenerator", () => {
  it("makes version 7 UUIDs that begin with their time", () => {
    const id = TaskId.makeGenerator()(0x0123456789ab, () => 0.999)
    assert.isTrue(Schema.is(TaskId.TaskId)(id), id)
    assert.isTrue(id.startsWith("01234567-89ab-7"), id)
  })

  it.effect.prop("makes ids that rise strictly, whatever the clock does", { times: Schema.Array(time) }, ({ times }) =>
    Effect.sync(() => {
      const next = TaskId.makeGenerator()
      const ids = times.map((now) => next(now, Math.random))
      ids.forEach((id, index) => {
        assert.isTrue(Schema.is(TaskId.TaskId)(id), id)
        assert.isTrue(index === 0 || id > ids[index - 1]!, ids.join(" "))
      })
    }),
  )

  it("carries over when a millisecond's counter is full", () => {
    const next = TaskId.makeGenerator()
    // The largest seed leaves 2^41 ids to come; the highest bit of the counter is kept clear for them.
    const first = next(1000, () => 1 - 2 ** -53)
    const second = next(1000, () => 0)
    assert.isTrue(second > first)
    assert.isTrue(Schema.is(TaskId.TaskId)(second), second)
  })

  it("is reproducible from the time and the random numbers", () => {
    const make = () => {
      const next = TaskId.makeGenerator()
      return [1, 1, 2].map((now) => next(now, () => 0.25))
    }
    assert.deepStrictEqual(make(), make())
  })
})
