/**
 * What a source file imports and does, read from its syntax tree, so that comments and strings fool nobody.
 */
import { parseSync, Visitor } from "oxc-parser"

/**
 * @typedef {object} Import
 * @property {string | undefined} specifier undefined when `import()` is given something computed
 * @property {ReadonlyArray<string> | undefined} names undefined when everything is taken (`* as`, `import()`)
 * @property {boolean} types erased by the compiler
 * @property {boolean} lazy an `import()`: runs when called, not when the module is loaded
 * @property {number} line
 */

/**
 * @typedef {object} Use
 * @property {"time" | "async"} rule
 * @property {string} what
 * @property {number} line
 */

/**
 * @typedef {object} SourceModule
 * @property {string} file path from the root of the repository, with `/`
 * @property {number} lines
 * @property {ReadonlyArray<Import>} imports
 * @property {ReadonlyArray<Use>} uses
 * @property {ReadonlyArray<{ rule: string, reason: string, line: number }>} allows `// allow time: why`
 * @property {{ reason: string, line: number } | undefined} barrelNone `@barrel none: why` above the first statement
 * @property {ReadonlyArray<{ message: string, line: number }>} syntaxErrors
 */

/** Reads of a clock other than Effect's, and timers that no TestClock can drive. */
const clockMembers = new Set(["Date.now", "performance.now", "performance.timeOrigin", "process.hrtime"])
const timers = new Set(["setTimeout", "setInterval"])

/**
 * @param {string} file
 * @param {string} text
 * @returns {SourceModule}
 */
export const parse = (file, text) => {
  const { program, comments, errors } = parseSync(file, text, { preserveParens: false })
  const starts = [0]
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) starts.push(at + 1)
  /** @param {number} offset */
  const lineOf = (offset) => {
    let low = 0
    let high = starts.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (/** @type {number} */ (starts[middle]) <= offset) low = middle
      else high = middle
    }
    return low + 1
  }

  /** @type {Array<Import>} */
  const imports = []
  /** @type {Array<Use>} */
  const uses = []

  /** @param {{ async?: boolean, start: number }} node */
  const functionLike = (node) => {
    if (node.async === true) uses.push({ rule: "async", what: "an async function", line: lineOf(node.start) })
  }

  new Visitor({
    ImportDeclaration(node) {
      imports.push({
        specifier: node.source.value,
        names: node.specifiers.some((one) => one.type === "ImportNamespaceSpecifier")
          ? undefined
          : node.specifiers.map((one) => (one.type === "ImportSpecifier" ? nameOf(one.imported) : "default")),
        types: node.importKind === "type",
        lazy: false,
        line: lineOf(node.start),
      })
    },
    ExportNamedDeclaration(node) {
      if (node.source === null) return
      imports.push({
        specifier: node.source.value,
        names: node.specifiers.map((one) => nameOf(one.local)),
        types: node.exportKind === "type",
        lazy: false,
        line: lineOf(node.start),
      })
    },
    ExportAllDeclaration(node) {
      imports.push({
        specifier: node.source.value,
        names: undefined,
        types: node.exportKind === "type",
        lazy: false,
        line: lineOf(node.start),
      })
    },
    ImportExpression(node) {
      imports.push({
        specifier: literal(node.source),
        names: undefined,
        types: false,
        lazy: true,
        line: lineOf(node.start),
      })
    },
    TSImportType(node) {
      imports.push({
        specifier: literal(node.source),
        names: node.qualifier?.type === "Identifier" ? [node.qualifier.name] : undefined,
        types: true,
        lazy: false,
        line: lineOf(node.start),
      })
    },
    TSExternalModuleReference(node) {
      imports.push({
        specifier: literal(node.expression),
        names: undefined,
        types: false,
        lazy: false,
        line: lineOf(node.start),
      })
    },
    CallExpression(node) {
      const callee = path(node.callee)
      if (callee === "require" || callee === "process.getBuiltinModule") {
        imports.push({
          specifier: literal(node.arguments[0]),
          names: undefined,
          types: false,
          lazy: true,
          line: lineOf(node.start),
        })
      }
      if (callee !== undefined && (timers.has(callee) || callee === "Date")) {
        uses.push({ rule: "time", what: `${callee}()`, line: lineOf(node.start) })
      }
    },
    NewExpression(node) {
      if (path(node.callee) === "Date" && node.arguments.length === 0) {
        uses.push({ rule: "time", what: "new Date()", line: lineOf(node.start) })
      }
    },
    MemberExpression(node) {
      const member = path(node)
      if (member !== undefined && clockMembers.has(member)) {
        uses.push({ rule: "time", what: member, line: lineOf(node.start) })
      }
    },
    FunctionDeclaration: functionLike,
    FunctionExpression: functionLike,
    ArrowFunctionExpression: functionLike,
    AwaitExpression(node) {
      uses.push({ rule: "async", what: "await", line: lineOf(node.start) })
    },
    ForOfStatement(node) {
      if (node.await) uses.push({ rule: "async", what: "for await", line: lineOf(node.start) })
    },
  }).visit(program)

  const firstStatement = program.body[0]?.start ?? text.length
  const allows = []
  /** @type {SourceModule["barrelNone"]} */
  let barrelNone
  for (const comment of comments) {
    const allow = /^\s*allow (time|async)\b:?\s*(.*)/.exec(comment.value)
    if (allow !== null) {
      const [, rule = "", reason = ""] = allow
      allows.push({ rule, reason: reason.trim(), line: lineOf(comment.end) })
    }
    const none = /@barrel\s+none\b:?[^\S\n]*([^\n]*)/.exec(comment.value)
    if (none !== null && comment.end <= firstStatement) {
      const marker = comment.start + 2 + none.index
      barrelNone = { reason: (none[1] ?? "").replace(/\*\/$/, "").trim(), line: lineOf(marker) }
    }
  }

  return {
    file,
    lines: text === "" ? 0 : starts.length - (text.endsWith("\n") ? 1 : 0),
    imports,
    uses,
    allows,
    barrelNone,
    syntaxErrors: errors.map((error) => ({ message: error.message, line: lineOf(error.labels[0]?.start ?? 0) })),
  }
}

/**
 * @param {import("oxc-parser").ModuleExportName} node
 * @returns {string}
 */
const nameOf = (node) => (node.type === "Literal" ? node.value : node.name)

/**
 * The text of a string without holes.
 *
 * @param {import("oxc-parser").Node | undefined} node
 * @returns {string | undefined}
 */
const literal = (node) => {
  if (node?.type === "Literal" && typeof node.value === "string") return node.value
  if (node?.type === "TemplateLiteral" && node.quasis.length === 1) return node.quasis[0]?.value.cooked ?? undefined
  return undefined
}

/**
 * `Date`, `Date.now`, `globalThis.Date["now"]`: a global or one member of it, `globalThis` left out.
 *
 * @param {import("oxc-parser").Node} node
 * @returns {string | undefined}
 */
const path = (node) => {
  if (node.type === "Identifier") return node.name
  if (node.type === "ChainExpression") return path(node.expression)
  if (node.type !== "MemberExpression") return undefined
  const object = path(node.object)
  const property = node.computed
    ? literal(node.property)
    : node.property.type === "Identifier"
      ? node.property.name
      : undefined
  if (object === undefined || property === undefined) return undefined
  return object === "globalThis" ? property : `${object}.${property}`
}
