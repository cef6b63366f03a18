/**
 * Leases on records and how they end, as workers and drivers exchange them. All of it is fenced: who does not name the
 * token of the last claim changes nothing.
 *
 * @since 0.1.0
 */
import type { TaskId } from "./TaskId.ts"
import type { DeadReason } from "./TaskRecord.ts"

/** A lease, as its holder names it. @since 0.1.0 */
export interface Lease {
  readonly id: TaskId
  readonly token: number
}

/** @since 0.1.0 */
export interface ExtendParams {
  readonly leases: ReadonlyArray<Lease>
  readonly until: number
  readonly now: number
}

/**
 * - `Extended`: the lease holds until the given time
 * - `CancelRequested`: it does too, and somebody wants the record cancelled
 * - `LeaseLost`: somebody else owns the record, or it has ended
 *
 * @since 0.1.0
 */
export type ExtendOutcome = "Extended" | "CancelRequested" | "LeaseLost"

/** How an attempt ended: one arrow out of `running` each. @since 0.1.0 */
export type Settlement = Lease & {
  /** Its last word on how far it came, if that was not noted before. */
  readonly progress?: string | undefined
} & (
    | {
        readonly _tag: "Succeed"
        readonly result: string | undefined
        /** The payload for the record that waits for this one (`NewRecord.memberOf`), instead of the one it has. */
        readonly handOver?: string | undefined
      }
    /** Failed, to be tried again at `eta`; a time in the past means now. */
    | { readonly _tag: "Retry"; readonly eta: number; readonly failure: string }
    /** Not now: scheduled for `eta` as above, the attempt is given back. */
    | {
        readonly _tag: "Snooze"
        readonly eta: number
        /**
         * Whose other records start nothing before `eta` either: those of its key, or of its queue. A pause that is there
         * already is never made shorter by it. A record without a key pauses its queue.
         */
        readonly pause?: "key" | "queue" | undefined
      }
    /** The worker stops: ready at once, the attempt is given back. */
    | { readonly _tag: "Release" }
    | { readonly _tag: "Cancel" }
    | {
        readonly _tag: "Bury"
        readonly reason: DeadReason
        readonly result: string | undefined
        readonly failure: string | undefined
      }
  )

/** `LeaseLost`: nothing was changed. @since 0.1.0 */
export type SettleOutcome = "Settled" | "LeaseLost"

/** How far an attempt has come: JSON text. @since 0.1.0 */
export type ProgressUpdate = Lease & { readonly progress: string }

/** `LeaseLost`: nothing was changed. @since 0.1.0 */
export type ProgressOutcome = "Recorded" | "LeaseLost"
