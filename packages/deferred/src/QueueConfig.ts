/**
 * The configuration of queues: rate, burst, concurrency, ageing, pause, and what they say about retries and targets of
 * their records. Written as code (`make`) or as App Engine's `queue.yaml` (`decode`, `File`), it is the same value, which
 * `layer` applies when a program starts and `apply` at any time after.
 *
 * Limits are stored with the queue and hold over all its workers, in every process, from the next claim on. Retry policies
 * and targets are not stored: each program that defers or works takes them from its own configuration (`QueueDefaults`).
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type { Path, Problem } from "./internal/fields.ts"
import { LiveDefaults } from "./internal/liveDefaults.ts"
import { applyConfig, configure, pauseQueue, setOverride } from "./internal/queueApply.ts"
import { readKey, readKeyOptions, readOptions } from "./internal/queueCode.ts"
import { readFile, writeFile } from "./internal/queueFile.ts"
import type { KeyLimits, KeyOverride } from "./KeyLimits.ts"
import { type QueueDefault, QueueDefaults } from "./QueueDefaults.ts"
import type { QueueLimits } from "./QueueLimits.ts"
import type { KeyOptions, QueueOptions } from "./QueueOptions.ts"
import type { RetryPolicyData } from "./RetryPolicy.ts"
import { TaskQueue, type TaskQueueError } from "./TaskQueue.ts"

export type { ByKeyOptions, KeyOptions, QueueOptions, Rate } from "./QueueOptions.ts"

const TypeId = "~outlive/deferred/QueueConfig"

/**
 * A configuration without mistakes: only `make`, `decode` and `File` give one.
 *
 * @since 0.1.0
 */
export interface QueueConfig {
  readonly [TypeId]: typeof TypeId
  /** Each name once, in the order written. */
  readonly queues: ReadonlyArray<Queue>
  /**
   * Whether queues of which `paused` says nothing are resumed. Default `false`: a configuration is applied whenever a
   * program starts, which must not undo a pause made by hand.
   */
  readonly resumePausedQueues: boolean
  /** App Engine's; kept, without effect. */
  readonly application: string | undefined
  /** App Engine's `total_storage_limit` in bytes; kept, without effect: limit what the driver stores on. */
  readonly totalStorageLimit: number | undefined
}

/** What a configuration says of one queue. Milliseconds. @since 0.1.0 */
export interface Queue {
  readonly name: string
  /** Attempts started per second; `undefined`: no limit, 0: none. */
  readonly rate: number | undefined
  /** How many may start at once when the rate was not used for a while. */
  readonly burst: number
  /** Records running at the same time; `undefined`: no limit. */
  readonly maxConcurrent: number | undefined
  /** `undefined`: as it is, unless `resumePausedQueues`. */
  readonly paused: boolean | undefined
  /** Waiting that weighs as much as one point of priority; `undefined`: the priority alone decides. */
  readonly ageing: number | undefined
  /** What each key of its records may do. */
  readonly byKey: KeyLimits
  /** What holds for single keys instead; each name once, in the order written. */
  readonly keys: ReadonlyArray<Key>
  /** See `QueueDefaults`. */
  readonly retry: RetryPolicyData | undefined
  /** See `QueueDefaults`. */
  readonly target: string | undefined
  /** App Engine's; kept, without effect: any queue can be worked on, and leased from. */
  readonly mode: "push" | "pull"
  /** App Engine's, of its HTTP interface to pull queues; kept, without effect. */
  readonly acl: ReadonlyArray<{ readonly userEmail: string | undefined; readonly writerEmail: string | undefined }>
}

/** What a configuration says of one key of a queue. @since 0.1.0 */
export interface Key extends KeyOverride {
  readonly name: string
}

/**
 * A mistake in a configuration: which queue, which field, and what it must be. Nothing was applied.
 *
 * @since 0.1.0
 */
