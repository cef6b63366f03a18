/**
 * `pnpm build`: compiles the packages into their `dist`, then tries what would be published: packs them, and looks at,
 * imports and type-checks the tarballs as a stranger's project would, outside the workspace. Stops at the first failure
 * and exits with 1. The tarballs are thrown away.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { packages } from "./boundaries/house.mjs"
import { importAll, makeProject, refuseInternals, typeCheckAll } from "./build/consumer.mjs"
import { inspect, pack } from "./build/tarball.mjs"
import { root, runSteps, runTool } from "./commands.mjs"

/** @import { Tarball } from "./build/tarball.mjs" */

const folder = mkdtempSync(join(tmpdir(), "outlive-build-"))
const sources = packages.map(({ name }) => join(root, "packages", name))
/** @type {Array<Tarball>} */
const tarballs = []

try {
  await runSteps(
    [
      [
        "compile",
        async () => {
          for (const source of sources) rmSync(join(source, "dist"), { recursive: true, force: true })
          await runTool("typescript", ["-b", ...sources])
          return undefined
        },
      ],
      [
        "pack",
        async () => {
          for (const source of sources) tarballs.push(await pack(source, folder))
          return tarballs.map(({ name, files, size }) => `${name} ${files.length} files, ${size}`).join("; ")
        },
      ],
      [
        "contents of the tarballs",
        async () => {
          await inspect(tarballs)
          return undefined
        },
      ],
      [
        "imports",
        async () => {
          makeProject(folder, tarballs)
          return `${await importAll(folder, tarballs)} modules`
        },
      ],
      ["internals are closed", async () => `${await refuseInternals(folder, tarballs)} refused`],
      [
        "types",
        async () => {
          await typeCheckAll(folder, tarballs)
          return undefined
        },
      ],
    ],
    { stopAtFailure: true },
  )
} finally {
  rmSync(folder, { recursive: true })
}
