/**
 * Maintenance is leaderless: every worker prunes what need not be kept any longer, a little at a time. Two that do it at
 * once do each other no harm.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { TaskQueue } from "../../TaskQueue.ts"
import { sweep } from "../payloads.ts"
import type { Answers } from "./untilAnswered.ts"

/** Records in one call: bounds how long it holds a driver. */
const batch = 500

/** Payloads stored apart are listed whole, so they are swept more rarely than records are pruned. */
const sweepEvery = 10

export const maintenance = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  answers: Answers,
  options: { readonly pruneEvery?: Duration.Input | undefined; readonly keepDead?: Duration.Input | undefined },
) {
  const every = Duration.toMillis(Duration.fromInputUnsafe(options.pruneEvery ?? "1 minute"))
  const keepDead =
    options.keepDead === undefined
      ? Number.POSITIVE_INFINITY
      : Duration.toMillis(Duration.fromInputUnsafe(options.keepDead))
  const prune = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    return yield* answers.untilAnswered("prune", { withinMillis: every })(
      queue.prune({ now, deadBefore: now - keepDead, limit: batch }),
    )
  })
  for (let turn = 1; true; turn++) {
    // Spread, so that workers that were started together do not prune together.
    yield* Effect.sleep(Math.ceil(every * (0.5 + (yield* Random.next))))
    while ((yield* prune) >= batch) yield* Effect.yieldNow
    if (turn % sweepEvery !== 0) continue
    const swept = yield* answers.untilAnswered("sweep payloads", { withinMillis: every })(sweep(queue))
    if (swept > 0) yield* Effect.logInfo(`removed ${swept} payloads that no record refers to any more`)
  }
})
