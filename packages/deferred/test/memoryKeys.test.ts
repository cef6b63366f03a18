import { assert, describe, it } from "@effect/vitest"
import { MemoryKeys } from "../src/internal/memoryKeys.ts"
import { byPriority, makeLane } from "../src/internal/memoryLane.ts"
import type { Lane, MemoryRecord } from "../src/internal/memoryParts.ts"
import { fromNew } from "../src/internal/memoryRecord.ts"
import type { TaskId } from "../src/TaskId.ts"

let seq = 0
const recordOf = (key: string, now: number): MemoryRecord => {
  const id = `id ${seq}` as TaskId
  const fields = { task: "Task", version: 1, queue: "default", payload: "", headers: {}, priority: 0, eta: 0, key }
  return fromNew({ ...fields, id, onDuplicate: "fail", tombstone: 0, maxCrashes: 0, keep: 0 }, seq++, now)
}

/** Keys with one lane: what is entered is ready, and what is claimed ends at once. */
const oneLane = () => {
  const keys = new MemoryKeys()
  const lane: Lane = makeLane(recordOf("", 0), byPriority)
  const enter = (names: Iterable<string>, now: number) => {
    for (const name of names) {
      const record = recordOf(name, now)
      keys.enter(record)
      keys.ready(record, record.ofKey!, lane)
    }
  }
  const claim = (allowed: number, now: number): ReadonlyArray<string> => {
    const started: Array<MemoryRecord> = []
    const nobody = { first: () => undefined, start: () => undefined }
    keys.claim([lane], allowed, now, nobody, (record) => {
      started.push(record)
    })
    for (const record of started) keys.end(record, record.ofKey!)
    return started.map(({ key }) => key!)
  }
  return { keys, enter, claim }
}

const many = (count: number) => Array.from({ length: count }, (_, n) => `key ${String(n).padStart(6, "0")}`)

describe("keys in memory", () => {
  it("are forgotten when the virtual time has passed them", () => {
    const { claim, enter, keys } = oneLane()
    enter(many(1000), 0)
    assert.strictEqual(keys.size, 1000)
    assert.deepStrictEqual(claim(1000, 0), many(1000))
    // They are all a place ahead, of which a newcomer knows nothing.
    assert.strictEqual(keys.size, 1000)
    enter(["key 000500", "new"], 1)
    assert.deepStrictEqual(claim(10, 1), ["new", "key 000500"])
    assert.strictEqual(keys.size, 1)
  })

  it("stay as few as are in use, however many come", () => {
    const { claim, enter, keys } = oneLane()
    for (let round = 0; round < 200; round++) {
      enter([...many(50).map((name) => `${round} ${name}`), "always"], round)
      claim(51, round)
    }
    assert.isBelow(keys.size, 120)
  })

  it("with something known of them stay until it means nothing any more", () => {
    const { claim, enter, keys } = oneLane()
    const limits = { maxConcurrent: undefined, rate: 1, burst: 2, ordered: false }
    keys.configure(limits, () => [])
    keys.configureKey("known", { weight: 2 })
    keys.pauseUntil("paused", 5000)
    enter(["limited", "limited", "limited"], 0)
    assert.deepStrictEqual(claim(9, 0), ["limited", "limited"])
    assert.deepStrictEqual(claim(9, 1000), ["limited"])
    enter(["other", "other"], 2000)
    claim(9, 2000)
    const left = (now: number) => {
      keys.prune(now, 1000)
      return keys.size
    }
    // The buckets are full again at 3000 and at 4000.
    assert.strictEqual(left(2500), 4)
    assert.strictEqual(left(3500), 3)
    assert.strictEqual(left(4999), 3)
    // Beside the first there is one whose place is ahead of the virtual time.
    assert.strictEqual(left(5000), 2)
    keys.configureKey("known", {})
    assert.strictEqual(left(5000), 1)
  })

  it("are forgotten no more at once than asked", () => {
    const { keys } = oneLane()
    for (const name of many(10)) keys.pauseUntil(name, 0)
    keys.prune(0, 4)
    assert.strictEqual(keys.size, 6)
  })
})
