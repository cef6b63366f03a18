/**
 * Runs the commands of the workspace's own tools, and tells how a row of steps went.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { basename, dirname, join } from "node:path"

export const root = dirname(import.meta.dirname)

/**
 * What went wrong in a step, in words for the one who reads the terminal.
 */
export class StepFailed extends Error {}

/**
 * Runs a command to its end and gives back what it printed; fails with `StepFailed` when it exits with anything but 0.
 *
 * @param {string} command
 * @param {ReadonlyArray<string>} args
 * @param {{ cwd?: string }} [options]
 * @returns {Promise<string>}
 */
export const run = (command, args, { cwd = root } = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    const keep = (/** @type {string} */ chunk) => {
      output += chunk
    }
    child.stdout.setEncoding("utf8").on("data", keep)
    child.stderr.setEncoding("utf8").on("data", keep)
    child.on("error", (error) => reject(new StepFailed(`${command} did not start: ${error.message}`)))
    child.on("close", (code, signal) => {
      if (code === 0) resolve(output)
      else reject(new StepFailed(output.trimEnd() || `${command} ended with ${signal ?? `exit code ${code}`}`))
    })
  })

/**
 * Runs the command of an installed package with this Node.
 *
 * @param {string} name a dependency of the root, with one command
 * @param {ReadonlyArray<string>} args
 * @param {{ cwd?: string }} [options]
 */
export const runTool = (name, args, options) => {
  const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`)
  const { bin } = JSON.parse(readFileSync(manifest, "utf8"))
  const file = typeof bin === "string" ? bin : Object.values(bin)[0]
  return run(process.execPath, [join(dirname(manifest), file), ...args], options)
}

/**
 * Runs the pnpm that started us; without one, the pnpm that npx brings.
 *
 * @param {ReadonlyArray<string>} args
 * @param {{ cwd?: string }} [options]
 */
export const runPnpm = (args, options) => {
  const parent = process.env.npm_execpath ?? ""
  if (!basename(parent).startsWith("pnpm")) return run("npx", ["-y", "pnpm@12", ...args], options)
  return /\.[cm]?js$/.test(parent) ? run(process.execPath, [parent, ...args], options) : run(parent, args, options)
}

/**
 * Runs the steps one after the other, also after one that failed, and prints a line for each. The process exits with 1
 * if any failed. A step's own result is printed behind its name.
 *
 * @param {ReadonlyArray<readonly [name: string, step: () => Promise<string | undefined>]>} steps
 * @param {{ stopAtFailure?: boolean }} [options] for steps that build on each other
 */
export const runSteps = async (steps, { stopAtFailure = false } = {}) => {
  const width = Math.max(...steps.map(([name]) => name.length))
  const failed = []
  for (const [name, step] of steps) {
    const start = performance.now()
    const line = (/** @type {string} */ mark) =>
      `${mark} ${name.padEnd(width)} ${((performance.now() - start) / 1000).toFixed(1).padStart(5)} s`
    try {
      const result = await step()
      console.log(result ? `${line("✓")}  ${result}` : line("✓"))
    } catch (error) {
      if (!(error instanceof StepFailed)) throw error
      console.log(`${line("✗")}\n\n${error.message}\n`)
      failed.push(name)
      if (stopAtFailure) break
    }
  }
  if (failed.length > 0) {
    console.log(`failed: ${failed.join(", ")}`)
    process.exitCode = 1
  }
}
