/**
 * The barrels, `src/index.ts` and `src/testing/index.ts`: written from their folder, one namespace a module.
 *
 * A module that needs an optional third party stays out, so that nobody installs what they do not use. It says so above
 * its first statement, `@barrel none: needs the optional peer "pg"`, and is imported by its own path.
 */
import { posix } from "node:path"
import { packages, scope } from "./house.mjs"
import { packageNameOf, resolve } from "./imports.mjs"

/** @import { Problem } from "./house.mjs" */
/** @import { Manifest } from "./imports.mjs" */
/** @import { SourceModule } from "./sourceModule.mjs" */

/**
 * The barrels that these modules call for.
 *
 * @param {ReadonlyArray<SourceModule>} modules
 * @returns {Array<{ file: string, text: string }>}
 */
export const barrelsOf = (modules) =>
  packages.flatMap(({ name }) =>
    ["", "testing/"].flatMap((folder) => {
      const directory = `packages/${name}/src/${folder}`
      const inside = modules
        .filter((module) => `${posix.dirname(module.file)}/` === directory && module.barrelNone === undefined)
        .map((module) => posix.basename(module.file, ".ts"))
        .filter((module) => module !== "index")
        .sort()
      if (folder !== "" && !modules.some((module) => module.file.startsWith(directory))) return []
      return [{ file: `${directory}index.ts`, text: barrelText(`${scope}${name}/${folder}`.slice(0, -1), inside) }]
    }),
  )

/**
 * @param {string} entry
 * @param {ReadonlyArray<string>} names
 */
const barrelText = (entry, names) => `/**
 * Everything in \`${entry}\`, one namespace a module. Each is also an entry of its own: \`${entry}/${names[0] ?? "Module"}\`.
 *
 * Written by \`node scripts/boundaries.mjs --write\`.
 *
 * @since 0.1.0
 */
${names.length === 0 ? "export {}" : names.map((name) => `export * as ${name} from "./${name}.ts"`).join("\n")}
`

/**
 * @param {ReadonlyArray<SourceModule>} modules
 * @param {(file: string) => string | undefined} read
 * @returns {Array<Problem>}
 */
export const checkBarrels = (modules, read) => [
  ...barrelsOf(modules).flatMap(({ file, text }) => {
    const found = read(file)
    if (found === text) return []
    const differences = [
      ...exportLines(text)
        .filter((line) => !exportLines(found ?? "").includes(line))
        .map((line) => `lacks ${line}`),
      ...exportLines(found ?? "")
        .filter((line) => !exportLines(text).includes(line))
        .map((line) => `has ${line}`),
    ]
    const how = found === undefined ? "is missing" : differences.join(", ") || "differs in its order or its comment"
    return [
      { file, line: 1, rule: "barrel", message: `${how}; \`node scripts/boundaries.mjs --write\` writes it anew` },
    ]
  }),
  ...modules
    .filter((module) => module.barrelNone?.reason === "")
    .map((module) => ({
      file: module.file,
      line: module.barrelNone?.line ?? 1,
      rule: "barrel",
      message: "say why the module stays out: `@barrel none: needs the optional peer ...`",
    })),
]

/** @param {string} text */
const exportLines = (text) => text.split("\n").filter((line) => /^(export|import)\b/.test(line) && line !== "export {}")

/**
 * Importing a package's main barrel must work without its optional peers.
 *
 * @param {ReadonlyArray<SourceModule>} modules
 * @param {(packageName: string) => Manifest} manifestOf
 * @returns {Array<Problem>}
 */
export const checkOptionalPeers = (modules, manifestOf) => {
  const known = new Map(modules.map((module) => [module.file, module]))
  return packages.flatMap(({ name }) => {
    const meta = manifestOf(name).peerDependenciesMeta ?? {}
    const loaded = new Set([`packages/${name}/src/index.ts`])
    /** @type {Array<Problem>} */
    const problems = []
    for (const file of loaded) {
      for (const one of known.get(file)?.imports ?? []) {
        if (one.types || one.lazy || one.specifier === undefined) continue
        const target = resolve(file, one.specifier)
        if (target !== undefined) loaded.add(target)
        else if (file.startsWith(`packages/${name}/`) && meta[packageNameOf(one.specifier)]?.optional === true) {
          const message = `"${packageNameOf(one.specifier)}" is an optional peer, but the barrel loads this module: mark it \`@barrel none: why\``
          problems.push({ file, line: one.line, rule: "optional", message })
        }
      }
    }
    return problems
  })
}
