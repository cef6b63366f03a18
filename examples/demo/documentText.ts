/**
 * Measures a text as it streams by, without ever holding it whole, nor a whole line or word of it.
 */
import { createHash } from "node:crypto"
import { stopList } from "./stopList.ts"

export interface Measured {
  readonly bytes: number
  /** Line feeds, plus one for an unterminated last line. */
  readonly lines: number
  /** Maximal runs of non-white-space. */
  readonly words: number
  readonly sha256: string
  /** The ten most frequent terms: lower-cased runs of three or more letters, less the stop list. Ties by the alphabet. */
  readonly terms: ReadonlyArray<Term>
}

export interface Term {
  readonly term: string
  readonly count: number
}

export const topTerms = (counts: ReadonlyMap<string, number>): ReadonlyArray<Term> =>
  Array.from(counts, ([term, count]) => ({ term, count }))
    .sort((a, b) => b.count - a.count || (a.term < b.term ? -1 : 1))
    .slice(0, 10)

export class Measure {
  private readonly hash = createHash("sha256")
  // Fatal: what is not UTF-8 is not text. A byte order mark is a character like any other.
  private readonly decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
  private readonly counts = new Map<string, number>()
  private bytes = 0
  private lineFeeds = 0
  private words = 0
  private inLine = false
  private inWord = false
  /** The letters at the end of what came so far: a term that may go on. */
  private unfinished = ""

  /** Takes the next chunk; false when it is not UTF-8. */
  write(chunk: Uint8Array): boolean {
    this.bytes += chunk.length
    this.hash.update(chunk)
    return this.take(() => this.decoder.decode(chunk, { stream: true }))
  }

  /** The figures, once all chunks have been taken; undefined when the text ends in the middle of a character. */
  end(): Measured | undefined {
    if (!this.take(() => this.decoder.decode())) return undefined
    this.count(this.unfinished)
    return {
      bytes: this.bytes,
      lines: this.lineFeeds + (this.inLine ? 1 : 0),
      words: this.words,
      sha256: this.hash.digest("hex"),
      terms: topTerms(this.counts),
    }
  }

  private take(decode: () => string): boolean {
    let text: string
    try {
      text = decode()
    } catch {
      return false
    }
    for (let at = 0; at < text.length; at++) {
      const unit = text.charCodeAt(at)
      const space = isSpace(unit)
      if (!space && !this.inWord) this.words++
      this.inWord = !space
      this.inLine = unit !== lineFeed
      if (!this.inLine) this.lineFeeds++
    }
    const letters = this.unfinished + text
    this.unfinished = ""
    for (const { 0: run, index } of letters.matchAll(/\p{L}+/gu)) {
      if (index + run.length < letters.length) this.count(run)
      else this.unfinished = run.length > longest ? tooLong : run
    }
    return true
  }

  private count(run: string): void {
    // Letters outside the basic plane are two units long.
    if (run.length < 3 || run.length > longest || (run.length < 6 && [...run].length < 3)) return
    const term = run.toLowerCase()
    if (!stopList.has(term)) this.counts.set(term, (this.counts.get(term) ?? 0) + 1)
  }
}

const lineFeed = 10
/** A longer run of letters is no term: it would only fill memory. */
const longest = 1000
/** Stands for a run that is no term any more, however it goes on. */
const tooLong = "x".repeat(longest + 1)

/** What `\s` matches, without the cost of a regular expression where it is not needed. */
const isSpace = (unit: number): boolean =>
  unit === 32 || (unit >= 9 && unit <= 13) || (unit > 127 && /\s/.test(String.fromCharCode(unit)))
