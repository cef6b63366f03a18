/**
 * running ──► succeeded | cancelled | dead | scheduled | ready, the leases, and how far attempts have come.
 */
import { randomInt } from "node:crypto"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type {
  Driver,
  ExtendOutcome,
  Lease,
  ProgressOutcome,
  ProgressUpdate,
  Settlement,
  SettleOutcome,
} from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { type Calls, changesOf, endNames, endsOf } from "./calls.ts"
import { makeGroup } from "./groupCalls.ts"
import type { Keeps } from "./keeps.ts"
import { floats, integers, texts, uuids } from "./row.ts"
import { makeUncertain } from "./uncertain.ts"

/**
 * What is asked of leases, one thing for each, in the order in which all calls lock records, or, `inTurn`, in that of what was
 * given. `places` are those in what was given: of several for one lease `which` counts.
 */
const byLease = <Item extends Lease>(items: ReadonlyArray<Item>, which: "first" | "last", inTurn = false) => {
  const places = new Map<string, { item: Item; readonly places: Array<number> }>()
  items.forEach((item, place) => {
    const key = `${item.id}${item.token}`
    const same = places.get(key)
    if (same === undefined) places.set(key, { item, places: [place] })
    else {
      same.places.push(place)
      if (which === "last") same.item = item
    }
  })
  const asked = [...places.values()]
  return inTurn ? asked : asked.sort((left, right) => (left.item.id < right.item.id ? -1 : 1))
}

const leases = (asked: ReadonlyArray<{ readonly item: Lease }>) => [
  uuids(asked.map(({ item }) => item.id)),
  integers(asked.map(({ item }) => item.token)),
]

export const makeExtend = Effect.fnUntraced(function* (calls: Calls) {
  const text = `SELECT ord, is_cancelled FROM ${calls.schema}.extend($1, $2, $3)`
  const extend = Effect.fnUntraced(function* (items: ReadonlyArray<Lease & { readonly until: number }>) {
    const asked = byLease(items, "last")
    const rows = yield* calls.run("extend", text, [...leases(asked), floats(asked.map(({ item }) => item.until))])
    const outcomes = items.map((): ExtendOutcome => "LeaseLost")
    for (const [ord, isCancelled] of rows) {
      for (const place of asked[Number(ord) - 1]!.places) {
        outcomes[place] = isCancelled === true ? "CancelRequested" : "Extended"
      }
    }
    return outcomes
  })
  const group = yield* makeGroup("extend", calls, extend)
  const driver: Driver["extend"] = ({ leases, until }) => group(leases.map(({ id, token }) => ({ id, token, until })))
  return driver
})

export const makeProgress = Effect.fnUntraced(function* (calls: Calls, by: string) {
  const text = `SELECT ${calls.schema}.progress($1, $2, $3, $4)`
  const progress = Effect.fnUntraced(function* (items: ReadonlyArray<ProgressUpdate>) {
    const asked = byLease(items, "last")
    const [ords] = yield* calls.one("progress", text, [
      ...leases(asked),
      texts(asked.map(({ item }) => item.progress)),
      by,
    ])
    const noted = placesOf(ords).map((ord) => asked[ord - 1]!)
    const outcomes = items.map((): ProgressOutcome => "LeaseLost")
    for (const { places } of noted) for (const place of places) outcomes[place] = "Recorded"
    yield* calls.publish(changesOf({ progressed: noted.map(({ item }) => item.id) }))
    return outcomes
  })
  const group = yield* makeGroup("progress", calls, progress)
  const driver: Driver["progress"] = ({ updates }) => group(updates)
  return driver
})

const failureOf = (settlement: Settlement): string | null =>
  "failure" in settlement ? (settlement.failure ?? null) : null

/** The error tag of a failure, which is JSON text. */
const tagOf = (failure: string | null): string | null => {
  if (failure === null) return null
  const parsed = JSON.parse(failure) as { readonly tag?: unknown } | null
  return typeof parsed === "object" && typeof parsed?.tag === "string" ? parsed.tag : null
}

/**
 * Where attempts that ended are counted: each process has its own of these, and each transaction of a caller, since who
 * counts in the same place waits for the other's commit.
 */
const shards = 32_768

export const makeSettle = Effect.fnUntraced(function* (calls: Calls, by: string, keeps: Keeps) {
  const own = randomInt(shards)
  const parameters = Array.from({ length: 15 }, (_, index) => `$${index + 1}`).join(", ")
  const textOf = (name: string) => `SELECT places, ${endNames("e")} FROM ${calls.schema}.${name}(${parameters})`
  const together = textOf("settle")
  const oneByOne = textOf("settle_each")
  type Item = Settlement & { readonly now: number }
  const uncertain = makeUncertain(calls)
  const settle = Effect.fnUntraced(function* (items: ReadonlyArray<Item>) {
    // Of a lease that is settled twice, the second is lost.
    const { drops, inTurn } = keeps.settles(items)
    const asked = byLease(items, "first", inTurn)
    const settlements = asked.map(({ item }) => item)
    const failures = settlements.map(failureOf)
    const [places, ...ends] = yield* uncertain.noting(
      settlements,
      calls.one("settle", inTurn ? oneByOne : together, [
        ...leases(asked),
        texts(settlements.map(({ _tag }) => _tag)),
        floats(settlements.map((each) => ("eta" in each ? each.eta : null))),
        texts(settlements.map((each) => ("reason" in each ? each.reason : null))),
        texts(settlements.map((each) => ("result" in each ? (each.result ?? null) : null))),
        texts(failures),
        texts(failures.map(tagOf)),
        texts(settlements.map(({ progress }) => progress ?? null)),
        texts(settlements.map((each) => ("handOver" in each ? (each.handOver ?? null) : null))),
        texts(settlements.map((each) => ("pause" in each ? (each.pause ?? null) : null))),
        floats(settlements.map(({ now }) => now)),
        PgTypes.bool(drops),
        PgTypes.int4((yield* calls.isInTransaction) ? randomInt(shards) : own),
        by,
      ]),
    )
    const outcomes = items.map((): SettleOutcome => "LeaseLost")
    const settled = new Set(placesOf(places).map((ord) => settlements[ord - 1]!))
    for (const each of yield* uncertain.settled(settlements, (each) => !settled.has(each))) settled.add(each)
    for (const { item, places } of asked) if (settled.has(item)) outcomes[places[0]!] = "Settled"
    yield* calls.publish(changesOf(endsOf(ends)))
    return outcomes
  })
  const group = yield* makeGroup("settle", calls, settle, charactersOf)
  const driver: Driver["settle"] = ({ now, settlements }) => group(settlements.map((each) => ({ ...each, now })))
  return driver
})

const charactersOf = (settlement: Settlement): number =>
  settlement._tag === "Succeed"
    ? (settlement.result?.length ?? 0) + (settlement.handOver?.length ?? 0)
    : settlement._tag === "Bury"
      ? (settlement.result?.length ?? 0)
      : 0

/** Places from 1; NULL when there is none. */
const placesOf = (value: unknown): ReadonlyArray<number> => (Array.isArray(value) ? value.map(Number) : [])
