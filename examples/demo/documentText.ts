/**
 * Measures a text as it streams by, without ever holding it whole.
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
  [...counts]
    .map(([term, count]) => ({ term, count }))
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
  private lastByte = 0
  /** The word that the last chunk ended in. */
  private unfinished: Array<string> = []

  /** Takes the next chunk; false when it is not UTF-8. */
  write(chunk: Uint8Array): boolean {
    if (chunk.length === 0) return true
    this.bytes += chunk.length
    this.lastByte = chunk[chunk.length - 1] ?? 0
    this.hash.update(chunk)
    return this.decoded(() => this.decoder.decode(chunk, { stream: true }))
  }

  /** The figures, once all chunks have been taken; undefined when the text ends in the middle of a character. */
  end(): Measured | undefined {
    if (!this.decoded(() => this.decoder.decode())) return undefined
    this.count(this.unfinished.join(""))
    return {
      bytes: this.bytes,
      lines: this.lineFeeds + (this.bytes > 0 && this.lastByte !== 0x0a ? 1 : 0),
      words: this.words,
      sha256: this.hash.digest("hex"),
      terms: topTerms(this.counts),
    }
  }

  private decoded(decode: () => string): boolean {
    let text: string
    try {
      text = decode()
    } catch {
      return false
    }
    // Words are counted when they have ended, however many chunks they go through.
    const end = lastWhiteSpace(text)
    if (end < 0) this.unfinished.push(text)
    else {
      this.count(this.unfinished.join("") + text.slice(0, end))
      this.unfinished = [text.slice(end)]
    }
    return true
  }

  private count(text: string): void {
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) this.lineFeeds++
    this.words += text.match(/\S+/g)?.length ?? 0
    for (const [run] of text.matchAll(/\p{L}{3,}/gu)) {
      const term = run.toLowerCase()
      if (!stopList.has(term)) this.counts.set(term, (this.counts.get(term) ?? 0) + 1)
    }
  }
}

/** Where the last white space of a text begins, -1 when there is none. */
const lastWhiteSpace = (text: string): number => {
  for (let at = text.length - 1; at >= 0; at--) if (/\s/.test(text[at] ?? "")) return at
  return -1
}
