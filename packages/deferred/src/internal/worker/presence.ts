/**
 * A worker's presence in the queue: that it is there, and how it is, for people and for `ref.explain`.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { TaskQueue, TaskQueueError } from "../../TaskQueue.ts"
import type { WorkerInfo } from "../../WorkerInfo.ts"

const every = 10_000
/** So long a worker that says nothing any more counts as there: as long as two of its words may be lost. */
const trust = 3 * every

export interface Presence {
  readonly tell: Effect.Effect<void>
  readonly leave: Effect.Effect<void>
}

/** Tells in its own time, beside the work: a queue that is slow to hear of a worker does not keep it from working. */
export const makePresence = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  health: Effect.Effect<WorkerInfo>,
): Effect.fn.Return<Presence, never, Scope.Scope> {
  // Only news: the next word makes up for one that is lost, and who claims tells of a queue that fails.
  const told = (call: Effect.Effect<void, TaskQueueError>) =>
    Effect.catch(call, (error) => Effect.logDebug(`the queue did not hear of the worker: ${error.message}`))
  const tell = Effect.flatMap(health, (worker) =>
    told(queue.announce({ worker, until: worker.at + trust, now: worker.at })),
  )
  const telling = yield* Effect.forkScoped(Effect.forever(Effect.andThen(tell, Effect.sleep(every))))
  const leave = Effect.flatMap(health, ({ id }) => told(queue.withdraw({ worker: id })))
  return { tell, leave: Effect.andThen(Fiber.interrupt(telling), leave) }
})
