/**
 * Stored samples of a task's payloads, of all its versions: a test that what older releases have written still runs.
 *
 * A chain of versions compiles only when its steps meet (`TaskVersions`), which says nothing of the texts that are really
 * in a queue: a schema that was changed in place, without a new version, compiles too. Samples notice.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Task from "../Task.ts"

/** A payload as a queue stores it. @since 0.1.0 */
export interface Sample {
  readonly version: number
  /** JSON text. */
  readonly text: string
}

/** Samples by version, or one by one as `sample` gave them. @since 0.1.0 */
export type Samples = Readonly<Record<number, ReadonlyArray<string>>> | ReadonlyArray<Sample>

/** A sample with what the task's present definition makes of it. @since 0.1.0 */
export interface Checked<Payload> extends Sample {
  readonly payload: Payload
}

/**
 * Stored samples that the task's present definition does not take, all of them, or versions without one.
 *
 * @since 0.1.0
 */
export class SamplesFailed extends Schema.TaggedError<SamplesFailed>()("SamplesFailed", {
  task: Schema.String,
  /** The present version. */
  version: Schema.Number,
  problems: Schema.Array(
    Schema.Struct({
      version: Schema.Number,
      /** Counted from 1 within its version; `undefined`: the version has no sample. */
      index: Schema.UndefinedOr(Schema.Int),
      text: Schema.UndefinedOr(Schema.String),
      reason: Schema.String,
    }),
  ),
}) {
  override get message() {
    const count = `${this.problems.length} ${this.problems.length === 1 ? "problem" : "problems"}`
    const lines = this.problems.map(({ index, reason, text, version }) =>
      index === undefined
        ? `- version ${version}: ${reason}`
        : `- version ${version}, sample ${index}: ${shortened(text ?? "")}\n  ${reason.replaceAll("\n", "\n  ")}`,
    )
    return `stored samples of task ${this.task}, now at version ${this.version}: ${count}\n${lines.join("\n")}`
  }
}

/**
 * Decodes every sample as a worker would, up to the newest version, and gives the payloads in the order of the versions.
 * Fails with `SamplesFailed`, which names every sample that does not decode with its error.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskSamples from "@outlive/deferred/testing/TaskSamples"
 * import { Schema } from "effect"
 *
 * const Welcome = Task.make("Welcome", {
 *   payload: Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.user })),
 * })
 * const program = TaskSamples.check(Welcome, { 1: ['{"user":"ada"}'], 2: ['{"userId":"ada"}'] })
 * ```
 *
 * @since 0.1.0
 */
export const check: <Name extends string, P extends Schema.Top, S extends Schema.Top, E extends Schema.Top>(
  task: Task.Task<Name, P, S, E>,
  samples: Samples,
  options?: {
    /**
     * Which versions must have a sample: those `older` than the present one, since records of it are what a deploy
     * finds in the queue (default); `all`; or `none`.
     */
    readonly required?: "older" | "all" | "none" | undefined
  },
) => Effect.Effect<ReadonlyArray<Checked<P["Type"]>>, SamplesFailed, P["DecodingServices"]> = Effect.fnUntraced(
  function* (task, samples, options) {
    const current = task.settings.version
    const problems: Array<SamplesFailed["problems"][number]> = []
    const checked: Array<Checked<never>> = []
    const byVersion = group(samples)
    const required = { older: current - 1, all: current, none: 0 }[options?.required ?? "older"]
    for (let version = 1; version <= required; version++) {
      if ((byVersion.get(version) ?? []).length > 0) continue
      const reason = "has no sample: store one, as `TaskSamples.sample` of the release that wrote it gives it"
      problems.push({ version, index: undefined, text: undefined, reason })
    }
    for (const [version, texts] of [...byVersion].sort(([left], [right]) => left - right)) {
      for (const [index, text] of texts.entries()) {
        yield* Effect.match(task.payloadOf({ version, payload: text }), {
          onSuccess: (payload) => checked.push({ version, text, payload: payload as never }),
          onFailure: (error) => problems.push({ version, index: index + 1, text, reason: error.message }),
        })
      }
    }
    problems.sort((left, right) => left.version - right.version)
    if (problems.length > 0) {
      return yield* Effect.fail(new SamplesFailed({ task: task.taskName, version: current, problems }))
    }
    return checked
  },
)

/**
 * A sample of the task's present version, to be stored beside the test before the payload changes. Fails with the
 * schema's error when the payload does not fit it.
 *
 * @since 0.1.0
 */
export const sample = <Name extends string, P extends Schema.Top, S extends Schema.Top, E extends Schema.Top>(
  task: Task.Task<Name, P, S, E>,
  payload: P["~type.make.in"],
): Effect.Effect<Sample, Schema.SchemaError, P["EncodingServices"]> =>
  Effect.map(task.settings.codec.encodePayload(payload), (text) => ({
    version: task.settings.version,
    text,
  })) as Effect.Effect<Sample, Schema.SchemaError, P["EncodingServices"]>

const group = (samples: Samples): ReadonlyMap<number, ReadonlyArray<string>> => {
  if (!isList(samples)) return new Map(Object.entries(samples).map(([version, texts]) => [Number(version), texts]))
  const grouped = new Map<number, Array<string>>()
  for (const { text, version } of samples) grouped.set(version, [...(grouped.get(version) ?? []), text])
  return grouped
}

const isList = (samples: Samples): samples is ReadonlyArray<Sample> => Array.isArray(samples)

const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 200)}…` : text)
