/**
 * The task: measure one file. Its handler reads the file as a stream and gives typed figures or a typed error.
 */

import { join } from "node:path"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Effect, FileSystem, Schema, Stream } from "effect"
import { Measure } from "./documentText.ts"

/** The file is not UTF-8. It never will be: no retry, a dead letter. */
export class NotText extends Schema.TaggedError<NotText>()("NotText", { path: Schema.String }) {
  override get message() {
    return `${this.path} is not UTF-8 text`
  }
}

/** The file was there when the folder was walked, and is not now. It may come back: it is tried again a few times. */
export class Vanished extends Schema.TaggedError<Vanished>()("Vanished", { path: Schema.String }) {
  override get message() {
    return `${this.path} is not there any more`
  }
}

/** The file is there and cannot be read. That may pass: it is tried again a few times. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", {
  path: Schema.String,
  why: Schema.String,
}) {
  override get message() {
    return `${this.path} cannot be read: ${this.why}`
  }
}

export class IndexDocument extends Task.make("IndexDocument", {
  payload: { folder: Schema.String, path: Schema.String },
  success: Schema.Struct({
    bytes: Schema.Natural,
    lines: Schema.Natural,
    words: Schema.Natural,
    sha256: Schema.String,
    terms: Schema.Array(Schema.Struct({ term: Schema.String, count: Schema.Natural })),
  }),
  error: Schema.Union([NotText, Vanished, Unreadable]),
  queue: "index",
  retry: { NotText: "never", _: RetryPolicy.fixed("200 millis", { maxAttempts: 3 }) },
  // How long a killed process goes unnoticed: short, since the demo is meant to be killed ...
  lease: "3 seconds",
  // ... and as often as one likes, through no fault of the file that was being read.
  maxCrashes: 1000,
  // As long as a run can be gone on with.
  keep: "7 days",
}) {}

export const IndexDocumentHandler = IndexDocument.toLayer(
  Effect.fnUntraced(function* ({ folder, path }) {
    const fs = yield* FileSystem.FileSystem
    const measure = new Measure()
    // Chunk by chunk, so that neither the memory nor the event loop is held by a large file, and one that is not text
    // is left at its first wrong byte.
    yield* Stream.runForEach(fs.stream(join(folder, path), { chunkSize: 256 * 1024 }), (chunk) =>
      measure.write(chunk) ? Effect.void : Effect.fail(new NotText({ path })),
    ).pipe(
      Effect.catchTag("PlatformError", ({ reason }) =>
        Effect.fail(
          reason._tag === "NotFound" ? new Vanished({ path }) : new Unreadable({ path, why: reason.message }),
        ),
      ),
    )
    return measure.end() ?? (yield* new NotText({ path }))
  }),
)
