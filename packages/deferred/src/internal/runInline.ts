/**
 * Running a handler without a queue: `Task.run`.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Task from "../Task.ts"
import type { Handler, TaskHandler } from "../TaskHandler.ts"
import { makeGenerator } from "../TaskId.ts"
import { heldNotes } from "./keptNotes.ts"
import { Page } from "./notes.ts"

const nextId = makeGenerator()

export const runInline = Effect.fnUntraced(function* <Name extends string>(
  task: Task.Any,
  key: Context.Key<Handler<Name>, TaskHandler>,
  input: unknown,
) {
  const handler = yield* key
  const payload = yield* task.settings.codec.makePayload(input)
  const now = yield* Clock.currentTimeMillis
  const random = yield* Random.Random
  const at = DateTime.makeUnsafe(now)
  return yield* handler.run(payload, {
    id: nextId(now, () => random.nextDoubleUnsafe()),
    task: task.taskName,
    queue: task.settings.queue,
    name: Option.none(),
    attempt: 1,
    crashes: 0,
    eta: at,
    enqueuedAt: at,
    firstAttemptAt: at,
    headers: {},
    deadline: Option.none(),
    previousFailure: Option.none(),
    members: Option.none(),
    extend: () => Effect.succeed(true),
    progress: () => Effect.void,
    notes: heldNotes(new Page(undefined), () => undefined),
  })
})
