/**
 * App Engine's ways to write rates, times and sizes, both ways. Figures are taken at 15 digits, so that 1.001 seconds are
 * 1001 milliseconds, and back.
 */
import { expecting, type Read } from "./fields.ts"

const number = String.raw`(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)`
const ratePattern = new RegExp(`^${number}/([smhd])$`)
const timePattern = new RegExp(`^${number}([smhd])$`)
const sizePattern = /^(\d+(?:\.\d*)?)([BKMGT]?)$/

const secondsOf = { s: 1, m: 60, h: 3600, d: 86_400 } as const
const unitOf = (letter: string | undefined): number => secondsOf[letter as keyof typeof secondsOf]

const exact = (value: number): number => Number(value.toPrecision(15))

export const secondsToMillis = (seconds: number): number => exact(seconds * 1000)

/** `undefined` when that many milliseconds cannot be written so that they come back the same. */
export const millisToSeconds = (millis: number): number | undefined => {
  const seconds = exact(millis / 1000)
  return secondsToMillis(seconds) === millis ? seconds : undefined
}

/** `0`, `5/s`, `500/m`, `20/h`, `1/d` as attempts started per second (Q131). */
export const perSecond = (value: unknown): number | undefined => {
  if (value === 0 || value === "0") return 0
  const match = typeof value === "string" ? ratePattern.exec(value) : null
  return match === null ? undefined : finite(Number(match[1]) / unitOf(match[2]))
}

export const rate: Read<number> = expecting(
  "0, or a number of starts and a unit as in 5/s, 500/m, 20/h, 1/d",
  perSecond,
)

/** Starts per second, as they are read back. */
export const writeRate = (perSecond: number | undefined): string | 0 | undefined => {
  if (perSecond === undefined || perSecond === 0) return perSecond
  return perSecond === Number.POSITIVE_INFINITY ? "unlimited" : `${perSecond}/s`
}

const seconds = (value: unknown): number | undefined => {
  const match = typeof value === "string" ? timePattern.exec(value) : null
  return match === null ? undefined : finite(exact(Number(match[1]) * unitOf(match[2])))
}

/** A time with its unit, which is cut to whole seconds (Q133), in milliseconds. */
export const ageLimit: Read<number> = expecting(
  "a time of at least a second with its unit, as in 2d, 12h, 30m, 45s",
  (value) => above0(Math.trunc(seconds(value) ?? 0) * 1000),
)

/** The same, not cut. */
export const time: Read<number> = expecting("a time above 0 with its unit, as in 1.5s, 10m, 2h", (value) =>
  above0(secondsToMillis(seconds(value) ?? 0)),
)

/** A number of bytes, or of `K`, `M`, `G` or `T` of them, each 1024 times the one before (Q130). */
export const bytes: Read<number> = expecting("a size as in 500M, 2G, 120B", (value) => {
  const match = typeof value === "number" ? [value, value] : typeof value === "string" ? sizePattern.exec(value) : null
  if (match === null) return undefined
  const size = Math.trunc(Number(match[1]) * 1024 ** Math.max(0, "BKMGT".indexOf(String(match[2] ?? ""))))
  return Number.isSafeInteger(size) && size >= 0 ? size : undefined
})

const finite = (value: number): number | undefined => (Number.isFinite(value) ? value : undefined)
const above0 = (value: number): number | undefined => (value > 0 ? value : undefined)
