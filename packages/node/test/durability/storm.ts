/**
 * The storm: producers and workers as processes of their own, which are killed at random, by a seed; and what must be true
 * when it is over.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import type { TaskRecord } from "@outlive/deferred/TaskRecord"
import { Effect, Fiber } from "effect"
import { randomBy } from "../random.ts"
import { type Place, queueAt, type Role } from "./program.ts"
import { type Entry, keyOf, kindOf, maxConcurrent, now, openLedger } from "./tasks.ts"

export interface Storm {
  readonly seed: number
  readonly tasks: number
  /** How many processes are killed. */
  readonly kills: number
  readonly producers: number
  readonly workers: number
  /** What else happens, beside the kills: so often, with numbers between 0 and 1 by the seed. */
  readonly disturb?: { readonly times: number; readonly once: (random: () => number) => Effect.Effect<void> }
}

const program = fileURLToPath(new URL("./program.ts", import.meta.url))

interface Running {
  readonly role: Role
  child: ChildProcess
  /** How it ended by itself. */
  code: number | null | undefined
  /** It is not to be started again. */
  isOver: boolean
  errors: string
}

const start = (running: Running): void => {
  running.code = undefined
  const child = spawn(process.execPath, [program, JSON.stringify(running.role)], {
    stdio: ["ignore", "ignore", "pipe"],
  })
  running.child = child
  child.stderr?.on("data", (chunk: Buffer) => {
    running.errors += chunk
  })
  child.on("exit", (code) => {
    if (running.child !== child) return
    running.code = code
    // As a supervisor does: a server that is not there just now ends who wants to begin with it.
    if (code !== null && code !== 0 && !running.isOver) setTimeout(() => start(running), 200)
  })
}

const exited = ({ child }: Running): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
  })

/** Runs a storm on the queue at a place, and fails when something was lost, doubled without a crash, or run too often at once. */
export const storm = Effect.fnUntraced(function* (place: Place, options: Storm) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-storm-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
  )
  const ledger = join(folder, "ledger")
  writeFileSync(ledger, "")
  const write = openLedger(ledger)
  const random = randomBy(options.seed)
  const each = options.tasks / options.producers
  const running = [
    ...Array.from({ length: options.producers }, (_, index) => ({ role: "producer", index }) as const),
    ...Array.from({ length: options.workers }, (_, index) => ({ role: "worker", index }) as const),
  ].map(({ index, role }): Running => {
    const numbers = { from: Math.round(index * each), to: Math.round((index + 1) * each) }
    return {
      role: { place, ledger, role, ...numbers },
      child: undefined as never,
      code: undefined,
      isOver: false,
      errors: "",
    }
  })

  return yield* Effect.gen(function* () {
    const queue = yield* TaskQueue
    yield* queue.configure({ queue: "limited", limits: { maxConcurrent }, now: Date.now() })
    yield* Effect.acquireRelease(
      Effect.sync(() => running.forEach(start)),
      () =>
        Effect.sync(() => {
          for (const each of running) {
            each.isOver = true
            each.child.kill("SIGKILL")
          }
        }),
    )
    const kill = Effect.suspend(() => {
      const wanted = random() < 0.7 ? "worker" : "producer"
      const alive = running.filter(({ code, role }) => code === undefined && role.role === wanted)
      const victim = alive[Math.floor(random() * alive.length)]
      if (victim === undefined) return Effect.void
      victim.child.kill("SIGKILL")
      return Effect.map(exited(victim), () => {
        write({ _tag: "Killed", pid: victim.child.pid ?? 0, at: now() })
        start(victim)
      })
    })
    const disturbed = yield* Effect.forkChild(
      Effect.gen(function* () {
        for (let time = 0; time < (options.disturb?.times ?? 0); time++) {
          yield* Effect.sleep(500 + random() * 1500)
          yield* options.disturb?.once(random) ?? Effect.void
        }
      }),
    )
    // Not before there is something to be lost.
    while (!readFileSync(ledger, "utf8").includes("Ended")) yield* Effect.sleep("20 millis")
    for (let time = 0; time < options.kills; time++) {
      yield* Effect.sleep(200 + random() * 600)
      yield* kill
    }
    yield* Fiber.join(disturbed)
    for (const producer of running.filter(({ role }) => role.role === "producer")) {
      while (producer.code !== 0) yield* Effect.sleep("50 millis")
    }
    const left = queue.counts({ now: Number.MAX_SAFE_INTEGER }).pipe(
      Effect.map((counts) =>
        counts.filter(({ state }) => state !== "succeeded").reduce((sum, { count }) => sum + count, 0),
      ),
      // A server that is just coming back.
      Effect.retry({ while: ({ isRetryable }) => isRetryable }),
    )
    while ((yield* left) > 0) yield* Effect.sleep("50 millis")
    for (const worker of running.filter(({ role }) => role.role === "worker")) {
      worker.isOver = true
      worker.child.kill("SIGTERM")
      yield* exited(worker)
    }
    const records: Array<TaskRecord> = []
    let cursor: string | undefined
    do {
      const page = yield* queue.find({ limit: 1000, cursor, now: Date.now() })
      records.push(...page.records)
      cursor = page.cursor
    } while (cursor !== undefined)
    const statistics = yield* queue.statistics({ queue: "limited", now: Date.now() })
    assert.deepInclude(statistics, { waiting: 0, inFlight: 0 })
    const lines = readFileSync(ledger, "utf8").split("\n").slice(0, -1)
    return check(
      options,
      lines.map((line) => JSON.parse(line) as Entry),
      records,
    )
  }).pipe(Effect.provide(queueAt(place)))
}, Effect.scoped)

