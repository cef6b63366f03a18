/**
 * What attempts of a record write down for the next: beside their progress, in one text, which a queue keeps with the record.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Notes, Progress } from "../TaskContext.ts"
import type { TaskQueueError } from "../TaskQueue.ts"

interface Written extends Partial<Progress> {
  readonly notes?: Readonly<Record<string, unknown>>
}

/** The progress in a text; `undefined` when it has only notes. */
export const progressIn = (text: string): Progress | undefined => {
  const { notes: _, ...progress } = JSON.parse(text) as Written
  return progress.done === undefined ? undefined : (progress as Progress)
}

/** The text of an attempt: what it said last of its progress, and all notes, its own and those it found. */
export class Page {
  private progress: Partial<Progress>
  private readonly notes: Map<string, unknown>
  /** One write after the other: an older text must not come after a newer one. */
  private readonly writing = Semaphore.makeUnsafe(1)

  constructor(found: string | undefined) {
    const { notes, ...progress } = found === undefined ? ({} as Written) : (JSON.parse(found) as Written)
    this.progress = progress
    this.notes = new Map(Object.entries(notes ?? {}))
  }

  say(progress: Progress): string {
    this.progress = progress
    return this.text
  }

  /** `write` is given the whole text. */
  notesOf(write: (text: string) => Effect.Effect<void, TaskQueueError>): Notes {
    return {
      get: (key) => Effect.sync(() => this.notes.get(key)),
      set: (key, value) =>
        this.writing.withPermit(
          Effect.suspend(() => {
            this.notes.set(key, value)
            return write(this.text)
          }),
        ),
      sizeBeside: (key) =>
        Effect.sync(() => {
          let size = 0
          for (const [other, value] of this.notes) if (other !== key) size += JSON.stringify(value).length
          return size
        }),
    }
  }

  private get text(): string {
    if (this.notes.size === 0) return JSON.stringify(this.progress)
    return JSON.stringify({ ...this.progress, notes: Object.fromEntries(this.notes) })
  }
}
