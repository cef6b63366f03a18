import * as assert from "node:assert/strict"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, describe, it } from "vitest"
import { check, writeBarrels } from "./boundaries.mjs"

type Tree = Readonly<Record<string, string>>

const roots: Array<string> = []
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true })
})

const manifest = (more: object) => JSON.stringify({ peerDependencies: { effect: "^4.1.0" }, ...more })

/** A house in order: each of the trees below breaks one thing in it. */
const good: Tree = {
  "packages/core/package.json": manifest({}),
  "packages/core/src/Instance.ts": `import { Clock, Effect } from "effect"\nimport { kind } from "./internal/kind.ts"\nexport const now = Effect.map(Clock.currentTimeMillis, () => kind)\n`,
  "packages/core/src/internal/kind.ts": `import type { now } from "../Instance.ts"\nexport const kind: unknown = undefined as typeof now | undefined\n`,
  "packages/core/test/Instance.test.ts": `import * as Instance from "@outlive/core/Instance"\nimport { kind } from "../src/internal/kind.ts"\nexport const all = [Instance, kind]\n`,
  "packages/deferred/package.json": manifest({
    dependencies: { "@outlive/core": "workspace:^" },
    peerDependencies: { effect: "^4.1.0", "@effect/vitest": "^4.0.5" },
    peerDependenciesMeta: { "@effect/vitest": { optional: true } },
  }),
  "packages/deferred/src/Task.ts": `import * as Instance from "@outlive/core/Instance"\nexport const task = Instance.now\n`,
  "packages/deferred/src/testing/TaskQueueTest.ts": `import { it } from "@effect/vitest"\nimport { TestClock } from "effect/testing"\nimport { task } from "../Task.ts"\nexport const suite = [it, TestClock, task]\n`,
  "packages/node/package.json": manifest({
    dependencies: { "@outlive/core": "workspace:^", "@outlive/deferred": "workspace:^" },
    peerDependencies: { effect: "^4.1.0", pg: "^8.0.0" },
    peerDependenciesMeta: { pg: { optional: true } },
  }),
  "packages/node/src/TaskQueueSqlite.ts": `import { DatabaseSync } from "node:sqlite"\nimport { task } from "@outlive/deferred/Task"\nexport const open = [DatabaseSync, task]\n`,
  "packages/node/src/TaskQueuePostgres.ts": `/**\n * Postgres.\n *\n * @barrel none: needs the optional peer "pg"\n */\nimport pg from "pg"\nexport const open = pg\n`,
  "examples/demo/main.ts": `import { Instance } from "@outlive/core"\nexport const main = Instance.now\n`,
}

/** Builds the tree with its barrels, then lays `after` over it. */
const house = (changes: Tree, after: Tree = {}) => {
  const root = mkdtempSync(join(tmpdir(), "boundaries-"))
  roots.push(root)
  const write = (tree: Tree) => {
    for (const [file, text] of Object.entries(tree)) {
      mkdirSync(dirname(join(root, file)), { recursive: true })
      writeFileSync(join(root, file), text)
    }
  }
  write({ ...good, ...changes })
  writeBarrels(root)
  write(after)
  return root
}

const refusals = (changes: Tree, after?: Tree) =>
  check(house(changes, after)).map(({ file, line, rule }) => `${file}:${line} ${rule}`)

const core = (text: string) => refusals({ "packages/core/src/Thread.ts": text })
const thread = (...problems: ReadonlyArray<string>) =>
  problems.map((problem) => `packages/core/src/Thread.ts:${problem}`)

