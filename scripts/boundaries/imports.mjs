/**
 * What a module may import: never backwards, never from Node in code for any host, never what is private to another
 * package, never what its package.json does not declare.
 */
import { existsSync, readFileSync } from "node:fs"
import { createRequire, isBuiltin } from "node:module"
import { dirname, join, posix } from "node:path"
import { direction, packages, scope } from "./house.mjs"

/** @import { Package, Problem } from "./house.mjs" */
/** @import { Import, SourceModule } from "./sourceModule.mjs" */

/**
 * @typedef {object} Manifest
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {Record<string, { optional?: boolean }>} [peerDependenciesMeta]
 */

/**
 * The file that an import of this repository means, by path or by package name; undefined for everything else.
 *
 * @param {string} from the importing file
 * @param {string} specifier
 * @returns {string | undefined}
 */
export const resolve = (from, specifier) => {
  if (specifier.startsWith(".")) return posix.join(posix.dirname(from), specifier)
  const own = ours(specifier)
  if (own === undefined) return undefined
  if (own.subpath === "") return `packages/${own.name}/src/index.ts`
  if (own.subpath === "testing") return `packages/${own.name}/src/testing/index.ts`
  return `packages/${own.name}/src/${own.subpath}.ts`
}

/**
 * @param {string} specifier
 * @returns {{ name: string, subpath: string } | undefined}
 */
const ours = (specifier) => {
  if (!specifier.startsWith(scope)) return undefined
  const [name = "", ...rest] = specifier.slice(scope.length).split("/")
  return { name, subpath: rest.join("/") }
}

/** @param {string} specifier */
export const packageNameOf = (specifier) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

/** @param {string} file */
const isTesting = (file) => /^packages\/[^/]+\/src\/testing\//.test(file)

/**
 * @param {SourceModule} module a module under a package's src
 * @param {Package} owner
 * @param {Manifest} manifest
 * @returns {Array<Problem>}
 */
export const checkLibraryImports = (module, owner, manifest) =>
  module.imports.flatMap((one) => {
    const refused = refuse(module.file, one, owner, manifest)
    return refused === undefined ? [] : [{ file: module.file, line: one.line, ...refused }]
  })

/**
 * @param {string} file
 * @param {Import} one
 * @param {Package} owner
 * @param {Manifest} manifest
 * @returns {{ rule: string, message: string } | undefined}
 */
const refuse = (file, one, owner, manifest) => {
  const { specifier } = one
  if (specifier === undefined) {
    return { rule: "computed", message: "an import of a computed name cannot be checked: write the name out" }
  }
  const target = resolve(file, specifier)
  const src = `packages/${owner.name}/src/`
  if (specifier.startsWith(".")) {
    if (!String(target).startsWith(src)) {
      return { rule: "reach", message: `"${specifier}" leaves ${src}: import another package by its name` }
    }
    return fromTesting(file, specifier, String(target))
  }
  const own = ours(specifier)
  if (own !== undefined) {
    if (own.name === owner.name) {
      return { rule: "reach", message: `"${specifier}" is this package: import its file by a relative path` }
    }
    if (!owner.uses.includes(own.name)) {
      return { rule: "backward", message: `${owner.name} may not import "${specifier}": dependencies run ${direction}` }
    }
    if (own.subpath.split("/").includes("internal")) return closed(specifier)
    return fromTesting(file, specifier, String(target)) ?? undeclared(specifier, manifest)
  }
  if (owner.host === "node") return undeclared(specifier, manifest)
  if (isBuiltin(specifier)) {
    return { rule: "node", message: `"${specifier}" exists on Node only: put what needs it into packages/node` }
  }
  if (packageNameOf(specifier) === "effect") return unstable(file, one, specifier)
  if (specifier === "@effect/vitest" && isTesting(file)) return undeclared(specifier, manifest)
  return {
    rule: "node",
    message: `${owner.name} runs on every host and depends on effect alone, not on "${packageNameOf(specifier)}"`,
  }
}

/**
 * @param {string} file
 * @param {string} specifier
 * @param {string} target
 */
const fromTesting = (file, specifier, target) =>
  isTesting(target) && !isTesting(file)
    ? { rule: "testing", message: `"${specifier}" is for tests: a module outside testing/ may not need it` }
    : undefined

/** @param {string} specifier */
const closed = (specifier) => ({
  rule: "internal",
  message: `"${specifier}" is private to its package: use, or add, an export of one of its modules`,
})

/**
 * @param {string} specifier
 * @param {Manifest} manifest
 */
const undeclared = (specifier, manifest) => {
  const name = packageNameOf(specifier)
  if (isBuiltin(specifier) || { ...manifest.dependencies, ...manifest.peerDependencies }[name] !== undefined) {
    return undefined
  }
  return { rule: "undeclared", message: `"${name}" is neither a dependency nor a peer dependency of this package` }
}

/**
 * @param {string} file
 * @param {Import} one
 * @param {string} specifier
 */
const unstable = (file, one, specifier) => {
  const subpath = specifier.slice("effect".length + 1)
  if (subpath === "testing" || subpath.startsWith("testing/")) {
    if (isTesting(file)) return undefined
    return { rule: "testing", message: `"${specifier}" is for tests: only modules in testing/ may import it` }
  }
  if (subpath === "" && one.names === undefined) {
    return { rule: "unstable", message: `name the modules you take from "effect", so that they can be checked` }
  }
  // Lower-case exports of "effect" are the plain functions of its Function module: pipe, flow, identity ...
  const wanted = subpath === "" ? (one.names ?? []).filter((name) => !/^[a-z]/.test(name)) : [subpath]
  const refused = wanted.find((name) => stabilityOf(name) !== "stable")
  if (refused === undefined) return undefined
  return {
    rule: "unstable",
    message: `effect's ${refused} is not stable and may change in a minor release: keep it behind a service in packages/node`,
  }
}

const effectSources = join(dirname(createRequire(import.meta.url).resolve("effect/package.json")), "src")

/**
 * What the module comment of the installed Effect says: the first `@stability` of a file is its module's.
 *
 * @param {string} name `Semaphore`, `sql/SqlClient`
 * @returns {string | undefined}
 */
const stabilityOf = (name) => {
  const file = join(effectSources, `${name}.ts`)
  if (name.includes("/") || !existsSync(file)) return undefined
  return /@stability (\w+)/.exec(readFileSync(file, "utf8"))?.[1]
}

/**
 * What a test, an example, a bench or a script may import of the packages: what everybody may; the tests of a package
 * also everything of that package.
 *
 * @param {SourceModule} module
 * @returns {Array<Problem>}
 */
export const checkProgramImports = (module) =>
  module.imports.flatMap((one) => {
    if (one.specifier === undefined) return []
    const at = { file: module.file, line: one.line }
    const target = resolve(module.file, one.specifier)
    const entered = packages.find((owner) => target?.startsWith(`packages/${owner.name}/`))
    if (entered === undefined) return []
    if (!one.specifier.startsWith(".")) {
      return ours(one.specifier)?.subpath.split("/").includes("internal") ? [{ ...at, ...closed(one.specifier) }] : []
    }
    if (module.file.startsWith(`packages/${entered.name}/`)) return []
    const message = `"${one.specifier}" reaches into packages/${entered.name}: import it by its name, ${scope}${entered.name}`
    return [{ ...at, rule: "reach", message }]
  })
