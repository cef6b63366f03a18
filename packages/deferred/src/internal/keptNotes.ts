/**
 * Notes on their way to the queue and back, also in transactions: what is rolled back there must not stay here, and what is
 * committed there must not be overwritten by somebody who has not seen it.
 *
 * Who knows which notes there are is the page, as long as it knows how each write ended. After one inside of a transaction
 * whose end it is not told, and after one that failed and may have happened, it is the queue: it is asked before the page is
 * used again, in whatever transaction that is.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import { type Notes, NotTransactional } from "../TaskContext.ts"
import type { Driver, TaskQueueError } from "../TaskQueue.ts"
import type { Page } from "./notes.ts"

/**
 * The transaction of this library that the fiber is in (a step that is done once, a handler that commits with its success):
 * who writes notes there, one after the other.
 */
export const Joined = Context.Reference<Semaphore.Semaphore | undefined>("outlive/deferred/internal/Joined", {
  defaultValue: () => undefined,
})

/** What keeps the notes of an attempt. */
export interface Keeping extends Pick<Driver, "transaction" | "inTransaction"> {
  /** The driver's name. */
  readonly name: string
  /** The attempt is interrupted instead when it has lost its lease. */
  readonly write: (text: string) => Effect.Effect<void, TaskQueueError>
  /** What is kept now, as the transaction at hand sees it. */
  readonly read: Effect.Effect<string | undefined, TaskQueueError>
  /** Waits until the word that is on its way has come to the queue: it knows nothing of the notes that follow. */
  readonly told: Effect.Effect<void, TaskQueueError>
  /** There is a word to be told. */
  readonly progressed: () => void
}

export const keptNotes = (page: Page, keeping: Keeping): Notes => {
  const { inTransaction = Effect.succeed(false), transaction } = keeping
  const writing = Semaphore.makeUnsafe(1)
  const writingInside = Semaphore.makeUnsafe(1)

  /** Who writes where this fiber is. In a transaction nobody is waited for who may be waiting for its end. */
  const place = Effect.flatMap(Joined, (joined) =>
    joined !== undefined
      ? Effect.succeed({ isInside: true, turns: joined })
      : Effect.map(inTransaction, (isInside) => ({ isInside, turns: isInside ? writingInside : writing })),
  )
  const asked = Effect.flatMap(place, ({ isInside }) =>
    Effect.map(keeping.read, (text) => {
      page.turnBack(text)
      if (isInside || page.isHeld) return
      page.isDoubtful = false
      if (page.isReady) keeping.progressed()
    }),
  )
  const sure = Effect.suspend(() => (page.isDoubtful ? asked : Effect.void))

  const write = (key: string, value: unknown, isInside: boolean) =>
    Effect.suspend(() => {
      const isUnsaid = page.isUnsaid
      const text = page.textWith(key, value)
      if (isInside) page.isDoubtful = true
      // The text has all of the progress: what waits to be noted is in it.
      else page.isUnsaid = false
      return Effect.onExit(keeping.write(text), (exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit)) page.set(key, value)
          else {
            page.isDoubtful = true
            if (isUnsaid) page.isUnsaid = true
          }
        }),
      )
    })
  const set: Notes["set"] = (key, value) =>
    Effect.flatMap(place, ({ isInside, turns }) => turns.withPermit(Effect.andThen(sure, write(key, value, isInside))))

  return {
    get: (key) => Effect.map(sure, () => page.get(key)),
    set,
    sizeBeside: (key) => Effect.sync(() => page.sizeBeside(key)),
    once: (key, effect) => {
      if (transaction === undefined) return Effect.fail(refused(key, keeping.name, "NoTransactions"))
      let turns = page.turns
      const done = Effect.flatMap(effect, ({ note, value }) => {
        if (note === undefined) return Effect.succeed(value)
        return Effect.map(set(key, note.json), () => {
          turns = page.turns
          return value
        })
      })
      // Begun before the transaction, so that who waits for its end has no part in it.
      const alone = Effect.suspend(() => {
        page.isHeld = true
        const whole = transaction(Effect.provideService(done, Joined, Semaphore.makeUnsafe(1)))
        return Effect.onExit(Effect.andThen(keeping.told, whole), (exit) =>
          Effect.sync(() => {
            page.isHeld = false
            // Its last step was the note, with all that the queue had then.
            if (Exit.isSuccess(exit) && page.turns === turns) page.isDoubtful = false
            if (page.isReady) keeping.progressed()
          }),
        )
      })
      const run = (own: Semaphore.Semaphore) => (own === writing ? own.withPermit(alone) : transaction(done))
      return Effect.flatMap(place, ({ turns: own }) =>
        Effect.andThen(
          own === writingInside ? Effect.fail(refused(key, keeping.name, "OwnTransaction")) : Effect.void,
          run(own),
        ),
      )
    },
  }
}

/** Notes that no queue keeps. `changed` is called when there are new ones. */
export const heldNotes = (page: Page, changed: () => void): Notes => ({
  get: (key) => Effect.sync(() => page.get(key)),
  set: (key, value) =>
    Effect.sync(() => {
      page.set(key, value)
      page.isUnsaid = true
      changed()
    }),
  sizeBeside: (key) => Effect.sync(() => page.sizeBeside(key)),
  once: (key) => Effect.fail(refused(key, undefined, "NoTransactions")),
})

const refused = (note: string, driver: string | undefined, reason: NotTransactional["reason"]): NotTransactional =>
  new NotTransactional({ note, driver: driver ?? "none", reason })
