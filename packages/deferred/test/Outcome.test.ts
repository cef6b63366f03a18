import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@outlive/deferred/Outcome"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import {
  PermanentTaskFailure,
  SingularTaskFailure,
  Snooze,
  TaskTimeout,
  Throttled,
} from "@outlive/deferred/TaskFailure"
import { Cause, DateTime, Exit, Schema } from "effect"

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", {}) {}
class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.Int }) {}
class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Odd extends Schema.TaggedError<Odd>()("Odd", {}) {}

const rules: Outcome.RetryRules = {
  Rejected: "never",
  Busy: (busy: Busy) => Snooze.for(`${busy.seconds} seconds`),
  Full: () => Throttled.for("1 second"),
  Odd: "quiet",
}
const permanent = new PermanentTaskFailure({ message: "no such user" })
const singular = new SingularTaskFailure({ message: "not yet" })
const boom = new Error("boom")
const timeout = new TaskTimeout({ timeout: 1000 })
const interrupted = Cause.interrupt(1)
const causes = (...all: ReadonlyArray<Cause.Cause<unknown>>) =>
  Exit.failCause(all.reduce((left, right) => Cause.combine(left, right)))

/** The tag, and for retries how it is logged. */
const summary = (outcome: Outcome.Outcome) =>
  outcome._tag === "Retry"
    ? `Retry ${outcome.kind}${outcome.quiet ? " quietly" : ""}`
    : outcome._tag === "Dead"
      ? `Dead ${outcome.reason}`
      : outcome._tag

