/** A target of deliveries in plain Node, that answers what a test wants. */
import { createServer, type IncomingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect } from "effect"

export interface Got {
  /** From 0 on. */
  readonly n: number
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** `undefined` never answers. Gives its URL and what it got so far. */
export const target = (reply: (got: Got) => Reply | undefined | Promise<Reply | undefined>) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly got: Array<Got>; readonly close: () => void }>((resume) => {
      const got: Array<Got> = []
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk) => chunks.push(chunk))
        request.on("end", () => {
          const { headers, method = "", url = "" } = request
          const each: Got = { n: got.length, method, url, headers, body: Buffer.concat(chunks).toString() }
          got.push(each)
          Promise.resolve(reply(each)).then((said) => {
            if (said !== undefined) response.writeHead(said.status, said.headers).end(said.body ?? "")
          })
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const close = () => {
          server.closeAllConnections()
          server.close()
        }
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}/tasks?of=a`, got, close }))
      })
    }),
    ({ close }) => Effect.sync(close),
  )
