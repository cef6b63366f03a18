/**
 * The wire form of a task: payloads (of every version) and exits as JSON text, by the task's schemas.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as SchemaIssue from "effect/SchemaIssue"
import { messageOf, Undecodable } from "../Outcome.ts"
import { PermanentTaskFailure, SingularTaskFailure, TaskTimeout } from "../TaskFailure.ts"
import type { Older } from "../TaskVersions.ts"
import { flatMapAtOnce, mapAtOnce, mapErrorAtOnce } from "./atOnce.ts"
import { isJson } from "./isJson.ts"

export interface TaskCodec {
  /** Fills in defaults, checks and encodes. */
  readonly encodePayload: (input: unknown) => Effect.Effect<string, Schema.SchemaError, unknown>
  /** Encodes what `makePayload` gave. */
  readonly encodeMade: (payload: unknown) => Effect.Effect<string, Schema.SchemaError, unknown>
  /** Fills in defaults and checks. */
  readonly makePayload: (input: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly decodePayload: (version: number, text: string) => Effect.Effect<unknown, Undecodable, unknown>
  readonly encodeExit: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<string, Schema.SchemaError, unknown>
  readonly decodeExit: (text: string) => Effect.Effect<Exit.Exit<unknown, unknown>, Schema.SchemaError, unknown>
}

export const makeTaskCodec = (schemas: {
  readonly payload: Schema.Top
  readonly older: ReadonlyArray<Older>
  readonly success: Schema.Top
  readonly error: Schema.Top
}): TaskCodec => {
  const json = Schema.toCodecJson(schemas.payload)
  // What the schema has made is checked, and has nothing that the schema does not know.
  const encode = isJson(json.ast) ? Exit.succeed : Schema.encodeUnknownEffect(json)
  const decode = Schema.decodeUnknownEffect(json)
  const check = Schema.decodeUnknownEffect(Schema.toType(schemas.payload))
  const current = schemas.older.length + 1
  const decoders = schemas.older.map((older) => Schema.decodeUnknownEffect(Schema.toCodecJson(older.schema)))
  const makePayload = (input: unknown) => mapErrorAtOnce(schemas.payload.makeEffect(input), schemaError)
  // Codecs of exits are built when first needed: most processes only enqueue, or only run.
  const encodeSuccess = lazy(() => Schema.encodeUnknownEffect(Schema.toCodecJson(schemas.success)))
  const exit = lazy(() => {
    const failures = Schema.Union([schemas.error, PermanentTaskFailure, SingularTaskFailure, TaskTimeout])
    return Schema.toCodecJson(Schema.Exit(schemas.success, failures, Schema.Defect()))
  })
  const encodeExit = lazy(() => Schema.encodeUnknownEffect(exit()))
  const decodeExit = lazy(() => Schema.decodeUnknownEffect(exit()))

  return {
    makePayload,
    encodePayload: (input) => mapAtOnce(flatMapAtOnce(makePayload(input), encode), toText),
    encodeMade: (payload) => mapAtOnce(encode(payload), toText),
    decodePayload: (version, text) => {
      const value = fromText(text)
      if (value instanceof Undecodable) return Effect.fail(value)
      if (version === current) return mapErrorAtOnce(decode(value), undecodable)
      const decoder = decoders[version - 1]
      if (decoder === undefined) {
        return Effect.fail(new Undecodable({ message: `payload version ${version} is not among 1 to ${current}` }))
      }
      return decoder(value).pipe(
        Effect.flatMap((old) => Effect.try({ try: () => upcast(schemas.older, version, old), catch: undecodable })),
        Effect.flatMap(check),
        Effect.mapError(undecodable),
      )
    },
    // A success is by far the most frequent exit, and its place in the text is known; mostly it says nothing more.
    encodeExit: (ended) => {
      if (ended._tag === "Failure") return Effect.map(encodeExit()(ended), toText)
      if (ended.value === undefined && schemas.success === Schema.Void) return nothing
      return mapAtOnce(encodeSuccess()(ended.value), toSuccessText)
    },
    decodeExit: (text) => Effect.suspend(() => decodeExit()(JSON.parse(text))),
  }
}

const lazy = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** JSON has no undefined: the codec writes it as null. */
const toText = (value: unknown): string => JSON.stringify(value ?? null)

const toSuccessText = (value: unknown): string => `{"_tag":"Success","value":${toText(value)}}`

const nothing = Exit.succeed(toSuccessText(undefined))

const fromText = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    // What is said of it by who reads it quotes it.
    return new Undecodable({ message: "the payload is not JSON text" })
  }
}

const upcast = (older: ReadonlyArray<Older>, version: number, payload: unknown): unknown =>
  older.slice(version - 1).reduce((value, step) => step.upcast(value as never), payload)

const schemaError = (issue: SchemaIssue.Issue): Schema.SchemaError => new Schema.SchemaError(issue)

const undecodable = (error: unknown): Undecodable =>
  error instanceof Undecodable ? error : new Undecodable({ message: messageOf(error) })

/** The failures and defects of a cause, without its interruptions: what is worth keeping of a dead record. */
export const withoutInterrupts = (cause: Cause.Cause<unknown>): ReadonlyArray<Cause.Fail<unknown> | Cause.Die> =>
  cause.reasons.filter((reason): reason is Cause.Fail<unknown> | Cause.Die => reason._tag !== "Interrupt")
