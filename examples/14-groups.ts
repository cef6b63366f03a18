/**
 * An album whose pictures are resized one by one, wherever there is a worker, and that is published when the last is done;
 * and a picture that goes through three tasks, each of which gets what the one before gave.
 */
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskChain from "@outlive/deferred/TaskChain"
import * as TaskFanOut from "@outlive/deferred/TaskFanOut"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Console, Effect, Exit, Layer, Option, References, Schema, Stream } from "effect"

class Broken extends Schema.TaggedError<Broken>()("Broken", { path: Schema.String }) {}

const Picture = Schema.Struct({ path: Schema.String, bytes: Schema.Int })

const Download = Task.make("Download", { payload: { url: Schema.String }, success: Picture })
const Resize = Task.make("Resize", { payload: Picture, success: Picture, error: Broken, retry: { Broken: "never" } })
const Publish = Task.make("Publish", { payload: { album: Schema.String }, success: Schema.String })
const Post = Task.make("Post", { payload: Picture, success: Schema.String })

const Handlers = Layer.mergeAll(
  Download.toLayer(({ url }) => Effect.succeed({ path: url.replace(/^.*\//, ""), bytes: url.length * 100 })),
  Resize.toLayer(({ bytes, path }) =>
    path.includes("broken")
      ? Effect.fail(new Broken({ path }))
      : Effect.succeed({ path: `small-${path}`, bytes: bytes / 10 }),
  ),
  // Runs once, when all pictures have ended, and reads what became of them.
  Publish.toLayer(({ album }, { members }) =>
    Effect.gen(function* () {
      const { succeeded, total } = yield* Effect.fromOption(members)
      const ends = yield* Stream.runCollect(TaskFanOut.resultsOf(Resize))
      const bytes = ends.reduce((sum, { exit }) => sum + (Exit.isSuccess(exit) ? exit.value.bytes : 0), 0)
      return `${album}: ${succeeded} of ${total} pictures, ${bytes} bytes`
    }).pipe(Effect.orDie),
  ),
  Post.toLayer(({ bytes, path }) => Effect.succeed(`${path} is out, ${bytes} bytes`)),
)

const App = Worker.layer({ tasks: [Download, Resize, Publish, Post] }).pipe(
  Layer.provide([Handlers, Instance.layerBackend()]),
  Layer.provideMerge(TaskQueueMemory.layer),
)

const Share = TaskChain.make(Download).to(Resize).to(Post)

export const program = Effect.gen(function* () {
  const pictures = ["cat.png", "broken.png", "dog.png"].map((path) => ({ path, bytes: 500 }))
  const album = yield* TaskFanOut.all(Resize, pictures, { onDone: TaskFanOut.item(Publish, { album: "pets" }) })
  yield* Stream.runForEach(album.results, ({ exit, index }) => {
    const failure = Exit.findErrorOption(exit)
    return Console.log(`${index}: ${Exit.isSuccess(exit) ? exit.value.path : Option.getOrThrow(failure)._tag}`)
  })
  yield* Console.log(yield* album.done.await)

  const cat = yield* Share.defer({ url: "https://example.com/cat.png" })
  yield* Console.log(yield* cat.await)
  const broken = yield* Share.defer({ url: "https://example.com/broken.png" })
  const error = yield* Effect.flip(broken.await)
  yield* Console.log(`not out: ${error._tag === "TaskCancelled" ? error.reason : error._tag}`)
  yield* Console.log(`which it was: ${yield* Effect.forEach(broken.links, ({ state }) => state)}`)
}).pipe(
  Effect.provide(App),
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)
