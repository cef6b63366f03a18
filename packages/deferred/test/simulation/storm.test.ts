import { assert, describe, it } from "@effect/vitest"
import { Storm } from "./storm.ts"

const storyOf = (seed: number): ReadonlyArray<string> => {
  const storm = new Storm(seed, { tellStory: true })
  storm.run()
  return storm.story
}

describe("a storm", () => {
  it("goes the same way again for the same seed, and another way for another", () => {
    const story = storyOf(7)
    assert.deepStrictEqual(storyOf(7), story)
    assert.notDeepEqual(storyOf(8), story)
  })

  it("has everything in it that may befall a worker and a record", () => {
    const told = Array.from({ length: 150 }, (_, seed) => storyOf(seed + 1).join("\n")).join("\n")
    const befalls = [
      "start",
      "kill",
      "stop",
      "freeze",
      "cut off",
      "reconnect",
      "redrive",
      "ageing",
      '"rate":1',
      '"paused":true',
    ]
    const settlements = ["Succeed", "Retry", "Snooze", "Release", "Cancel", "PermanentFailure", "RetriesExhausted"]
    const answers = ["LeaseLost", "CancelRequested", "TooLate", "Requested", "Cancelled", "Redriven", "Existing"]
    const ends = ["value", "odd", "singular", "snooze", "defect", "permanent"].map((how) => `comes to ${how}`)
    for (const word of [...befalls, ...settlements, ...answers, ...ends, "TaskTimeout"]) assert.include(told, word)
  })
})
