/**
 * What a task's definition says (`Task.make`), and what comes of it.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Schema from "effect/Schema"
import type { UniqueStates } from "./DeferOptions.ts"
import type { TaskCodec } from "./internal/taskCodec.ts"
import type { RetryRule, RetryRules } from "./Outcome.ts"
import type { RetryPolicy } from "./RetryPolicy.ts"
import type { TaskLatest } from "./TaskLatest.ts"
import type { Unique } from "./TaskRecord.ts"
import type * as TaskVersions from "./TaskVersions.ts"

/** A task's own settings, with their defaults filled in. Milliseconds. @since 0.1.0 */
export interface Settings {
  readonly queue: string
  readonly priority: number
  /** `undefined`: the queue's, else `RetryPolicy.defaultPolicy`. */
  readonly policy: RetryPolicy | undefined
  readonly rules: RetryRules
  readonly timeout: number | undefined
  readonly lease: number | undefined
  readonly maxCrashes: number
  readonly keep: number
  readonly commit: "afterHandler" | "withHandler"
  readonly version: number
  readonly aliases: ReadonlyArray<string>
  readonly key: ((payload: never) => string) | undefined
  readonly unique: { readonly key: (payload: never) => string; readonly while: Unique["while"] } | undefined
  readonly latest: Latest | undefined
  readonly codec: TaskCodec
}

/** `TaskLatest`, checked. Milliseconds. @since 0.1.0 */
export interface Latest extends LatestPace {
  readonly key: (payload: never) => string
  readonly merge: ((waiting: never, given: never) => unknown) | undefined
}

/** @since 0.1.0 */
export interface LatestPace {
  /** Of a debounce. */
  readonly within: number | undefined
  readonly maxWait: number | undefined
  /** Of a throttle. */
  readonly spacing: number | undefined
}

type Tagged = { readonly _tag: string }

/** Retry rules by error tag; `_` is for all others. @since 0.1.0 */
export type RetryByTag<E> = {
  readonly [K in Extract<E, Tagged>["_tag"]]?: RetryRule<Extract<E, { readonly _tag: K }>> | undefined
} & { readonly _?: RetryPolicy | undefined }

type Typed<Payload> = TaskVersions.ToSchema<Payload>["Type"]

/** Whether payloads can be read again wherever one is deferred. */
type Merged<Payload> = [TaskVersions.ToSchema<Payload>["DecodingServices"]] extends [never] ? Typed<Payload> : never

/**
 * What `Task.make` is given. A value that is out of its bounds makes it throw `InvalidTaskOptions`, which names the field.
 *
 * @since 0.1.0
 */
export type Options<Payload, Success extends Schema.Top, Error extends Schema.Top> = Exclusive<Payload> & {
  /** Fields of a struct, a schema, or a version chain (`Task.versions`). Default: nothing (`Schema.Void`). */
  readonly payload?: Payload | undefined
  /** Default: nothing. */
  readonly success?: Success | undefined
  /** The handler's own errors. Default: none. */
  readonly error?: Error | undefined
  /** Where its records go when `defer` does not say. Default `default` (D4). */
  readonly queue?: string | undefined
  /** Default 0; higher first. */
  readonly priority?: number | undefined
  /** One policy, or rules by error tag. Default: `RetryPolicy.defaultPolicy`. */
  readonly retry?: RetryPolicy | RetryByTag<Error["Type"]> | undefined
  /** An attempt that takes longer is interrupted and has failed with `TaskTimeout`. Default: none. */
  readonly timeout?: Duration.Input | undefined
  /**
   * Whom a record is for, in 1 to 255 characters: a tenant, an account, a device. Keys take turns within a queue, and the
   * queue may give each of them limits of its own (`QueueConfig`, `docs/keys.md`). Default: nobody's.
   */
  readonly key?: ((payload: Typed<Payload>) => string) | undefined
  /** Default: the worker's. Heartbeats extend it, so it bounds how long a crash goes unnoticed, not the work. */
  readonly lease?: Duration.Input | undefined
  /** How often a worker may die with a record before it is dead `Crashed`. Default 3. */
  readonly maxCrashes?: number | undefined
  /** How long a succeeded or cancelled record and its result stay. Default 1 day. Dead letters stay until redriven. */
  readonly keep?: Duration.Input | "none" | "forever" | undefined
  /**
   * - `afterHandler` (default): the outcome is written when the handler has ended, so its effects may happen again
   * - `withHandler`: the handler runs in a transaction of the application's database in which its success is written, too:
   *   what it writes there happens exactly once. The transaction is open as long as the handler runs: keep it short, and
   *   bound it by `timeout`, on SQLite above all, where nothing else can be written meanwhile, not even a cancellation.
   *   On a queue that is not `transactional` it is as `afterHandler`.
   */
  readonly commit?: "afterHandler" | "withHandler" | undefined
  /** Older names, whose records this task still runs. */
  readonly aliases?: ReadonlyArray<string> | undefined
}

/** What a task does where another record has its unique key: one of the two at the most. */
type Exclusive<Payload> =
  | {
      /** A key made of the payload: while a record holds it, another one is not stored, in bulk and under races too. */
      readonly unique?:
        | {
            readonly key: (payload: Typed<Payload>) => string
            /** Default `["scheduled", "ready", "running"]`: until its end. */
            readonly while?: UniqueStates | undefined
          }
        | undefined
      readonly latest?: undefined
    }
  | {
      /** A key made of the payload: what is deferred takes the place of what waits with it. See `TaskLatest`. */
      readonly latest?: TaskLatest<Typed<Payload>, Merged<Payload>> | undefined
      readonly unique?: undefined
    }
