/**
 * Options of endpoints that cannot work are a mistake of the program: a defect where the layer is built.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * An option is out of its bounds: `field` is its name.
 *
 * @since 0.1.0
 */
export class InvalidPushOptions extends Schema.TaggedError<InvalidPushOptions>()("InvalidPushOptions", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `push delivery: option ${this.field} ${this.reason}`
  }
}

/** A whole number from 1 on. */
export const count = (field: string, value: number | undefined, byDefault: number): Effect.Effect<number> =>
  value === undefined || (Number.isSafeInteger(value) && value >= 1)
    ? Effect.succeed(value ?? byDefault)
    : Effect.die(new InvalidPushOptions({ field, reason: `must be 1, 2, ..., and is ${value}` }))

/** Milliseconds of a finite time, not negative. */
export const millis = (
  field: string,
  input: Duration.Input | undefined,
  byDefault: Duration.Input,
): Effect.Effect<number> => {
  const given = input ?? byDefault
  // Effect takes NaN for no time at all, and it is what a wrong calculation gives.
  const value =
    typeof given === "number"
      ? given
      : Option.match(Duration.fromInput(given), { onNone: () => Number.NaN, onSome: Duration.toMillis })
  return value >= 0 && Number.isFinite(value)
    ? Effect.succeed(value)
    : Effect.die(new InvalidPushOptions({ field, reason: "must be a finite time, and not negative" }))
}
