/**
 * Queue configuration from a file: App Engine's `queue.yaml`, or the same in JSON. What may be in it says `QueueConfig` of
 * `@outlive/deferred`, what it does `docs/queues.md`.
 *
 * @since 0.1.0
 */
import { readFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { parseYaml } from "./internal/yaml.ts"

/**
 * The file could not be read, or is not YAML: nothing is known of what it says, and nothing was applied.
 *
 * @since 0.1.0
 */
export class QueueConfigFileError extends Schema.TaggedError<QueueConfigFileError>()("QueueConfigFileError", {
  file: Schema.String,
  /** Where it stops being YAML, counted from 1. */
  line: Schema.UndefinedOr(Schema.Int),
  /** `Missing`: there is no such file. `Unreadable`: there is something that cannot be read. `Syntax`: not YAML. */
  reason: Schema.Literals(["Missing", "Unreadable", "Syntax"]),
  /** What the file system or the parser said. */
  detail: Schema.String,
}) {
  override get message() {
    const at = this.line === undefined ? this.file : `${this.file}:${this.line}`
    if (this.reason === "Missing") return `${at}: there is no such file`
    return `${at}: ${this.reason === "Syntax" ? "not YAML" : "cannot be read"}: ${this.detail}`
  }
}

/**
 * Reads a configuration. Fails with `QueueConfigFileError`, and with `InvalidQueueConfig` where the file holds a mistake:
 * its message begins with file and line, `queue.yaml:12: queue mail: rate must be ...`.
 *
 * A relative path is taken from the process's working directory. YAML 1.2, so `yes` and `on` are texts. Interrupting it
 * stops the reading.
 *
 * @since 0.1.0
 */
export const load = Effect.fnUntraced(function* (
  path: string | URL,
): Effect.fn.Return<QueueConfig.QueueConfig, QueueConfigFileError | QueueConfig.InvalidQueueConfig> {
  const file = typeof path === "string" ? path : fileURLToPath(path)
  const text = yield* Effect.tryPromise({
    try: (signal) => readFile(file, { encoding: "utf8", signal }),
    catch: (cause) => unreadable(file, cause),
  })
  const yaml = parseYaml(text)
  if (yaml._tag === "Broken") {
    return yield* new QueueConfigFileError({ file, line: yaml.line, reason: "Syntax", detail: yaml.detail })
  }
  return yield* Effect.mapError(QueueConfig.decode(yaml.value), ({ field, path, queue, reason }) => {
    const at = `${file}:${yaml.lineOf(path)}`
    return new QueueConfig.InvalidQueueConfig({ queue, field, reason, path, at })
  })
})

/**
 * `QueueConfig.layer` of a file: reads it and applies it when the layer is built.
 *
 * @example
 * ```ts
 * import * as QueueConfigFile from "@outlive/node/QueueConfigFile"
 * import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
 * import { Layer } from "effect"
 *
 * const Queues = QueueConfigFile.layer("queue.yaml").pipe(
 *   Layer.provideMerge(TaskQueueSqlite.layer({ filename: "tasks.db" })),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  path: string | URL,
  options?: QueueConfig.ApplyOptions,
): Layer.Layer<never, QueueConfigFileError | QueueConfig.InvalidQueueConfig | TaskQueueError, TaskQueue> =>
  QueueConfig.layer(load(path), options)

const unreadable = (file: string, cause: unknown): QueueConfigFileError =>
  new QueueConfigFileError({
    file,
    line: undefined,
    reason: (cause as NodeJS.ErrnoException).code === "ENOENT" ? "Missing" : "Unreadable",
    detail: cause instanceof Error ? cause.message : String(cause),
  })
