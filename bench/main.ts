/**
 * `pnpm bench <name>...`: runs the benches of these names, one after the other, each in a process of its own so that
 * one does not warm or litter the next. What follows the first option goes to each of them: `pnpm bench threads --json`.
 * Without a name, lists what there is.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"

const here = import.meta.dirname
const available = readdirSync(here)
  .filter((name) => existsSync(join(here, name, "main.ts")))
  .sort()

const given = process.argv.slice(2).filter((argument) => argument !== "--")
const firstOption = given.findIndex((argument) => argument.startsWith("-"))
const names = firstOption === -1 ? given : given.slice(0, firstOption)
const options = firstOption === -1 ? [] : given.slice(firstOption)
const unknown = names.filter((name) => !available.includes(name))

if (names.length === 0 || unknown.length > 0) {
  const benches = available.length === 0 ? "none yet" : available.join(", ")
  const said = unknown.length > 0 ? `No bench is called ${unknown.map((name) => `"${name}"`).join(" or ")}.\n` : ""
  const text = `${said}Usage: pnpm bench <name>...\nBenches: ${benches}`
  if (unknown.length > 0) console.error(text)
  else console.log(text)
  process.exit(unknown.length > 0 ? 1 : 0)
}

for (const name of names) {
  const { status, signal, error } = spawnSync(process.execPath, [join(here, name, "main.ts"), ...options], {
    stdio: "inherit",
  })
  if (error !== undefined) throw error
  if (status !== 0) {
    console.error(`The bench "${name}" ended with ${signal ?? `exit code ${status}`}.`)
    process.exitCode = 1
  }
}
