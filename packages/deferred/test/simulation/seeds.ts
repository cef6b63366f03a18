/**
 * Which storms a run of the tests goes through. They are dealt to several files, which vitest runs beside each other.
 */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { Storm } from "./storm.ts"

const files = 2
const one = process.env.OUTLIVE_SEED
const many = Number(process.env.OUTLIVE_SEEDS ?? 2000)

/** The storms of one file: every seed that leaves this remainder. */
export const storms = (remainder: number): void => {
  const seeds = (one === undefined ? Array.from({ length: many }, (_, n) => n + 1) : [Number(one)]).filter(
    (seed) => seed % files === remainder,
  )
  it.live.skipIf(seeds.length === 0)(
    "keep what the queue promises, whatever crashes, freezes, is cut off, loses its answer or has another clock",
    () =>
      Effect.gen(function* () {
        for (const seed of seeds) {
          const broken = outcomeOf(seed)
          if (broken !== undefined) return yield* Effect.die(new Error(broken))
          // The test runner has something to say now and then.
          if (seed % 50 < files) yield* Effect.sleep(0)
        }
      }),
    600_000,
  )
}

/** What broke, with the last of what happened before, and how to see it again. */
const outcomeOf = (seed: number): string | undefined => {
  try {
    new Storm(seed).run()
    return undefined
  } catch {
    // The same again, with its story: telling it costs more than living it.
  }
  const storm = new Storm(seed, { tellStory: true })
  try {
    storm.run()
    return `seed ${seed} broke once and not again: something in a storm is not chosen by its seed`
  } catch (error) {
    const story = storm.story.slice(-40).map((line) => (line.length > 300 ? `${line.slice(0, 300)}…` : line))
    const replay = `OUTLIVE_SEED=${seed} pnpm test packages/deferred/test/simulation`
    return `seed ${seed} (replay: ${replay}): ${error instanceof Error ? error.message : error}\n${story.join("\n")}`
  }
}
