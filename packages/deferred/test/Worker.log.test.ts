import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Deferred, Effect, Layer, Logger, type LogLevel, References } from "effect"

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

  it.live("warns when the event loop stood still for so long that leases are in danger, and names the tasks", () =>
    Effect.gen(function* () {
      const warned = yield* Deferred.make<{ readonly message: unknown; readonly tasks: unknown }>()
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        if (logLevel !== "Warn") return
        Deferred.doneUnsafe(
          warned,
          Effect.succeed({ message, tasks: fiber.getRef(References.CurrentLogAnnotations).tasks }),
        )
      })
      // Beats come every 50 ms; this one is 150 ms late.
      const compute = Effect.clockWith((clock) =>
        Effect.sync(() => {
          const end = clock.currentTimeMillisUnsafe() + 200
          while (clock.currentTimeMillisUnsafe() < end);
        }),
      )
      const App = Worker.layer({ tasks: [Work], lease: "150 millis", drainTimeout: 1 }).pipe(
        Layer.provide(
          Work.toLayer(() => Effect.andThen(Effect.sleep("10 millis"), Effect.andThen(compute, Effect.never))),
        ),
        Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
        Layer.provide(Instance.layerBackend()),
        Layer.provide(Logger.layer([logger])),
      )
      const { message, tasks } = yield* Effect.andThen(Work.defer(), Deferred.await(warned)).pipe(Effect.provide(App))
      assert.match(
        String(message),
        /^nothing of this process ran for \d{3,} ms: leases of 150 ms end .*TaskContext.extend/,
      )
      assert.deepStrictEqual(tasks, ["Work"])
    }),
  )

  it.effect("says nothing of it where it begins above", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* logged("Info")).lines, [])
    }),
  )
})
