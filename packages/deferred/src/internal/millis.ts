/**
 * Durations of options, as numbers.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** Milliseconds; NaN of what is no duration, so that every check of bounds refuses it. */
export const toMillis = (input: Duration.Input): number => {
  // Effect takes NaN for zero, and it is what a wrong calculation gives.
  if (typeof input === "number") return input
  return Option.match(Duration.fromInput(input), { onNone: () => Number.NaN, onSome: Duration.toMillis })
}
