/**
 * The wire form of a task: payloads (of every version) and exits as JSON text, by the task's schemas.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { messageOf, Undecodable } from "../Outcome.ts"
import { PermanentTaskFailure, SingularTaskFailure, TaskTimeout } from "../TaskFailure.ts"
import type { Older } from "../TaskVersions.ts"

export interface TaskCodec {
  /** Fills in defaults, checks and encodes. */
  readonly encodePayload: (input: unknown) => Effect.Effect<string, Schema.SchemaError, unknown>
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
  const payload = textOf(schemas.payload)
  const encode = Schema.encodeUnknownEffect(payload)
  const decode = Schema.decodeUnknownEffect(payload)
  const check = Schema.decodeUnknownEffect(Schema.toType(schemas.payload))
  const current = schemas.older.length + 1
  const decoders = schemas.older.map((older) => Schema.decodeUnknownEffect(textOf(older.schema)))
  // Codecs of exits are built when first needed: most processes only enqueue, or only run.
  let exits: Pick<TaskCodec, "encodeExit" | "decodeExit"> | undefined
  const exitCodec = (): Pick<TaskCodec, "encodeExit" | "decodeExit"> => {
    if (exits !== undefined) return exits
    const failures = Schema.Union([schemas.error, PermanentTaskFailure, SingularTaskFailure, TaskTimeout])
    const exit = textOf(Schema.Exit(schemas.success, failures, Schema.Defect()))
    exits = { encodeExit: Schema.encodeUnknownEffect(exit), decodeExit: Schema.decodeEffect(exit) }
    return exits
  }
  const makePayload = (input: unknown) =>
    Effect.mapError(schemas.payload.makeEffect(input), (issue) => new Schema.SchemaError(issue))

  return {
    makePayload,
    encodePayload: (input) => Effect.flatMap(makePayload(input), encode),
    decodePayload: (version, text) => {
      if (version === current) return Effect.mapError(decode(text), undecodable)
      const decoder = decoders[version - 1]
      if (decoder === undefined) {
        return Effect.fail(new Undecodable({ message: `payload version ${version} is not among 1 to ${current}` }))
      }
      return decoder(text).pipe(
        Effect.flatMap((old) => Effect.try({ try: () => upcast(schemas.older, version, old), catch: undecodable })),
        Effect.flatMap(check),
        Effect.mapError(undecodable),
      )
    },
    encodeExit: (exit) => exitCodec().encodeExit(exit),
    decodeExit: (text) => exitCodec().decodeExit(text),
  }
}

/** The codec of the JSON text of a schema. */
const textOf = <S extends Schema.Top>(schema: S) => Schema.fromJsonString(Schema.toCodecJson(schema))

const upcast = (older: ReadonlyArray<Older>, version: number, payload: unknown): unknown =>
  older.slice(version - 1).reduce((value, step) => step.upcast(value as never), payload)

const undecodable = (error: unknown): Undecodable =>
  error instanceof Undecodable ? error : new Undecodable({ message: messageOf(error) })

/** The failures and defects of a cause, without its interruptions: what is worth keeping of a dead record. */
export const withoutInterrupts = (cause: Cause.Cause<unknown>): ReadonlyArray<Cause.Fail<unknown> | Cause.Die> =>
  cause.reasons.filter((reason): reason is Cause.Fail<unknown> | Cause.Die => reason._tag !== "Interrupt")
