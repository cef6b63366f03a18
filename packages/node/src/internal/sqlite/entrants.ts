/**
 * Who takes part in a round of turns: a key with what of it may start, or all records that have no key.
 */
import type { ClaimParams } from "@outlive/deferred/TaskQueue"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import type { Heads } from "./heads.ts"
import type { Lanes } from "./lanes.ts"

/** A record that may start; its queue need not know more. */
export interface Startable {
  readonly seq: number
}

export interface Entrant {
  /** Empty for the records without a key, which come before all others. */
  readonly key: string
  readonly base: number
  readonly stride: number
  /** Of how many candidates `next` told, and how many of them started. */
  told: number
  started: number
  /** The next of its candidates, as far as its limits allow. */
  readonly next: () => Startable | undefined
}

/** What is the same for all keys of a round. */
export interface Scene {
  readonly heads: Heads
  readonly now: number
  readonly wanted: number
}

/** What limits a key, before the round. */
export interface Room {
  /** How many more may run. */
  readonly slots: number
  readonly rate: TokenBucket.Rate | undefined
  readonly bucket: TokenBucket.TokenBucket | undefined
  readonly pausedUntil: number | null
}

/** Of a key without limits. */
export const noLimits: Room = {
  slots: Number.POSITIVE_INFINITY,
  rate: undefined,
  bucket: undefined,
  pausedUntil: null,
}

/** When there is a token, if there is none. Rounded it may be a time at which there is none yet. */
const nextToken = (bucket: TokenBucket.TokenBucket, rate: TokenBucket.Rate, now: number): number => {
  if (TokenBucket.available(bucket) >= 1) return Number.NEGATIVE_INFINITY
  return Math.max(TokenBucket.nextAt(bucket, rate) ?? Number.POSITIVE_INFINITY, now + 1)
}

/** When more of a key may start once so many have: `undefined`: now; `null`: when something of it ends, or is changed. */
export const blockedUntil = (room: Room, count: number, now: number): number | null | undefined => {
  if (room === noLimits) return undefined
  const { bucket, pausedUntil, rate, slots } = room
  if (slots - count <= 0 || rate?.rate === 0) return null
  let at = pausedUntil ?? Number.NEGATIVE_INFINITY
  if (rate !== undefined) at = Math.max(at, nextToken(TokenBucket.take(bucket!, count), rate, now))
  return at > now ? at : undefined
}

export class KeyEntrant implements Entrant {
  told = 0
  started = 0
  /** It was asked for more than is ready. */
  isExhausted = false
  readonly key: string
  readonly base: number
  readonly stride: number
  readonly room: Room
  /** Its turns in which something waits. */
  readonly turns: ReadonlyArray<number>
  private readonly scene: Scene
  private readonly most: number
  private found: ReadonlyArray<Startable>
  // Most of the time one is all that is asked for, and it is known already.
  private limit = 1

  constructor(
    scene: Scene,
    place: { readonly key: string; readonly base: number; readonly stride: number },
    room: Room,
    turns: ReadonlyArray<number>,
    first: Startable,
  ) {
    this.scene = scene
    this.key = place.key
    this.base = place.base
    this.stride = place.stride
    this.room = room
    this.turns = turns
    this.found = [first]
    const tokens = room.bucket === undefined ? scene.wanted : TokenBucket.available(room.bucket)
    this.most = Math.min(scene.wanted, room.slots, tokens)
  }

  next(): Startable | undefined {
    const { told } = this
    if (told >= this.most) return undefined
    if (told === this.limit) {
      this.limit = Math.min(this.most, this.limit * 8)
      this.found = this.scene.heads.ready(this.turns, this.scene.now, this.limit)
    }
    this.isExhausted = told >= this.found.length
    return this.found[told]
  }
}

export class PlainEntrant implements Entrant {
  readonly key = ""
  readonly stride = 1
  told = 0
  started = 0
  readonly base: number
  private found: ReadonlyArray<Startable> = []
  private limit = 0
  private readonly read: (limit: number) => ReadonlyArray<Startable>
  private readonly wanted: number

  constructor(
    lanes: Lanes,
    options: {
      readonly queue: string
      readonly params: ClaimParams
      readonly ageing: number | undefined
      readonly base: number
      readonly wanted: number
    },
  ) {
    const { ageing, base, params, queue, wanted } = options
    this.base = base
    this.wanted = wanted
    this.read = (limit) => lanes.ready(queue, params, limit, ageing)
  }

  next(): Startable | undefined {
    const { told } = this
    if (told === this.limit && told < this.wanted) {
      this.limit = Math.min(this.wanted, Math.max(4, this.limit * 8))
      this.found = this.read(this.limit)
    }
    return this.found[told]
  }
}
