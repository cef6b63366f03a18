/** One file, many processes, some of which are killed. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect } from "effect"
import { records } from "./records.ts"

const newFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  ),
  (folder) => join(folder, "queue.db"),
)

interface Ended {
  readonly code: number | null
  /** The whole lines it printed. */
  readonly lines: ReadonlyArray<string>
  readonly errors: string
}

const program = fileURLToPath(new URL("./programs/taskQueueSqlite.ts", import.meta.url))

/** Runs the program to its end, or kills it as soon as it has printed so many lines. */
const run = (args: ReadonlyArray<string>, killAfter = Number.POSITIVE_INFINITY): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    let errors = ""
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk
      if (output.split("\n").length > killAfter) child.kill("SIGKILL")
    })
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk
    })
    child.on("close", (code) => resume(Effect.succeed({ code, lines: output.split("\n").slice(0, -1), errors })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const isWhole = (filename: string) => {
  const db = new DatabaseSync(filename)
  assert.deepStrictEqual(db.prepare("PRAGMA integrity_check").all().map(Object.values), [["ok"]])
  db.close()
}

const claimAll = (driver: TaskQueue.Driver, now: number) =>
  Effect.map(
    driver.claim({
      queues: [{ name: "queue", limit: 1000 }],
      tasks: [{ name: "task", maxVersion: 1 }],
      targets: [],
      lease: 1000,
      worker: "test",
      now,
    }),
    ({ records }) => records,
  )

describe("TaskQueueSqlite across processes", () => {
  it.live(
    "works every record once, however many produce and consume, and none ever sees a locked database",
    () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const ended = yield* Effect.all(
          [
            run(["produce", filename, "1000"]),
            run(["produce", filename, "1000"]),
            run(["consume", filename, "2000"]),
            run(["consume", filename, "2000"]),
          ],
          { concurrency: "unbounded" },
        )
        assert.deepStrictEqual(
          ended.map(({ code, errors }) => ({ code, errors })),
          Array(4).fill({ code: 0, errors: "" }),
        )
        const [one, two, three, four] = ended.map(({ lines }) => lines)
        const produced = [...one!, ...two!].sort()
        const consumed = [...three!, ...four!].sort()
        assert.strictEqual(produced.length, 2000)
        assert.deepStrictEqual(consumed, produced)
        isWhole(filename)
      }),
    60_000,
  )

  it.live("has every record that a killed process had been told of", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      for (let round = 0; round < 3; round++) {
        const { code, lines } = yield* run(["produce", filename], 200 + round * 37)
        assert.isNull(code)
        assert.isAtLeast(lines.length, 200)
        isWhole(filename)
        const driver = yield* TaskQueueSqlite.make({ filename })
        const records = yield* driver.get({ ids: lines as ReadonlyArray<string> as ReadonlyArray<TaskId>, now: 0 })
        assert.deepStrictEqual(
          records.map((record): string | undefined => record?.id),
          [...lines],
        )
      }
    }).pipe(Effect.scoped),
  )

  it.live("gives a killed process's records to others once their leases are over", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* run(["produce", filename, "20"])
      const { lines } = yield* run(["hold", filename], 1)
      assert.deepStrictEqual(lines, ["holds 20"])
      const driver = yield* TaskQueueSqlite.make({ filename })
      const held = (yield* driver.find({ limit: 100, now: 0 })).records
      const until = Math.max(...held.map(({ leaseUntil }) => leaseUntil!))
      const first = Math.min(...held.map(({ leaseUntil }) => leaseUntil!))
      assert.deepStrictEqual(yield* claimAll(driver, first - 1), [])
      const claimed = yield* claimAll(driver, until)
      assert.strictEqual(claimed.length, 20)
      assert.deepStrictEqual(new Set(claimed.map(({ crashes }) => crashes)), new Set([1]))
      assert.deepStrictEqual(new Set(claimed.map(({ attempt }) => attempt)), new Set([2]))
      isWhole(filename)
    }),
  )

  for (const [what, limits] of [
    ["limits of keys", { maxConcurrent: 2, ordered: false }],
    ["order of keys", { maxConcurrent: undefined, ordered: true }],
  ] as const) {
    it.live(`keeps to the ${what}, however many consume`, () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const driver = yield* TaskQueueSqlite.make({ filename })
        const byKey = { ...limits, rate: undefined, burst: 5 }
        yield* driver.configure({ queue: "queue", limits: { byKey }, now: 0 })
        yield* driver.enqueue({ records: records(400, (number) => ({ key: `k${number % 8}` })), now: 0 })
        // What runs of a key, at each start of one: seen by the file itself, whoever starts it.
        const db = new DatabaseSync(filename)
        db.exec(`CREATE TABLE seen (key TEXT, seq INTEGER, running INTEGER);
          CREATE TRIGGER started AFTER UPDATE OF state ON outlive_records WHEN NEW.state = 1 BEGIN
            INSERT INTO seen SELECT NEW.key, NEW.seq, count(*) FROM outlive_records WHERE state = 1 AND key = NEW.key;
          END`)
        const ended = yield* Effect.all(
          Array.from({ length: 3 }, () => run(["consume", filename, "400"])),
          { concurrency: "unbounded" },
        )
        assert.deepStrictEqual(
          ended.map(({ code, errors }) => ({ code, errors })),
          Array(3).fill({ code: 0, errors: "" }),
        )
        const seen = db.prepare("SELECT key, seq, running FROM seen ORDER BY rowid").all()
        db.close()
        assert.lengthOf(seen, 400)
        assert.strictEqual(Math.max(...seen.map(({ running }) => Number(running))), limits.maxConcurrent ?? 1)
        if (!limits.ordered) return
        for (const key of new Set(seen.map(({ key }) => key))) {
          const started = seen.filter((each) => each.key === key).map(({ seq }) => Number(seq))
          assert.deepStrictEqual(
            started,
            started.toSorted((left, right) => left - right),
          )
        }
      }).pipe(Effect.scoped),
    )
  }
})
