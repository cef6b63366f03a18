/**
 * `OUTLIVE_SEED=123 pnpm test packages/deferred/test/simulation` replays one seed; `OUTLIVE_SEEDS=5000` runs more.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { simulate } from "./simulation.ts"

const one = process.env.OUTLIVE_SEED
const many = Number(process.env.OUTLIVE_SEEDS ?? 60)
const seeds = one === undefined ? Array.from({ length: many }, (_, n) => n + 1) : [Number(one)]

describe("workers in a storm", () => {
  it.live(
    "keep what the queue promises, whatever crashes, is cut off, loses its answer or has another clock",
    () =>
      Effect.gen(function* () {
        for (const seed of seeds) {
          const exit = yield* Effect.exit(simulate(seed))
          if (Exit.isSuccess(exit)) continue
          const replay = `OUTLIVE_SEED=${seed} pnpm test packages/deferred/test/simulation`
          return yield* Effect.die(new Error(`seed ${seed} (replay: ${replay}): ${Cause.pretty(exit.cause)}`))
        }
      }),
    600_000,
  )
})
