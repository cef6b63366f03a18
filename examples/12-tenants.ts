/**
 * One queue for many tenants: they take turns, each keeps to its own limits, and the one whom a service throttles waits
 * alone.
 */
import * as Instance from "@outlive/core/Instance"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as Task from "@outlive/deferred/Task"
import { Throttled } from "@outlive/deferred/TaskFailure"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Layer, References, Schema } from "effect"

/** What the service of a tenant answers when it is asked too often. */
class TooManyCalls extends Schema.TaggedError<TooManyCalls>()("TooManyCalls", { retryAfter: Schema.Finite }) {}

class Sync extends Task.make("Sync", {
  payload: { tenant: Schema.String, page: Schema.Int },
  success: Schema.Struct({ attempt: Schema.Int }),
  error: TooManyCalls,
  queue: "sync",
  // Whom it is for.
  key: ({ tenant }) => tenant,
  // A 429 is about the tenant, not about this record.
  retry: { TooManyCalls: ({ retryAfter }) => Throttled.for(retryAfter) },
}) {}

const started: Array<string> = []
let isThrottled = false
const SyncHandler = Sync.toLayer(({ page, tenant }, { attempt }) =>
  Effect.suspend(() => {
    started.push(`${tenant} ${page}`)
    if (!isThrottled || tenant !== "bolt") return Effect.succeed({ attempt })
    isThrottled = false
    return Effect.fail(new TooManyCalls({ retryAfter: 1_000 }))
  }),
)

const Queues = QueueConfig.layer(
  QueueConfig.make({ sync: { byKey: { maxConcurrent: 2 }, keys: { acme: { weight: 2 } } } }),
).pipe(Layer.provideMerge(TaskQueueMemory.layer))

/** One record at a time, so that one sees whose turn it is. */
const Workers = Worker.layer({ tasks: [Sync], concurrency: 1, prefetch: 0 }).pipe(
  Layer.provide([SyncHandler, Instance.layerBackend()]),
)

const pages = (tenant: string, count: number) =>
  Effect.map(Sync.deferAll(Array.from({ length: count }, (_, page) => ({ tenant, page }))), (items) =>
    items.flatMap((item) => (item._tag === "Deferred" ? [item.ref] : [])),
  )
const ended = (refs: Effect.Success<ReturnType<typeof pages>>) => Effect.forEach(refs, (ref) => ref.await)

export const program = Effect.gen(function* () {
  // A tenant with much to do, and two who come after it.
  const first = [...(yield* pages("acme", 6)), ...(yield* pages("bolt", 3)), ...(yield* pages("cord", 1))]
  yield* Effect.provide(ended(first), Workers)
  yield* Console.log(started.splice(0).join(", "))

  isThrottled = true
  const [bolt, cord] = [yield* pages("bolt", 2), yield* pages("cord", 2)]
  const attempts = yield* Effect.gen(function* () {
    yield* ended(cord)
    const { reasons } = yield* bolt[1]!.explain
    const paused = reasons.find(({ _tag }) => _tag === "PausedUntil")
    yield* Console.log(`cord is done; bolt waits: ${paused?._tag === "PausedUntil" ? `key ${paused.key}` : "no"}`)
    return yield* ended(bolt)
  }).pipe(Effect.provide(Workers))
  yield* Console.log(started.join(", "))
  yield* Console.log(`attempts of bolt: ${attempts.map(({ attempt }) => attempt).join(", ")}`)
}).pipe(
  Effect.provide(Queues),
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)
