import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Effect, Layer, Logger, type LogLevel, References } from "effect"

const Work = Task.make("Work")

/** What is logged of an attempt that succeeds, with its annotations, where the log begins at `from`. */
const logged = (from: LogLevel.LogLevel) =>
  Effect.gen(function* () {
    const lines: Array<readonly [unknown, unknown]> = []
    const logger = Logger.make(({ fiber, message }) => {
      lines.push([message, fiber.getRef(References.CurrentLogAnnotations)])
    })
    const App = Worker.layer({ tasks: [Work] }).pipe(
      Layer.provide(Work.toLayer(() => Effect.logDebug("working"))),
      Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
      Layer.provide(Instance.layerBackend()),
      Layer.provide(Layer.mergeAll(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, from))),
    )
    const { id, result } = yield* Effect.gen(function* () {
      const ref = yield* Work.defer()
      assert.isUndefined(yield* ref.await)
      return yield* ref.record
    }).pipe(Effect.provide(App))
    assert.strictEqual(result, '{"_tag":"Success","value":null}')
    const mine = lines.filter(([, annotations]) => (annotations as { readonly taskId?: string }).taskId === id)
    return { id, lines: mine }
  })

describe("the log of a worker", () => {
  it.effect("says at debug level that an attempt succeeded, of which task", () =>
    Effect.gen(function* () {
      const { id, lines } = yield* logged("Debug")
      const annotations = { task: "Work", taskId: id, attempt: 1 }
      assert.deepStrictEqual(lines, [
        [["working"], annotations],
        [["task succeeded"], annotations],
      ])
    }),
  )

  it.effect("says nothing of it where it begins above", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* logged("Info")).lines, [])
    }),
  )
})
