/**
 * The id of a task record: a UUIDv7 (RFC 9562), so ids sort by the time they were made.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A branded UUIDv7 in its 36-character lower-case text form.
 *
 * Ids made by one task queue service rise strictly, also within a millisecond and when the clock moves back (RFC 9562,
 * section 6.2, method 1). They are unique, not secret: do not use one as a password.
 *
 * @since 0.1.0
 */
export const TaskId = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
).pipe(Schema.brand("TaskId"))

/**
 * @since 0.1.0
 */
export type TaskId = typeof TaskId.Type

/**
 * Makes a generator of rising ids. It reads no clock and no randomness of its own: the caller gives `now` (epoch
 * milliseconds, from its `Clock`) and `random` (a number in [0, 1), from its `Random`), so that ids are reproducible
 * under a test clock and a seed.
 *
 * @since 0.1.0
 */
export const makeGenerator = (): ((now: number, random: () => number) => TaskId) => {
  let timestamp = -1
  // 42 counter bits: `high` fills rand_a (12 bits), `low` the first 30 bits of rand_b; 32 random bits follow.
  let high = 0
  let low = 0
  let prefix = ""
  // All but the last 16 counter bits and the random ones: the same for most ids of a millisecond.
  let head = ""
  const begin = () => {
    head = `${prefix}${high.toString(16).padStart(3, "0")}-${(0x8000 | (low >>> 16)).toString(16)}-`
  }
  const seed = (at: number, random: () => number) => {
    timestamp = at
    // The top bit stays clear, so a millisecond has at least 2^41 ids before the counter overflows.
    high = Math.floor(random() * 0x800)
    low = Math.floor(random() * 0x40000000)
    const hex = timestamp.toString(16).padStart(12, "0")
    prefix = `${hex.slice(0, 8)}-${hex.slice(8)}-7`
    begin()
  }
  return (now, random) => {
    const at = Math.min(Math.max(0, Math.trunc(now)), 0xffffffffffff)
    if (at > timestamp) seed(at, random)
    else if (++low > 0x3fffffff) {
      low = 0
      if (++high > 0xfff) seed(timestamp + 1, random)
      else begin()
    } else if ((low & 0xffff) === 0) begin()
    const noise = Math.floor(random() * 0x100000000)
    return `${head}${hex16(low)}${hex16(noise >>> 16)}${hex16(noise)}` as TaskId
  }
}

/** Two hex digits of every byte: looked up, since an id is made for every deferral and `toString` is most of its cost. */
const bytes: ReadonlyArray<string> = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

/** The last 16 bits as four hex digits. */
const hex16 = (bits: number): string => `${bytes[(bits >>> 8) & 0xff]}${bytes[bits & 0xff]}`
