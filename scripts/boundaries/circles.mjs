/**
 * Circular imports, inside a package and between packages. Types count: two modules that need each other's types are one
 * concept, or hide a third. Only private code may know the types of the module it works for, which is Effect's own way.
 */
import { resolve } from "./imports.mjs"

/** @import { Problem } from "./house.mjs" */
/** @import { SourceModule } from "./sourceModule.mjs" */

/**
 * One problem for each knot of files that import each other, with a shortest circle through its first file.
 *
 * @param {ReadonlyArray<SourceModule>} modules
 * @returns {Array<Problem>}
 */
export const checkCircles = (modules) => {
  const known = new Map(modules.map((module) => [module.file, module]))
  /** @type {Map<string, Map<string, { line: number, types: boolean }>>} */
  const edges = new Map()
  for (const module of modules) {
    const out = new Map()
    for (const one of module.imports) {
      const target = one.specifier === undefined ? undefined : resolve(module.file, one.specifier)
      if (target === undefined || !known.has(target)) continue
      if (one.types && module.file.includes("/internal/") && !target.includes("/internal/")) continue
      const before = out.get(target)
      out.set(target, { line: before?.line ?? one.line, types: one.types && (before?.types ?? true) })
    }
    edges.set(module.file, out)
  }

  const problems = []
  const told = new Set()
  for (const file of [...known.keys()].sort()) {
    if (told.has(file)) continue
    const circle = shortestCircle(file, edges)
    if (circle === undefined) continue
    for (const member of knot(file, edges)) told.add(member)
    const steps = circle.map((step, index) => {
      const types = index > 0 && edges.get(String(circle[index - 1]))?.get(step)?.types === true
      return types ? `${step} (types)` : step
    })
    const line = edges.get(file)?.get(String(circle[1]))?.line ?? 1
    problems.push({ file, line, rule: "circular", message: `imports itself: ${steps.join(" -> ")}` })
  }
  return problems
}

/**
 * @param {string} start
 * @param {ReadonlyMap<string, ReadonlyMap<string, unknown>>} edges
 * @returns {Array<string> | undefined} the files on the way, `start` first and last
 */
const shortestCircle = (start, edges) => {
  /** @type {Map<string, string>} */
  const cameFrom = new Map()
  const queue = [start]
  for (const file of queue) {
    for (const next of edges.get(file)?.keys() ?? []) {
      if (next === start) {
        const back = [start]
        for (let at = file; at !== start; at = String(cameFrom.get(at))) back.unshift(at)
        return [start, ...back]
      }
      if (cameFrom.has(next)) continue
      cameFrom.set(next, file)
      queue.push(next)
    }
  }
  return undefined
}

/**
 * The files that `start` reaches and that reach `start`.
 *
 * @param {string} start
 * @param {ReadonlyMap<string, ReadonlyMap<string, unknown>>} edges
 */
const knot = (start, edges) => {
  /** @type {Map<string, Set<string>>} */
  const reversed = new Map()
  for (const [from, out] of edges) {
    for (const to of out.keys()) reversed.set(to, (reversed.get(to) ?? new Set()).add(from))
  }
  /** @param {(file: string) => Iterable<string>} next */
  const reach = (next) => {
    const seen = new Set([start])
    for (const file of seen) for (const other of next(file)) seen.add(other)
    return seen
  }
  const forward = reach((file) => edges.get(file)?.keys() ?? [])
  const backward = reach((file) => reversed.get(file) ?? [])
  return [...forward].filter((file) => backward.has(file))
}
