/**
 * A call: started now, polled, waited for with a time-out, its value and its error read as often as wanted.
 */
import * as BackgroundCall from "@outlive/core/BackgroundCall"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import { Cause, Console, Effect, Layer, Option, Schema } from "effect"

class NoSuchCity extends Schema.TaggedError<NoSuchCity>()("NoSuchCity", { city: Schema.String }) {}

const forecast = (city: string) =>
  city === "Atlantis"
    ? Effect.fail(new NoSuchCity({ city }))
    : Effect.delay(Effect.succeed(`${city}: fair`), "100 millis")

export const program = Effect.gen(function* () {
  const oslo = yield* BackgroundCall.make(forecast("Oslo"))
  yield* Console.log(`done? ${yield* oslo.isDone}, it is ${yield* oslo.status}`)
  // Not so long; the call goes on.
  yield* Console.log(yield* oslo.result({ timeout: "10 millis", orElse: () => "not yet" }))
  yield* Console.log(yield* oslo.result())
  yield* Console.log(yield* oslo.result())

  const atlantis = yield* BackgroundCall.make(forecast("Atlantis"))
  const said = yield* atlantis.result().pipe(Effect.catchTag("NoSuchCity", ({ city }) => Effect.succeed(`no ${city}`)))
  yield* Console.log(said)
  const exception = Option.map(yield* atlantis.exception, Cause.squash)
  yield* Console.log(`${yield* atlantis.status}: ${Option.getOrThrow(exception)}`)
}).pipe(Effect.provide(BackgroundThreads.layer.pipe(Layer.provide(Instance.layerBackend()))))

if (import.meta.main) await Effect.runPromise(program)
