/**
 * Deferred tasks in memory: their speed beside Effect's own PersistedQueue, what a record costs when there are many, how
 * much heap it takes, and where the time goes.
 *
 *     pnpm bench tasks [--rounds 5] [--count 100000] [--only speed|curve|heap|profile]
 */
import { parseArgs } from "node:util"
import { Effect, References } from "effect"
import { curve, heap } from "./curve.ts"
import { profiled } from "./profile.ts"
import { outlive, speed } from "./speed.ts"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    count: { type: "string", default: "100000" },
    only: { type: "string" },
  },
})
const count = Number(values.count)
const parts: Record<string, Effect.Effect<unknown>> = {
  speed: Effect.orDie(speed(count, Number(values.rounds))),
  curve,
  heap: Effect.orDie(heap),
  profile: Effect.orDie(profiled(`${count} tasks, deferred and run`, outlive(count))),
}
const names = values.only === undefined ? Object.keys(parts) : [values.only]

for (const name of names) {
  const part = parts[name]
  if (part === undefined) throw new Error(`--only ${name}: there is ${Object.keys(parts).join(", ")}`)
  await Effect.runPromise(Effect.provideService(part, References.MinimumLogLevel, "Warn"))
}
