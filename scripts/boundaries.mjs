/**
 * Keeps the house in order. Refuses circular imports, dependencies that run backwards, Node and unstable modules of
 * Effect in core and deferred, reaching into what is private, other clocks than Effect's, async functions in libraries,
 * files that grow too long, and barrels that do not match their folder.
 *
 *     node scripts/boundaries.mjs            says what is wrong, and exits with 1 if anything is
 *     node scripts/boundaries.mjs --write    writes the barrels first
 *
 * One line may be excused, with a reason, by a comment on it or right above it: `// allow time: why` for the clock,
 * `// allow async: why` for an async function. An excuse that excuses nothing is refused as well.
 */
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs"
import { basename, dirname, join, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { barrelsOf, checkBarrels, checkOptionalPeers } from "./boundaries/barrels.mjs"
import { checkCircles } from "./boundaries/circles.mjs"
import { maxLines, packages, programs } from "./boundaries/house.mjs"
import { checkLibraryImports, checkProgramImports } from "./boundaries/imports.mjs"
import { parse } from "./boundaries/sourceModule.mjs"

/** @import { Problem } from "./boundaries/house.mjs" */
/** @import { Manifest } from "./boundaries/imports.mjs" */
/** @import { SourceModule } from "./boundaries/sourceModule.mjs" */

/**
 * @param {string} root
 * @param {string} pattern
 * @returns {Array<string>} paths from the root, with `/`
 */
const find = (root, pattern) =>
  globSync(pattern, { cwd: root, exclude: (name) => ["node_modules", "dist"].includes(basename(name)) })
    .map((file) => file.split(sep).join("/"))
    .sort()

/** @param {string} root */
const librarySources = (root) =>
  packages.flatMap(({ name }) =>
    find(root, `packages/${name}/src/**/*.ts`).map((file) => parse(file, readFileSync(join(root, file), "utf8"))),
  )

/**
 * Everything that is wrong with the tree under `root`, in the order of files and lines.
 *
 * @param {string} root
 * @returns {Array<Problem>}
 */
export const check = (root) => {
  const library = librarySources(root)
  const rest = [...packages.map(({ name }) => `packages/${name}/{test,typetest}`), ...programs]
    .flatMap((folder) => find(root, `${folder}/**/*.{ts,mjs}`))
    .map((file) => parse(file, readFileSync(join(root, file), "utf8")))
  /** @param {string} name @returns {Manifest} */
  const manifestOf = (name) => JSON.parse(readFileSync(join(root, `packages/${name}/package.json`), "utf8"))

  const problems = [
    ...packages.flatMap((owner) => {
      const manifest = manifestOf(owner.name)
      return library
        .filter((module) => module.file.startsWith(`packages/${owner.name}/`))
        .flatMap((module) => [...checkLibraryImports(module, owner, manifest), ...checkUses(module)])
    }),
    ...packages.flatMap(({ name }) => checkNames(find(root, `packages/${name}/src/**/*.*`), `packages/${name}/src/`)),
    ...rest.flatMap(checkProgramImports),
    ...[...library, ...rest].flatMap((module) => [...checkSyntax(module), ...checkLength(module)]),
    ...checkCircles(library),
    ...checkBarrels(library, (file) =>
      existsSync(join(root, file)) ? readFileSync(join(root, file), "utf8") : undefined,
    ),
    ...checkOptionalPeers(library, manifestOf),
  ]
  return problems.sort((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1))
}

/**
 * Writes the barrels that differ from what their folder calls for.
 *
 * @param {string} root
 * @returns {Array<string>} the files written
 */
export const writeBarrels = (root) =>
  barrelsOf(librarySources(root))
    .filter(({ file, text }) => !existsSync(join(root, file)) || readFileSync(join(root, file), "utf8") !== text)
    .map(({ file, text }) => {
      writeFileSync(join(root, file), text)
      return file
    })

/**
 * Clocks and async functions, less the lines that are excused.
 *
 * @param {SourceModule} module
 * @returns {Array<Problem>}
 */
const checkUses = (module) => {
  const instead = {
    time: "read Clock and wait with Effect.sleep, so that a TestClock drives it",
    async: "return an Effect (Effect.tryPromise, Effect.callback), so that it can be interrupted",
  }
  const spent = new Set()
  const refused = module.uses.filter((use) => {
    const excuse = module.allows.find(
      (allow) => allow.rule === use.rule && allow.reason !== "" && [use.line, use.line - 1].includes(allow.line),
    )
    spent.add(excuse)
    return excuse === undefined
  })
  return [
    ...refused.map(({ rule, what, line }) => ({
      file: module.file,
      line,
      rule,
      message: `${what}: ${instead[rule]}, or excuse the line: \`// allow ${rule}: why\``,
    })),
    ...module.allows
      .filter((allow) => !spent.has(allow))
      .map(({ rule, reason, line }) => ({
        file: module.file,
        line,
        rule,
        message: reason === "" ? `say why: \`// allow ${rule}: why\`` : "this excuse excuses nothing: remove it",
      })),
  ]
}

/**
 * Modules are flat and PascalCase, private code is camelCase, and a name says what is inside.
 *
 * @param {ReadonlyArray<string>} files
 * @param {string} src
 * @returns {Array<Problem>}
 */
const checkNames = (files, src) =>
  files.flatMap((file) => {
    const path = file.slice(src.length)
    const name = basename(path).replace(/\..*$/, "")
    /** @param {string} message */
    const refuse = (message) => [{ file, line: 1, rule: "name", message }]
    if (!/^[^.]+\.ts$/.test(basename(path))) return refuse("only .ts files are compiled into dist: nothing else in src")
    if (/^(utils?|common|misc|helpers?|shared|lib)$/i.test(name)) {
      return refuse(`"${name}" says nothing: name the file by the concept it holds`)
    }
    if (/^(testing\/)?internal\//.test(path)) {
      return /^(testing\/)?internal\/([a-z][A-Za-z0-9]*\/)*[a-z][A-Za-z0-9]*\.ts$/.test(path)
        ? []
        : refuse("private files are camelCase: internal/someThing.ts")
    }
    if (path === "index.ts" || path === "testing/index.ts") return []
    return /^(testing\/)?[A-Z][A-Za-z0-9]*\.ts$/.test(path)
      ? []
      : refuse("modules are PascalCase and flat: src/SomeThing.ts; private code goes to src/internal")
  })

/** @param {SourceModule} module @returns {Array<Problem>} */
const checkLength = (module) => {
  if (module.lines <= maxLines || /\.test\.ts$/.test(module.file) || /\/(test|typetest)\//.test(module.file)) return []
  const message = `${module.lines} lines: above ${maxLines} a file holds more than one concept, split it`
  return [{ file: module.file, line: maxLines + 1, rule: "length", message }]
}

/** @param {SourceModule} module @returns {Array<Problem>} */
const checkSyntax = (module) =>
  module.syntaxErrors.map(({ message, line }) => ({ file: module.file, line, rule: "syntax", message }))

if (import.meta.main) {
  const { values } = parseArgs({ options: { write: { type: "boolean", default: false }, root: { type: "string" } } })
  const root = values.root ?? dirname(dirname(fileURLToPath(import.meta.url)))
  if (values.write) for (const file of writeBarrels(root)) console.log(`wrote ${file}`)
  const problems = check(root)
  for (const { file, line, rule, message } of problems) console.error(`${file}:${line} ${rule}: ${message}`)
  if (problems.length > 0) process.exitCode = 1
}
