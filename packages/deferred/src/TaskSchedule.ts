/**
 * Schedules: a task deferred again and again, by cron or by interval. A schedule is a record of the queue itself, which
 * whoever works on schedules claims at its next tick: so it survives all processes, and of many processes one makes the tick.
 *
 * @since 0.1.0
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { DeferOptions } from "./DeferOptions.ts"
import { hashOf } from "./internal/hash.ts"
import { toMillis } from "./internal/millis.ts"
import type * as Task from "./Task.ts"
import type { TaskQueue } from "./TaskQueue.ts"

const TypeId = "~outlive/deferred/TaskSchedule"

/**
 * A definition that cannot work: `field` is the name of the option. Thrown where the schedule is defined.
 *
 * @since 0.1.0
 */
export class InvalidSchedule extends Schema.TaggedError<InvalidSchedule>()("InvalidSchedule", {
  schedule: Schema.String,
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `schedule ${this.schedule}: ${this.field} ${this.reason}`
  }
}

/** @since 0.1.0 */
export type Options<Input> = When & {
  /** What the task of a tick is given. */
  readonly payload: (tick: DateTime.Utc) => Input
  /**
   * Ticks that nobody made, since no worker was there: `none` of them are made up for, the `last` one (default), or `all`.
   * A tick that is late by less than a minute is not one of these.
   */
  readonly catchUp?: "none" | "last" | "all" | undefined
  /** Whether a tick is left out while the record of one before waits or runs: `skip` (default), or `allow`. */
  readonly overlap?: "skip" | "allow" | undefined
  /** Each record is delayed by up to so long, so that not all schedules begin with the minute. Default 0. */
  readonly jitter?: Duration.Input | undefined
  /** What the record of each tick is deferred with. */
  readonly options?:
    | Pick<DeferOptions, "queue" | "priority" | "headers" | "target" | "retry" | "timeout" | "expires">
    | undefined
}

/** By a cron expression, or at whole multiples of an interval. @since 0.1.0 */
export type When =
  | {
      /** Five fields, or six with seconds first. */
      readonly cron: string
      /** IANA name. Default `UTC`. */
      readonly timeZone?: string | undefined
      /**
       * Which of a local time that comes twice, when clocks are set back: the `earlier` (default), the `later`, or `both`.
       * One that does not come at all, when they are set forward, is made right after the gap.
       */
      readonly onDstOverlap?: Cron.DstOverlapPolicy | undefined
      readonly every?: undefined
    }
  | {
      /** From a second on. Ticks are at the multiples since 1970, the same for all processes. */
      readonly every: Duration.Input
      readonly cron?: undefined
    }

/**
 * A schedule, defined.
 *
 * @since 0.1.0
 */
export interface TaskSchedule {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  readonly task: string
  readonly catchUp: "none" | "last" | "all"
  readonly overlap: "skip" | "allow"
  /** What it is, as text: two processes with the same text mean the same schedule. */
  readonly definition: string
  /** The first tick after a time, in epoch milliseconds; `undefined`: there is none. */
  readonly next: (after: number) => number | undefined
  /** Defers the record of a tick; `undefined`: there is one already, or one before it is not done. */
  readonly tick: (at: number) => Effect.Effect<unknown, unknown, TaskQueue>
}

/**
 * Defines a schedule. Its name, `[a-zA-Z0-9_-]{1,200}`, is its identity.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import * as TaskSchedule from "@outlive/deferred/TaskSchedule"
 * import * as TaskScheduler from "@outlive/deferred/TaskScheduler"
 * import { DateTime, Schema } from "effect"
 *
 * const Report = Task.make("Report", { payload: { day: Schema.String } })
 * const Nightly = TaskSchedule.make("nightly-report", Report, {
 *   cron: "0 3 * * *",
 *   timeZone: "Europe/Oslo",
 *   payload: (tick) => ({ day: DateTime.formatIsoDateUtc(tick) }),
 * })
 * const Schedules = TaskScheduler.layer({ schedules: [Nightly] })
 * ```
 *
 * @since 0.1.0
 */
export const make = <
  Name extends string,
  Payload extends Schema.Top & { readonly EncodingServices: never },
  Success extends Schema.Top,
  Error extends Schema.Top,
>(
  name: string,
  task: Task.Task<Name, Payload, Success, Error>,
  options: Options<Payload["~type.make.in"]>,
): TaskSchedule => {
  const refuse = (field: string, reason: string): never => {
    throw new InvalidSchedule({ schedule: name, field, reason })
  }
  if (!/^[a-zA-Z0-9_-]{1,200}$/.test(name)) refuse("name", "must be 1 to 200 letters, digits, dashes or underscores")
  const jitter = options.jitter === undefined ? 0 : toMillis(options.jitter)
  if (!(jitter >= 0 && jitter <= 86_400_000)) refuse("jitter", "must be 0 to a day")
  const { catchUp = "last", overlap = "skip" } = options
  const next = nextOf(options, refuse)
  const when =
    options.every === undefined
      ? { cron: options.cron, timeZone: options.timeZone, onDstOverlap: options.onDstOverlap }
      : { every: toMillis(options.every) }
  return {
    [TypeId]: TypeId,
    name,
    task: task.taskName,
    catchUp,
    overlap,
    definition: JSON.stringify({ task: task.taskName, ...when, catchUp, overlap, jitter, options: options.options }),
    next,
    tick: (at) =>
      task.defer(options.payload(DateTime.makeUnsafe(at)), {
        ...options.options,
        eta: DateTime.makeUnsafe(at + Math.floor(jitter * spread(`${name}-${at}`))),
        // Whoever makes the tick once more, after a crash, finds it made.
        name: `${name}-${at}`,
        onDuplicate: "ignore",
        ...(overlap === "skip" && { unique: { key: `schedule ${name}` } }),
      }) as Effect.Effect<unknown, unknown, TaskQueue>,
  }
}

const nextOf = (
  when: When,
  refuse: (field: string, reason: string) => never,
): ((after: number) => number | undefined) => {
  if (when.every !== undefined) {
    const every = toMillis(when.every)
    if (!(every >= 1000 && every <= 31_536_000_000)) refuse("every", "must be a second to a year")
    return (after) => (Math.floor(after / every) + 1) * every
  }
  const zone = when.timeZone ?? "UTC"
  if (DateTime.zoneMakeNamed(zone)._tag === "None") refuse("timeZone", `must be an IANA name, and is ${zone}`)
  const parsed = Cron.parse(when.cron, zone, { onDstOverlap: when.onDstOverlap })
  if (Result.isFailure(parsed)) return refuse("cron", `cannot be read: ${parsed.failure.message} (${when.cron})`)
  const cron = parsed.success
  const next = (after: number): number | undefined => {
    try {
      return Cron.next(cron, after).getTime()
    } catch {
      // Effect looks some years ahead: the 30th of February does not come.
      return undefined
    }
  }
  if (next(0) === undefined) refuse("cron", `has no time that ever comes (${when.cron})`)
  return next
}

/** A number from 0 to below 1, the same for the same text: a tick made twice has one time. */
const spread = (text: string): number => hashOf(text) / 0x1_0000_0000
