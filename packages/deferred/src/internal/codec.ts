/**
 * Stages put together: the steps of a text, there and back.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { PayloadCodec, Place } from "../PayloadCodec.ts"
import { type Stage, StageError } from "../PayloadStage.ts"
import { type Coded, hintPattern, isCoded, namePattern, read, type Step, sayStep, write } from "./codedText.ts"
import { bytesOf, textOf } from "./webPlatform.ts"

/** Why these stages are no codec. */
export const problemOf = (stages: ReadonlyArray<Stage>): string | undefined => {
  const names = new Set<string>()
  for (const { name } of stages) {
    if (!namePattern.test(name))
      return `the name of a stage must match ${namePattern.source}, and is ${JSON.stringify(name)}`
    if (names.has(name)) return `there are two stages with the name ${name}; a text could not say which it needs`
    names.add(name)
  }
  return undefined
}

export const makeCodec = (stages: ReadonlyArray<Stage>): PayloadCodec => {
  const byName = new Map(stages.map((stage) => [stage.name, stage]))
  const required = stages.filter((stage) => stage.required === true)

  const encode = Effect.fnUntraced(function* (text: string, place: Place) {
    const steps: Array<Step> = []
    let body: Uint8Array = bytesOf(text)
    for (const stage of stages) {
      const encoded = yield* stage.encode(body, { ...place, steps: steps.map(sayStep) })
      if (encoded === undefined) continue
      if (encoded.hint !== undefined && !hintPattern.test(encoded.hint)) {
        const reason = `cannot be coded: the hint of ${stage.name} must match ${hintPattern.source}`
        return yield* Effect.fail(new StageError({ reason }))
      }
      body = encoded.body
      steps.push({ name: stage.name, hint: encoded.hint })
    }
    return steps.length === 0 && !isCoded(text) ? text : write({ steps, body })
  })

  const decode = Effect.fnUntraced(function* (stored: string, place: Place) {
    const coded = yield* Effect.mapError(Effect.fromResult(codedIn(stored)), (reason) => new StageError({ reason }))
    const missing = required.find(({ name }) => !coded.steps.some((step) => step.name === name))
    if (missing !== undefined) {
      return yield* Effect.fail(
        new StageError({ reason: `was stored without ${missing.name}, which is required here` }),
      )
    }
    let { body } = coded
    for (let index = coded.steps.length - 1; index >= 0; index--) {
      const { name, hint } = coded.steps[index]!
      const stage = byName.get(name)
      if (stage === undefined) return yield* Effect.fail(unknown(coded.steps, byName))
      body = yield* stage.decode(body, hint, { ...place, steps: coded.steps.slice(0, index).map(sayStep) })
    }
    return yield* Effect.try({ try: () => textOf(body), catch: () => new StageError({ reason: "is damaged" }) })
  })

  return {
    encode,
    decode: (stored, place) =>
      isCoded(stored) || required.length > 0 ? decode(stored, place) : Effect.succeed(stored),
  }
}

const codedIn = (stored: string): Result.Result<Coded, string> =>
  isCoded(stored) ? read(stored) : Result.succeed({ steps: [], body: bytesOf(stored) })

const unknown = (steps: ReadonlyArray<Step>, known: ReadonlyMap<string, Stage>) => {
  const here = known.size === 0 ? "there is no PayloadCodec" : `the PayloadCodec has ${[...known.keys()].join(", ")}`
  const reason = `was coded by ${steps.map(sayStep).join(", ")}, and ${here} here: provide PayloadCodec.layer with all of them to the layer of the queue`
  return new StageError({ reason })
}
