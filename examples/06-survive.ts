/**
 * Work that survives kill -9: a process is killed in the middle of ten tasks, another goes on where it stopped. The file
 * is all that they share.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as Worker from "@outlive/deferred/Worker"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, Schema } from "effect"

const Resize = Task.make("Resize", {
  payload: { picture: Schema.Int },
  success: Schema.Struct({ picture: Schema.Int, attempt: Schema.Int }),
})

/** What the process does that is killed: it stops for ever at the fifth picture, as if it were slow, in its first attempt. */
const Workers = Worker.layer({
  tasks: [Resize],
  concurrency: 1,
  // What was claimed ahead dies with the process, too, and comes back as one crash more.
  prefetch: 0,
  lease: "300 millis",
}).pipe(
  Layer.provide(
    Resize.toLayer(({ picture }, { attempt }) =>
      Effect.gen(function* () {
        if (picture === 5 && attempt === 1) {
          yield* Console.log("at the fifth")
          yield* Effect.never
        }
        return { picture, attempt }
      }),
    ),
  ),
  Layer.provide(Instance.layerBackend()),
)
const queueIn = (filename: string) => TaskQueueSqlite.layer({ filename })

/** In a process of its own, which is killed when it says that it is at the fifth picture. */
const killedInTheMiddle = (filename: string) =>
  Effect.callback<void>((resume) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), filename], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    child.stdout.once("data", () => child.kill("SIGKILL"))
    child.once("exit", (_, signal) => resume(Console.log(`the first process: ${signal}`)))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  )
  const filename = join(folder, "tasks.db")
  const ids = yield* Effect.forEach(
    Array.from({ length: 10 }, (_, picture) => picture),
    (picture) => Effect.map(Resize.defer({ picture }), ({ id }) => id),
  ).pipe(Effect.provide(queueIn(filename)))
  yield* killedInTheMiddle(filename)
  // Other processes know a record by its id: its result is typed here as there.
  const results = yield* Effect.forEach(ids, (id) => Effect.flatMap(Resize.ref(id), (ref) => ref.await)).pipe(
    Effect.provide(Workers.pipe(Layer.provideMerge(queueIn(filename)))),
  )
  yield* Console.log(`the second process: ${results.length} of 10 are done`)
  const [again] = results.filter(({ attempt }) => attempt > 1)
  yield* Console.log(`picture ${again?.picture} took ${again?.attempt} attempts, the others one`)
}).pipe(Effect.scoped)

const [filename] = process.argv.slice(2)
const work = (file: string) =>
  Effect.scoped(Effect.andThen(Layer.build(Workers), Effect.never)).pipe(Effect.provide(queueIn(file)))
if (import.meta.main) await Effect.runPromise(filename === undefined ? program : work(filename))
