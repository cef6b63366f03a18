/**
 * What is told of refused requests: to their senders nothing, to the log one line a minute.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { AuthenticatorUnavailable, NotAuthentic } from "../../PushAuthenticator.ts"

export interface Refusals {
  readonly count: (refusal: NotAuthentic | AuthenticatorUnavailable) => void
}

const every = "1 minute"

const words: Record<NotAuthentic["reason"], string> = {
  unsigned: "without a signature or a token",
  duplicated: "with a header twice",
  malformed: "with a malformed signature",
  unknownKey: "signed with an unknown key",
  wrongSignature: "with a wrong signature",
  stale: "signed too long ago or for the future",
  wrongToken: "with a token that is not good here",
  wrongBody: "with another body than the signed one",
}

export const makeRefusals = Effect.fnUntraced(function* (path: string): Effect.fn.Return<Refusals, never, Scope.Scope> {
  const counts = new Map<string, number>()
  let unavailable = ""
  let counting = false

  const tell = Effect.suspend(() => {
    const parts = [...counts].map(([what, count]) => `${count} ${what}`)
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
    const because = unavailable === "" ? "" : ` (${unavailable})`
    counts.clear()
    unavailable = ""
    counting = false
    return total === 0
      ? Effect.void
      : Effect.logWarning(
          `refused ${total} request${total === 1 ? "" : "s"} to ${path} within a minute: ${parts.join(", ")}${because}`,
        )
  })
  // The last minute is told, too.
  yield* Effect.addFinalizer(() => tell)
  const run = yield* FiberSet.makeRuntime<never>()

  return {
    count: (refusal) => {
      const what = refusal._tag === "NotAuthentic" ? words[refusal.reason] : "while nobody could be authenticated"
      counts.set(what, (counts.get(what) ?? 0) + 1)
      if (refusal._tag === "AuthenticatorUnavailable") unavailable = refusal.message
      if (counting) return
      counting = true
      run(Effect.andThen(Effect.sleep(every), tell))
    },
  }
})
