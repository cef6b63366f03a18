/**
 * Packs a package, and looks at what its tarball holds.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs"
import { basename, join, posix, sep } from "node:path"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { run, runPnpm, StepFailed } from "../commands.mjs"

/**
 * @typedef {object} Tarball
 * @property {string} name `@outlive/core`
 * @property {string} source the package's folder in the workspace
 * @property {string} directory where the tarball is unpacked: inside the consumer's node_modules
 * @property {ReadonlyArray<string>} files paths in the package, with `/`
 * @property {string} size
 * @property {Manifest} manifest the published package.json
 */

/**
 * @typedef {object} Manifest
 * @property {string} name
 * @property {string} version
 * @property {Record<string, unknown>} exports
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {{ exports: Record<string, unknown> }} publishConfig
 */

/** @param {string} file @returns {Manifest} */
const readManifest = (file) => JSON.parse(readFileSync(file, "utf8"))

/**
 * @param {string} source the package's folder in the workspace
 * @param {string} folder the consumer's project
 * @returns {Promise<Tarball>}
 */
export const pack = async (source, folder) => {
  const archive = join(folder, `${basename(source)}.tgz`)
  await runPnpm(["pack", "--out", archive], { cwd: source })
  const { name } = readManifest(join(source, "package.json"))
  const directory = join(folder, "node_modules", ...name.split("/"))
  mkdirSync(directory, { recursive: true })
  await run("tar", ["-xzf", archive, "--strip-components=1", "-C", directory])
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .map((file) => file.split(sep).join("/"))
    .sort()
  const size = `${Math.ceil(statSync(archive).size / 1024)} KiB`
  return { name, source, directory, files, size, manifest: readManifest(join(directory, "package.json")) }
}

/**
 * The modules that a package publishes, as they are imported; the barrels among them.
 *
 * @param {Tarball} tarball
 */
export const entriesOf = ({ name, files }) =>
  files
    .filter((file) => /^dist\/.*\.js$/.test(file) && !file.includes("/internal/"))
    .map((file) => `${name}/${file.slice("dist/".length, -".js".length)}`.replace(/\/index$/, ""))

/**
 * Fails when a tarball lacks something, holds too much, or would not work outside the workspace.
 *
 * @param {ReadonlyArray<Tarball>} tarballs
 */
export const inspect = async (tarballs) => {
  /** @type {Array<string>} */
  const problems = []
  for (const tarball of tarballs) {
    const { name, source, directory, files, manifest } = tarball
    /** @param {string} message */
    const refuse = (message) => problems.push(`${name}: ${message}`)

    const wanted = readManifest(join(source, "package.json")).publishConfig.exports
    if (JSON.stringify(manifest.exports) !== JSON.stringify(wanted)) {
      refuse(`publishConfig.exports did not take effect: ${JSON.stringify(manifest.exports)}`)
    }
    for (const [dependency, range] of Object.entries({ ...manifest.dependencies, ...manifest.peerDependencies })) {
      if (/^(workspace|catalog|link|file):/.test(range)) refuse(`${dependency} is asked for as "${range}"`)
      const sibling = tarballs.find((other) => other.name === dependency)
      if (sibling !== undefined && range !== `^${sibling.manifest.version}`) {
        refuse(`${dependency} is asked for as "${range}", but is ${sibling.manifest.version}`)
      }
    }
    if (manifest.version !== tarballs[0]?.manifest.version) {
      refuse(`version ${manifest.version} differs from ${tarballs[0]?.name}'s ${tarballs[0]?.manifest.version}`)
    }

    const modules = files.filter((file) => /^src\/.*\.ts$/.test(file)).map((file) => file.slice("src/".length, -3))
    const expected = [
      ...["package.json", "README.md", "LICENSE", "src/index.ts"],
      ...modules.flatMap((module) => [".js", ".js.map", ".d.ts", ".d.ts.map"].map((end) => `dist/${module}${end}`)),
      ...modules.map((module) => `src/${module}.ts`),
    ]
    for (const file of expected) if (!files.includes(file)) refuse(`lacks ${file}`)
    const optional = ["CHANGELOG.md"]
    for (const file of files) {
      if (!expected.includes(file) && !optional.includes(file)) refuse(`holds ${file}, which nobody asked for`)
    }

    for (const file of files.filter((file) => file.endsWith(".map"))) {
      for (const mapped of JSON.parse(readFileSync(join(directory, file), "utf8")).sources) {
        if (!existsSync(join(directory, posix.dirname(file), mapped)))
          refuse(`${file} points at ${mapped}, not shipped`)
      }
    }
    for (const file of files.filter((file) => /^dist\/.*\.js$/.test(file))) {
      const found = /(?:from|import|new URL)\s*\(?\s*["'](\.[^"']*\.ts)["']/.exec(
        readFileSync(join(directory, file), "utf8"),
      )
      if (found !== null) refuse(`${file} still asks for ${found[1]}, which is not beside it`)
    }

    const { messages } = await publint({ pkgDir: directory, pack: false, strict: true, level: "warning" })
    for (const message of messages) refuse(formatMessage(message, manifest, { color: false }) ?? message.code)
  }
  if (problems.length > 0) throw new StepFailed(problems.join("\n"))
}
