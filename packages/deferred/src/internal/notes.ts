/**
 * What attempts of a record write down for the next: beside their progress, in one text, which a queue keeps with the record.
 */
import type * as Latch from "effect/Latch"
import type { Progress } from "../TaskContext.ts"

interface Written extends Partial<Progress> {
  readonly notes?: Readonly<Record<string, unknown>>
}

/** The progress in a text; `undefined` when it has only notes. */
export const progressIn = (text: string): Progress | undefined => {
  const { notes: _, ...progress } = JSON.parse(text) as Written
  return progress.done === undefined ? undefined : (progress as Progress)
}

const writtenIn = (text: string | undefined): Written => (text === undefined ? {} : (JSON.parse(text) as Written))

/** The text of an attempt: what it said last of its progress, and all notes, its own and those it found. */
export class Page {
  /** The last word has not been noted yet. */
  isUnsaid = false
  /**
   * Notes were written in a transaction whose end is not known here, or a write failed and may have happened: only the
   * queue knows which notes there are.
   */
  isDoubtful = false
  /** A transaction is open whose notes a text from outside of it would take away again. */
  isHeld = false
  /** How often the notes were taken from the queue again. */
  turns = 0
  /** Opens when a word that is on its way to the queue has come there. */
  telling: Latch.Latch | undefined
  private progress: Partial<Progress>
  private notes: Map<string, unknown>

  constructor(found: string | undefined) {
    const { notes, ...progress } = writtenIn(found)
    this.progress = progress
    this.notes = new Map(Object.entries(notes ?? {}))
  }

  say(progress: Progress): void {
    this.progress = progress
    this.isUnsaid = true
  }

  /** Whether the last word may be written by somebody who knows nothing of transactions. */
  get isReady(): boolean {
    return this.isUnsaid && !this.isHeld && !this.isDoubtful
  }

  /** All of it, to be noted. */
  take(): string {
    this.isUnsaid = false
    return this.text
  }

  get(key: string): unknown {
    return this.notes.get(key)
  }

  set(key: string, value: unknown): void {
    this.notes.set(key, value)
  }

  /** Characters of all notes but this one. */
  sizeBeside(key: string): number {
    let size = 0
    for (const [other, value] of this.notes) if (other !== key) size += JSON.stringify(value).length
    return size
  }

  /** The notes are those of this text. */
  turnBack(text: string | undefined): void {
    this.notes = new Map(Object.entries(writtenIn(text).notes ?? {}))
    this.turns++
  }

  get text(): string {
    return textOf(this.progress, this.notes)
  }

  /** The text with one more note. */
  textWith(key: string, value: unknown): string {
    return textOf(this.progress, new Map(this.notes).set(key, value))
  }
}

const textOf = (progress: Partial<Progress>, notes: ReadonlyMap<string, unknown>): string =>
  JSON.stringify(notes.size === 0 ? progress : { ...progress, notes: Object.fromEntries(notes) })
