import { assert, describe, it } from "@effect/vitest"
import { PermanentTaskFailure, SingularTaskFailure, Snooze } from "@outlive/deferred/TaskFailure"
import * as PushAnswer from "@outlive/node/PushAnswer"
import { Effect, References } from "effect"
import { act, Busy, deliver, endpoint, type Handle, port, Quiet, Rejected } from "./push/endpoint.ts"

const handle: Handle = ({ how }) => {
  switch (how) {
    case "succeed":
      return Effect.succeed("done")
    case "quiet failure":
      return Effect.fail(new SingularTaskFailure({ message: "not yet" }))
    case "quiet tag":
      return Effect.fail(new Quiet())
    case "permanent failure":
      return Effect.fail(new PermanentTaskFailure({ message: "no such user" }))
    case "never again":
      return Effect.fail(new Rejected({ n: 1 }))
    case "failure":
      return Effect.fail(new Busy())
    case "snooze":
      return Effect.fail(Snooze.for("90 seconds"))
    default:
      return Effect.die(new Error("boom"))
  }
}

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

describe("PushHandler", () => {
  it.effect.each([
    ["succeed", 200, "Succeeded", undefined],
    ["quiet failure", 408, "Retry", undefined],
    ["quiet tag", 408, "Retry", undefined],
    ["failure", 500, "Retry", undefined],
    ["defect", 500, "Retry", undefined],
    ["snooze", 429, "Snoozed", "90"],
    ["permanent failure", 200, "Dead", undefined],
    ["never again", 200, "Dead", undefined],
  ] as const)("answers a handler that ends so: %s, with %i", ([how, status, outcome, retryAfter]) =>
    Effect.gen(function* () {
      const said = yield* deliver(yield* port, act(how))
      assert.strictEqual(said.status, status)
      assert.strictEqual(said.headers[PushAnswer.outcomeHeader], outcome)
      assert.strictEqual(said.headers["retry-after"], retryAfter)
      assert.strictEqual(PushAnswer.parse(said.body)?.outcome, outcome)
    }).pipe(Effect.provide(endpoint(handle)), quietly),
  )
})
