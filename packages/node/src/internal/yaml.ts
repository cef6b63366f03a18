/**
 * YAML, and with it JSON, as plain data that knows the line of each of its parts.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml"

export type Parsed =
  | {
      readonly _tag: "Parsed"
      readonly value: unknown
      /** The line, counted from 1, of what a path leads to, or of as much of it as is there. */
      readonly lineOf: (path: ReadonlyArray<string | number>) => number
    }
  | { readonly _tag: "Broken"; readonly line: number; readonly detail: string }

export const parseYaml = (text: string): Parsed => {
  const lineCounter = new LineCounter()
  const lineAt = (offset: number): number => Math.max(1, lineCounter.linePos(offset).line)
  const document = parseDocument(text, { lineCounter, prettyErrors: false })
  const [error] = document.errors
  if (error !== undefined) return { _tag: "Broken", line: lineAt(error.pos[0]), detail: error.message }
  try {
    const value: unknown = document.toJS()
    return { _tag: "Parsed", value, lineOf: (path) => lineAt(offsetOf(document, path)) }
  } catch (cause) {
    // Aliases that lead nowhere, or to more than a file can hold, show only here.
    return { _tag: "Broken", line: 1, detail: cause instanceof Error ? cause.message : String(cause) }
  }
}

const offsetOf = (document: Document, path: ReadonlyArray<string | number>): number => {
  let node: unknown = document.contents
  let offset = document.contents?.range?.[0] ?? 0
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step))
      if (pair === undefined) return offset
      offset = (isScalar(pair.key) && pair.key.range?.[0]) || offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      offset = rangeOf(node) ?? offset
    }
  }
  return offset
}

const rangeOf = (node: unknown): number | undefined =>
  isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined
