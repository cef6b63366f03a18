/**
 * A stranger's project: the unpacked tarballs beside the third parties they ask for, outside the workspace.
 */
import { existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { run, runTool, StepFailed } from "../commands.mjs"
import { entriesOf } from "./tarball.mjs"

/** @import { Tarball } from "./tarball.mjs" */

/**
 * Makes `folder` a project. Third parties are linked from the workspace, so that each exists once.
 *
 * @param {string} folder
 * @param {ReadonlyArray<Tarball>} tarballs
 */
export const makeProject = (folder, tarballs) => {
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }))
  for (const { source, manifest } of tarballs) {
    const wanted = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies, "@types/node": "" })
    for (const name of wanted) {
      const link = join(folder, "node_modules", ...name.split("/"))
      const installed = join(source, "node_modules", ...name.split("/"))
      if (existsSync(link) || !existsSync(installed)) continue
      mkdirSync(dirname(link), { recursive: true })
      symlinkSync(realpathSync(installed), link, "junction")
    }
  }
}

/**
 * Imports every published module under plain Node, in one process for each package.
 *
 * @param {string} folder
 * @param {ReadonlyArray<Tarball>} tarballs
 * @returns {Promise<number>} how many
 */
export const importAll = async (folder, tarballs) => {
  let count = 0
  for (const tarball of tarballs) {
    const entries = entriesOf(tarball)
    const barrel = entries.filter((entry) => entry.slice(tarball.name.length + 1).match(/^[A-Z]/))
    await node(
      folder,
      `for (const entry of ${JSON.stringify(entries)}) {
         await import(entry).catch((error) => { console.error("import " + entry + " failed:"); throw error })
       }
       const unknown = Object.keys(await import("${tarball.name}")).filter((name) => !${JSON.stringify(barrel)}.includes("${tarball.name}/" + name))
       if (unknown.length > 0) throw new Error("${tarball.name} exports what is no module of its own: " + unknown)`,
    )
    count += entries.length
  }
  return count
}

/**
 * Asks for every private file by the name it would have; Node must refuse each.
 *
 * @param {string} folder
 * @param {ReadonlyArray<Tarball>} tarballs
 * @returns {Promise<number>} how many
 */
export const refuseInternals = async (folder, tarballs) => {
  const names = tarballs.flatMap(({ name, files }) => [
    `${name}/internal/anything`,
    ...files
      .filter((file) => /^dist\/(.*\/)?internal\/.*\.js$/.test(file))
      .map((file) => `${name}/${file.slice("dist/".length, -".js".length)}`),
  ])
  await node(
    folder,
    `for (const name of ${JSON.stringify(names)}) {
       const refused = await import(name).then(() => "nothing", (error) => error.code)
       if (refused !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw new Error("importing " + name + " was stopped by " + refused)
     }`,
  )
  return names.length
}

/**
 * Type-checks a file that imports every published module, by the declarations in the tarballs.
 *
 * @param {string} folder
 * @param {ReadonlyArray<Tarball>} tarballs
 */
export const typeCheckAll = async (folder, tarballs) => {
  const entries = tarballs.flatMap(entriesOf)
  const text = entries.map((entry, index) => `export * as m${index} from "${entry}"\n`).join("")
  const closed = tarballs
    .map(({ name }) => `// @ts-expect-error private\nimport "${name}/internal/anything"\n`)
    .join("")
  writeFileSync(join(folder, "consumer.ts"), text + closed)
  const compilerOptions = {
    target: "es2024",
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    noUncheckedSideEffectImports: true,
    types: ["node"],
  }
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }))
  const read = await runTool("typescript", ["-p", folder, "--listFiles"], { cwd: folder })
  for (const { name, files } of tarballs) {
    const missing = files.filter(
      (file) => /^dist\/(?!(.*\/)?internal\/).*\.d\.ts$/.test(file) && !read.includes(`${name}/${file}`),
    )
    if (missing.length > 0) throw new StepFailed(`${name}: no types were read from ${missing.join(", ")}`)
  }
}

/**
 * @param {string} folder
 * @param {string} program
 */
const node = async (folder, program) => {
  const file = join(folder, "program.mjs")
  writeFileSync(file, program)
  await run(process.execPath, [file], { cwd: folder })
}
