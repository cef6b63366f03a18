/**
 * Counts what an import does.
 */
import { createHash } from "node:crypto"
import type { Job, Left, Moved, Report } from "../../Import.ts"

export interface Tally {
  readonly moved: (job: Pick<Job, "id" | "name">, what: Moved) => void
  readonly left: (name: string, why: Left["why"], count: number) => void
  readonly report: () => Report
}

const mostExamples = 5

export const makeTally = (dryRun: boolean): Tally => {
  const movedByName: Record<string, number> = {}
  const left = new Map<string, Left & { count: number; readonly examples: Array<{ id: string; detail: string }> }>()
  let moved = 0
  let already = 0
  const leftOf = (name: string, why: Left["why"]) => {
    const key = `${why} ${name}`
    const group = left.get(key) ?? { name, why, count: 0, examples: [] }
    left.set(key, group)
    return group
  }
  return {
    moved: ({ id, name }, what) => {
      if (what === "Moved") {
        moved++
        movedByName[name] = (movedByName[name] ?? 0) + 1
      } else if (what === "Already") already++
      else {
        const group = leftOf(name, "refused")
        group.count++
        if (group.examples.length < mostExamples) group.examples.push({ id, detail: what.refused })
      }
    },
    left: (name, why, count) => {
      if (count > 0) leftOf(name, why).count += count
    },
    report: () => ({ dryRun, moved, already, movedByName, left: [...left.values()] }),
  }
}

/** The record's name: readable where its parts are fit for that and can be told apart in it, else with a hash of them. */
export const recordName = (...parts: ReadonlyArray<string>): string => {
  const name = parts.join("-")
  const isPlain = parts.slice(0, -1).every((part) => /^[a-zA-Z0-9_]+$/.test(part))
  if (isPlain && /^[a-zA-Z0-9_-]{1,200}$/.test(name)) return name
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 40)
  return `${name.replace(/[^a-zA-Z0-9_]+/g, "-").slice(0, 80)}-${digest}`
}
