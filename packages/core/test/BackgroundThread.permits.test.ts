import { assert, describe, it } from "@effect/vitest"
import * as BackgroundThread from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import { Effect, type Fiber, Latch, Layer, Schema } from "effect"

const { BackgroundThreads } = BackgroundThread

/** What a thread does, and what is done to it, in any order. */
const Work = Schema.Literals(["return", "fail", "die", "yield", "wait", "interrupt itself", "start another"])
const Step = Schema.Union([
  Schema.TaggedStruct("start", { work: Work, wait: Schema.Boolean, daemon: Schema.Boolean }),
  Schema.TaggedStruct("interruptCreator", { at: Schema.Natural }),
  Schema.TaggedStruct("interrupt", { at: Schema.Natural }),
  Schema.TaggedStruct("join", { at: Schema.Natural }),
  Schema.TaggedStruct("open", {}),
  Schema.TaggedStruct("turn", {}),
])
const limit = 3

describe("the permits of an instance", () => {
  it.effect.prop(
    "are never exceeded and never lost, whatever is started, interrupted, failed, killed or joined, in any order",
    { steps: Schema.Array(Step).check(Schema.isMaxLength(60)) },
    ({ steps }) =>
      Effect.gen(function* () {
        const threads = yield* BackgroundThreads
        const gate = yield* Latch.make(false)
        let alive = 0
        const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.suspend(() => {
            alive++
            assert.isAtMost(alive, limit)
            return Effect.ensuring(
              effect,
              Effect.sync(() => alive--),
            )
          })
        const works: Record<typeof Work.Type, Effect.Effect<unknown, unknown, BackgroundThread.BackgroundThreads>> = {
          return: Effect.void,
          fail: Effect.fail("no"),
          die: Effect.die("bad"),
          yield: Effect.repeat(Effect.yieldNow, { times: 3 }),
          wait: gate.await,
          "interrupt itself": Effect.interrupt,
          "start another": Effect.ignore(BackgroundThread.start(counted(Effect.yieldNow))),
        }
        const creators: Array<Fiber.Fiber<unknown, unknown>> = []
        const started: Array<BackgroundThread.AnyThread> = []
        for (const step of steps) {
          if (step._tag === "start") {
            const start = BackgroundThread.start(counted(works[step.work]), {
              whenFull: step.wait ? "wait" : "fail",
              daemon: step.daemon,
            })
            const noted = Effect.tap(start, (thread) => Effect.sync(() => started.push(thread)))
            creators.push(yield* Effect.forkChild(Effect.exit(noted), { startImmediately: step.daemon }))
          } else if (step._tag === "interruptCreator") creators[step.at % creators.length]?.interruptUnsafe()
          else if (step._tag === "interrupt") {
            const thread = started[step.at % started.length]
            if (thread !== undefined) yield* Effect.forkChild(thread.interrupt, { startImmediately: true })
          } else if (step._tag === "join") {
            const thread = started[step.at % started.length]
            if (thread !== undefined) yield* Effect.forkChild(Effect.exit(thread.join()))
          } else if (step._tag === "open") yield* gate.open
          else yield* Effect.yieldNow
          const listed = yield* threads.threads
          assert.isAtMost(listed.length, limit)
          assert.isAtLeast(yield* threads.available, 0)
        }
        // Whoever still waits in line gets his turn, and everything ends.
        yield* gate.open
        for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
        for (const thread of yield* threads.threads) yield* thread.interrupt
        for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
        yield* threads.awaitEmpty
        assert.strictEqual(yield* threads.available, limit)
        assert.strictEqual(alive, 0)
      }).pipe(
        Effect.provide(
          Layer.fresh(BackgroundThreads.layer.pipe(Layer.provide(Instance.layerBackend({ threadLimit: limit })))),
        ),
      ),
    { arbitrary: { runs: 300 } },
  )
})