describe("boundaries", () => {
  it("finds nothing wrong with a house in order", () => {
    assert.deepEqual(check(house({})), [])
  })

  it("says file, line, rule and what to do", () => {
    const root = house({ "packages/core/src/Thread.ts": `export const a = 1\nexport * from "node:fs"\n` })
    assert.deepEqual(check(root), [
      {
        file: "packages/core/src/Thread.ts",
        line: 2,
        rule: "node",
        message: `"node:fs" exists on Node only: put what needs it into packages/node`,
      },
    ])
  })

  describe("circular imports", () => {
    it("refuses two modules that import each other, once", () => {
      const root = house({
        "packages/core/src/A.ts": `import { b } from "./B.ts"\nexport const a = (): unknown => b\n`,
        "packages/core/src/B.ts": `import { a } from "./A.ts"\nexport const b = (): unknown => a\n`,
      })
      assert.deepEqual(check(root), [
        {
          file: "packages/core/src/A.ts",
          line: 1,
          rule: "circular",
          message: "imports itself: packages/core/src/A.ts -> packages/core/src/B.ts -> packages/core/src/A.ts",
        },
      ])
    })

    it("refuses a circle of types between modules", () => {
      assert.deepEqual(
        refusals({
          "packages/core/src/A.ts": `import type { B } from "./B.ts"\nexport type A = B\n`,
          "packages/core/src/B.ts": `export type B = import("./A.ts").A | 1\n`,
        }),
        ["packages/core/src/A.ts:1 circular"],
      )
    })

    it("refuses a circle of values through private code", () => {
      assert.deepEqual(
        refusals({
          "packages/core/src/internal/kind.ts": `import { now } from "../Instance.ts"\nexport const kind = now\n`,
        }),
        ["packages/core/src/Instance.ts:2 circular"],
      )
    })

    it("refuses a module that imports its own barrel", () => {
      assert.deepEqual(core(`import * as all from "./index.ts"\nexport const a: unknown = all\n`), thread("1 circular"))
    })

    it("finds each of two separate circles, of any length", () => {
      const link = (to: string) => `import * as next from "./${to}.ts"\nexport const a: unknown = next\n`
      assert.deepEqual(
        refusals({
          "packages/core/src/A.ts": link("B"),
          "packages/core/src/B.ts": link("C"),
          "packages/core/src/C.ts": link("A"),
          "packages/core/src/D.ts": link("D"),
          "packages/core/src/E.ts": link("A"),
        }),
        ["packages/core/src/A.ts:1 circular", "packages/core/src/D.ts:1 circular"],
      )
    })

    it("refuses a circle between packages, besides the step backwards", () => {
      assert.deepEqual(
        refusals({
          "packages/core/src/Instance.ts": `import { task } from "@outlive/deferred/Task"\nexport const now = task\n`,
        }),
        ["packages/core/src/Instance.ts:1 backward", "packages/core/src/Instance.ts:1 circular"],
      )
    })
  })

  describe("directions", () => {
    it("refuses dependencies that run backwards, of types too", () => {
      assert.deepEqual(
        core(`import type { task } from "@outlive/deferred/Task"\nexport type A = task\n`),
        thread("1 backward"),
      )
      assert.deepEqual(
        refusals({
          "packages/deferred/src/Task.ts": `import { open } from "@outlive/node/TaskQueueSqlite"\nexport const task = open\n`,
        }),
        ["packages/deferred/src/Task.ts:1 backward", "packages/deferred/src/Task.ts:1 circular"],
      )
    })

    it("refuses what is private to another package, in sources, tests and programs", () => {
      const text = `import { kind } from "@outlive/core/internal/kind"\nexport const a = kind\n`
      assert.deepEqual(
        refusals({
          "packages/deferred/src/Task.ts": text,
          "packages/deferred/test/Task.test.ts": text,
          "bench/threads/main.ts": text,
        }),
        [
          "bench/threads/main.ts:1 internal",
          "packages/deferred/src/Task.ts:1 internal",
          "packages/deferred/test/Task.test.ts:1 internal",
        ],
      )
    })

    it("refuses ways into another package by path", () => {
      assert.deepEqual(
        refusals({
          "packages/deferred/src/Task.ts": `export * from "../../core/src/Instance.ts"\n`,
          "packages/deferred/test/Task.test.ts": `export * from "../../core/src/Instance.ts"\n`,
          "examples/demo/main.ts": `export * from "../../packages/core/src/Instance.ts"\n`,
        }),
        [
          "examples/demo/main.ts:1 reach",
          "packages/deferred/src/Task.ts:1 reach",
          "packages/deferred/test/Task.test.ts:1 reach",
        ],
      )
    })

    it("refuses a package that imports itself by name", () => {
      assert.deepEqual(core(`export * from "@outlive/core/Instance"\n`), thread("1 reach"))
    })

    it("refuses what package.json does not declare", () => {
      assert.deepEqual(
        refusals({
          "packages/node/src/Redis.ts": `import { createClient } from "redis/client"\nexport const a = createClient\n`,
        }),
        ["packages/node/src/Redis.ts:1 undeclared"],
      )
    })

    it("refuses helpers for tests in other modules", () => {
      assert.deepEqual(
        core(`import { TestClock } from "effect/testing"\nexport const a = TestClock\n`),
        thread("1 testing"),
      )
      assert.deepEqual(
        refusals({
          "packages/deferred/src/Other.ts": `import { suite } from "./testing/TaskQueueTest.ts"\nexport const a = suite\n`,
        }),
        // The barrel now loads the optional @effect/vitest as well.
        ["packages/deferred/src/Other.ts:1 testing", "packages/deferred/src/testing/TaskQueueTest.ts:1 optional"],
      )
    })
  })

  describe("hosts", () => {
    it("refuses Node in core and deferred, however it is asked for", () => {
      assert.deepEqual(core(`import type { Stats } from "node:fs"\nexport type A = Stats\n`), thread("1 node"))
      assert.deepEqual(core(`import fs from "fs"\nexport const a = fs\n`), thread("1 node"))
      assert.deepEqual(core(`export type A = import("node:fs").Stats\n`), thread("1 node"))
      assert.deepEqual(core(`export const a = () => import("node:fs")\n`), thread("1 node"))
      assert.deepEqual(core("export const a = () => import(`node:fs`)\n"), thread("1 node"))
      assert.deepEqual(core(`export const a = process.getBuiltinModule("node:fs")\n`), thread("1 node"))
      assert.deepEqual(core(`export * as a from "@effect/platform-node/NodeRuntime"\n`), thread("1 node"))
      assert.deepEqual(core(`import { it } from "@effect/vitest"\nexport const a = it\n`), thread("1 node"))
    })

    it("refuses an import of a computed name", () => {
      assert.deepEqual(core(`export const a = (name: string) => import(name)\n`), thread("1 computed"))
    })

    it("refuses unstable modules of effect, and what it cannot check", () => {
      assert.deepEqual(core(`import * as Sql from "effect/sql"\nexport const a = Sql\n`), thread("1 unstable"))
      assert.deepEqual(
        core(`import type { SqlClient } from "effect/sql/SqlClient"\nexport type A = SqlClient\n`),
        thread("1 unstable"),
      )
      assert.deepEqual(
        core(
          `import { Effect, PartitionedSemaphore } from "effect"\nexport const a = [Effect, PartitionedSemaphore]\n`,
        ),
        thread("1 unstable"),
      )
      assert.deepEqual(
        core(`import * as Arbitrary from "effect/Arbitrary"\nexport const a = Arbitrary\n`),
        thread("1 unstable"),
      )
      assert.deepEqual(core(`import * as all from "effect"\nexport const a = all\n`), thread("1 unstable"))
      assert.deepEqual(
        core(
          `import * as Semaphore from "effect/Semaphore"\nimport { pipe } from "effect"\nexport const a = [Semaphore, pipe]\n`,
        ),
        [],
      )
    })

    it("leaves Node and unstable modules to packages/node", () => {
      assert.deepEqual(
        refusals({ "packages/node/src/Http.ts": `export * as a from "effect/http"\nexport * as b from "node:http"\n` }),
        [],
      )
    })

    it("is not fooled by comments, strings and templates", () => {
      assert.deepEqual(
        core(
          `// import fs from "node:fs"\n/* Date.now() */\nexport const a = 'import "node:fs"; async () => Date.now()'\nexport const b = \`\${"import('node:fs')"}\`\nexport const c = /setTimeout\\(async/\n`,
        ),
        [],
      )
    })
  })

  describe("time and async", () => {
    it("refuses every clock but Effect's", () => {
      assert.deepEqual(core(`export const a = Date.now()\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = [1].map(Date.now)\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = globalThis.Date["now"]()\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = new Date()\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = performance.now()\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = () => setTimeout(() => 1, 5)\n`), thread("1 time"))
      assert.deepEqual(core(`export const a = new Date(0)\n`), [])
    })

    it("refuses async functions, whatever their form", () => {
      assert.deepEqual(core(`export async function a() {}\n`), thread("1 async"))
      assert.deepEqual(core(`export const a = async () => 1\n`), thread("1 async"))
      assert.deepEqual(core(`export class A {\n  async a() {}\n}\n`), thread("2 async"))
      assert.deepEqual(core(`export const a = { async *b() {} }\n`), thread("1 async"))
      assert.deepEqual(core(`await Promise.resolve()\nexport const async = 1\n`), thread("1 async"))
    })

    it("accepts an excuse with a reason on the line or right above it, and only there", () => {
      assert.deepEqual(core(`export const a = Date.now() // allow time: this thread has no Clock\n`), [])
      assert.deepEqual(core(`// allow async: the driver wants a promise\nexport const a = async () => 1\n`), [])
      assert.deepEqual(core(`// allow time: too far away\n\nexport const a = Date.now()\n`), thread("1 time", "3 time"))
      assert.deepEqual(core(`export const a = Date.now() // allow time\n`), thread("1 time", "1 time"))
      assert.deepEqual(
        core(`export const a = Date.now() // allow async: the wrong rule\n`),
        thread("1 time", "1 async"),
      )
    })

    it("refuses an excuse that excuses nothing", () => {
      assert.deepEqual(core(`// allow time: was needed once\nexport const a = 1\n`), thread("1 time"))
    })

    it("leaves tests and programs alone", () => {
      assert.deepEqual(refusals({ "examples/demo/main.ts": `export const a = async () => Date.now()\n` }), [])
    })
  })

  describe("files", () => {
    it("refuses more than 400 lines, in sources and programs but not in tests", () => {
      const lines = (count: number) => `${"// line\n".repeat(count - 1)}export const a = 1\n`
      assert.deepEqual(core(lines(400)), [])
      assert.deepEqual(
        refusals({
          "packages/core/src/Thread.ts": lines(401),
          "packages/core/test/Thread.test.ts": lines(401),
          "bench/threads/main.ts": lines(401),
        }),
        ["bench/threads/main.ts:401 length", "packages/core/src/Thread.ts:401 length"],
      )
    })

    it("refuses names that say nothing, modules that are not flat or PascalCase, and what is not compiled", () => {
      const text = "export const a = 1\n"
      assert.deepEqual(
        refusals({
          "packages/core/src/Utils.ts": text,
          "packages/core/src/thread.ts": text,
          "packages/core/src/threads/Thread.ts": text,
          "packages/core/src/internal/Thread.ts": text,
          "packages/core/src/internal/sql/text.ts": text,
          "packages/core/src/worker.mjs": text,
        }),
        [
          "packages/core/src/Utils.ts:1 name",
          "packages/core/src/internal/Thread.ts:1 name",
          "packages/core/src/thread.ts:1 name",
          "packages/core/src/threads/Thread.ts:1 name",
          "packages/core/src/worker.mjs:1 name",
        ],
      )
    })

    it("refuses a file that does not parse", () => {
      assert.deepEqual(core("export const = 1\n"), thread("1 syntax"))
    })
  })

  describe("barrels", () => {
    const barrel = "packages/core/src/index.ts"

    it("are written from their folder, in order, without what is marked, and only when they differ", () => {
      const root = house({ "packages/node/src/Abc.ts": "export const a = 1\n" })
      assert.deepEqual(
        readFileSync(join(root, "packages/node/src/index.ts"), "utf8")
          .split("\n")
          .filter((line) => line.startsWith("export")),
        [`export * as Abc from "./Abc.ts"`, `export * as TaskQueueSqlite from "./TaskQueueSqlite.ts"`],
      )
      assert.deepEqual(writeBarrels(root), [])
    })

    it("give a package's helpers for tests an entry of their own", () => {
      const root = house({})
      assert.match(
        readFileSync(join(root, "packages/deferred/src/testing/index.ts"), "utf8"),
        /^export \* as TaskQueueTest from ".\/TaskQueueTest.ts"$/m,
      )
      assert.doesNotMatch(readFileSync(join(root, "packages/deferred/src/index.ts"), "utf8"), /TaskQueueTest/)
    })

    it("are refused when they lack a module, have one too many, or are out of order", () => {
      assert.deepEqual(refusals({}, { "packages/core/src/Thread.ts": "export const a = 1\n" }), [`${barrel}:1 barrel`])
      assert.deepEqual(
        refusals({}, { [barrel]: `export * as Instance from "./Instance.ts"\nexport const more = 1\n` }),
        [`${barrel}:1 barrel`],
      )
      assert.deepEqual(refusals({}, { [barrel]: `export * as Instance from "./Instance.ts"\n` }), [
        `${barrel}:1 barrel`,
      ])
    })

    it("are refused when they are missing", () => {
      const root = house({})
      rmSync(join(root, barrel))
      assert.deepEqual(
        check(root).map(({ file, rule, message }) => [file, rule, message.split(";")[0]]),
        [[barrel, "barrel", "is missing"]],
      )
    })

    it("refuse a mark without a reason, and do not see one below the first statement", () => {
      assert.deepEqual(core("// @barrel none\nexport const a = 1\n"), thread("1 barrel"))
      const root = house({ "packages/core/src/Thread.ts": "export const a = 1\n// @barrel none: too late\n" })
      assert.match(readFileSync(join(root, barrel), "utf8"), /Thread/)
    })

    it("load no optional peer, directly or through another module", () => {
      const postgres = `import pg from "pg"\nexport const open = pg\n`
      assert.deepEqual(refusals({ "packages/node/src/TaskQueuePostgres.ts": postgres }), [
        "packages/node/src/TaskQueuePostgres.ts:1 optional",
      ])
      assert.deepEqual(
        refusals({
          "packages/node/src/Detect.ts": `import { open } from "./TaskQueuePostgres.ts"\nexport const a = open\n`,
        }),
        ["packages/node/src/TaskQueuePostgres.ts:6 optional"],
      )
      assert.deepEqual(
        refusals({ "packages/node/src/Detect.ts": `export const a = () => import("./TaskQueuePostgres.ts")\n` }),
        [],
      )
    })
  })
})