export class InvalidQueueConfig extends Schema.TaggedError<InvalidQueueConfig>()("InvalidQueueConfig", {
  /** The queue's name, or `#2` for the second when its name is what is wrong; `undefined`: a field of the root. */
  queue: Schema.UndefinedOr(Schema.String),
  /** As it was written: `bucket_size` in a file, `burst` in code, `retry_parameters.max_doublings`. */
  field: Schema.String,
  /** Goes on where the field's name ends. */
  reason: Schema.String,
  /** Where the mistake is in the data given. */
  path: Schema.Array(Schema.Union([Schema.String, Schema.Int])),
  /** File and line, where there are any. */
  at: Schema.UndefinedOr(Schema.String),
}) {
  override get message() {
    const where = this.at === undefined ? "" : `${this.at}: `
    return `${where}${this.queue === undefined ? "queue configuration" : `queue ${this.queue}`}: ${this.field} ${this.reason}`
  }
}

/**
 * A configuration as code, by queue. Fails with `InvalidQueueConfig`.
 *
 * @example
 * ```ts
 * import * as QueueConfig from "@outlive/deferred/QueueConfig"
 * import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
 * import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
 * import { Layer } from "effect"
 *
 * const Queues = QueueConfig.layer(
 *   QueueConfig.make({
 *     mail: { rate: "5/s", burst: 20, retry: RetryPolicy.exponential({ maxAttempts: 8 }) },
 *     images: { maxConcurrent: 4, ageing: "10 minutes" },
 *     sync: { byKey: { maxConcurrent: 2, rate: "10/s" }, keys: { acme: { weight: 3, maxConcurrent: 10 } } },
 *   }),
 * ).pipe(Layer.provideMerge(TaskQueueMemory.layer))
 * ```
 *
 * @since 0.1.0
 */
export const make = (
  queues: Readonly<Record<string, QueueOptions>>,
  options?: { readonly resumePausedQueues?: boolean | undefined },
): Effect.Effect<QueueConfig, InvalidQueueConfig> =>
  Result.match(readOptions(queues), {
    onFailure: ({ path, reason }) => {
      const [queue, ...field] = path
      return Effect.fail(invalid({ path, reason }, queue === undefined ? undefined : String(queue), field))
    },
    onSuccess: (found) =>
      Effect.succeed({
        [TypeId]: TypeId,
        queues: found,
        resumePausedQueues: options?.resumePausedQueues ?? false,
        application: undefined,
        totalStorageLimit: undefined,
      }),
  })

/**
 * Reads what a `queue.yaml` holds once it is parsed, with App Engine's field names and syntax (Q130-Q137), and `ageing`, `by_key` and
 * `keys`.
 * A field that is not known is refused. `docs/queues.md` has the table.
 *
 * @since 0.1.0
 */
export const decode = (parsed: unknown): Effect.Effect<QueueConfig, InvalidQueueConfig> =>
  Effect.fromResult(decodeResult(parsed))

const decodeResult = (parsed: unknown): Result.Result<QueueConfig, InvalidQueueConfig> =>
  Result.mapBoth(readFile(parsed, []), {
    onFailure: (problem) => inFile(problem, (index) => nameAt(parsed, index)),
    onSuccess: (contents): QueueConfig => ({ [TypeId]: TypeId, ...contents }),
  })

/**
 * The schema of a parsed `queue.yaml`, for whoever composes schemas, as `Schema.fromJsonString(QueueConfig.File)`. What it
 * encodes decodes to the same. The syntax has no words for some of what code can say (other policies than App Engine's,
 * jitter, `maxAttempts`): that does not encode. Its errors have the message of `InvalidQueueConfig`.
 *
 * @since 0.1.0
 */
