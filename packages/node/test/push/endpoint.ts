/** A push endpoint on a real socket, and a client that can write whatever it wants to it. */
import { request as httpRequest, type OutgoingHttpHeaders } from "node:http"
import { connect } from "node:net"
import { NodeHttpServer } from "@effect/platform-node"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import type { TaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskId } from "@outlive/deferred/TaskId"
import type { PushAuthenticator } from "@outlive/node/PushAuthenticator"
import * as PushDelivery from "@outlive/node/PushDelivery"
import * as PushHandler from "@outlive/node/PushHandler"
import * as PushKeys from "@outlive/node/PushKeys"
import * as PushSignature from "@outlive/node/PushSignature"
import { Effect, Layer, Redacted, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"

export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { n: Schema.Int }) {}
export class Quiet extends Schema.TaggedError<Quiet>()("Quiet", {}) {}
export class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}

/** What the tests deliver. */
export class Act extends Task.make("Act", {
  payload: { how: Schema.String },
  success: Schema.String,
  error: Schema.Union([Rejected, Quiet, Busy]),
  retry: { Rejected: "never", Quiet: "quiet" },
}) {}

export type Handle = (
  payload: { readonly how: string },
  context: TaskContext["Service"],
) => Effect.Effect<string, Rejected | Quiet | Busy | TaskFailure>

export const secretOf = (letter: string): Redacted.Redacted<Uint8Array> => Redacted.make(Buffer.from(letter.repeat(32)))
export const key: PushKeys.PushKey = { id: "k1", secret: secretOf("a") }
export const oldKey: PushKeys.PushKey = { id: "k0", secret: secretOf("b") }
export const Keys = Layer.orDie(PushKeys.layer([key, oldKey]))

export const path = "/_ah/queue/deferred"
export const id = TaskId.make("018bcfe5-6800-7000-8000-000000000001")

export const delivery = (options?: Partial<PushDelivery.Delivery>): PushDelivery.Delivery => ({
  outlive: 1,
  id,
  task: "Act",
  version: 1,
  queue: "default",
  headers: {},
  enqueuedAt: 0,
  eta: 0,
  attempt: { number: 1, crashes: 0, firstAttemptAt: 0, deadline: 600_000 },
  payload: '{"how":"succeed"}',
  ...options,
})
export const act = (how: string, options?: Partial<PushDelivery.Delivery>): string =>
  PushDelivery.encode(delivery({ payload: JSON.stringify({ how }), ...options }))

/** The headers of an authentic delivery of a body, with some of what is signed said differently. */
export const signedHeaders = (
  body: string | Uint8Array,
  options?: Partial<PushSignature.Parts> & { readonly key?: PushKeys.PushKey },
): Record<string, string> => {
  const by = options?.key ?? key
  const parts: PushSignature.Parts = {
    method: "POST",
    path,
    timestamp: 0,
    id,
    attempt: 1,
    digest: PushSignature.digestOf(body),
    ...options,
  }
  return {
    "content-type": "application/json",
    [PushSignature.headers.timestamp]: `${parts.timestamp}`,
    [PushSignature.headers.id]: parts.id,
    [PushSignature.headers.attempt]: `${parts.attempt}`,
    [PushSignature.headers.digest]: parts.digest,
    [PushSignature.headers.signature]: `v1:${by.id}:${PushSignature.sign(by.secret, parts)}`,
  }
}

export interface Said {
  readonly status: number
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly body: string
}

/** One request over a connection of its own. */
export const send = (
  port: number,
  options: {
    readonly method?: string
    readonly path?: string
    readonly headers?: OutgoingHttpHeaders
    readonly body?: string | Uint8Array
  },
): Effect.Effect<Said, Error> =>
  Effect.callback((resume) => {
    const { body, headers, method = "POST" } = options
    const sent = httpRequest({ port, method, path: options.path ?? path, headers, agent: false }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk) => chunks.push(chunk))
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () =>
        resume(
          Effect.succeed({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString(),
          }),
        ),
      )
    })
    sent.on("error", (error) => resume(Effect.fail(error)))
    sent.end(body)
    return Effect.sync(() => sent.destroy())
  })

/** A signed delivery of a body. */
export const deliver = (
  port: number,
  body: string,
  headers?: OutgoingHttpHeaders,
  signed?: Parameters<typeof signedHeaders>[1],
): Effect.Effect<Said, Error> => send(port, { body, headers: { ...signedHeaders(body, signed), ...headers } })

/**
 * Writes bytes to a connection and gives all that comes back until the other side closes it. `onData` sees it as it comes
 * and may write more, or hang up.
 */
export const raw = (
  port: number,
  bytes: string | Uint8Array,
  onData?: (all: string, socket: { write: (more: string) => void; destroy: () => void }) => void,
): Effect.Effect<string> =>
  Effect.callback((resume) => {
    let all = ""
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes))
    socket.on("data", (chunk) => {
      all += chunk.toString("latin1")
      onData?.(all, { write: (more) => socket.write(more), destroy: () => socket.destroy() })
    })
    // What was written to a connection that is closing may reset it: the answer came before that.
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.succeed(all)))
    return Effect.sync(() => socket.destroy())
  })

export const headText = (method: string, headers: Readonly<Record<string, string>>, target = path): string =>
  [`${method} ${target} HTTP/1.1`, "host: localhost", ...Object.entries(headers).map((each) => each.join(": "))].join(
    "\r\n",
  )

/** The port of the server at hand. */
export const port = Effect.map(HttpServer.HttpServer, ({ address }) =>
  address._tag === "UnixPathAddress" ? 0 : address.port,
)

const Backend = Instance.layerBackend({ id: "here" })

/** The endpoint, its server and its instance. */
export const endpoint = (
  handle: Handle,
  options?: Partial<PushHandler.Options<[typeof Act]>>,
  authenticator: Layer.Layer<PushAuthenticator> = PushSignature.layer().pipe(Layer.provide(Keys)),
) =>
  HttpRouter.serve(PushHandler.layer({ tasks: [Act], ...options }), {
    disableLogger: true,
    disableListenLog: true,
  }).pipe(
    Layer.provide(Act.toLayer(handle)),
    Layer.provide(authenticator),
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provideMerge(Backend),
  )
