/** The demo as a person meets it: real processes, real files, real kills. */
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Report } from "./Report.ts"

const main = fileURLToPath(new URL("./main.ts", import.meta.url))

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-demo-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true })),
)

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the demo in a working directory; `onProgress` sees what it said on standard error so far. */
const demo = (
  cwd: string,
  args: ReadonlyArray<string>,
  onProgress: (stderr: string, child: ChildProcess) => void = () => undefined,
) =>
  Effect.callback<Ended>((resume) => {
    const child = spawn(process.execPath, [main, ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    let stderr = ""
    child.stdout.on("data", (chunk) => {
      stdout += chunk
    })
    child.stderr.on("data", (chunk) => {
      stderr += chunk
      onProgress(stderr, child)
    })
    child.on("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Sends the signal when the first tenth of the files is done. */
const midway = (signal: NodeJS.Signals) => {
  let sent = false
  return (stderr: string, child: ChildProcess) => {
    if (sent || !/^[1-9]\d* of \d+ files$/m.test(stderr)) return
    sent = true
    child.kill(signal)
  }
}

const report = ({ code, stderr, stdout }: Ended) => {
  assert.strictEqual(code, 0, stderr)
  return Schema.decodeUnknownSync(Schema.fromJsonString(Report))(stdout, { onExcessProperty: "error" })
}

/** Many texts, so that a run takes long enough to be stopped in the middle, and what the report must say of them. */
const manyFiles = Effect.gen(function* () {
  const folder = yield* temporary
  const words = ["alpha", "beta", "gamma", "delta", "epsilon"]
  let bytes = 0
  for (let n = 0; n < 1500; n++) {
    const directory = join(folder, `d${n % 7}`)
    mkdirSync(directory, { recursive: true })
    const text = `${words[n % 5]} the quick `.repeat(1000)
    bytes += text.length
    writeFileSync(join(directory, `${n}.txt`), text)
  }
  writeFileSync(join(folder, "d3", "binary"), Uint8Array.from([0, 159, 146, 150]))
  const terms = [...words.map((term) => ({ term, count: 300_000 })), { term: "quick", count: 1_500_000 }]
  const totals = {
    folder,
    files: 1500,
    bytes,
    lines: 1500,
    words: 4_500_000,
    topTerms: terms.sort((a, b) => b.count - a.count || (a.term < b.term ? -1 : 1)),
    dead: [{ reason: "NotText", count: 1, examples: ["d3/binary"] }],
    retries: 0,
  }
  return { folder, totals }
})

describe("the demo", () => {
  it.live("indexes a folder of odd files and prints one JSON object, and nothing else, on standard output", () =>
    Effect.gen(function* () {
      const home = yield* temporary
      const folder = yield* temporary
      const texts: Record<string, string> = {
        "empty.txt": "",
        "unterminated.txt": "one two",
        "windows.txt": "uno\r\ndos\r\n",
        "unicode ünï.txt": "Straße straße 漢字仮名\n",
        "deep/er/est.txt": "deep deep deep\n",
        "my_node_modules/taken.txt": "taken\n",
      }
      mkdirSync(join(folder, "deep", "er"), { recursive: true })
      mkdirSync(join(folder, "node_modules"))
      writeFileSync(join(folder, "node_modules", "left-out.txt"), "left out")
      mkdirSync(join(folder, ".outlive"))
      writeFileSync(join(folder, ".outlive", "left-out.txt"), "left out")
      mkdirSync(join(folder, "my_node_modules"))
      for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text)
      symlinkSync(join(folder, "empty.txt"), join(folder, "link.txt"))
      writeFileSync(join(folder, "a.bin"), Uint8Array.from([0x61, 0xff]))
      const all = Object.values(texts)
      const found = report(yield* demo(home, [folder, "--json"]))
      assert.deepInclude(found, {
        folder,
        files: 6,
        bytes: all.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
        lines: 0 + 1 + 2 + 1 + 1 + 1,
        words: 0 + 2 + 2 + 3 + 3 + 1,
        retries: 0,
        dead: [{ reason: "NotText", count: 1, examples: ["a.bin"] }],
      })
      assert.deepStrictEqual(found.topTerms.slice(0, 2), [
        { term: "deep", count: 3 },
        { term: "straße", count: 2 },
      ])
      assert.isAbove(found.seconds, 0)
    }),
  )

  it.live("prints a report for people", () =>
    Effect.gen(function* () {
      const home = yield* temporary
      const folder = yield* temporary
      writeFileSync(join(folder, "a.txt"), "one two\n")
      const { code, stdout } = yield* demo(home, [folder])
      assert.strictEqual(code, 0)
      assert.include(stdout, "1 files, 8 bytes, 1 lines and 2 words")
      assert.include(stdout, "no dead letters")
    }),
  )

  it.live(
    "loses nothing to kill -9 in the middle: the next run goes on, and the report is an undisturbed run's",
    () =>
      Effect.gen(function* () {
        const home = yield* temporary
        const { folder, totals } = yield* manyFiles
        const killed = yield* demo(home, [folder, "--json"], midway("SIGKILL"))
        assert.strictEqual(killed.code, null, killed.stderr)
        assert.strictEqual(killed.stdout, "")
        const second = yield* demo(home, [folder, "--json"])
        const found = report(second)
        assert.include(killed.stderr, found.runId)
        assert.include(second.stderr, `going on with run ${found.runId}`)
        assert.deepInclude(found, totals)
        // Undisturbed, by a run of its own.
        const third = report(yield* demo(home, [folder, "--json"]))
        assert.notStrictEqual(third.runId, found.runId)
        assert.deepInclude(third, totals)
      }),
    60_000,
  )

  it.live(
    "counts a file that was deleted between a kill and the next run, as what became of its task",
    () =>
      Effect.gen(function* () {
        const home = yield* temporary
        const { folder } = yield* manyFiles
        yield* demo(home, [folder, "--json"], midway("SIGKILL"))
        for (let n = 0; n < 1500; n += 7) rmSync(join(folder, "d0", `${n}.txt`))
        const { dead, files } = report(yield* demo(home, [folder, "--json"]))
        const count = (reason: string) => dead.find((each) => each.reason === reason)?.count ?? 0
        assert.strictEqual(files + count("NotText") + count("Vanished"), 1501)
        assert.isAbove(count("Vanished"), 0)
      }),
    60_000,
  )

  it.live(
    "drains on Ctrl-C, says what is left, and goes on the next time",
    () =>
      Effect.gen(function* () {
        const home = yield* temporary
        const { folder, totals } = yield* manyFiles
        const stopped = yield* demo(home, [folder, "--json"], midway("SIGINT"))
        assert.strictEqual(stopped.code, 130, stopped.stderr)
        const said = stopped.stderr.match(/(\d+) of 1501 files are done, (\d+) are left/)
        assert.isNotNull(said, stopped.stderr)
        assert.strictEqual(Number(said?.[1]) + Number(said?.[2]), 1501)
        const found = report(yield* demo(home, [folder, "--json"]))
        assert.deepInclude(found, totals)
      }),
    60_000,
  )

  it.live("refuses a folder that another process is indexing, and indexes another beside it", () =>
    Effect.gen(function* () {
      const home = yield* temporary
      const { folder, totals } = yield* manyFiles
      const other = yield* temporary
      writeFileSync(join(other, "a.txt"), "one two\n")
      const beside: Array<Promise<Ended>> = []
      const first = yield* demo(home, [folder, "--json"], (stderr) => {
        if (beside.length === 0 && /^[1-9]\d* of/m.test(stderr)) {
          beside.push(Effect.runPromise(demo(home, [folder])), Effect.runPromise(demo(home, [other, "--json"])))
        }
      })
      const [refused, accepted] = yield* Effect.promise(() => Promise.all(beside))
      assert.strictEqual(refused?.code, 1)
      assert.include(refused?.stderr, "is being indexed already")
      assert.strictEqual(report(accepted!).words, 2)
      assert.deepInclude(report(first), totals)
    }),
  )

  it.live("says in a sentence what is wrong with its input, with exit code 1 and no stack trace", () =>
    Effect.gen(function* () {
      const home = yield* temporary
      const folder = yield* temporary
      const file = join(folder, "file.txt")
      writeFileSync(file, "")
      mkdirSync(join(folder, "empty"))
      const blocked = yield* temporary
      writeFileSync(join(blocked, ".outlive"), "a file in the way")
      const foreign = yield* temporary
      mkdirSync(join(foreign, ".outlive"))
      writeFileSync(join(foreign, ".outlive", "demo.db"), createHash("sha512").update("not a database").digest())
      for (const [cwd, argument, sentence] of [
        [home, join(folder, "absent"), "there is no folder"],
        [home, file, "is a file, not a folder"],
        [home, join(folder, "empty"), "there are no files in"],
        [blocked, folder, "cannot make the folder"],
        [foreign, folder, "it is not a SQLite database"],
      ] as const) {
        const { code, stderr, stdout } = yield* demo(cwd, [argument, "--json"])
        assert.strictEqual(code, 1, stderr)
        assert.include(stderr, sentence)
        assert.notMatch(stderr, /^\s+at /m)
        assert.strictEqual(stdout, "")
      }
    }),
  )

  it.live("explains itself", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* demo(yield* temporary, ["--help"])
      assert.strictEqual(code, 0)
      for (const word of ["--json", "[<folder>]", "dead letter", "kill -9"]) assert.include(stdout, word)
    }),
  )
})
