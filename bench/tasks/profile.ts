/**
 * Where the time goes: samples of the running function, added up by whose it is.
 */
import { Session } from "node:inspector/promises"
import { Effect } from "effect"

/** The first that matches a script's address or a function's name. */
const owners: ReadonlyArray<readonly [string, RegExp]> = [
  ["garbage collection", /^\(garbage collector\)/],
  ["schemas and JSON", /SchemaAST|SchemaParser|SchemaIssue|\/Schema\.|internal\/schema|taskCodec/],
  ["deferring: options, record, ref", /internal\/(defer|atOnce|payloads|taskRef)\.|\/Task\.|DeferOptions/],
  ["ids", /TaskId/],
  ["the driver: heaps, records, limits", /internal\/(memory|heap|executed)|TaskQueueMemory|TokenBucket/],
  ["the worker: claims, attempts, settlements", /internal\/worker\/|TaskHandler|\/Worker\.|\/Outcome\./],
  ["events and metrics", /taskEvents|TaskEvent|Broadcast|\/Metric\./],
  ["Effect's runtime", /\/effect\/|\/effect@/],
  ["node", /^node:|^\(root\)/],
  ["no function: native code, or another program's turn", /^\(program\)/],
]

export const profiled = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const session = new Session()
    session.connect()
    yield* Effect.promise(async () => {
      await session.post("Profiler.enable")
      await session.post("Profiler.setSamplingInterval", { interval: 200 })
      await session.post("Profiler.start")
    })
    yield* effect
    const { profile } = yield* Effect.promise(() => session.post("Profiler.stop"))
    session.disconnect()
    const nodes = new Map(profile.nodes.map((node) => [node.id, node.callFrame]))
    const times = new Map<string, number>()
    let total = 0
    profile.samples?.forEach((sample, index) => {
      const frame = nodes.get(sample)
      const time = profile.timeDeltas?.[index] ?? 0
      const place = frame?.url === "" ? frame.functionName : (frame?.url ?? "")
      if (place === "(idle)") return
      const owner = owners.find(([, pattern]) => pattern.test(place))?.[0] ?? "the rest"
      times.set(owner, (times.get(owner) ?? 0) + time)
      total += time
    })
    const rows = [...times].sort(([, left], [, right]) => right - left)
    console.log(`where the time goes: ${what}`)
    console.table(
      Object.fromEntries(rows.map(([owner, time]) => [owner, { percent: Math.round((100 * time) / total) }])),
    )
  })
