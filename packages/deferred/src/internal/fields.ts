/**
 * Reading what a person wrote: plain data into checked values, field by field, with a sentence about what is wrong; and back.
 */
import * as Result from "effect/Result"
import { nearest } from "./nearest.ts"

export type Path = ReadonlyArray<string | number>

/** `reason` goes on where the field's name ends. */
export interface Problem {
  readonly path: Path
  readonly reason: string
}

export type Read<A> = (value: unknown, path: Path) => Result.Result<A, Problem>

export const wrong = (path: Path, reason: string): Result.Result<never, Problem> => Result.fail({ path, reason })

/** A reader of one kind of value: what `pick` gives, or a complaint when it gives nothing. */
export const expecting =
  <A>(expected: string, pick: (value: unknown) => A | undefined): Read<A> =>
  (value, path) => {
    const picked = pick(value)
    return picked === undefined ? wrong(path, `must be ${expected}, and is ${show(value)}`) : Result.succeed<A>(picked)
  }

export const truth = expecting("true or false", (value) => (typeof value === "boolean" ? value : undefined))

export const text = expecting("a text", (value) => (typeof value === "string" && value !== "" ? value : undefined))

export const oneOf = <const A extends string>(...allowed: ReadonlyArray<A>): Read<A> =>
  expecting(allowed.join(" or "), (value) => allowed.find((each) => each === value))

export const numberFrom = (least: number): Read<number> =>
  expecting(`a number of at least ${least}`, (value) =>
    typeof value === "number" && value >= least && value < Number.POSITIVE_INFINITY ? value : undefined,
  )

export const wholeFrom = (least: number): Read<number> =>
  expecting(`a whole number of at least ${least}`, (value) =>
    typeof value === "number" && Number.isSafeInteger(value) && value >= least ? value : undefined,
  )

export const listOf =
  <A>(read: Read<A>): Read<ReadonlyArray<A>> =>
  (value, path) =>
    Array.isArray(value)
      ? Result.all(value.map((each, index) => read(each, [...path, index])))
      : wrong(path, `must be a list, and is ${show(value)}`)

/** YAML takes `name: 7` for a number. */
export const asText = (value: unknown): unknown =>
  Number.isSafeInteger(value) && Number(value) >= 0 ? String(value) : value

/** A set of fields whose names are the application's own. */
export const anyFields: Read<Readonly<Record<string, unknown>>> = (value, path) =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Result.succeed(value as Readonly<Record<string, unknown>>)
    : wrong(path, `must be a set of fields, and is ${show(value)}`)

type Readers = Readonly<Record<string, Read<unknown>>>

type Fields<R extends Readers> = {
  readonly [K in keyof R]: (R[K] extends Read<infer A> ? A : never) | undefined
}

/**
 * A set of fields, none of which must be there; one that is empty (YAML's `rate:`) is not. A field that is not known is
 * refused, with the name that was probably meant; `elsewhere` says where others belong.
 */
export const fields =
  <R extends Readers>(readers: R, elsewhere: Readonly<Record<string, string>> = {}): Read<Fields<R>> =>
  (value, path) =>
    Result.gen(function* () {
      const found: Record<string, unknown> = Object.fromEntries(Object.keys(readers).map((name) => [name, undefined]))
      for (const [name, given] of Object.entries(yield* anyFields(value, path))) {
        const read = Object.hasOwn(readers, name) ? readers[name] : undefined
        if (read === undefined)
          return yield* wrong([...path, name], unknownField(name, Object.keys(readers), elsewhere))
        if (given !== undefined && given !== null) found[name] = yield* read(given, [...path, name])
      }
      return found as Fields<R>
    })

const unknownField = (
  name: string,
  known: ReadonlyArray<string>,
  elsewhere: Readonly<Record<string, string>>,
): string => {
  if (Object.hasOwn(elsewhere, name)) return `is no field here: it belongs ${elsewhere[name]}`
  const meant = nearest(name, known)
  return meant === undefined ? `is no field here: there are ${known.join(", ")}` : `is no field here: is it ${meant}?`
}

/** A value for a sentence: short, whatever it is. */
export const show = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (Array.isArray(value)) return "a list"
  if (value === null || value === undefined) return "empty"
  return typeof value === "object" || typeof value === "function" ? "a set of fields" : String(value)
}

/** For writing: without the fields that say nothing. */
export const compact = (fields: Readonly<Record<string, unknown>>): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
