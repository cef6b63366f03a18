/** A delivery over a real socket, with the headers and the token that Cloud Tasks sends (C11, C12, C19, C20). */
import { createServer, request as httpRequest } from "node:http"
import type { AddressInfo } from "node:net"
import type { protos } from "@google-cloud/tasks"
import { Effect } from "effect"
import { exportJWK, generateKeyPair, SignJWT } from "jose"
import { millisOf, type StoredQueue, type StoredTask } from "./state.ts"

/** Google's part: who issues tokens, and the key it signs them with. */
export const issuer = "https://accounts.google.com"
const kid = "cloud-tasks-test"

export interface Signer {
  /** Where its keys are published. */
  readonly keys: string
  readonly token: (email: string, audience: string, now: number) => Effect.Effect<string>
}

export const makeSigner = Effect.gen(function* () {
  const { privateKey, publicKey } = yield* Effect.promise(() => generateKeyPair("RS256", { extractable: true }))
  const key = { ...(yield* Effect.promise(() => exportJWK(publicKey))), kid, alg: "RS256", use: "sig" }
  const server = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const made = createServer((_, response) => {
        response.setHeader("content-type", "application/json").end(JSON.stringify({ keys: [key] }))
      })
      made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
    }),
    (made) =>
      Effect.sync(() => {
        made.close()
        made.closeAllConnections()
      }),
  )
  const signer: Signer = {
    keys: `http://127.0.0.1:${(server.address() as AddressInfo).port}/certs`,
    token: (email, audience, now) =>
      Effect.promise(() =>
        new SignJWT({ email, email_verified: true, azp: "112233" })
          .setProtectedHeader({ alg: "RS256", kid, typ: "JWT" })
          .setIssuer(issuer)
          .setSubject("112233")
          .setAudience(audience)
          .setIssuedAt(Math.floor(now / 1000))
          .setExpirationTime(Math.floor(now / 1000) + 3600)
          .sign(privateKey),
      ),
  }
  return signer
})

/** C11: those that Cloud Tasks does not let a task set. */
const reserved = /^(host|content-length|user-agent|x-google-.*|x-appengine-.*)$/i

export const headersOf = (queue: StoredQueue, task: StoredTask): Record<string, string> => {
  const own = Object.entries(task.http.headers ?? {}).filter(([name]) => !reserved.test(name))
  const id = (path: string) => path.slice(path.lastIndexOf("/") + 1)
  return {
    ...Object.fromEntries(own),
    "User-Agent": "Google-Cloud-Tasks",
    "X-CloudTasks-QueueName": id(queue.name),
    "X-CloudTasks-TaskName": id(task.name),
    "X-CloudTasks-TaskRetryCount": `${task.dispatchCount - 1}`,
    "X-CloudTasks-TaskExecutionCount": `${task.executionCount}`,
    "X-CloudTasks-TaskETA": (task.scheduleTime / 1000).toFixed(6).replace(/\.?0+$/, ""),
    ...(task.previousResponse !== undefined && {
      "X-CloudTasks-TaskPreviousResponse": `${task.previousResponse}`,
      "X-CloudTasks-TaskRetryReason": "",
    }),
  }
}

export interface Answer {
  readonly status: number
  /** Milliseconds. */
  readonly retryAfter: number | undefined
}

/** The answer; `undefined` when there is none within the dispatch deadline, or no connection. */
export const deliver = Effect.fnUntraced(function* (signer: Signer, queue: StoredQueue, task: StoredTask, now: number) {
  const oidc: protos.google.cloud.tasks.v2beta3.IOidcToken | null | undefined = task.http.oidcToken
  const headers = headersOf(queue, task)
  const url = task.http.url ?? ""
  if (oidc) {
    // C12: the audience is the url unless it is said, and what the task says of Authorization is replaced.
    headers.authorization = `Bearer ${yield* signer.token(oidc.serviceAccountEmail ?? "", oidc.audience || url, now)}`
  }
  return yield* Effect.timeoutOrElse(post(url, headers, Buffer.from((task.http.body ?? "") as Uint8Array)), {
    duration: millisOf({ seconds: 0, nanos: task.dispatchDeadline * 1e6 }) ?? 0,
    orElse: () => Effect.undefined,
  })
})

const post = (url: string, headers: Record<string, string>, body: Buffer): Effect.Effect<Answer | undefined> =>
  Effect.callback((resume) => {
    const sent = httpRequest(url, { method: "POST", headers, agent: false }, (response) => {
      response.resume()
      response.on("error", () => resume(Effect.undefined))
      response.on("end", () => {
        const after = Number(response.headers["retry-after"])
        resume(
          Effect.succeed({
            status: response.statusCode ?? 0,
            retryAfter: Number.isFinite(after) ? after * 1000 : undefined,
          }),
        )
      })
    })
    sent.on("error", () => resume(Effect.undefined))
    sent.end(body)
    return Effect.sync(() => sent.destroy())
  })
