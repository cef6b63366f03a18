/**
 * What an insert and a claim cost a driver that has many records already, and how much heap a waiting record takes.
 */

import * as TaskId from "@outlive/deferred/TaskId"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import type { NewRecord } from "@outlive/deferred/TaskRecord"
import { Effect } from "effect"
import { collect, median, Small, text } from "./small.ts"

/** Records in one call, as a worker with 50 slots asks for. */
const batch = 50
const measured = 20_000
const start = 1_700_000_000_000

/** The same numbers in every run. */
const numbers = (seed: number) => {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 0x100000000
  }
}

const batches = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / batch) }, (_, n) => all.slice(n * batch, (n + 1) * batch))

/** Microseconds for each of the records that a call was about. */
const timed = (call: () => number): number => {
  const begin = performance.now()
  const count = call()
  return ((performance.now() - begin) * 1000) / count
}

/** Microseconds for each record of inserting, and of claiming and settling, with `many` there already. */
const costs = (many: number, due: "scheduled" | "ready") => {
  const driver = Effect.runSync(TaskQueueMemory.make)
  const random = numbers(many)
  const nextId = TaskId.makeGenerator()
  // Due one after the other, in no order, for as many milliseconds as there are records; or all at once.
  const record = (): NewRecord => ({
    id: nextId(start, random),
    task: "Small",
    version: 1,
    queue: "default",
    payload: `{"n":1,"text":"${text}"}`,
    headers: {},
    priority: due === "ready" ? Math.floor(random() * 10) : 0,
    eta: due === "ready" ? start : start + 1 + Math.floor(random() * many),
    onDuplicate: "fail",
    tombstone: 0,
    maxCrashes: 3,
    keep: 0,
  })
  const insert = (records: ReadonlyArray<NewRecord>) => Effect.runSync(driver.enqueue({ records, now: start }))
  for (let left = many; left > 0; left -= 1000) insert(Array.from({ length: Math.min(1000, left) }, record))

  const inserts = batches(Array.from({ length: measured }, record)).map((records) =>
    timed(() => insert(records).length),
  )
  let now = start
  const claim = () => {
    if (due === "scheduled") now += batch
    const { records } = Effect.runSync(
      driver.claim({
        queues: [{ name: "default", limit: batch }],
        tasks: [{ name: "Small", maxVersion: 1 }],
        targets: [],
        lease: 30_000,
        worker: "bench",
        now,
      }),
    )
    const settlements = records.map(({ id, token }) => ({ id, token, _tag: "Succeed" as const, result: undefined }))
    Effect.runSync(driver.settle({ settlements, now }))
    return records.length
  }
  const claims = Array.from({ length: measured / batch }, () => timed(claim))
  return { insert: median(inserts), claim: median(claims) }
}

export const curve = Effect.sync(() => {
  costs(10_000, "scheduled")
  costs(10_000, "ready")
  const table: Record<string, Record<string, string>> = {}
  for (const many of [10_000, 100_000, 1_000_000]) {
    const scheduled = costs(many, "scheduled")
    const ready = costs(many, "ready")
    table[many.toLocaleString("en")] = {
      "insert, scheduled": scheduled.insert.toFixed(2),
      "claim, scheduled": scheduled.claim.toFixed(2),
      "insert, ready": ready.insert.toFixed(2),
      "claim, ready": ready.claim.toFixed(2),
    }
  }
  console.log(`microseconds for each record, in calls of ${batch}, with so many there already; claims are settled, too`)
  console.table(table)
})

/** Bytes of heap for each of 100,000 waiting records, beside their payloads. */
export const heap = Effect.gen(function* () {
  const used = () => {
    collect()
    return process.memoryUsage().heapUsed
  }
  const many = 100_000
  const queue = yield* TaskQueue.make(yield* TaskQueueMemory.make)
  const bytes = Effect.fnUntraced(function* (delay: number) {
    const before = used()
    let payloads = 0
    for (let n = 0; n < many; n++) {
      yield* Small.defer({ n, text }, { delay })
      payloads += `{"n":${n},"text":"${text}"}`.length
    }
    return { "heap bytes": Math.round((used() - before - payloads) / many) }
  })
  const deferring = Effect.provideService(TaskQueue.TaskQueue, queue)
  yield* deferring(bytes(0))
  console.log(`bytes of heap for each of ${many} waiting records, beside the payload`)
  console.table({ ready: yield* deferring(bytes(0)), scheduled: yield* deferring(bytes(3_600_000)) })
}).pipe(Effect.scoped)
