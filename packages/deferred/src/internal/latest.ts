/**
 * `latest` of a task and of a deferral: in numbers, and when its record is due.
 */
import { type DeferOptions, InvalidTaskOptions } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import type { Pace } from "../TaskLatest.ts"
import type { LatestPace } from "../TaskOptions.ts"
import type { Latest } from "../TaskRecord.ts"
import { toMillis } from "./millis.ts"

type Refuse = (field: string, reason: string) => InvalidTaskOptions

const noPace: LatestPace = { within: undefined, maxWait: undefined, spacing: undefined }

/** A pace in milliseconds, or what of it is out of its bounds. */
export const paceOf = ({ debounce, throttle }: Pace, refuse: Refuse): LatestPace | InvalidTaskOptions => {
  // Types say so already; JavaScript does not.
  if (debounce !== undefined && throttle !== undefined)
    return refuse("latest", "cannot have both debounce and throttle")
  const within = debounce === undefined ? undefined : toMillis(debounce.within)
  const maxWait = debounce?.maxWait === undefined ? undefined : toMillis(debounce.maxWait)
  const spacing = throttle === undefined ? undefined : toMillis(throttle.within)
  if (!isTime(within)) return refuse("latest.debounce.within", aTime)
  if (!isTime(maxWait)) return refuse("latest.debounce.maxWait", aTime)
  if (!isTime(spacing)) return refuse("latest.throttle.within", aTime)
  if (maxWait !== undefined && within !== undefined && maxWait < within) {
    return refuse(
      "latest.debounce.maxWait",
      `must not be less than within, which is ${within} ms, and is ${maxWait} ms`,
    )
  }
  return { within, maxWait, spacing }
}

const aTime = "must be a finite time above 0"
const isTime = (millis: number | undefined): boolean =>
  millis === undefined || (millis > 0 && millis < Number.POSITIVE_INFINITY)

/** How a record of the latest is stored: `ahead` is a debounce's delay. */
export interface Wanted {
  readonly latest: Latest
  readonly ahead: number | undefined
}

/** Whether a deferral is one of the latest, and how; `undefined`: it is not. */
export const wantedOf = (
  { settings }: Task.Any,
  options: DeferOptions,
  now: number,
  maxDelay: number,
  refuse: Refuse,
): Wanted | InvalidTaskOptions | undefined => {
  const own = options.latest
  if (own === false || (own === undefined && settings.latest === undefined)) return undefined
  if (options.unique !== undefined) {
    return own === undefined ? undefined : refuse("latest", "and unique exclude each other")
  }
  const said = own?.debounce !== undefined || own?.throttle !== undefined
  const pace = said ? paceOf(own, refuse) : (settings.latest ?? noPace)
  if (pace instanceof InvalidTaskOptions) return pace
  const { maxWait, spacing, within } = pace
  if (within !== undefined && (options.delay !== undefined || options.eta !== undefined)) {
    const field = options.delay === undefined ? "eta" : "delay"
    return refuse(field, "and latest.debounce exclude each other: within is the delay")
  }
  for (const [field, millis] of [
    ["debounce.within", within],
    ["debounce.maxWait", maxWait],
    ["throttle.within", spacing],
  ] as const) {
    if (millis !== undefined && millis > maxDelay)
      return refuse(`latest.${field}`, `is ${millis} ms, more than the ${maxDelay} ms of DeferLimits.maxDelay (Q10)`)
  }
  return {
    latest: { dueBy: maxWait === undefined ? undefined : Math.ceil(now + maxWait), spacing },
    ahead: within,
  }
}
