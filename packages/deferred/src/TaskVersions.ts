/**
 * Versions of a task's payload: a chain whose steps must meet, so that records written by an older release run on a newer
 * one, and a gap cannot be written.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const TypeId = "~outlive/deferred/TaskVersions"

/** Fields of a struct, or a schema. @since 0.1.0 */
export type Source = Schema.Top | Schema.Struct.Fields

/** The schema that a source stands for. @since 0.1.0 */
export type ToSchema<S> =
  S extends TaskVersions<infer Current>
    ? Current
    : S extends Schema.Top
      ? S
      : S extends Schema.Struct.Fields
        ? Schema.Struct<S>
        : never

/**
 * A chain of payload versions that ends in `Current`.
 *
 * @since 0.1.0
 */
export interface TaskVersions<out Current extends Schema.Top> {
  readonly [TypeId]: typeof TypeId
  readonly current: Current
  /** How many versions there are: the current one's number. */
  readonly version: number
  /** The older versions, the first first, each with the step to its successor. */
  readonly older: ReadonlyArray<Older>
  /** Adds a version. `upcast` turns a payload of the version before into one of this. */
  readonly to: <const Next extends Source>(
    next: Next,
    upcast: (old: Current["Type"]) => ToSchema<Next>["Type"],
  ) => TaskVersions<ToSchema<Next>>
}

/** @since 0.1.0 */
export interface Older {
  readonly schema: Schema.Top
  readonly upcast: (old: never) => unknown
}

/**
 * Begins a chain with its first version.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import { Schema } from "effect"
 *
 * const Welcome = Task.make("Welcome", {
 *   payload: Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.user })),
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = <const First extends Source>(first: First): TaskVersions<ToSchema<First>> =>
  chain(toSchema(first), [])

/** @since 0.1.0 */
export const isTaskVersions = (value: unknown): value is TaskVersions<Schema.Top> =>
  typeof value === "object" && value !== null && TypeId in value

/** @since 0.1.0 */
export const toSchema = <const S extends Source>(source: S): ToSchema<S> =>
  (Schema.isSchema(source) ? source : Schema.Struct(source as Schema.Struct.Fields)) as ToSchema<S>

const chain = <Current extends Schema.Top>(current: Current, older: ReadonlyArray<Older>): TaskVersions<Current> => ({
  [TypeId]: TypeId,
  current,
  version: older.length + 1,
  older,
  to: (next, upcast) => chain(toSchema(next), [...older, { schema: current, upcast: upcast as Older["upcast"] }]),
})
