/**
 * The wire form of what a codec has changed: JSON text of an object with one field, so that it goes wherever JSON goes
 * (columns, deliveries), and that no other text has. In the field stand the version of this form, the steps that were
 * taken, each with its hint, and the body in base64:
 *
 *     {"~outlive/coded":"1 deflate,aes-256-gcm:2026-11 q83vAb..."}
 *
 * A plain text that begins like it is written in this form, too, with no steps: so what begins like it always is it.
 */
import * as Result from "effect/Result"
import { fromBase64, toBase64 } from "./base64.ts"

export interface Step {
  readonly name: string
  /** What a stage wants to know of its step again: the id of a key, say. */
  readonly hint: string | undefined
}

export interface Coded {
  /** In the order in which they were taken. */
  readonly steps: ReadonlyArray<Step>
  readonly body: Uint8Array
}

const field = "~outlive/coded"
const form = "1"
const marker = `{"${field}"`

export const namePattern = /^[a-z][a-z0-9-]{0,31}$/
/** As the ids of keys. */
export const hintPattern = /^[A-Za-z0-9_.-]{1,64}$/

export const isCoded = (text: string): boolean => text.startsWith(marker)

export const sayStep = ({ name, hint }: Step): string => (hint === undefined ? name : `${name}:${hint}`)

export const write = ({ body, steps }: Coded): string =>
  `${marker}:"${form} ${steps.length === 0 ? "-" : steps.map(sayStep).join(",")} ${toBase64(body)}"}`

/** Reads a text that `isCoded`; or what is wrong with it, to go on after its name. Never a word of the body. */
export const read = (text: string): Result.Result<Coded, string> => {
  const said = saidIn(text)
  if (said === undefined) return Result.fail("is marked as coded, and is not in the form that coded texts have")
  const [version, steps, encoded, ...rest] = said.split(" ")
  if (version !== form && /^[0-9]{1,9}$/.test(version ?? "")) {
    return Result.fail(
      `is coded in form ${version}, and form ${form} is the newest that is known here: update this program`,
    )
  }
  if (version !== form || steps === undefined || encoded === undefined || rest.length > 0) {
    return Result.fail("is marked as coded, and is not in the form that coded texts have")
  }
  const read = steps === "-" ? [] : steps.split(",").map(stepIn)
  const body = fromBase64(encoded)
  if (body === undefined || !read.every((step) => step !== undefined)) {
    return Result.fail("is coded, and was changed since: it is damaged")
  }
  return Result.succeed({ steps: read, body })
}

const saidIn = (text: string): string | undefined => {
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json !== "object" || json === null || Object.keys(json).length !== 1) return undefined
    const said = (json as { readonly [field]?: unknown })[field]
    return typeof said === "string" ? said : undefined
  } catch {
    return undefined
  }
}

const stepIn = (said: string): Step | undefined => {
  const at = said.indexOf(":")
  const name = at < 0 ? said : said.slice(0, at)
  const hint = at < 0 ? undefined : said.slice(at + 1)
  return namePattern.test(name) && (hint === undefined || hintPattern.test(hint)) ? { name, hint } : undefined
}
