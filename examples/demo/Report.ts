/**
 * What a run found out, as data and for people.
 */
import { Schema } from "effect"
import { topTerms } from "./documentText.ts"
import type { IndexDocument } from "./IndexDocument.ts"

export const Report = Schema.Struct({
  runId: Schema.String,
  folder: Schema.String,
  /** Files, bytes, lines and words count the files that were indexed, not the dead. */
  files: Schema.Natural,
  bytes: Schema.Natural,
  lines: Schema.Natural,
  words: Schema.Natural,
  /** Sums over the ten most frequent terms of each file. */
  topTerms: Schema.Array(Schema.Struct({ term: Schema.String, count: Schema.Natural })),
  /** Of the process that finished the run. */
  seconds: Schema.Finite,
  tasksPerSecond: Schema.Natural,
  /** Attempts beyond the first. */
  retries: Schema.Natural,
  dead: Schema.Array(
    Schema.Struct({ reason: Schema.String, count: Schema.Natural, examples: Schema.Array(Schema.String) }),
  ),
})
export type Report = typeof Report.Type

/** Adds up results as they come, in any order: the same results give the same report. */
export class Tally {
  ended = 0
  private readonly sums = { files: 0, bytes: 0, lines: 0, words: 0 }
  private readonly terms = new Map<string, number>()
  private readonly dead = new Map<string, Array<string>>()

  indexed(document: typeof IndexDocument.success.Type): void {
    this.ended++
    this.sums.files++
    this.sums.bytes += document.bytes
    this.sums.lines += document.lines
    this.sums.words += document.words
    for (const { count, term } of document.terms) this.terms.set(term, (this.terms.get(term) ?? 0) + count)
  }

  died(reason: string, path: string): void {
    this.ended++
    const paths = this.dead.get(reason)
    if (paths === undefined) this.dead.set(reason, [path])
    else paths.push(path)
  }

  report(run: Pick<Report, "runId" | "folder" | "seconds" | "tasksPerSecond" | "retries">): Report {
    const dead = [...this.dead].map(([reason, paths]) => ({
      reason,
      count: paths.length,
      examples: paths.sort().slice(0, 3),
    }))
    return {
      ...run,
      ...this.sums,
      topTerms: topTerms(this.terms),
      dead: dead.sort((a, b) => b.count - a.count || (a.reason < b.reason ? -1 : 1)),
    }
  }
}

const number = (n: number) => n.toLocaleString("en-US")

export const format = (report: Report): string =>
  [
    `${number(report.files)} files, ${number(report.bytes)} bytes, ${number(report.lines)} lines and ${number(report.words)} words in ${report.folder}`,
    `${report.seconds} s, ${number(report.tasksPerSecond)} tasks per second, ${number(report.retries)} retries`,
    `top terms: ${report.topTerms.map(({ count, term }) => `${term} ${number(count)}`).join(", ")}`,
    ...(report.dead.length === 0 ? ["no dead letters"] : ["dead letters:"]),
    ...report.dead.map(({ count, examples, reason }) => `  ${reason}: ${number(count)} (${examples.join(", ")})`),
  ].join("\n")