export const File: Schema.Codec<QueueConfig, unknown> = Schema.Unknown.pipe(
  Schema.decodeTo(
    Schema.declare((value): value is QueueConfig => typeof value === "object" && value !== null && TypeId in value),
    SchemaTransformation.transformEffect({
      decode: (parsed: unknown) => Effect.mapError(decode(parsed), issueOf),
      encode: (config: QueueConfig) =>
        Effect.mapError(Effect.fromResult(writeFile(config)), (problem) =>
          issueOf(inFile(problem, (index) => config.queues[index]?.name)),
        ),
    }),
  ),
)

/** @since 0.1.0 */
export interface ApplyOptions {
  /**
   * What becomes of queues that the configuration does not name: `"keep"` leaves them, `"pause"` pauses those that have
   * records, or were in `previous`, and keeps their records (Q136). The queue `default` is always kept. Default `"keep"`.
   */
  readonly unlisted?: "keep" | "pause" | undefined
  /** The configuration before this one: a queue that it names may have no records, and is paused all the same. */
  readonly previous?: QueueConfig | undefined
}

/** What `apply` changed: one field of one queue, or what was said of one of its keys. @since 0.1.0 */
export type Change =
  | {
      readonly [F in keyof (QueueLimits & QueueDefault)]: {
        readonly queue: string
        readonly field: F
        readonly before: (QueueLimits & QueueDefault)[F]
        readonly after: (QueueLimits & QueueDefault)[F]
      }
    }[keyof (QueueLimits & QueueDefault)]
  | {
      readonly queue: string
      readonly field: "keys"
      readonly key: string
      readonly before: KeyOverride
      readonly after: KeyOverride
    }

/**
 * Gives the queues their limits, where they have others, and says what that changed: nothing when it is applied again.
 * A limit that a configuration does not name is lifted. It holds from the next claim on; what runs goes on. Of a key that it
 * names, all that was said before is forgotten; a key that it does not name keeps what it had, since a queue may have more
 * keys than anybody lists: `overrideKey` with `{}` takes it back. Each named key costs a look at every time.
 *
 * Retry policies and targets go to the `QueueDefaults` that `layer` has provided. Without that layer there is nowhere to
 * put them, which is logged as a warning.
 *
 * Queues are changed one after the other: a failure of the storage, or an interruption, leaves the later ones as they
 * were, and to apply again does the rest. By the caller's `Clock`.
 *
 * @since 0.1.0
 */
export const apply = (
  config: QueueConfig,
  options?: ApplyOptions,
): Effect.Effect<ReadonlyArray<Change>, TaskQueueError, TaskQueue> => applyConfig(config, options ?? {})

/**
 * Applies a configuration when it is built, and provides its `QueueDefaults`; what changed is logged. Give it to all that
 * defers and works (`Layer.provideMerge`), once: of two such layers side by side the later one's defaults hold.
 *
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  config: QueueConfig | Effect.Effect<QueueConfig, E, R>,
  options?: ApplyOptions,
): Layer.Layer<never, E | TaskQueueError, R | TaskQueue> =>
  Layer.effect(
    QueueDefaults,
    Effect.gen(function* () {
      const found = Effect.isEffect(config) ? yield* config : config
      const defaults = new LiveDefaults()
      const changes = yield* Effect.provideService(apply(found, options), QueueDefaults, defaults)
      for (const change of changes) yield* Effect.logInfo(sentence(change))
      const idle = withoutEffect(found)
      if (idle.length > 0) yield* Effect.logInfo(`of no effect in the queue configuration: ${idle.join(", ")}`)
      return defaults
    }),
  )

/**
 * Starts nothing more of a queue; what runs goes on, and enqueueing too. Whether it was not paused before. By the caller's
 * `Clock`. A queue is what records are sent to: one of a mistyped name is paused as well.
 *
 * @since 0.1.0
 */
export const pause = (queue: string): Effect.Effect<boolean, TaskQueueError, TaskQueue> =>
  Effect.map(configure(queue, { paused: true }), ({ length }) => length > 0)

