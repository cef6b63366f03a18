/**
 * Maintenance is leaderless: every worker prunes what need not be kept any longer, a little at a time. Two that do it at
 * once do each other no harm.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { TaskQueue } from "../../TaskQueue.ts"
import { untilAnswered } from "./untilAnswered.ts"

/** Records in one call: bounds how long it holds a driver. */
const batch = 500

export const maintenance = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  options: { readonly pruneEvery?: Duration.Input | undefined; readonly keepDead?: Duration.Input | undefined },
) {
  const every = Duration.toMillis(Duration.fromInputUnsafe(options.pruneEvery ?? "1 minute"))
  const keepDead =
    options.keepDead === undefined
      ? Number.POSITIVE_INFINITY
      : Duration.toMillis(Duration.fromInputUnsafe(options.keepDead))
  const prune = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    return yield* untilAnswered("prune", { withinMillis: every })(
      queue.prune({ now, deadBefore: now - keepDead, limit: batch }),
    )
  })
  while (true) {
    // Spread, so that workers that were started together do not prune together.
    yield* Effect.sleep(every * (0.5 + (yield* Random.next)))
    while ((yield* prune) >= batch) yield* Effect.yieldNow
  }
})
