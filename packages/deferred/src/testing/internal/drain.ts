/**
 * Running whatever is due until nothing is.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { TestClock } from "effect/testing/TestClock"
import { TaskId } from "../../TaskId.ts"
import type { TaskQueueError } from "../../TaskQueue.ts"
import type { Drained, DrainOptions, Outcome, Ran } from "../TestTasks.ts"
import { advancing, still } from "./pace.ts"
import type { Runner } from "./testTasks.ts"

/**
 * A drain was given up: after `maxAttempts` something was still due, or the clock was moved again and again and nothing
 * became due.
 *
 * @since 0.1.0
 */
export class DrainDidNotEnd extends Schema.TaggedError<DrainDidNotEnd>()("DrainDidNotEnd", {
  attempts: Schema.Int,
  /** Records of these tasks that have not ended. */
  left: Schema.Int,
  /** The records with the most attempts in this drain, and what the last one came to. */
  records: Schema.Array(Schema.Struct({ task: Schema.String, id: TaskId, attempts: Schema.Int, last: Schema.String })),
  /** How many records of each task it ran, in how many attempts. */
  tasks: Schema.Array(Schema.Struct({ task: Schema.String, records: Schema.Int, attempts: Schema.Int })),
}) {
  override get message() {
    if (this.attempts === 0) {
      return `drain moved the clock ${idleMoves} times and no record became due, while ${this.left} have not ended: is their queue paused, or does a worker beside this test run them?`
    }
    const again = this.records.filter(({ attempts }) => attempts > 1)
    const lines =
      again.length > 0
        ? again.map(
            ({ attempts, id, last, task }) => `- ${task} ${id} came back ${attempts} times, the last time ${last}`,
          )
        : this.tasks.map(
            ({ attempts, task }) => `- ${attempts} different records of ${task}: does its handler defer more?`,
          )
    return `drain did not end after ${this.attempts} attempts, ${this.left} records have not ended:\n${lines.join("\n")}`
  }
}

/** So often in a row the clock is moved without anything becoming due. */
const idleMoves = 1_000

export const drain = Effect.fnUntraced(function* (
  runner: Runner,
  options: DrainOptions,
): Effect.fn.Return<Drained, TaskQueueError | DrainDidNotEnd> {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const maxAttempts = options.maxAttempts ?? 10_000
  const advance = options.advance ?? false
  const test = advance === false ? undefined : yield* testClock(clock)
  const pace = test === undefined ? still(clock) : advancing(test, { withinAttempts: options.withinAttempts ?? false })
  const end =
    typeof advance === "boolean"
      ? Number.POSITIVE_INFINITY
      : clock.currentTimeMillisUnsafe() + Duration.toMillis(Duration.fromInputUnsafe(advance))
  const ran: Array<Ran> = []
  let moves = 0
  while (true) {
    const one = yield* runner.next(pace)
    if ("record" in one) {
      ran.push(one)
      moves = 0
      if (ran.length > maxAttempts) return yield* Effect.fail(endless(ran, yield* runner.left))
      continue
    }
    if (test === undefined || one.nextAt === undefined || one.nextAt > end) break
    if (!(yield* runner.isWaiting)) break
    if (++moves > idleMoves) return yield* Effect.fail(endless(ran, yield* runner.left))
    yield* test.setTime(Math.max(one.nextAt, clock.currentTimeMillisUnsafe() + 1))
  }
  if (test !== undefined && Number.isFinite(end) && end > clock.currentTimeMillisUnsafe()) yield* test.setTime(end)
  return { ran, counts: countsOf(ran), left: yield* runner.left }
})

const testClock = (clock: Clock.Clock): Effect.Effect<TestClock> =>
  "setTime" in clock
    ? Effect.succeed(clock as TestClock)
    : Effect.die(new Error("drain({ advance }) moves the TestClock, and the test runs on another clock: use it.effect"))

const countsOf = (ran: ReadonlyArray<Ran>): Drained["counts"] => {
  const counts: { [K in Outcome["_tag"]]?: number } = {}
  for (const { outcome } of ran) counts[outcome._tag] = (counts[outcome._tag] ?? 0) + 1
  return counts
}

const endless = (ran: ReadonlyArray<Ran>, left: number): DrainDidNotEnd => {
  const records = new Map<string, DrainDidNotEnd["records"][number]>()
  const tasks = new Map<string, DrainDidNotEnd["tasks"][number]>()
  for (const { outcome, record } of ran) {
    const { id, task } = record
    const before = records.get(id)
    records.set(id, { task, id, attempts: (before?.attempts ?? 0) + 1, last: outcome._tag })
    const all = tasks.get(task) ?? { task, records: 0, attempts: 0 }
    tasks.set(task, { task, records: all.records + (before === undefined ? 1 : 0), attempts: all.attempts + 1 })
  }
  const mostFirst = (left: { readonly attempts: number }, right: { readonly attempts: number }) =>
    right.attempts - left.attempts
  return new DrainDidNotEnd({
    attempts: ran.length,
    left,
    records: [...records.values()].sort(mostFirst).slice(0, 5),
    tasks: [...tasks.values()].sort(mostFirst),
  })
}
