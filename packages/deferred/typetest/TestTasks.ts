/**
 * The testing kit: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as Task from "@outlive/deferred/Task"
import type { Driver, TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskSamples from "@outlive/deferred/testing/TaskSamples"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import { Context, Effect, Layer, Schema, type Scope } from "effect"

const Renamed = Task.make("Renamed", {
  payload: Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.user })),
})
const Ping = Task.make("Ping")
const RenamedHandler = Renamed.toLayer(() => Effect.void)
const PingHandler = Ping.toLayer(() => Effect.asVoid(Effect.orDie(Renamed.defer({ userId: "" }))))

// ---- the layer needs every handler
type Kit = TestTasks.TestTasks | TestTasks.TestTaskQueue | TaskQueue
export const one: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Renamed] }).pipe(Layer.provide(RenamedHandler))
// A handler that defers has its queue from the layer below, as in production.
export const both: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Renamed, Ping] }).pipe(
  Layer.provide([RenamedHandler, PingHandler]),
  Layer.provideMerge(TestTasks.layerQueue),
)
const Both = Task.group(Renamed, Ping)
export const group: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Both] }).pipe(
  Layer.provide(Both.toLayer({ Renamed: () => Effect.void, Ping: () => Effect.void })),
)
// @ts-expect-error a group of which a handler is missing
export const half: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Both] }).pipe(Layer.provide(RenamedHandler))
// @ts-expect-error no handler at all
export const none: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Renamed] })
// @ts-expect-error a missing handler
export const missing: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Renamed, Ping] }).pipe(Layer.provide(RenamedHandler))
// @ts-expect-error another task's handler
export const wrong: Layer.Layer<Kit> = TestTasks.layer({ tasks: [Renamed] }).pipe(Layer.provide(PingHandler))

// ---- a queue of another driver brings its own errors and needs
class Database extends Context.Service<Database, Driver>()("Database") {}
const Other = TestTasks.layerQueueOf(Effect.andThen(Effect.fail("no database" as const), Database))
export const other: Layer.Layer<Kit, "no database", Database> = TestTasks.layer({
  tasks: [Renamed],
  queue: Other,
}).pipe(Layer.provide(RenamedHandler))
// @ts-expect-error a queue into which no faults can be injected
TestTasks.layer({ tasks: [Renamed], queue: TaskQueueMemory.layer })

// ---- payloads are those of the newest version
export const payloads: Effect.Effect<ReadonlyArray<string>, unknown, TestTasks.TestTaskQueue | TaskQueue> = Effect.map(
  TestTasks.deferred(Renamed),
  (records) => records.map(({ payload }) => payload.userId),
)
// @ts-expect-error a field of an older version
export const older = Effect.map(TestTasks.deferred(Renamed), (records) => records.map(({ payload }) => payload.user))
// @ts-expect-error a state that records do not have
TestTasks.deferred(Renamed, { states: ["waiting"] })

// ---- a fault for always needs a scope to end with
export const once: Effect.Effect<void, never, TestTasks.TestTaskQueue> = TestTasks.loseLease({ times: 2 })
export const always: Effect.Effect<void, never, TestTasks.TestTaskQueue | Scope.Scope> = TestTasks.failDriver("get", {
  times: "always",
})
// @ts-expect-error its scope is not there
export const endless: Effect.Effect<void, never, TestTasks.TestTaskQueue> = TestTasks.crash("afterHandler", {
  times: "always",
})
// @ts-expect-error a method that drivers do not have
TestTasks.failDriver("defer")
// @ts-expect-error no call, so it can be neither failed nor slow
TestTasks.slowDriver("changes", "1 second")
// @ts-expect-error another moment to crash at
TestTasks.crash("duringHandler")

// ---- samples
TaskSamples.sample(Renamed, { userId: "ada" })
// @ts-expect-error a payload of an older version
TaskSamples.sample(Renamed, { user: "ada" })
TaskSamples.check(Renamed, { 1: [`{"user":"ada"}`] })
// @ts-expect-error samples are texts, as they are stored
TaskSamples.check(Renamed, { 1: [{ user: "ada" }] })
