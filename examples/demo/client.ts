/**
 * The client: posts the folder as anybody would, and shows how far the run is until its report is there.
 */
import * as Instance from "@outlive/core/Instance"
import { Effect, Schema } from "effect"
import { CliError } from "effect/cli"
import { HttpClient, HttpClientRequest, HttpServer } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import type { Status } from "./Runs.ts"
import { DemoApi } from "./server.ts"

/** What a person is told instead of a stack trace. Exit code 1. */
export class DemoProblem extends Schema.TaggedError<DemoProblem>()("DemoProblem", { message: Schema.String }) {
  override get [CliError.userMessage]() {
    return this.message
  }
}

const say = (text: string) => Effect.sync(() => process.stderr.write(text))

/** A bar that is drawn over on a terminal; a line every tenth of the way elsewhere. */
const makeProgress = () => {
  let tenths = -1
  return ({ ended, found, state }: Status) => {
    const total = state === "walking" ? `${found} so far` : String(found)
    if (process.stderr.isTTY) {
      const width = Math.max(10, Math.min(40, (process.stderr.columns ?? 80) - 40))
      const filled = state === "walking" ? 0 : Math.round((width * ended) / Math.max(1, found))
      const bar = `[${"=".repeat(filled)}${" ".repeat(width - filled)}] ${ended} of ${total}`
      return say(`\r${bar.padEnd(width + 30)}${state === "done" ? "\n" : ""}`)
    }
    if (state === "walking") return Effect.void
    const reached = Math.floor((10 * ended) / Math.max(1, found))
    if (reached <= tenths) return Effect.void
    tenths = reached
    return say(`${ended} of ${total} files\n`)
  }
}

export const indexFolder = Effect.fnUntraced(function* (input: {
  readonly folder: string
  readonly only: ReadonlyArray<string>
}) {
  const server = yield* HttpServer.HttpServer
  const instance = yield* Instance.Instance
  const api = yield* HttpApiClient.make(DemoApi, {
    transformClient: HttpClient.mapRequest(HttpClientRequest.prependUrl(HttpServer.formatAddress(server.address))),
  })
  const { resumed, runId } = yield* api.index({ payload: input })
  yield* say(`${resumed ? "going on with" : "accepted as"} run ${runId}\n`)
  const progress = makeProgress()
  const status = api.status({ params: { runId } })
  const poll = Effect.gen(function* () {
    while (true) {
      const now = yield* status
      yield* progress(now)
      if (now.report !== null) return now.report
      if (now.state === "failed") return yield* new DemoProblem({ message: now.problem ?? "the run failed" })
      yield* Effect.sleep("100 millis")
    }
  })
  return yield* Effect.onInterrupt(poll, () =>
    Effect.gen(function* () {
      // The worker ends what it has begun first; then the figures are the last word.
      yield* instance.shutdown
      const { ended, found } = yield* status
      yield* say(
        `\nstopped: ${ended} of ${found} files are done, ${found - ended} are left; run the same command again to go on\n`,
      )
    }).pipe(Effect.timeoutOption("25 seconds"), Effect.ignore),
  )
})
