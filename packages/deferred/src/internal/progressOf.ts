/**
 * A record's progress as a stream: hints make it quick, a look every second makes it true when one was lost.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Progress } from "../TaskContext.ts"
import type { TaskId } from "../TaskId.ts"
import { type Change, type TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import type { TaskRecord } from "../TaskRecord.ts"
import { progressIn } from "./notes.ts"

const lookEvery = "1 second"

export const progressOf = <E>(
  queue: TaskQueue["Service"],
  id: TaskId,
  record: Effect.Effect<TaskRecord, E>,
): Stream.Stream<Progress, E | TaskQueueError> => {
  if (!queue.capabilities.results) return Stream.fail(noProgress(queue.name))
  const concerns = (change: Change): boolean =>
    change._tag === "Elsewhere" || ((change._tag === "Progress" || change._tag === "Ended") && change.ids.includes(id))
  return Stream.unwrap(
    Effect.gen(function* () {
      // Subscribed before the first look, so that nothing falls between the two.
      const changes = yield* queue.changes
      const looks = Stream.merge(Stream.filter(changes, concerns), Stream.tick(lookEvery))
      return Stream.concat(Stream.make(undefined), looks).pipe(
        Stream.mapEffect(() => record),
        Stream.takeUntil(({ endedAt }) => endedAt !== undefined),
        Stream.map(({ progress }) => progress),
        Stream.changes,
        Stream.filter((text) => text !== undefined),
        Stream.map(progressIn),
        Stream.filter((progress) => progress !== undefined),
        // Notes come in between that say nothing of it.
        Stream.changes,
      )
    }),
  )
}

/** A record that is gone when it has ended would otherwise be watched in silence, and then not be found. */
const noProgress = (driver: string): TaskQueueError =>
  new TaskQueueError({
    operation: "progress",
    message: `${driver} has no place for progress: let the handler write it where the application can read it`,
    isRetryable: false,
    reason: "NotSupported",
  })
