/**
 * `pnpm check`: everything that can be said about the code without running it. All steps run, also after one that
 * failed; exits with 1 if any did. `pnpm check --write` first writes the barrels, and lets Biome format the files and
 * correct what it safely can.
 */
import { parseArgs } from "node:util"
import { check, writeBarrels } from "./boundaries.mjs"
import { root, runSteps, runTool, StepFailed } from "./commands.mjs"

const { write } = parseArgs({ options: { write: { type: "boolean", default: false } } }).values
if (write) for (const file of writeBarrels(root)) console.log(`wrote ${file}`)

const biome = ["check", "--error-on-warnings", "--max-diagnostics=200", ...(write ? ["--write"] : [])]
const colors = process.stdout.isTTY ? "force" : "off"

await runSteps([
  [
    "types of the packages",
    async () => {
      // --force: tsc 7.0 keeps old verdicts when only an option in tsconfig.base.json changed. It takes a second.
      await runTool("typescript", ["-b", "--force", "packages/core", "packages/deferred", "packages/node"])
      return undefined
    },
  ],
  [
    "types of tests and programs",
    async () => {
      await runTool("typescript", ["--noEmit", "-p", "tsconfig.json"])
      return undefined
    },
  ],
  [
    "format and lint",
    async () => {
      await runTool("@biomejs/biome", [...biome, `--colors=${colors}`])
      return undefined
    },
  ],
  [
    "boundaries",
    async () => {
      const problems = check(root)
      if (problems.length === 0) return undefined
      throw new StepFailed(
        problems.map(({ file, line, rule, message }) => `${file}:${line} ${rule}: ${message}`).join("\n"),
      )
    },
  ],
])