/** What the ledger and the records must agree on; gives what happened, for people. */
const check = (options: Storm, entries: ReadonlyArray<Entry>, records: ReadonlyArray<TaskRecord>) => {
  const byId = new Map(records.map((record) => [record.id, record]))
  const byNumber = new Map<number, TaskRecord>()
  for (const record of records) {
    const { n } = JSON.parse(record.payload) as { readonly n: number }
    assert.isUndefined(byNumber.get(n), `number ${n} is there once: its name is unique`)
    byNumber.set(n, record)
    assert.strictEqual(record.state, "succeeded", record.id)
    assert.isUndefined(record.leaseUntil, `${record.id} has no lease left`)
  }

  // Nothing that was acknowledged is lost, and of each number there is one record, its own or its key's holder.
  const acknowledged = new Map<number, string>()
  for (const entry of entries) if (entry._tag === "Deferred") acknowledged.set(entry.n, entry.id)
  assert.strictEqual(acknowledged.size, options.tasks)
  for (const [n, id] of acknowledged) {
    const record = byId.get(id as TaskId)
    assert.isDefined(record, `number ${n}, record ${id}`)
    const number = (JSON.parse(record?.payload ?? "{}") as { readonly n: number }).n
    if (kindOf(n) === "Single") assert.strictEqual(keyOf(number), keyOf(n))
    else assert.strictEqual(number, n)
  }

  // Each has its effect, and more than one only where its attempts or crashes say so.
  const ended = new Map<string, number>()
  for (const entry of entries) if (entry._tag === "Ended") ended.set(entry.id, (ended.get(entry.id) ?? 0) + 1)
  let doubled = 0
  for (const { attempt, crashes, id } of records) {
    const effects = ended.get(id) ?? 0
    assert.isAtLeast(effects, 1, `the effect of ${id}`)
    assert.isAtMost(effects, attempt, `${id} ran ${attempt} times, and crashed ${crashes}`)
    if (effects > 1) doubled++
  }
  assert.deepStrictEqual(
    [...ended.keys()].filter((id) => !byId.has(id as TaskId)),
    [],
    "only records have effects",
  )

  const most = mostAtOnce(entries, (n) => (kindOf(n) === "Limited" ? "limited" : undefined))
  assert.isAtMost(most, maxConcurrent, "the queue's limit over all processes")
  const singles = mostAtOnce(entries, (n) => (kindOf(n) === "Single" ? keyOf(n) : undefined))
  assert.strictEqual(singles, 1, "one of a key at a time")
  const crashes = records.reduce((sum, record) => sum + record.crashes, 0)
  assert.isAbove(crashes, 0, "some attempts were met by a kill: else this storm was none")
  return {
    records: records.length,
    effects: [...ended.values()].reduce((sum, count) => sum + count, 0),
    doubled,
    crashes,
  }
}

/** The most runs of one group at a time; a run that did not end went on until its process was killed. */
const mostAtOnce = (entries: ReadonlyArray<Entry>, groupOf: (n: number) => string | undefined): number => {
  const killed = new Map<number, number>()
  for (const entry of entries) if (entry._tag === "Killed") killed.set(entry.pid, entry.at)
  const open = new Map<string, { readonly group: string; readonly pid: number }>()
  const changes: Array<{ readonly at: number; readonly group: string; readonly by: 1 | -1 }> = []
  for (const entry of entries) {
    if (entry._tag !== "Began" && entry._tag !== "Ended") continue
    const group = groupOf(entry.n)
    if (group === undefined) continue
    const run = `${entry.id} ${entry.attempt} ${entry.pid}`
    if (entry._tag === "Began") open.set(run, { group, pid: entry.pid })
    else open.delete(run)
    changes.push({ at: entry.at, group, by: entry._tag === "Began" ? 1 : -1 })
  }
  for (const { group, pid } of open.values()) {
    const at = killed.get(pid)
    if (at !== undefined) changes.push({ at, group, by: -1 })
  }
  const counts = new Map<string, number>()
  let most = 0
  for (const { by, group } of changes.sort((left, right) => left.at - right.at || left.by - right.by)) {
    const count = (counts.get(group) ?? 0) + by
    counts.set(group, count)
    most = Math.max(most, count)
  }
  return most
}