/** Starts records of a queue again. Whether it was paused before. By the caller's `Clock`. @since 0.1.0 */
export const resume = (queue: string): Effect.Effect<boolean, TaskQueueError, TaskQueue> =>
  Effect.map(configure(queue, { paused: false }), ({ length }) => length > 0)

/**
 * Nothing of a queue, or of one of its keys, starts before a time, whatever was said before (by `Throttled`, say); a time in
 * the past resumes it. What runs goes on, and enqueueing too. It is apart from `pause`: both must be over.
 *
 * Fails with `InvalidQueueConfig` when the key is none. By the caller's `Clock`.
 *
 * @since 0.1.0
 */
export const pauseUntil = (
  queue: string,
  until: DateTime.DateTime,
  options?: { readonly key?: string | undefined },
): Effect.Effect<void, InvalidQueueConfig | TaskQueueError, TaskQueue> => {
  const checked = options?.key === undefined ? Result.succeed(undefined) : readKey(options.key, [])
  return Result.match(checked, {
    onFailure: (problem) => Effect.fail(invalid(problem, queue, ["key"])),
    onSuccess: (key) => pauseQueue(queue, key, until.epochMilliseconds),
  })
}

/**
 * Says what holds for one key of a queue instead of what holds for all, while the queue runs and from the next claim on: all
 * that was said for it before is forgotten, and with `{}` it is as any other. Fails with `InvalidQueueConfig`. By the
 * caller's `Clock`.
 *
 * @since 0.1.0
 */
export const overrideKey = (
  queue: string,
  key: string,
  options: KeyOptions,
): Effect.Effect<void, InvalidQueueConfig | TaskQueueError, TaskQueue> =>
  Result.match(readKeyOptions(key, options, ["keys", key]), {
    onFailure: (problem) => Effect.fail(invalid(problem, queue, problem.path)),
    onSuccess: (override) => setOverride(queue, key, override),
  })

/**
 * Deletes what waits in a queue, for ever; what runs goes on, and what has ended stays (Q65). How many.
 *
 * @since 0.1.0
 */
export const purge = (queue: string): Effect.Effect<number, TaskQueueError, TaskQueue> =>
  Effect.flatMap(TaskQueue, (taskQueue) => taskQueue.purge({ queue }))

const invalid = ({ path, reason }: Problem, queue: string | undefined, field: Path): InvalidQueueConfig =>
  new InvalidQueueConfig({ queue, field: field.join(".") || "it", reason, path, at: undefined })

/** A problem at `queue`, index, field: with the queue's name. */
const inFile = (problem: Problem, nameOf: (index: number) => string | undefined): InvalidQueueConfig => {
  const [root, index, ...field] = problem.path
  return root === "queue" && typeof index === "number"
    ? invalid(problem, nameOf(index) ?? `#${index + 1}`, field)
    : invalid(problem, undefined, problem.path)
}

const nameAt = (parsed: unknown, index: number): string | undefined => {
  const queues = (parsed as { readonly queue?: ReadonlyArray<{ readonly name?: unknown } | null> }).queue
  const name = queues?.[index]?.name
  return typeof name === "string" ? name : undefined
}

const issueOf = ({ message, path }: InvalidQueueConfig): SchemaIssue.Issue =>
  new SchemaIssue.Pointer(path, new SchemaIssue.InvalidValue({ message }))

const sentence = (change: Change): string => {
  const { after, before, field, queue } = change
  const what = change.field === "keys" ? `${field}.${change.key}` : field
  return `queue ${queue}: ${what} ${shown(before)} -> ${shown(after)}`
}

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (each === Number.POSITIVE_INFINITY ? "unlimited" : each)) ?? "none"

const withoutEffect = (config: QueueConfig): ReadonlyArray<string> => [
  ...(config.application === undefined ? [] : ["application"]),
  ...(config.totalStorageLimit === undefined ? [] : ["total_storage_limit"]),
  ...config.queues.flatMap(({ acl, name }) => (acl.length === 0 ? [] : [`acl of the queue ${name}`])),
]
