/** A connection to a Postgres server that loses an answer when it is told to: what was asked happened, and nobody says so. */
import { connect, createServer, type Socket } from "node:net"

export interface Proxy {
  readonly url: string
  /** The next answer is lost, and its connection with it. */
  readonly loseAnswer: () => void
  readonly close: () => Promise<void>
}

export const startProxy = async (target: string): Promise<Proxy> => {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let losing = false
  const server = createServer((client) => {
    const upstream = connect({ host: hostname, port: Number(port) })
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("error", () => undefined)
      socket.on("close", () => {
        client.destroy()
        upstream.destroy()
      })
    }
    client.on("data", (data) => upstream.write(data))
    upstream.on("data", (data) => {
      if (!losing) return client.write(data)
      losing = false
      client.destroy()
      return undefined
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const url = new URL(target)
  url.port = String(typeof address === "object" ? address?.port : "")
  return {
    url: url.href,
    loseAnswer: () => {
      losing = true
    },
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}
