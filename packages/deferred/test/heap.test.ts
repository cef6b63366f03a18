import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Heap } from "../src/internal/heap.ts"

interface Item {
  value: number
  place: number
}
const Step = Schema.Union([
  Schema.TaggedStruct("push", { value: Schema.Int }),
  // In order, as times are.
  Schema.TaggedStruct("append", { count: Schema.Literals([1, 5, 200]) }),
  Schema.TaggedStruct("pop", {}),
  Schema.TaggedStruct("remove", { at: Schema.Natural }),
  Schema.TaggedStruct("remove many", { each: Schema.Literals([1, 2, 3]) }),
  Schema.TaggedStruct("change", { at: Schema.Natural, value: Schema.Int }),
])

describe("Heap", () => {
  it.effect.prop(
    "gives the least first, whatever was put in, taken out or changed",
    { steps: Schema.Array(Step) },
    ({ steps }) =>
      Effect.sync(() => {
        const heap = new Heap<"place", Item>("place", (left, right) => left.value < right.value)
        const model: Array<Item> = []
        const least = () =>
          model.reduce<number | undefined>((min, { value }) => Math.min(min ?? value, value), undefined)
        const pick = (at: number) => model[at % model.length]
        for (const step of steps) {
          if (step._tag === "push" || step._tag === "append") {
            const from = step._tag === "push" ? step.value : Math.max(0, ...model.map(({ value }) => value))
            for (let n = 0; n < (step._tag === "push" ? 1 : step.count); n++) {
              const item = { value: from + n, place: -1 }
              model.push(item)
              heap.push(item)
            }
          } else if (step._tag === "pop") {
            const expected = least()
            const item = heap.pop()
            assert.strictEqual(item?.value, expected)
            if (item !== undefined) {
              assert.strictEqual(item.place, -1)
              model.splice(model.indexOf(item), 1)
            }
          } else if (step._tag === "remove many") {
            for (const item of model.filter((_, index) => index % step.each !== 0)) {
              heap.remove(item)
              model.splice(model.indexOf(item), 1)
            }
          } else {
            const item = pick(step.at)
            if (item === undefined) continue
            if (step._tag === "remove") {
              heap.remove(item)
              model.splice(model.indexOf(item), 1)
            } else {
              item.value = step.value
              heap.update(item)
            }
          }
          assert.strictEqual(heap.size, model.length)
          assert.strictEqual(heap.peek()?.value, least())
          for (const item of model) assert.isTrue(heap.has(item))
          const all = new Set(heap)
          assert.isTrue(all.size === model.length && model.every((item) => all.has(item)))
        }
      }),
    // Long enough that items sink through several levels.
    { arbitrary: { size: 200 } },
  )
})