describe("Outcome.fromExit", () => {
  it.each([
    // the handler alone
    ["succeeds", Exit.succeed(1), undefined, "Succeeded"],
    ["fails with SingularTaskFailure", Exit.fail(singular), undefined, "Retry failure quietly"],
    ["fails with Snooze", Exit.fail(Snooze.for("1 second")), undefined, "Snoozed"],
    ["fails with Throttled", Exit.fail(Throttled.for("1 second")), undefined, "Snoozed"],
    ["fails with a tag mapped to Throttled", Exit.fail(new Full()), undefined, "Snoozed"],
    ["fails with Throttled and dies", causes(Cause.fail(Throttled.for(1)), Cause.die(boom)), undefined, "Retry defect"],
    ["fails with PermanentTaskFailure", Exit.fail(permanent), undefined, "Dead PermanentFailure"],
    ["fails with a tag mapped to never", Exit.fail(new Rejected()), undefined, "Dead PermanentFailure"],
    ["fails with a tag mapped to a snooze", Exit.fail(new Busy({ seconds: 5 })), undefined, "Snoozed"],
    ["fails with a tag mapped to quiet", Exit.fail(new Odd()), undefined, "Retry failure quietly"],
    ["fails with another typed error", Exit.fail(new Error("x")), undefined, "Retry failure"],
    ["fails with something that is not an error", Exit.fail("x"), undefined, "Retry failure"],
    ["fails with undefined", Exit.fail(undefined), undefined, "Retry failure"],
    ["times out", Exit.fail(timeout), undefined, "Retry timeout"],
    ["has an undecodable payload", Exit.fail(new Outcome.Undecodable({ message: "?" })), undefined, "Dead Undecodable"],
    ["is not known", Exit.fail(new Outcome.UnknownTask({ task: "Odd" })), undefined, "Dead UnknownTask"],
    [
      "was found dead elsewhere",
      Exit.fail(new Outcome.DeadElsewhere({ reason: "PayloadMissing", tag: "Odd", message: "gone" })),
      undefined,
      "Dead PayloadMissing",
    ],
    ["dies", Exit.die(boom), undefined, "Retry defect"],
    ["interrupts itself", Exit.failCause(interrupted), undefined, "Retry defect"],
    ["fails with an empty cause", Exit.failCause(Cause.empty), undefined, "Retry defect"],
    // mixed causes
    ["fails and dies", causes(Cause.fail(singular), Cause.die(boom)), undefined, "Retry defect"],
    ["dies and fails for good", causes(Cause.die(boom), Cause.fail(permanent)), undefined, "Dead PermanentFailure"],
    [
      "fails and is interrupted by itself",
      causes(Cause.fail(new Odd()), interrupted),
      undefined,
      "Retry failure quietly",
    ],
    [
      "fails twice, once for good",
      causes(Cause.fail(singular), Cause.fail(permanent)),
      undefined,
      "Dead PermanentFailure",
    ],
    // shutdown
    ["succeeds during shutdown", Exit.succeed(1), "shutdown", "Succeeded"],
    ["is interrupted by shutdown", Exit.failCause(interrupted), "shutdown", "Released"],
    ["is interrupted by shutdown and its finalizer dies", causes(interrupted, Cause.die(boom)), "shutdown", "Released"],
    ["is interrupted by shutdown and then fails", causes(interrupted, Cause.fail(permanent)), "shutdown", "Released"],
    ["fails by itself during shutdown", Exit.fail(singular), "shutdown", "Retry failure quietly"],
    ["dies by itself during shutdown", Exit.die(boom), "shutdown", "Retry defect"],
    // cancel
    ["succeeds before the cancel reaches it", Exit.succeed(1), "cancel", "Succeeded"],
    ["is cancelled", Exit.failCause(interrupted), "cancel", "Cancelled"],
    ["is cancelled and its finalizer dies", causes(interrupted, Cause.die(boom)), "cancel", "Cancelled"],
    ["fails by itself while being cancelled", Exit.fail(permanent), "cancel", "Dead PermanentFailure"],
    // a lost lease
    ["succeeds after its lease was lost", Exit.succeed(1), "leaseLost", "Abandoned"],
    ["is interrupted by a lost lease", Exit.failCause(interrupted), "leaseLost", "Abandoned"],
    ["dies after its lease was lost", Exit.die(boom), "leaseLost", "Abandoned"],
  ] as const)("a handler that %s", (_, exit, stop, expected) => {
    assert.strictEqual(summary(Outcome.fromExit(exit, { stop, rules })), expected)
  })

  it("takes a rule's own policy for its tag only", () => {
    const policy = RetryPolicy.fixed("1 second")
    const outcome = (error: unknown) => Outcome.fromExit(Exit.fail(error), { stop: undefined, rules: { Odd: policy } })
    assert.deepInclude(outcome(new Odd()), { _tag: "Retry", policy })
    assert.deepInclude(outcome(new Rejected()), { _tag: "Retry", policy: undefined })
  })

  it.each([
    ["milliseconds", 1500, 1500],
    ["no time", 0, undefined],
    ["for ever", Number.POSITIVE_INFINITY, undefined],
    ["a month, which is the most", 2_592_000_000, 2_592_000_000],
    ["longer than anything may be delayed", 1e18, undefined],
    ["what is no number", "soon", undefined],
  ] as const)("passes on the pause that an error asks for: %s", (_, asked, expected) => {
    const outcome = Outcome.fromExit(Exit.fail({ [Outcome.retryAfter]: asked }), { stop: undefined, rules })
    assert.deepInclude(outcome, { _tag: "Retry", atLeast: expected })
  })

  it("does not trip over an error that throws when it is asked for its pause", () => {
    const error = {
      get [Outcome.retryAfter](): number {
        throw boom
      },
    }
    const outcome = Outcome.fromExit(Exit.fail(error), { stop: undefined, rules })
    assert.deepInclude(outcome, { _tag: "Retry", error, atLeast: undefined })
  })

  it("takes a rule that throws for a defect, not for the end of the worker", () => {
    const throwing: Outcome.RetryRules = {
      Odd: () => {
        throw boom
      },
    }
    const outcome = Outcome.fromExit(Exit.fail(new Odd()), { stop: undefined, rules: throwing })
    assert.deepInclude(outcome, { _tag: "Retry", kind: "defect", error: boom })
  })

  it("does not take properties of every object for rules", () => {
    const outcome = Outcome.fromExit(Exit.fail({ _tag: "constructor" }), { stop: undefined, rules: {} })
    assert.strictEqual(summary(outcome), "Retry failure")
  })
})

describe("Outcome.snoozedUntil", () => {
  it("counts from now, never into the past, and ends with the calendar", () => {
    assert.strictEqual(Outcome.snoozedUntil(Snooze.for("1 second"), 500), 1500)
    assert.strictEqual(Outcome.snoozedUntil(Throttled.for("1 second"), 500), 1500)
    assert.strictEqual(Outcome.snoozedUntil(Snooze.until(DateTime.makeUnsafe(900)), 500), 900)
    assert.strictEqual(Outcome.snoozedUntil(Snooze.until(DateTime.makeUnsafe(100)), 500), 500)
    assert.strictEqual(Outcome.snoozedUntil(Snooze.for("Infinity"), 500), 8.64e15)
  })
})

describe("Outcome.pauseOf", () => {
  it("is nothing for a snooze, and for what is throttled the key unless it says the queue", () => {
    assert.isUndefined(Outcome.pauseOf(Snooze.for("1 second")))
    assert.strictEqual(Outcome.pauseOf(Throttled.for("1 second")), "key")
    assert.strictEqual(Outcome.pauseOf(Throttled.for("1 second", { of: "key" })), "key")
    assert.strictEqual(Outcome.pauseOf(Throttled.until(DateTime.makeUnsafe(1), { of: "queue" })), "queue")
  })
})
