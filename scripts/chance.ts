/**
 * Chance by the name of each test: a run of the tests goes as the run before did, a failure comes again to whoever looks at
 * it, and nothing that is wrong once in a thousand runs stops a change that has nothing to do with it. To look for that:
 *
 *     OUTLIVE_CHANCE=any pnpm test     # other values for every property, in every run
 *     OUTLIVE_CHANCE=7 pnpm test       # others than usual, always the same
 *
 * A property that fails prints what replays it. Effect's `Random` takes from `Math.random` where nobody gives it a seed.
 */
import { createHash } from "node:crypto"
import { beforeEach } from "vitest"

const chance = process.env.OUTLIVE_CHANCE ?? "0"

if (chance !== "any") {
  beforeEach(({ task }) => {
    Math.random = from(`${chance}\n${task.file.name}\n${task.fullTestName}`)
  })
}

/** Numbers of 53 bits in [0, 1), from SHA-256 of a counter. */
const from = (seed: string): (() => number) => {
  let count = 0
  let at = 0
  let block = Buffer.alloc(0)
  return () => {
    if (at === block.length) {
      block = createHash("sha256").update(`${seed}\n${count++}`).digest()
      at = 0
    }
    at += 8
    return Number(block.readBigUInt64LE(at - 8) >> 11n) / 2 ** 53
  }
}
