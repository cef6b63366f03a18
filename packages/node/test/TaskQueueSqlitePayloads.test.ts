/** Payloads stored apart, in the file of their records. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Exit, Scope } from "effect"

const newFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  ),
  (path) => join(path, "queue.db"),
)
const payloadsOf = (filename: string) => Effect.map(TaskQueueSqlite.make({ filename }), ({ payloads }) => payloads!)

describe("payloads stored apart", () => {
  it.effect("are in the file, for every process, until they are removed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const body = `"${"large ".repeat(300_000)}😀"`
      yield* Effect.scoped(Effect.flatMap(payloadsOf(filename), ({ put }) => put({ ref: "a", body, now: 1 })))
      const payloads = yield* payloadsOf(filename)
      assert.strictEqual(yield* payloads.get({ ref: "a" }), body)
      assert.isUndefined(yield* payloads.get({ ref: "b" }))
      yield* payloads.remove({ refs: ["b", "a", "a"] })
      assert.isUndefined(yield* payloads.get({ ref: "a" }))
    }),
  )

  it.effect("stay as they were first put, and as old as that", () =>
    Effect.gen(function* () {
      const payloads = yield* payloadsOf(yield* newFile)
      yield* payloads.put({ ref: "a", body: "1", now: 1 })
      yield* payloads.put({ ref: "a", body: "2", now: 5 })
      assert.strictEqual(yield* payloads.get({ ref: "a" }), "1")
      assert.deepStrictEqual(yield* payloads.list({ before: 2, limit: 10 }), { refs: ["a"], cursor: undefined })
      assert.deepStrictEqual(yield* payloads.list({ before: 1, limit: 10 }), { refs: [], cursor: undefined })
    }),
  )

  it.effect("are listed page by page, each once, also while some are removed and others come", () =>
    Effect.gen(function* () {
      const payloads = yield* payloadsOf(yield* newFile)
      const refs = Array.from({ length: 25 }, (_, index) => `ref ${(index * 7) % 25}`)
      // Several at the same time.
      for (const [index, ref] of refs.entries()) yield* payloads.put({ ref, body: "", now: Math.floor(index / 4) })
      const seen: Array<string> = []
      let cursor: string | undefined
      do {
        const page = yield* payloads.list({ before: 100, cursor, limit: 3 })
        assert.isAtMost(page.refs.length, 3)
        seen.push(...page.refs)
        yield* payloads.remove({ refs: page.refs.slice(0, 2) })
        yield* payloads.put({ ref: `later ${seen.length}`, body: "", now: 100 })
        cursor = page.cursor
      } while (cursor !== undefined)
      assert.deepStrictEqual([...seen].sort(), [...refs].sort())
    }),
  )

  it.effect("fail with an error of their own", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const payloads = yield* Scope.provide(payloadsOf(yield* newFile), scope)
      yield* Scope.close(scope, Exit.void)
      const put = yield* Effect.flip(payloads.put({ ref: "a", body: "", now: 0 }))
      const get = yield* Effect.flip(payloads.get({ ref: "a" }))
      assert.deepStrictEqual(
        [put, get].map(({ _tag, isRetryable, message, operation }) => ({ _tag, operation, message, isRetryable })),
        ["put", "get"].map((operation) => ({
          _tag: "PayloadStoreError" as const,
          operation,
          message: "the task queue is closed",
          isRetryable: false,
        })),
      )
    }),
  )
})
