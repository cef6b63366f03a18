/** The contract of task queues, as every driver keeps it, on a file of its own for each test. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as TaskQueueModel from "@outlive/deferred/testing/TaskQueueModel"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer } from "effect"

const onFile = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true })),
    ),
    (folder) => TaskQueueSqlite.layer({ filename: join(folder, "queue.db") }),
  ),
)

TaskQueueTest.suite("sqlite", onFile)
// Every history is a file of its own.
TaskQueueModel.suite("sqlite", onFile, { runs: 40 })
