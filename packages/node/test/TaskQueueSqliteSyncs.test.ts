/** How often what a process does with its own tasks waits for the disk. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import { Deferred, Effect, Latch, Layer, Schema } from "effect"
import { vi } from "vitest"
import * as TaskQueueSqlite from "../src/TaskQueueSqlite.ts"

const seen = vi.hoisted(() => ({ syncs: 0 }))
vi.mock("node:fs", async (original) => {
  const fs = await original<typeof import("node:fs")>()
  return {
    ...fs,
    fdatasync: (file: number, done: (error: NodeJS.ErrnoException | null) => void) => {
      seen.syncs++
      fs.fdatasync(file, done)
    },
    fdatasyncSync: (file: number) => {
      seen.syncs++
      fs.fdatasyncSync(file)
    },
  }
})

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-syncs-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true })),
)
const Held = Task.make("Held", { payload: { n: Schema.Int } })

describe("the syncs of a process with an idle worker", () => {
  it.live("are one for a deferral and its claim, and one for the end", () =>
    Effect.gen(function* () {
      const begun = yield* Effect.forEach([0, 1, 2], () => Deferred.make<void>())
      const end = yield* Effect.forEach([0, 1, 2], () => Deferred.make<void>())
      const handler = Held.toLayer(({ n }) =>
        Effect.andThen(Deferred.succeed(begun[n]!, undefined), Deferred.await(end[n]!)),
      )
      // No claim is under way.
      const idle = yield* Latch.make(true)
      const driver = yield* TaskQueueSqlite.make({ filename: join(yield* folder, "tasks.db") })
      const watched: TaskQueue.Driver = {
        ...driver,
        claim: (params) => Effect.andThen(idle.close, Effect.ensuring(driver.claim(params), idle.open)),
      }
      const work = Worker.layer({ tasks: [Held] }).pipe(
        Layer.provide(handler),
        Layer.provideMerge(TaskQueue.layer(Effect.succeed(watched))),
        Layer.provide(Instance.layerBackend()),
      )
      yield* Effect.gen(function* () {
        const counts: Array<ReadonlyArray<number>> = []
        for (const n of [0, 1, 2]) {
          yield* idle.await
          const before = seen.syncs
          const ref = yield* Held.defer({ n })
          yield* Deferred.await(begun[n]!)
          const between = seen.syncs
          yield* Deferred.succeed(end[n]!, undefined)
          yield* ref.await
          counts.push([between - before, seen.syncs - between])
        }
        // The first may find the worker before its first claim.
        assert.deepStrictEqual(counts.slice(1), [
          [1, 1],
          [1, 1],
        ])
      }).pipe(Effect.provide(work))
    }).pipe(Effect.scoped),
  )
})
